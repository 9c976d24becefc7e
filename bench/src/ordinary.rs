//! The same raw exchange with an ordinary HTTP stack, hyper, at both ends.
//!
//! The load generator's bare sockets cost a fraction of what any HTTP library costs, so against them every server
//! looks slow. This says what the machine gives to software that speaks HTTP with a library, as the server must: once
//! to take an event and once to deliver it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::tally::Tally;
use crate::{Failure, payload};

/// A receiver on hyper; listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
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
                    // A connection that breaks shows as a delivery that is missing.
                    let _ = stream.set_nodelay(true);
                    let service = service_fn(|request| answer(request, &tally));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(request: Request<Incoming>, tally: &Tally) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // A torn body is not what was sent, which the tally finds out.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    tally.take(head.uri.path(), &body);
    Ok(Response::new(Empty::new()))
}

/// Sends the events with hyper's client over so many connections; returns the nanoseconds that each answer took.
pub(crate) async fn send(
    to: SocketAddr,
    first: usize,
    events: usize,
    concurrency: usize,
) -> Result<Vec<u64>, Failure> {
    let next = Arc::new(AtomicUsize::new(first));
    let mut running = JoinSet::new();
    for _ in 0..concurrency {
        running.spawn(one_connection(to, Arc::clone(&next), first + events));
    }
    let mut took = Vec::with_capacity(events);
    while let Some(ended) = running.join_next().await {
        let ended = ended.map_err(|error| format!("the load broke: {error}"))?;
        took.extend(ended.map_err(|error| format!("hyper to {to}: {error}"))?);
    }
    Ok(took)
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn one_connection(to: SocketAddr, next: Arc<AtomicUsize>, end: usize) -> Result<Vec<u64>, AnyError> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut took = Vec::new();
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= end {
            break;
        }
        let sent = payload::now();
        let mut body = Vec::with_capacity(payload::SIZE);
        payload::write(number, sent, &mut body);
        let request = Request::post("/h/0")
            .header("host", to.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        if !status.is_success() {
            return Err(format!("answered with {status}").into());
        }
        took.push(payload::now().saturating_sub(sent));
    }
    drop(sender);
    driver.await??;
    Ok(took)
}
