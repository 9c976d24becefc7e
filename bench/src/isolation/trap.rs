//! Targets that misbehave once they are sprung, and answer like any other until then.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::http1::Connection;

const SUCCESS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What a sprung trap does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Reads it and never answers.
    Hang,
    /// Answers every second one.
    HangEverySecond,
    /// Answers after this long.
    Late(Duration),
}

/// One listening socket for any number of targets, told apart by path. Dropping it closes every connection.
#[derive(Debug)]
pub(super) struct Trap {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    sprung: AtomicBool,
    requests: AtomicUsize,
}

impl Trap {
    pub(super) async fn set(manner: Manner, sprung: bool) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state =
            Arc::new(State { manner, sprung: AtomicBool::new(sprung), requests: AtomicUsize::new(0) });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    // That connections break is in the nature of a trap.
                    if let Ok(connection) = Connection::new(stream) {
                        let _ = serve(connection, &state).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, state, accepting })
    }

    pub(super) fn target(&self, number: usize) -> String {
        format!("http://{}/t/{number}", self.address)
    }

    /// From now on it misbehaves.
    pub(super) fn spring(&self) {
        self.state.sprung.store(true, Relaxed);
    }

    /// Requests read so far, answered or not.
    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Relaxed)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut connection: Connection, state: &State) -> std::io::Result<()> {
    while connection.next_request(|_, _| ()).await?.is_some() {
        let number = state.requests.fetch_add(1, Relaxed);
        let hangs = match state.manner {
            _ if !state.sprung.load(Relaxed) => false,
            Manner::Hang => true,
            Manner::HangEverySecond => number.is_multiple_of(2),
            Manner::Late(after) => {
                tokio::time::sleep(after).await;
                false
            }
        };
        if hangs {
            // Until the other side gives up.
            connection.next_request(|_, _| ()).await?;
            return Ok(());
        }
        connection.write(SUCCESS).await?;
    }
    Ok(())
}

/// A port that refuses connections for as long as it is held: bound, and nobody listens.
#[derive(Debug)]
pub(super) struct Refusing {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Refusing {
    pub(super) fn hold() -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    pub(super) fn target(&self, number: usize) -> String {
        format!("http://{}/t/{number}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const REQUEST: &[u8] = b"POST /t/0 HTTP/1.1\r\ncontent-length: 0\r\n\r\n";

    async fn status(address: SocketAddr) -> Option<u16> {
        let mut connection = Connection::open(address).await.expect("a connection");
        let answer = timeout(Duration::from_millis(200), connection.request(REQUEST)).await;
        answer.ok().map(|answer| answer.expect("an answer").0)
    }

    #[tokio::test]
    async fn a_trap_answers_until_it_is_sprung() {
        let trap = Trap::set(Manner::Hang, false).await.expect("a trap");
        assert_eq!(status(trap.address).await, Some(200));
        trap.spring();
        assert_eq!(status(trap.address).await, None);
        assert_eq!(trap.requests(), 2);
    }

    #[tokio::test]
    async fn every_second_request_hangs() {
        let trap = Trap::set(Manner::HangEverySecond, true).await.expect("a trap");
        let mut answered = 0;
        for _ in 0..4 {
            answered += usize::from(status(trap.address).await.is_some());
        }
        assert_eq!(answered, 2);
    }

    #[tokio::test]
    async fn a_held_port_refuses() {
        let port = Refusing::hold().expect("a port");
        let refused = Connection::open(port.address).await.expect_err("refused");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
