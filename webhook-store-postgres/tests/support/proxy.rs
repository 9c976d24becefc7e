//! A TCP proxy before the server that can lose answers and forget connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use webhook_store_postgres::PgOptions;

use super::Case;

#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Of what is sent with this in it the answer is lost, once.
    lose: Mutex<Option<&'static [u8]>>,
    /// Connections that came.
    count: AtomicU64,
    /// Those before this one are half-open: nothing passes, and neither side is told.
    half_open: AtomicU64,
}

impl Proxy {
    /// Stands before the case's server.
    pub async fn before(case: &Case) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = server_of(&case.url);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let number = shared.count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(client, server, number, Arc::clone(&shared)));
            }
        });
        Self { port, state, task }
    }

    /// The case's options, by way of this.
    pub fn options(&self, case: &Case) -> PgOptions {
        let url = case.url.replace(&server_of(&case.url), &format!("127.0.0.1:{}", self.port));
        PgOptions::from_url(&url).unwrap().schema(&case.schema).unwrap()
    }

    /// Loses the answer to the next message with this in it (any, if this is empty), and its connection. The server gets the message.
    pub fn lose_the_answer_to(&self, message: &'static str) {
        *self.state.lose.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.as_bytes());
    }

    pub fn has_lost_it(&self) -> bool {
        self.state.lose.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Leaves all connections half-open, as a firewall does that forgot them. New ones pass.
    pub fn forget_connections(&self) {
        self.state.half_open.store(self.state.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl State {
    /// Whether this is the message of which the answer is to be lost.
    fn takes(&self, sent: &[u8]) -> bool {
        let mut lose = self.lose.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            lose.is_some_and(|what| what.is_empty() || sent.windows(what.len()).any(|part| part == what));
        if found {
            *lose = None;
        }
        found
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn server_of(url: &str) -> String {
    let after_user = url.split_once('@').map_or(url, |(_, rest)| rest);
    after_user.split('/').next().unwrap_or_default().to_owned()
}

async fn pass(client: TcpStream, server: TcpStream, number: u64, state: Arc<State>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut loses = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                if number < state.half_open.load(Ordering::SeqCst) {
                    return std::future::pending().await;
                }
                loses |= state.takes(&up[..length]);
                if to_server.write_all(&up[..length]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if number < state.half_open.load(Ordering::SeqCst) {
                    return std::future::pending().await;
                }
                if loses || to_client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
