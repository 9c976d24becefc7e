//! What the suites cannot see: settings of the builder, and what is kept.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

use std::time::Duration;

use webhook_conformance::deliver::{
    Connection, OK, Receiver, answer, deliver, failure, local_rules, request,
};
use webhook_core::deliver::Deliverer;
use webhook_core::model::ErrorKind;
use webhook_deliver_hyper::{BuildError, Builder, HyperDeliverer, IDLE_TIMEOUT, TlsError};

fn local() -> Builder {
    HyperDeliverer::builder().target_rules(local_rules())
}

#[tokio::test]
async fn no_connection_in_its_own_time_is_connect() {
    // Accepts, and never answers the TLS handshake.
    let receiver = Receiver::start(|mut connection| async move { connection.closed().await }).await;
    let deliverer = local().connect_timeout(Duration::from_millis(200)).build().unwrap();
    let url = receiver.url().replace("http:", "https:");
    assert_eq!(failure(&deliverer, request(&url)).await.kind, ErrorKind::Connect);
}

#[test]
fn roots_that_are_no_certificates_are_refused() {
    let error = local().root_certificates("nonsense").build().unwrap_err();
    assert!(matches!(error, BuildError::Tls(TlsError::NotPem)));
}

#[tokio::test]
async fn one_connection_serves_all_requests_that_come_one_after_the_other() {
    let mut receiver = Receiver::answering(OK).await;
    let deliverer = local().build().unwrap();
    for _ in 0..100 {
        answer(&deliverer, &receiver.url()).await;
    }
    assert_eq!((receiver.requests().len(), receiver.connections()), (100, 1));
}

/// Sends so many at once, each on a connection of its own, since none is answered before all are there.
async fn at_once(deliverer: &HyperDeliverer, url: &str, count: usize) {
    let all: Vec<_> = (0..count)
        .map(|_| {
            let (deliverer, request) = (deliverer.clone(), request(url));
            tokio::spawn(async move { deliverer.deliver(request).await.result.unwrap() })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
}

/// A receiver that answers when so many requests have come.
async fn together(count: usize) -> Receiver {
    let (arrived, _) = tokio::sync::watch::channel(0_usize);
    let arrived = std::sync::Arc::new(arrived);
    Receiver::start(move |mut connection: Connection| {
        let arrived = arrived.clone();
        async move {
            while connection.request().await.is_some() {
                arrived.send_modify(|number| *number += 1);
                let mut all = arrived.subscribe();
                let round = all.borrow_and_update().div_ceil(count) * count;
                all.wait_for(|number| *number >= round).await.unwrap();
                connection.send(OK).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn no_more_are_kept_than_the_bounds_allow() {
    for (builder, kept) in [
        (local(), 8),
        (local().idle_connections_per_host(3), 3),
        (local().idle_connections_per_host(0), 0),
        (local().idle_connections(2), 2),
    ] {
        let receiver = together(8).await;
        let deliverer = builder.build().unwrap();
        at_once(&deliverer, &receiver.url(), 8).await;
        at_once(&deliverer, &receiver.url(), 8).await;
        assert_eq!(receiver.connections(), 16 - kept);
    }
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_after_its_time() {
    let (closed, mut wait) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut connection| {
        let closed = closed.clone();
        async move {
            connection.request().await;
            connection.send(OK).await;
            connection.closed().await;
            closed.send(()).unwrap();
        }
    })
    .await;
    let deliverer = local().build().unwrap();
    answer(&deliverer, &receiver.url()).await;
    let kept = std::time::Instant::now();
    wait.recv().await.unwrap();
    assert!(kept.elapsed() >= IDLE_TIMEOUT / 2, "{:?}", kept.elapsed());
    assert!(kept.elapsed() < 3 * IDLE_TIMEOUT, "{:?}", kept.elapsed());
    // The sweep has ended with its last connection, and begins again.
    answer(&deliverer, &receiver.url()).await;
    wait.recv().await.unwrap();
}

/// Promise 8. The peer closed it and the runtime had no turn to learn of it, since nothing was awaited in between.
#[tokio::test]
async fn a_connection_closed_a_moment_ago_is_not_written_to() {
    for _ in 0..20 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (close, closing) = std::sync::mpsc::channel::<()>();
        let (closed, was_closed) = std::sync::mpsc::channel::<()>();
        let serving = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let serve = |stream: &mut std::net::TcpStream| {
                let mut buffer = [0; 4096];
                assert!(stream.read(&mut buffer).unwrap() > 0);
                stream.write_all(OK.as_bytes()).unwrap();
            };
            let (mut first, _) = listener.accept().unwrap();
            serve(&mut first);
            closing.recv().unwrap();
            drop(first);
            closed.send(()).unwrap();
            let (mut second, _) = listener.accept().unwrap();
            serve(&mut second);
        });
        let deliverer = local().build().unwrap();
        answer(&deliverer, &url).await;
        close.send(()).unwrap();
        was_closed.recv().unwrap();
        assert_eq!(deliver(&deliverer, &url).await.result.unwrap().status, 200);
        serving.join().unwrap();
    }
}
