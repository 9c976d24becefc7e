//! What comes back of a valid answer.

use webhook_core::deliver::HEADER_LIMIT;
use webhook_core::model::ErrorKind;

use super::{DelivererFixture, OK, Receiver, answer, failure_kind, local};

/// Status, headers as text, and body.
pub async fn an_answer_carries_status_headers_and_body<F: DelivererFixture>() {
    let receiver = Receiver::answering(
        b"HTTP/1.1 404 Nope\r\nX-Name: caf\xe9\r\nretry-after: 7\r\ncontent-length: 3\r\n\r\nn\xffo",
    )
    .await;
    let answer = answer(&*local::<F>(), &receiver.url()).await;
    assert_eq!(answer.status, 404);
    assert_eq!(&answer.body[..], b"n\xffo");
    for header in [("x-name", "caf\u{fffd}"), ("retry-after", "7"), ("content-length", "3")] {
        assert!(answer.headers.contains(&(header.0.to_owned(), header.1.to_owned())), "{:?}", answer.headers);
    }
}

/// Whether an answer is a success is not decided here.
pub async fn every_status_from_200_to_599_is_an_answer<F: DelivererFixture>() {
    let deliverer = local::<F>();
    for status in [200, 204, 299, 304, 400, 410, 429, 500, 599] {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::closing_after(head).await;
        assert_eq!(answer(&*deliverer, &receiver.url()).await.status, status);
    }
}

/// 101 and what is outside 200..599 is `protocol`.
pub async fn statuses_outside_200_to_599_are_protocol<F: DelivererFixture>() {
    for status in [101, 600, 999] {
        let head = format!("HTTP/1.1 {status} X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
        let receiver = Receiver::closing_after(head).await;
        assert_eq!(failure_kind::<F>(&receiver.url()).await, ErrorKind::Protocol, "{status}");
    }
}

/// 1xx other than 101 are not the answer.
pub async fn informational_answers_are_passed_over<F: DelivererFixture>() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let receiver = Receiver::closing_after(format!("{early}HTTP/1.1 204 No Content\r\n\r\n")).await;
    let answer = answer(&*local::<F>(), &receiver.url()).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
}

/// Promise 8, and no way inside: a redirect is the answer.
pub async fn redirects_are_not_followed<F: DelivererFixture>() {
    let elsewhere = Receiver::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let head =
            format!("HTTP/1.1 {status} Go\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        let mut receiver = Receiver::answering(head).await;
        assert_eq!(answer(&*local::<F>(), &receiver.url()).await.status, status);
        assert_eq!(receiver.requests().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0, "a redirect was followed");
}

/// Promise 16: what is kept of the headers is bounded; `retry-after`, wherever it stands, is kept.
pub async fn headers_are_kept_to_the_limit_and_retry_after_always<F: DelivererFixture>() {
    let many: String = (0..60).map(|number| format!("x-{number}: {}\r\n", "b".repeat(500))).collect();
    let huge = format!("x-huge: {}\r\n", "c".repeat(50_000));
    let head = format!("HTTP/1.1 503 X\r\n{huge}{many}retry-after: 120\r\ncontent-length: 0\r\n\r\n");
    let receiver = Receiver::closing_after(head).await;
    let answer = answer(&*local::<F>(), &receiver.url()).await;
    let size: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(size <= HEADER_LIMIT && size > HEADER_LIMIT - 1000, "{size} bytes of headers were kept");
    assert!(answer.headers.contains(&("retry-after".to_owned(), "120".to_owned())));
}
