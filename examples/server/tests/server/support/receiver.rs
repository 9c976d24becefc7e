//! A receiver in the test's process that remembers what it got.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).expect(name).to_str().expect("text")
    }
}

/// Answers after a while, by 200 unless told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Got>>>,
    takes: Duration,
    /// What the first requests are answered.
    statuses: &'static [u16],
}

impl Receiver {
    /// Starts one on a free port; each answer takes so long.
    pub(crate) async fn start(takes: Duration) -> Self {
        Self::with(takes, &[]).await
    }

    /// Starts one on a free port that answers the first requests so.
    pub(crate) async fn answering(statuses: &'static [u16]) -> Self {
        Self::with(Duration::ZERO, statuses).await
    }

    async fn with(takes: Duration, statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("an address"));
        let receiver = Self { url, got: Arc::default(), takes, statuses };
        let app = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    /// Everything so far, in the order of arrival.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// How many different `webhook-id`s came so far.
    pub(crate) fn distinct(&self) -> usize {
        self.times().len()
    }

    /// How often each `webhook-id` came.
    pub(crate) fn times(&self) -> HashMap<String, usize> {
        let mut times = HashMap::new();
        for got in self.got.lock().unwrap().iter() {
            *times.entry(got.header("webhook-id").to_owned()).or_default() += 1;
        }
        times
    }
}

async fn receive(State(receiver): State<Receiver>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 16 * 1024 * 1024).await else { return StatusCode::BAD_REQUEST };
    // Counted before the answer: what a sender that dies meanwhile never learns is here all the same.
    let got = Got { at: Instant::now(), path: head.uri.path().to_owned(), headers: head.headers, body };
    let number = {
        let mut all = receiver.got.lock().unwrap();
        all.push(got);
        all.len() - 1
    };
    tokio::time::sleep(receiver.takes).await; // verify: allow(sleep): a receiver that is slow
    let status = receiver.statuses.get(number).copied().unwrap_or(200);
    StatusCode::from_u16(status).expect("a status")
}

/// A target that takes connections and never answers, until dropped.
#[derive(Debug)]
pub(crate) struct Silent {
    pub(crate) url: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl Silent {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("an address"));
        let accepting = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Self { url, accepting }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
