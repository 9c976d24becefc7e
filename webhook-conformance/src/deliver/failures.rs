//! Each class of failure, from a receiver that really fails like that.

use tokio::net::TcpListener;
use webhook_core::model::ErrorKind;

use super::{DelivererFixture, Receiver, failure_kind};

/// What comes of a receiver that reads the request, sends this and closes.
async fn kind_after<F: DelivererFixture>(bytes: impl AsRef<[u8]>) -> ErrorKind {
    let receiver = Receiver::closing_after(bytes).await;
    failure_kind::<F>(&receiver.url()).await
}

async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/hooks?token=s3cret", listener.local_addr().unwrap())
}

/// Nobody listens.
pub async fn a_closed_port_is_connect<F: DelivererFixture>() {
    assert_eq!(failure_kind::<F>(&closed_port().await).await, ErrorKind::Connect);
}

/// RFC 6761: it never exists.
pub async fn a_name_that_does_not_exist_is_dns<F: DelivererFixture>() {
    assert_eq!(failure_kind::<F>("http://nowhere.invalid/hooks?token=s3cret").await, ErrorKind::Dns);
}

/// Before or after it read the request.
pub async fn closing_before_any_byte_is_reset<F: DelivererFixture>() {
    assert_eq!(kind_after::<F>("").await, ErrorKind::Reset);
    let receiver = Receiver::start(|connection| async move { drop(connection) }).await;
    assert_eq!(failure_kind::<F>(&receiver.url()).await, ErrorKind::Reset);
}

/// A receiver that dies with the request unread.
pub async fn a_tcp_reset_is_reset<F: DelivererFixture>() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks?token=s3cret", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.unwrap();
            // Closing with unread bytes makes the system send RST.
            drop(stream);
        }
    });
    assert_eq!(failure_kind::<F>(&url).await, ErrorKind::Reset);
}

/// Something came, so it is not `reset`: the receiver is there and does not finish what it says.
pub async fn closing_in_the_middle_of_the_head_is_protocol<F: DelivererFixture>() {
    for head in ["H", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"] {
        assert_eq!(kind_after::<F>(head).await, ErrorKind::Protocol, "{head:?}");
    }
    let early = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(kind_after::<F>(early).await, ErrorKind::Protocol, "{early:?}");
}

/// Other protocols, and HTTP that contradicts itself.
pub async fn what_is_not_http_is_protocol<F: DelivererFixture>() {
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
        assert_eq!(kind_after::<F>(answer).await, ErrorKind::Protocol, "{answer:?}");
    }
}

/// Such as a mail server's.
pub async fn a_greeting_before_the_request_is_protocol<F: DelivererFixture>() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.send("220 mail.example ESMTP\r\n").await;
        connection.closed().await;
    })
    .await;
    assert_eq!(failure_kind::<F>(&receiver.url()).await, ErrorKind::Protocol);
}

/// Promise 16: a head that never ends is no valid answer, and is found to be none before the deadline.
pub async fn endless_headers_are_protocol<F: DelivererFixture>() {
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
        assert_eq!(failure_kind::<F>(&receiver.url()).await, ErrorKind::Protocol);
    }
}
