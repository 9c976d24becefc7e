//! Connections: accepts them and speaks HTTP/1.1 on each until it is told to stop.
//!
//! `axum::serve` would do, but for a time-out: without one a client that opens a connection and sends nothing, or a
//! byte of a request's head now and then, holds a file of the process for as long as it likes. What it owes the
//! service: after `closed` no connection is accepted, idle ones are closed, and requests that began are answered.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

/// How long a connection may take to send the head of its next request, from the end of the one before; so it is
/// also how long an idle connection is kept, and not shorter.
pub(crate) const HEAD: Duration = Duration::from_secs(75);

/// Wait after an error that is the system's and not the connection's, such as no more files.
const BREATHE: Duration = Duration::from_secs(1);

/// Answers connections by `app` until `closed`, and then until the last one has ended. One that takes longer than
/// `head` for the head of a request is closed.
///
/// # Cancel safety
/// If dropped, connections that are open go on by themselves until their clients leave.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    head: Duration,
    closed: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
    let connections = GracefulShutdown::new();
    let mut closed = std::pin::pin!(closed);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = &mut closed => break,
        };
        // Answers are small and written whole: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection. Errors of one that is gone already are its own.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again in a second");
                tokio::time::sleep(BREATHE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    async fn start(head: Duration) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (close, closed) = oneshot::channel::<()>();
        let app = Router::new().route("/", get(async || "here"));
        let server = tokio::spawn(serve(listener, app, head, async move { drop(closed.await) }));
        (address, close, server)
    }

    /// Everything that comes until the connection is closed.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let read = stream.read_to_end(&mut text);
        // A closed connection with bytes that nobody read may end in a reset.
        drop(tokio::time::timeout(Duration::from_secs(20), read).await.expect("it is closed"));
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn who_sends_no_head_or_half_of_one_is_not_waited_for() {
        let (address, _close, _server) = start(Duration::from_millis(300)).await;
        for part in ["", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(part.as_bytes()).await.unwrap();
            let started = Instant::now();
            let answer = rest(&mut stream).await;
            assert!(!answer.contains("here"), "{answer}");
            assert!(started.elapsed() > Duration::from_millis(200), "{part:?}");
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert!(rest(&mut stream).await.ends_with("here"), "answered, then closed as idle");
    }

    #[tokio::test]
    async fn after_closed_idle_connections_end_and_none_is_accepted() {
        let (address, close, server) = start(HEAD).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        idle.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        drop(close);
        assert!(rest(&mut idle).await.ends_with("here"));
        tokio::time::timeout(Duration::from_secs(20), server).await.expect("it ends").unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
