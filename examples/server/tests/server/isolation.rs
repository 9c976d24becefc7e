//! Promise 13, over sockets: targets do not stand in each other's way.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::receiver::{Receiver, Silent};

/// Shorter than one time-out of the silent target: whoever waits for it is found out.
const PROMPTLY: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_never_answers_does_not_delay_a_healthy_one() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let mut server = Process::start(&[
        "--listen=127.0.0.1:0",
        "--allow-cidr=127.0.0.1/32",
        "--database-url",
        &url,
        // Fewer slots than the silent target would take, had it its way.
        "--concurrency=16",
        "--timeout=5s",
        "--shutdown-grace=0",
    ]);
    let api = Api::new(server.url());
    let silent = Silent::start().await;
    let healthy = Receiver::start(Duration::ZERO).await;
    api.subscribe(&silent.url, &["dead.*"]).await;
    api.subscribe(&healthy.url, &["live.*"]).await;

    for n in 0..300 {
        api.publish("dead.letter", &json!({"n": n})).await.expect("acknowledged");
    }
    let mut published = HashMap::new();
    for n in 0..100 {
        let id = api.publish("live.letter", &json!({"n": n})).await.expect("acknowledged");
        published.insert(id, Instant::now());
        api.publish("dead.letter", &json!({"n": n})).await.expect("acknowledged");
    }
    eventually("the healthy target has everything", async || (healthy.count() >= 100).then_some(())).await;
    for got in healthy.got() {
        let waited = got.at.saturating_duration_since(published[got.header("webhook-id")]);
        assert!(waited < PROMPTLY, "{} waited {waited:?}", got.header("webhook-id"));
    }
    assert_eq!(healthy.times().len(), 100, "each once");
}
