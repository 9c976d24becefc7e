//! Connections that are kept, and those that must not be. Promise 8 above all: nothing is sent twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use webhook_core::deliver::BODY_LIMIT;
use webhook_core::model::ErrorKind;

use super::{DelivererFixture, OK, Receiver, answer, deliver, local, request};

const REQUESTS: usize = 20;

/// A deliverer may get a connection back a moment after the answer, so that the next request finds it in use.
const FEW: usize = REQUESTS / 4;

/// A connection of its own for each request would cost more than the request.
pub async fn connections_are_used_again<F: DelivererFixture>() {
    let mut receiver = Receiver::answering(OK).await;
    let deliverer = local::<F>();
    for _ in 0..REQUESTS {
        answer(&*deliverer, &receiver.url()).await;
    }
    assert_eq!(receiver.requests().len(), REQUESTS);
    assert!(receiver.connections() <= FEW, "{} connections", receiver.connections());
}

/// Whatever the framing of the answer before.
pub async fn a_connection_is_kept_after_every_framing<F: DelivererFixture>() {
    for answered in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let receiver = Receiver::answering(answered).await;
        let deliverer = local::<F>();
        for _ in 0..REQUESTS {
            assert!(answer(&*deliverer, &receiver.url()).await.status < 300);
        }
        assert!(receiver.connections() <= FEW, "{} connections: {answered:?}", receiver.connections());
    }
}

/// A little too much is read and thrown away, as a new connection costs more; much too much is cut off.
pub async fn a_connection_is_kept_after_a_body_a_little_over_the_limit<F: DelivererFixture>() {
    let with_body =
        |size: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size));
    for (size, least, most) in
        [(BODY_LIMIT, 1, FEW), (40 * 1024, 1, FEW), (4 << 20, REQUESTS - FEW, REQUESTS)]
    {
        let receiver = Receiver::answering(with_body(size)).await;
        let deliverer = local::<F>();
        for _ in 0..REQUESTS {
            assert_eq!(answer(&*deliverer, &receiver.url()).await.body.len(), BODY_LIMIT);
        }
        let connections = receiver.connections();
        assert!((least..=most).contains(&connections), "{connections} connections: {size} bytes");
    }
}

/// `connection: close`, HTTP/1.0, and answers that are over before all of the request is read.
pub async fn a_connection_that_its_peer_gives_up_is_not_kept<F: DelivererFixture>() {
    for answered in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        // More than was asked for.
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let receiver = Receiver::answering(answered).await;
        let deliverer = local::<F>();
        for _ in 0..3 {
            let answer = answer(&*deliverer, &receiver.url()).await;
            assert_eq!(&answer.body[..], b"ok", "{answered:?}");
        }
        assert_eq!(receiver.connections(), 3, "{answered:?}");
    }
}

/// Promise 8: it may have been carried out. On a kept connection, where clients like to try again.
pub async fn a_request_that_is_read_and_not_answered_is_not_repeated<F: DelivererFixture>() {
    let answered = Arc::new(AtomicBool::new(false));
    let mut receiver = Receiver::start(move |mut connection| {
        let answered = Arc::clone(&answered);
        async move {
            while connection.request().await.is_some() && !answered.swap(true, Ordering::SeqCst) {
                connection.send(OK).await;
            }
        }
    })
    .await;
    let deliverer = local::<F>();
    answer(&*deliverer, &receiver.url()).await;
    let error = deliver(&*deliverer, &receiver.url()).await.result.expect_err("it was not answered");
    assert_eq!(error.kind, ErrorKind::Reset);
    assert_eq!(receiver.requests().len(), 2);
}

/// Promise 8: a connection that was kept and closed by the peer meanwhile is not written to, or fails as `reset`; what
/// the receiver reads, it reads once.
pub async fn a_receiver_that_closes_after_each_answer_gets_no_request_twice<F: DelivererFixture>() {
    let mut receiver = Receiver::closing_after(OK).await;
    let deliverer = local::<F>();
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
    assert_eq!(numbers.len(), answered, "what was read and what was answered differ");
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), answered, "a request was read twice");
    assert!(answered > 0);
}

/// A connection that is seen to be closed costs no attempt: the peer closed it before the next request began.
pub async fn a_kept_connection_that_was_closed_is_replaced<F: DelivererFixture>() {
    let (close, closing) = oneshot::channel::<()>();
    let (closed, was_closed) = oneshot::channel::<()>();
    let first = Mutex::new(Some((closing, closed)));
    let mut receiver = Receiver::start(move |mut connection| {
        let first = first.lock().unwrap().take();
        async move {
            connection.request().await;
            connection.send(OK).await;
            match first {
                Some((closing, closed)) => {
                    let _ = closing.await;
                    drop(connection);
                    let _ = closed.send(());
                }
                None => connection.closed().await,
            }
        }
    })
    .await;
    let deliverer = local::<F>();
    answer(&*deliverer, &receiver.url()).await;
    close.send(()).unwrap();
    was_closed.await.unwrap();
    // The runtime's turn, for deliverers that learn of it there alone.
    deliver(&*deliverer, &Receiver::answering(OK).await.url()).await.result.expect("an answer");
    answer(&*deliverer, &receiver.url()).await;
    assert_eq!(receiver.requests().len(), 2);
}

/// What a worker gives up must not go on.
pub async fn dropping_the_exchange_closes_the_connection<F: DelivererFixture>() {
    let (closed, wait) = oneshot::channel();
    let (read, was_read) = oneshot::channel();
    let channels = Mutex::new(Some((read, closed)));
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
    let deliverer = local::<F>();
    let sending = request(&receiver.url());
    let task = tokio::spawn(async move { deliverer.deliver(sending).await });
    was_read.await.unwrap();
    task.abort();
    let closing = tokio::time::timeout(Duration::from_secs(5), wait).await;
    closing.expect("the connection is still open, long before the deadline").unwrap();
}

/// A late answer must not be taken for that of the next request.
pub async fn a_connection_whose_exchange_timed_out_is_not_kept<F: DelivererFixture>() {
    let mut receiver = Receiver::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            if request.header("x-silent").is_none() {
                connection.send(OK).await;
            }
        }
    })
    .await;
    let deliverer = local::<F>();
    answer(&*deliverer, &receiver.url()).await;
    let mut silent = request(&receiver.url());
    silent.headers.push(("x-silent".into(), "1".into()));
    silent.deadline = Duration::from_millis(200);
    let error = deliverer.deliver(silent).await.result.expect_err("it is not answered");
    assert_eq!(error.kind, ErrorKind::Timeout);
    answer(&*deliverer, &receiver.url()).await;
    assert_eq!(receiver.requests().len(), 3);
    assert!(receiver.connections() >= 2, "the connection was used again");
}

/// Each gets its own answer.
pub async fn concurrent_requests_get_their_own_answers<F: DelivererFixture>() {
    let receiver = Receiver::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let number = request.header("x-number").unwrap_or_default();
            connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{number:>3}")).await;
        }
    })
    .await;
    let deliverer = local::<F>();
    for _ in 0..3 {
        let all = (0..100).map(|number: u32| {
            let mut request = request(&receiver.url());
            request.headers.push(("x-number".into(), number.to_string()));
            let deliverer = &deliverer;
            async move {
                let answer = deliverer.deliver(request).await.result.expect("an answer");
                assert_eq!(answer.body, format!("{number:>3}").as_bytes());
            }
        });
        futures::future::join_all(all).await;
    }
    // A client may begin to connect and then take a connection that came free; most are used again all the same.
    assert!(receiver.connections() < 200, "{} connections for 300 requests", receiver.connections());
}
