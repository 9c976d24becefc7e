//! Passwords of databases and queues, in the log at its highest level.

use rustix::process::Signal;
use serde_json::json;
use test_servers::redis::Server;

use crate::database;
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::{Process, binary};
use crate::support::receiver::Receiver;

const PASSWORD: &str = "hunter2canary";

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_holds_a_password_of_a_url_or_a_payload() {
    let Some(url) = database("logs").await else { return };
    let settings = ["--maxmemory-policy", "noeviction", "--requirepass", PASSWORD];
    let Some(mut queue) = test_servers::or_skip("logs", Server::start(&settings)) else { return };
    // The tests' server trusts whoever comes, with any password.
    let (scheme, rest) = url.split_once("://").unwrap();
    let (login, host) = rest.split_once('@').unwrap();
    let user = login.split(':').next().unwrap();
    let url = format!("{scheme}://{user}:{PASSWORD}@{host}");
    let redis = format!("--redis-url=redis://:{PASSWORD}@127.0.0.1:{}", queue.port);
    let words =
        ["--listen=127.0.0.1:0", "--allow-cidr=127.0.0.1/32", "--log=trace", "--log-format=json", &redis];
    let mut server = Process::spawn(binary(&words).env("DATABASE_URL", &url));
    let api = Api::new(server.url());
    let receiver = Receiver::start(std::time::Duration::ZERO).await;
    api.subscribe(&receiver.url, &[]).await;
    api.publish("a", &json!(PASSWORD)).await.expect("acknowledged");
    eventually("it is delivered", async || (receiver.count() == 1).then_some(())).await;
    // What is said of a queue that is away.
    queue.kill();
    eventually("it says so", async || {
        let ready = api.get("/ready").await?;
        (ready.json()["status"] == "degraded").then_some(())
    })
    .await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
    assert!(
        server.stderr().iter().any(|line| line.contains("\"level\":\"DEBUG\"")),
        "the log says something"
    );
    for line in server.stdout().iter().chain(&server.stderr()) {
        assert!(!line.contains("hunter2"), "{line}");
    }
}
