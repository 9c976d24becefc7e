//! Bodies of hostile receivers: the status counts, memory and time are bounded.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

mod support;

use std::future::Future;
use std::time::Duration;

use support::{Connection, Receiver, local, request};
use webhook_core::deliver::{Answer, BODY_LIMIT, Deliverer, HEADER_LIMIT};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// The answer, and how long it took, of a receiver that does this after it read the request.
async fn after<F, R>(deadline: Duration, script: F) -> (Answer, Duration)
where
    F: Fn(Connection) -> R + Clone + Send + Sync + 'static,
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
    let exchange = local().build().unwrap().deliver(request).await;
    (exchange.result.unwrap(), exchange.duration)
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_body_that_never_ends_is_cut_at_the_limit_without_waiting_for_the_deadline() {
    let (answer, took) = after(LONG, |mut connection| async move {
        connection.send(CHUNKED).await;
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while connection.send(&chunk).await {}
    })
    .await;
    assert_eq!((answer.status, answer.body.len()), (200, BODY_LIMIT));
    assert!(took < LONG / 2, "{took:?}");
}

#[tokio::test]
async fn a_body_that_trickles_is_kept_as_far_as_it_came_by_the_deadline() {
    let (answer, took) = after(SHORT, |mut connection| async move {
        connection.send("HTTP/1.1 202 OK\r\ncontent-length: 1000000\r\n\r\n").await;
        while connection.send("x").await {
            tokio::time::sleep(Duration::from_millis(5)).await; // verify: allow(sleep): a target that drips
        }
    })
    .await;
    assert_eq!(answer.status, 202);
    assert!(!answer.body.is_empty() && answer.body.iter().all(|byte| *byte == b'x'));
    assert!(took >= SHORT && took < LONG, "{took:?}");
}

#[tokio::test]
async fn a_body_that_stops_is_kept_as_far_as_it_came_by_the_deadline() {
    let (answer, took) = after(SHORT, |mut connection| async move {
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart").await;
        connection.closed().await;
    })
    .await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"part"[..]));
    assert!(took >= SHORT && took < LONG, "{took:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_undo_the_status() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart".to_owned(),
        format!("{CHUNKED}4\r\npart\r\n"),
        format!("{CHUNKED}4\r\npart\r\nnonsense\r\n"),
        format!("{CHUNKED}4\r\npart\r\nffffffffffffffff\r\n"),
        format!("{CHUNKED}4\r\npart\r\nfffffffffffffffff\r\n"),
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\npart".to_owned(),
        "HTTP/1.0 200 OK\r\n\r\npart".to_owned(),
    ] {
        let sent = answer.clone();
        let (answer, _) = after(LONG, move |mut connection| {
            let sent = sent.clone();
            async move {
                connection.send(sent).await;
            }
        })
        .await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"part"[..]), "{answer:?}");
    }
}

#[tokio::test]
async fn headers_are_kept_to_the_limit_and_retry_after_always() {
    let (answer, _) = after(LONG, |mut connection| async move {
        let many: String = (0..60).map(|number| format!("x-{number}: {}\r\n", "b".repeat(500))).collect();
        let huge = format!("x-huge: {}\r\n", "c".repeat(50_000));
        let head = format!("HTTP/1.1 503 X\r\n{huge}{many}retry-after: 120\r\ncontent-length: 0\r\n\r\n");
        connection.send(head).await;
    })
    .await;
    let size: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(size <= HEADER_LIMIT && size > HEADER_LIMIT - 1000, "{size}");
    assert!(answer.headers.contains(&("retry-after".to_owned(), "120".to_owned())));
    assert!(!answer.headers.iter().any(|(name, _)| name == "x-huge"));
}

#[tokio::test]
async fn informational_answers_are_passed_over() {
    let (answer, _) = after(LONG, |mut connection| async move {
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        connection.send(format!("{early}HTTP/1.1 204 No Content\r\n\r\n")).await;
    })
    .await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
}

#[tokio::test]
async fn a_flood_of_informational_answers_ends_at_the_deadline() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        while connection.send("HTTP/1.1 100 Continue\r\n\r\n").await {}
    })
    .await;
    let mut request = request(&receiver.url());
    request.deadline = SHORT;
    let error = support::failure(&local().build().unwrap(), request).await;
    assert_eq!(error.kind, webhook_core::model::ErrorKind::Timeout);
}

#[tokio::test]
async fn an_answer_before_the_whole_request_is_read_counts() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
        connection.closed().await;
    })
    .await;
    let mut request = request(&receiver.url());
    request.body = vec![b'x'; 8 << 20].into();
    let result = local().build().unwrap().deliver(request).await.result;
    // Sent before the request began, it may also be taken for a greeting that nobody asked for.
    match result {
        Ok(answer) => assert_eq!(answer.status, 413),
        Err(error) => assert_eq!(error.kind, webhook_core::model::ErrorKind::Protocol),
    }
}
