//! Each class of failure, from a receiver that really fails like that.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

mod support;

use std::time::Duration;

use support::{OK, Receiver, failure, failure_kind, local, request};
use tokio::net::TcpListener;
use webhook_core::deliver::Deliverer;
use webhook_core::model::ErrorKind;
use webhook_core::target::TargetRules;
use webhook_deliver_reqwest::ReqwestDeliverer;

/// What comes of a receiver that reads the request, sends this and closes.
async fn kind_after(bytes: impl AsRef<[u8]>) -> ErrorKind {
    let bytes = bytes.as_ref().to_vec();
    let receiver = Receiver::start(move |mut connection| {
        let bytes = bytes.clone();
        async move {
            connection.request().await;
            connection.send(bytes).await;
        }
    })
    .await;
    failure_kind(&receiver.url()).await
}

#[tokio::test]
async fn a_closed_port_is_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks?token=s3cret", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(failure_kind(&url).await, ErrorKind::Connect);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_dns() {
    // RFC 6761: it never exists.
    assert_eq!(failure_kind("http://nowhere.invalid/hooks?token=s3cret").await, ErrorKind::Dns);
}

#[tokio::test]
async fn closing_before_any_byte_is_reset() {
    assert_eq!(kind_after("").await, ErrorKind::Reset);
    let receiver = Receiver::start(|connection| async move { drop(connection) }).await;
    assert_eq!(failure_kind(&receiver.url()).await, ErrorKind::Reset);
}

#[tokio::test]
async fn a_tcp_reset_is_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks?token=s3cret", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.unwrap();
            // Closing with unread bytes makes the system send RST.
            drop(stream);
        }
    });
    assert_eq!(failure_kind(&url).await, ErrorKind::Reset);
}

#[tokio::test]
async fn what_is_not_http_is_protocol() {
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "220 mail.example ESMTP\r\n\r\n",
        "hello",
        "\0\0\0\0\0\0\0\0\0\0\0",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: banana\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(kind_after(answer).await, ErrorKind::Protocol, "{answer:?}");
    }
}

#[tokio::test]
async fn a_greeting_before_the_request_is_protocol() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.send("220 mail.example ESMTP\r\n").await;
        connection.closed().await;
    })
    .await;
    assert_eq!(failure_kind(&receiver.url()).await, ErrorKind::Protocol);
}

#[tokio::test]
async fn statuses_outside_200_to_599_are_protocol() {
    for status in [101, 600, 999] {
        let answer = format!("HTTP/1.1 {status} X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
        assert_eq!(kind_after(answer).await, ErrorKind::Protocol, "{status}");
    }
}

#[tokio::test]
async fn endless_headers_are_protocol() {
    for header in ["x-a: b\r\n".to_owned(), format!("x-a: {}\r\n", "b".repeat(10_000)), "x".repeat(1000)] {
        let receiver = Receiver::start(move |mut connection| {
            let header = header.clone();
            async move {
                connection.request().await;
                connection.send("HTTP/1.1 200 OK\r\n").await;
                while connection.send(&header).await {}
            }
        })
        .await;
        assert_eq!(failure_kind(&receiver.url()).await, ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_timeout() {
    let receiver = Receiver::start(|mut connection| async move { connection.closed().await }).await;
    let mut slow = request(&receiver.url());
    slow.deadline = Duration::from_millis(200);
    let exchange = local().build().unwrap().deliver(slow).await;
    assert_eq!(exchange.result.unwrap_err().kind, ErrorKind::Timeout);
    assert!(exchange.duration >= Duration::from_millis(200), "{:?}", exchange.duration);
}

#[tokio::test]
async fn no_connection_in_its_own_time_is_connect() {
    // Accepts, and never answers the TLS handshake.
    let receiver = Receiver::start(|mut connection| async move { connection.closed().await }).await;
    let deliverer = local().connect_timeout(Duration::from_millis(200)).build().unwrap();
    let url = receiver.url().replace("http:", "https:");
    assert_eq!(failure(&deliverer, request(&url)).await.kind, ErrorKind::Connect);
}

#[tokio::test]
async fn a_deadline_of_nothing_sends_nothing() {
    let receiver = Receiver::answering(OK).await;
    let mut request = request(&receiver.url());
    request.deadline = Duration::ZERO;
    assert_eq!(failure(&local().build().unwrap(), request).await.kind, ErrorKind::Timeout);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn loopback_in_every_spelling_is_blocked() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.addr.port();
    let deliverer = ReqwestDeliverer::builder().build().unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "①②⑦.0.0.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/hooks?token=s3cret");
        assert_eq!(failure(&deliverer, request(&url)).await.kind, ErrorKind::Blocked, "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn what_else_the_rules_refuse_is_blocked() {
    let receiver = Receiver::answering(OK).await;
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let https_only = TargetRules { allow, https_only: true };
    let deliverer = ReqwestDeliverer::builder().target_rules(https_only).build().unwrap();
    assert_eq!(failure(&deliverer, request(&receiver.url())).await.kind, ErrorKind::Blocked);
    let with_user = receiver.url().replace("http://", "http://user:s3cret@");
    assert_eq!(failure_kind(&with_user).await, ErrorKind::Blocked);
    assert_eq!(failure_kind("http://127.0.0.1:6379/").await, ErrorKind::Blocked);
    assert_eq!(failure_kind("ftp://127.0.0.1/").await, ErrorKind::Blocked);
    assert_eq!(receiver.connections(), 0);
}
