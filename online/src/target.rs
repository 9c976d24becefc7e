//! The subscription's target: answers 200 and keeps what arrived.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::Failure;
use crate::wire::{Kind, Wire};

#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Delivered {
    /// The header's value; empty when it is missing or not text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

#[derive(Debug, Default)]
struct Arrivals {
    delivered: Mutex<Vec<Delivered>>,
    changed: Condvar,
}

/// Listens until the process ends.
#[derive(Debug)]
pub(crate) struct Target {
    address: SocketAddr,
    arrivals: Arc<Arrivals>,
}

impl Target {
    pub(crate) fn start() -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| format!("the target cannot listen: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let arrivals = Arc::<Arrivals>::default();
        let kept = Arc::clone(&arrivals);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let arrivals = Arc::clone(&kept);
                std::thread::spawn(move || {
                    // What breaks here shows as a delivery that is missing or came twice.
                    let _ = serve(stream, &arrivals);
                });
            }
        });
        Ok(Self { address, arrivals })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/github", self.address)
    }

    /// Returns once so much arrived, or at the deadline.
    pub(crate) fn wait_for(&self, count: usize, patience: Duration) {
        let until = Instant::now() + patience;
        let mut delivered = self.arrivals.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        while delivered.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.arrivals.changed.wait_timeout(delivered, left);
            delivered = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What arrived so far.
    pub(crate) fn delivered(&self) -> Vec<Delivered> {
        self.arrivals.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: TcpStream, arrivals: &Arrivals) -> std::io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(request) = wire.read(Kind::Request)? {
        let delivery = Delivered { headers: request.headers, body: request.body };
        arrivals.delivered.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
        arrivals.changed.notify_all();
        wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}
