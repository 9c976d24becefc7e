//! Clients that are slow, silent, wrong or gone, on real sockets. Those that take their time do so in paused time, which
//! goes on by itself whenever every task waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use webhook_core::Webhooks;
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_deliver_hyper::HyperDeliverer;
use webhook_http_axum::HttpOptions;

use super::*;

/// As long as a body may take: the API's own bound.
const BODY: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

async fn start(app: Router, head: Duration) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closed) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, app, head, async move { drop(closed.await) }));
    (address, close, server)
}

fn here() -> Router {
    Router::new().route("/", get(async || "here"))
}

/// The API over memory.
fn api() -> Router {
    let store = Arc::new(MemoryStore::new());
    let webhooks = Webhooks::builder(store.clone())
        .queue(Arc::new(MemoryQueue::new()))
        .deliverer(Arc::new(HyperDeliverer::builder().build().unwrap()))
        .build()
        .unwrap();
    webhook_http_axum::router(webhooks, store, HttpOptions::new())
}

/// Everything that comes until the connection is closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A closed connection with bytes that nobody read may end in a reset.
    drop(
        tokio::time::timeout(Duration::from_secs(120), stream.read_to_end(&mut text)).await.expect("closed"),
    );
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends a byte a second until the server has closed its side. Tells what it said and how long that took.
async fn drip(address: SocketAddr, start: &str, drops: &str) -> (String, Duration) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(start.as_bytes()).await.unwrap();
    let started = Instant::now();
    let drops: Vec<u8> = drops.bytes().collect();
    let dripping = tokio::spawn(async move {
        for drop in drops.iter().cycle() {
            sleep(SECOND).await; // verify: allow(sleep): paused time
            if writer.write_all(&[*drop]).await.is_err() {
                break;
            }
        }
    });
    let mut text = Vec::new();
    drop(
        tokio::time::timeout(Duration::from_secs(600), reader.read_to_end(&mut text)).await.expect("closed"),
    );
    let took = started.elapsed();
    dripping.abort();
    (String::from_utf8_lossy(&text).into_owned(), took)
}

#[tokio::test]
async fn who_sends_no_head_or_half_of_one_is_not_waited_for() {
    let (address, _close, _server) = start(here(), Duration::from_millis(300)).await;
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

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_a_byte_a_second_is_given_up() {
    let (address, _close, _server) = start(here(), HEAD).await;
    let (answer, took) = drip(address, "GET / HTTP/1.1\r\nHost: localhost\r\n", "X-A: b\r\n").await;
    assert!(!answer.contains("here"), "{answer}");
    assert!(took > HEAD - SECOND && took < HEAD + 5 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_a_byte_a_second_is_refused_and_its_connection_closed() {
    let (address, _close, _server) = start(api(), HEAD).await;
    for length in ["content-length: 1000", "transfer-encoding: chunked"] {
        let head = format!(
            "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        );
        let drops = if length.ends_with("chunked") { "1\r\n{\r\n" } else { "{" };
        let (answer, took) = drip(address, &head, drops).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("malformed_json") && answer.contains("within 30 s"), "{answer}");
        assert!(took > BODY - SECOND && took < BODY + 10 * SECOND, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_byte_of_an_answer_is_given_up() {
    const LARGE: usize = 64 * 1024 * 1024;
    let large = Router::new().route("/", get(async || vec![b'x'; LARGE]));
    let (address, close, server) = start(large, HEAD).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // The server has nothing else to wait for: it ends when it has given the client up.
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    let started = Instant::now();
    drop(close);
    server.await.unwrap();
    assert!(started.elapsed() >= STALL - SECOND, "{:?}", started.elapsed());
    assert!(rest(&mut stream).await.len() < LARGE);
}

#[tokio::test]
async fn who_is_answered_before_its_body_was_read_is_told_that_the_connection_ends() {
    let app = Router::new()
        .route("/read", post(async |body: axum::body::Bytes| body.len().to_string()))
        .route("/unread", post(async || "early"));
    let (address, _close, _server) = start(app, HEAD).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for (path, body, closes) in [("read", "abc", false), ("unread", "", false), ("unread", "abc", true)] {
        let length = body.len();
        let head = format!("POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.contains("\r\n\r\n") {
            let mut part = [0; 1024];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        assert_eq!(answer.contains("connection: close"), closes, "{path} {body}: {answer}");
    }
    assert!(!rest(&mut stream).await.contains("HTTP"), "nothing more comes");
}

/// The client of the largest mistake is one that writes all of its body before it reads a byte.
#[tokio::test]
async fn who_is_refused_before_its_body_was_read_learns_why() {
    let refuse = Router::new().route("/", post(async || (StatusCode::PAYLOAD_TOO_LARGE, "too large")));
    let (address, _close, _server) = start(refuse, HEAD).await;
    let body = vec![b'x'; 16 * 1024 * 1024];
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.expect("all of it is taken");
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("no reset");
        assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("too large"), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_or_wrong_is_refused_and_the_next_is_served() {
    let (address, _close, _server) = start(here(), HEAD).await;
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let get = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let long = "x".repeat(4 * LARGEST_HEAD);
    for (request, status) in [
        (get("/", &fields(101)), "431"),
        (get("/", &format!("X-A: {long}\r\n")), "431"),
        (get(&format!("/{long}"), ""), "4"),
        (get("/", "X A: 1\r\n"), "400"),
        (get("/", "X-A: \0\r\n"), "400"),
        ("\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        (get("/", "Content-Length: 1\r\nContent-Length: 2\r\n"), "400"),
        (get("/", &fields(90)), "200"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may have refused it before all of it was written.
        drop(stream.write_all(request.as_bytes()).await);
        drop(stream.shutdown().await);
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40}: {answer:.200}");
    }
}

#[tokio::test]
async fn after_closed_idle_connections_end_and_none_is_accepted() {
    let (address, close, server) = start(here(), HEAD).await;
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
