//! The target of all subscriptions of a run: counts, answers, and does nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::http1::Connection;
use crate::tally::Tally;

const SUCCESS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FAILURE: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(tally: Arc<Tally>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tally = Arc::clone(&tally);
                tokio::spawn(async move {
                    // A connection that breaks shows as a delivery that is missing or came twice.
                    if let Ok(connection) = Connection::new(stream) {
                        let _ = serve(connection, &tally).await;
                    }
                });
            }
        });
        Ok(Self { address, accepting })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn target(&self, subscription: usize) -> String {
        format!("http://{}/h/{subscription}", self.address)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut connection: Connection, tally: &Tally) -> std::io::Result<()> {
    while let Some(succeeds) = connection.next_request(|path, body| tally.take(path, body)).await? {
        connection.write(if succeeds { SUCCESS } else { FAILURE }).await?;
    }
    Ok(())
}
