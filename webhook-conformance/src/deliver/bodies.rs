//! Bodies of hostile receivers: the status counts, memory and time are bounded.

use std::future::Future;
use std::time::Duration;

use webhook_core::deliver::{Answer, BODY_LIMIT};
use webhook_core::model::ErrorKind;

use super::{Connection, DelivererFixture, Receiver, answer, local, request};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// The answer, and how long it took, of a receiver that does this after it read the request.
async fn after<F, S, R>(deadline: Duration, script: S) -> (Answer, Duration)
where
    F: DelivererFixture,
    S: Fn(Connection) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let receiver = Receiver::start(move |mut connection| {
        let script = script.clone();
        async move {
            connection.request().await;
            script(connection).await;
        }
    })
    .await;
    let mut request = request(&receiver.url());
    request.deadline = deadline;
    let exchange = local::<F>().deliver(request).await;
    (exchange.result.expect("an answer"), exchange.duration)
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// Promise 16.
pub async fn a_body_that_never_ends_is_cut_at_the_limit<F: DelivererFixture>() {
    let (answer, took) = after::<F, _, _>(LONG, |mut connection| async move {
        connection.send(CHUNKED).await;
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while connection.send(&chunk).await {}
    })
    .await;
    assert_eq!((answer.status, answer.body.len()), (200, BODY_LIMIT));
    assert!(took < LONG / 2, "it took {took:?}");
}

/// The deadline holds over a body that comes byte by byte, and what came is the answer.
pub async fn a_body_that_trickles_is_kept_as_far_as_it_came<F: DelivererFixture>() {
    let (answer, took) = after::<F, _, _>(SHORT, |mut connection| async move {
        connection.send("HTTP/1.1 202 OK\r\ncontent-length: 1000000\r\n\r\n").await;
        while connection.send("x").await {
            tokio::time::sleep(Duration::from_millis(5)).await; // verify: allow(sleep): a target that drips
        }
    })
    .await;
    assert_eq!(answer.status, 202);
    assert!(!answer.body.is_empty() && answer.body.iter().all(|byte| *byte == b'x'));
    assert!(took >= SHORT && took < LONG, "it took {took:?}");
}

/// Half of what was announced, then silence.
pub async fn a_body_that_stops_is_kept_as_far_as_it_came<F: DelivererFixture>() {
    let (answer, took) = after::<F, _, _>(SHORT, |mut connection| async move {
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart").await;
        connection.closed().await;
    })
    .await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"part"[..]));
    assert!(took >= SHORT && took < LONG, "it took {took:?}");
}

/// Closed in the middle, or nonsense in its framing: the answer is decided on its status line.
pub async fn a_body_that_breaks_off_does_not_undo_the_status<F: DelivererFixture>() {
    for sent in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart".to_owned(),
        format!("{CHUNKED}4\r\npart\r\n"),
        format!("{CHUNKED}4\r\npart\r\nnonsense\r\n"),
        format!("{CHUNKED}4\r\npart\r\nffffffffffffffff\r\n"),
        format!("{CHUNKED}4\r\npart\r\nfffffffffffffffff\r\n"),
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\npart".to_owned(),
        "HTTP/1.0 200 OK\r\n\r\npart".to_owned(),
    ] {
        let receiver = Receiver::closing_after(&sent).await;
        let answer = answer(&*local::<F>(), &receiver.url()).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"part"[..]), "{sent:?}");
    }
}

/// A receiver of signed bytes shows what it sent, and a small answer cannot become a large one.
pub async fn a_compressed_body_is_left_as_it_is<F: DelivererFixture>() {
    // A gzip of nothing: decoded, it would be empty.
    const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", GZIP.len());
    let mut receiver = Receiver::answering([head.as_bytes(), GZIP].concat()).await;
    let answer = answer(&*local::<F>(), &receiver.url()).await;
    assert_eq!(answer.body, GZIP);
    assert_eq!(receiver.requests()[0].header("accept-encoding"), None);
}

/// A refusal that comes while the body is still being sent.
pub async fn an_answer_before_the_whole_request_is_read_counts<F: DelivererFixture>() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
        connection.closed().await;
    })
    .await;
    let mut request = request(&receiver.url());
    request.body = vec![b'x'; 8 << 20].into();
    match local::<F>().deliver(request).await.result {
        Ok(answer) => assert_eq!(answer.status, 413),
        // Sent before the request began, it may also be taken for a greeting that nobody asked for; and closing on
        // what is still being sent resets the connection, which can destroy the answer (RFC 9112, section 9.6).
        Err(error) => assert!(matches!(error.kind, ErrorKind::Protocol | ErrorKind::Reset), "{error:?}"),
    }
}
