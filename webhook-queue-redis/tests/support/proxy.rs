//! A TCP proxy that can lose answers: what was sent reaches the server, what it answers reaches nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PASS: u8 = 0;
/// The answer to the next script closes its connection instead of being passed on.
const CUT: u8 = 1;
/// That script was sent.
const CUTTING: u8 = 3;
/// Nothing passes in either direction, and no connection is closed.
const FREEZE: u8 = 2;

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    mode: Arc<AtomicU8>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let shared = Arc::clone(&mode);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                tokio::spawn(pass(client, server, Arc::clone(&shared)));
            }
        });
        Self { port: own, mode, task }
    }

    /// Loses the answer to the next script, with its connection.
    pub(crate) fn lose_the_next_answer(&self) {
        self.mode.store(CUT, Ordering::SeqCst);
    }

    pub(crate) fn has_lost_it(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == PASS
    }

    /// Lets nothing pass, as a network that drops every packet.
    pub(crate) fn freeze(&self) {
        self.mode.store(FREEZE, Ordering::SeqCst);
    }

    /// Lets new connections pass again. Those that were frozen stay so, half-open.
    pub(crate) fn thaw(&self) {
        self.mode.store(PASS, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut asked = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                if mode.load(Ordering::SeqCst) == FREEZE {
                    return std::future::pending().await;
                }
                if up[..length].windows(7).any(|word| word == b"EVALSHA") {
                    asked |= mode.compare_exchange(CUT, CUTTING, Ordering::SeqCst, Ordering::SeqCst).is_ok();
                }
                if to_server.write_all(&up[..length]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if mode.load(Ordering::SeqCst) == FREEZE {
                    return std::future::pending().await;
                }
                if asked {
                    mode.store(PASS, Ordering::SeqCst);
                    return;
                }
                if to_client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
