//! What a receiver gets, and what comes back, over real sockets.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

mod support;

use std::net::TcpListener;
use std::process::Command;

use support::{OK, Receiver, answer, deliver, local, request};
use webhook_core::deliver::Deliverer;
use webhook_core::model::ErrorKind;

#[tokio::test]
async fn a_receiver_gets_exactly_the_bytes_and_the_headers_given_and_what_http_needs() {
    let mut receiver = Receiver::answering(OK).await;
    let deliverer = local().build().unwrap();
    let mut sent = request(&receiver.url());
    sent.body = b"{\"z\":1.50, \"a\" : \"\xff\x00\"}\n".to_vec().into();
    sent.headers.push(("X-Twice".into(), "1".into()));
    sent.headers.push(("x-twice".into(), "2".into()));
    let body = sent.body.clone();

    deliverer.deliver(sent).await.result.unwrap();

    let [received] = receiver.requests().try_into().unwrap();
    assert_eq!(received.line, "POST /hooks?token=s3cret HTTP/1.1");
    assert_eq!(received.body, body);
    let mut headers = received.headers.clone();
    headers.sort();
    let (host, length) = (receiver.addr.to_string(), body.len().to_string());
    let expected = [
        ("accept", "*/*"), // reqwest's own; it has no switch
        ("content-length", &length),
        ("content-type", "application/json"),
        ("host", &host),
        ("user-agent", "webhook-server/1"),
        ("webhook-id", "evt_1"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn an_answer_carries_status_headers_and_body() {
    let receiver = Receiver::answering(
        b"HTTP/1.1 404 Nope\r\nX-Name: caf\xe9\r\nretry-after: 7\r\ncontent-length: 3\r\n\r\nn\xffo",
    )
    .await;
    let answer = answer(&local().build().unwrap(), &receiver.url()).await;
    assert_eq!(answer.status, 404);
    assert_eq!(&answer.body[..], b"n\xffo");
    for header in [("x-name", "caf\u{fffd}"), ("retry-after", "7"), ("content-length", "3")] {
        assert!(answer.headers.contains(&(header.0.to_owned(), header.1.to_owned())), "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let mut receiver = Receiver::answering(OK).await;
    let deliverer = local().build().unwrap();
    for _ in 0..20 {
        answer(&deliverer, &receiver.url()).await;
    }
    assert_eq!((receiver.requests().len(), receiver.connections()), (20, 1));
}

#[tokio::test]
async fn a_connection_is_kept_after_a_body_a_little_over_the_limit_and_closed_after_a_huge_one() {
    let with_body =
        |size: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size));
    for (size, connections) in [(16 * 1024, 1), (40 * 1024, 1), (4 << 20, 3)] {
        let receiver = Receiver::answering(with_body(size)).await;
        let deliverer = local().build().unwrap();
        for _ in 0..3 {
            assert_eq!(answer(&deliverer, &receiver.url()).await.body.len(), 16 * 1024);
        }
        assert_eq!(receiver.connections(), connections, "{size} bytes");
    }
}

#[tokio::test]
async fn redirects_are_answers() {
    let elsewhere = Receiver::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let head =
            format!("HTTP/1.1 {status} Go\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        let mut receiver = Receiver::answering(head).await;
        let deliverer = local().build().unwrap();
        assert_eq!(answer(&deliverer, &receiver.url()).await.status, status);
        assert_eq!(receiver.requests().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_compressed_body_is_left_as_it_is() {
    // A gzip of nothing: decoded, it would be empty.
    const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", GZIP.len());
    let mut receiver = Receiver::answering([head.as_bytes(), GZIP].concat()).await;
    let answer = answer(&local().build().unwrap(), &receiver.url()).await;
    assert_eq!(answer.body, GZIP);
    assert_eq!(receiver.requests()[0].header("accept-encoding"), None);
}

#[tokio::test]
async fn a_name_that_leads_to_an_allowed_address_is_dialled() {
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://localhost:{}/", receiver.addr.port());
    assert_eq!(answer(&local().build().unwrap(), &url).await.status, 200);
}

/// Promise 8.
#[tokio::test]
async fn a_request_on_a_kept_connection_that_is_read_and_not_answered_is_not_repeated() {
    let mut receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        connection.send(OK).await;
        connection.request().await;
    })
    .await;
    let deliverer = local().build().unwrap();
    answer(&deliverer, &receiver.url()).await;
    let error = deliver(&deliverer, &receiver.url()).await.result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Reset);
    assert_eq!((receiver.requests().len(), receiver.connections()), (2, 1));
}

/// Promise 8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_closes_after_each_answer_gets_no_request_twice() {
    let mut receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        connection.send(OK).await;
    })
    .await;
    let deliverer = local().build().unwrap();
    let mut answered = 0;
    for number in 0..200 {
        let mut request = request(&receiver.url());
        request.headers.push(("x-number".into(), number.to_string()));
        match deliverer.deliver(request).await.result {
            Ok(_) => answered += 1,
            // Written to a connection just as the receiver closed it.
            Err(error) => assert_eq!(error.kind, ErrorKind::Reset, "{error:?}"),
        }
    }
    let mut numbers: Vec<String> = receiver
        .requests()
        .iter()
        .filter_map(|received| received.header("x-number").map(str::to_owned))
        .collect();
    assert_eq!(numbers.len(), answered);
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), answered);
    assert!(answered > 0);
}

#[tokio::test]
async fn dropping_the_exchange_closes_the_connection() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    let (read, was_read) = tokio::sync::oneshot::channel();
    let channels = std::sync::Mutex::new(Some((read, closed)));
    let receiver = Receiver::start(move |mut connection| {
        let channels = channels.lock().unwrap().take();
        async move {
            let (read, closed) = channels.unwrap();
            connection.request().await;
            read.send(()).unwrap();
            connection.closed().await;
            closed.send(()).unwrap();
        }
    })
    .await;
    let deliverer = local().build().unwrap();
    let sending = request(&receiver.url());
    let task = tokio::spawn({
        let deliverer = deliverer.clone();
        async move { deliverer.deliver(sending).await }
    });
    was_read.await.unwrap();
    task.abort();
    wait.await.unwrap();
}

#[tokio::test]
async fn headers_that_cannot_be_sent_are_a_defect_and_no_panic() {
    let mut receiver = Receiver::answering(OK).await;
    let deliverer = local().build().unwrap();
    for (name, value) in [
        ("bad name", "x"),
        ("", "x"),
        ("x-split", "a\r\nx-evil: s3cret"),
        ("content-length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("host", "other.example"),
    ] {
        let mut request = request(&receiver.url());
        request.headers.push((name.into(), value.into()));
        let error = support::failure(&deliverer, request).await;
        assert_eq!(error.kind, ErrorKind::Internal, "{name}");
    }
    assert!(receiver.requests().is_empty());
}

/// Run by the test below in a process whose environment names a proxy.
#[tokio::test]
async fn a_delivery_in_this_environment_reaches_its_receiver() {
    let mut receiver = Receiver::answering(OK).await;
    answer(&local().build().unwrap(), &receiver.url()).await;
    let [received] = receiver.requests().try_into().unwrap();
    assert_eq!(received.line, "POST /hooks?token=s3cret HTTP/1.1");
}

#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_delivery_in_this_environment_reaches_its_receiver"]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"] {
        child.env(name, &url);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").env_remove("REQUEST_METHOD");
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "the proxy was dialled");
}
