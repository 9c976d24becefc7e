//! A TCP proxy in front of Redis: it loses answers, and leads to another server when one is promoted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(super) struct Gate {
    pub(super) port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    /// Where it leads.
    to: AtomicU16,
    /// Every so many-th answer to a script is lost with its connection; 0: none.
    every: AtomicUsize,
    answers: AtomicUsize,
    lost: AtomicUsize,
    /// Changes when all connections are to be closed.
    shut: watch::Sender<()>,
}

impl Gate {
    pub(super) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            to: AtomicU16::new(port),
            every: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            shut: watch::Sender::new(()),
        });
        let known = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shut = known.shut.subscribe();
                let Ok(server) = TcpStream::connect(("127.0.0.1", known.to.load(Ordering::SeqCst))).await
                else {
                    continue;
                };
                tokio::spawn(pass(client, server, Arc::clone(&known), shut));
            }
        });
        Self { port: own, shared, accepting }
    }

    /// Leads to another server from now on, as an address that is failed over does.
    pub(super) fn lead_to(&self, port: u16) {
        self.shared.to.store(port, Ordering::SeqCst);
        self.shared.shut.send_replace(());
    }

    /// Loses every so many-th answer, with its connection; 0: none.
    pub(super) fn lose_every(&self, answers: usize) {
        self.shared.every.store(answers, Ordering::SeqCst);
    }

    pub(super) fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, shared: Arc<Shared>, mut shut: watch::Receiver<()>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut asked = false;
    loop {
        tokio::select! {
            _ = shut.changed() => return,
            read = from_client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                asked |= up[..length].windows(7).any(|word| word == b"EVALSHA");
                if to_server.write_all(&up[..length]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                let every = shared.every.load(Ordering::SeqCst);
                if std::mem::take(&mut asked) && every > 0 {
                    let answer = shared.answers.fetch_add(1, Ordering::SeqCst) + 1;
                    if answer.is_multiple_of(every) {
                        shared.lost.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
                if to_client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
