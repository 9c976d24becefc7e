//! What the suites cannot see: settings of the builder, and an environment that names a proxy.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use webhook_conformance::deliver::{OK, Receiver, answer, failure, local_rules, request};
use webhook_core::model::ErrorKind;
use webhook_deliver_reqwest::{BuildError, Builder, ReqwestDeliverer, TlsError};

fn local() -> Builder {
    ReqwestDeliverer::builder().target_rules(local_rules())
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
