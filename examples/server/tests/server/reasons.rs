//! Why deliveries wait, over a file: what the API shows of it.

use std::net::Ipv4Addr;

use axum::Router;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Process;

/// Answers by the path: `/503` asks to come back in an hour.
async fn target() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = async |uri: Uri| {
        let status = uri.path().trim_start_matches('/').parse().unwrap_or(StatusCode::OK);
        (status, [("retry-after", "3600")])
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

struct World {
    api: Api,
    target: String,
    _server: Process,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
        let mut server = Process::start(&[
            "--listen=127.0.0.1:0",
            "--allow-cidr=127.0.0.1/32",
            "--database-url",
            &url,
            "--retry=schedule:1h,1h",
            "--shutdown-grace=0",
        ]);
        let api = Api::new(server.url());
        Self { api, target: target().await, _server: server, _directory: directory }
    }

    /// Subscribes a target that answers with this status. Its path in the API.
    async fn subscribe(&self, status: u16, settings: Value) -> String {
        let mut body = settings;
        body["target_url"] = json!(format!("{}/{status}", self.target));
        let answer = self.api.post("/api/v1/subscriptions", &body).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        format!("/api/v1/subscriptions/{}", answer.json()["id"].as_str().unwrap())
    }

    async fn publish(&self, more: Value) {
        let mut body = more;
        body["event_type"] = json!("a");
        body["payload"] = json!(1);
        let answer = self.api.post("/api/v1/events", &body).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{:?}", answer.body);
    }

    /// Waits until the list shows these, newest first: status, number of attempts, reason.
    async fn shows(&self, expected: Value) {
        let what = format!("{expected}");
        eventually(&what, async || {
            let list = self.api.get("/api/v1/deliveries").await?.json();
            let row = |row: &Value| json!([row["status"], row["attempt_count"], row["status_reason"]]);
            let rows: Vec<Value> = list["data"].as_array()?.iter().map(row).collect();
            (json!(rows) == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_that_it_is_scheduled() {
    let world = World::new().await;
    world.subscribe(200, json!({})).await;
    world.publish(json!({"deliver_at": "2100-01-01T00:00:00Z"})).await;
    world.shows(json!([["pending", 0, "scheduled"]])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_that_it_waits_for_the_rate() {
    let world = World::new().await;
    world.subscribe(200, json!({"rate_limit": {"requests": 1, "per": "1h"}})).await;
    world.publish(json!({})).await;
    world.shows(json!([["succeeded", 1, null]])).await;
    world.publish(json!({})).await;
    world.shows(json!([["pending", 0, "rate_limited"], ["succeeded", 1, null]])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_that_its_target_asked_for_time() {
    let world = World::new().await;
    world.subscribe(503, json!({})).await;
    world.publish(json!({})).await;
    world.shows(json!([["retrying", 1, null]])).await;
    world.publish(json!({})).await;
    world.shows(json!([["pending", 0, "parked"], ["retrying", 1, null]])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_that_its_subscription_is_paused_until_it_is_resumed() {
    let world = World::new().await;
    let subscription = world.subscribe(200, json!({})).await;
    let paused = world.api.post(&format!("{subscription}/pause"), &json!({})).await.unwrap();
    assert_eq!(paused.json()["status"], "paused");
    world.publish(json!({})).await;
    world.shows(json!([["pending", 0, "paused"]])).await;
    world.api.post(&format!("{subscription}/resume"), &json!({})).await.unwrap();
    world.shows(json!([["succeeded", 1, null]])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_that_its_subscription_is_disabled() {
    let world = World::new().await;
    let subscription = world.subscribe(410, json!({})).await;
    world.publish(json!({})).await;
    world.shows(json!([["exhausted", 1, "gone"]])).await;
    eventually("it is disabled", async || {
        let shown = world.api.get(&subscription).await?.json();
        (shown["status"] == "disabled" && shown["disabled_reason"] == "gone").then_some(())
    })
    .await;
    world.publish(json!({})).await;
    world.shows(json!([["pending", 0, "disabled"], ["exhausted", 1, "gone"]])).await;
}

/// Behind one that fails, and not because of its own schedule.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_that_it_waits_for_another() {
    let world = World::new().await;
    world.subscribe(500, json!({"ordered": true})).await;
    world.publish(json!({"ordering_key": "k"})).await;
    world.publish(json!({"ordering_key": "k"})).await;
    world.shows(json!([["pending", 0, "ordered"], ["retrying", 1, null]])).await;
}
