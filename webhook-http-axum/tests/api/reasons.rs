use serde_json::{Value, json};
use webhook_core::testing::Scripted;
use webhook_core::time::{Clock as _, SystemClock};

use super::harness::{Api, TARGET, text};

/// An API whose clock shows the store's time.
fn api() -> Api {
    let api = Api::new();
    api.clock.set(SystemClock.now().after(std::time::Duration::from_secs(60)));
    api
}

const UNFINISHED: &str = "/deliveries?status=pending,retrying";

/// The reasons of a list, newest first.
fn shown(list: &Value) -> Vec<Value> {
    list["data"].as_array().unwrap().iter().map(|row| row["status_reason"].clone()).collect()
}

/// The reasons of all unfinished deliveries.
async fn reasons(api: &Api) -> Vec<Value> {
    shown(&api.get(UNFINISHED).await.value())
}

#[tokio::test]
async fn deliveries_that_are_due_and_wait_for_the_rate_say_so() {
    let api = api();
    api.subscribe(json!({"rate_limit": {"requests": 1, "per": "1h"}})).await;
    let mut published = Vec::new();
    for number in 0..3 {
        published.push(api.publish("a", json!(number)).await);
    }
    assert_eq!(reasons(&api).await, [json!(null), json!(null), json!(null)], "nothing holds them back yet");
    api.spawn();
    api.until(UNFINISHED, |list| shown(list) == ["rate_limited", "rate_limited"]).await;
    assert_eq!(api.target.requests().len(), 1);
    let event = api.get(&format!("/events/{}", text(&published[2]["id"]))).await.value();
    assert_eq!(event["deliveries"][0]["status_reason"], "rate_limited");
    let asked = api.ask(&format!("/deliveries/{}/retry", text(&event["deliveries"][0]["id"]))).await.value();
    assert_eq!(asked["status_reason"], "rate_limited", "a person's attempt waits for the rate too");
}

#[tokio::test]
async fn deliveries_of_a_parked_lane_say_so_and_those_between_retries_do_not() {
    let api = api();
    let path = format!("/subscriptions/{}", text(&api.subscribe(json!({})).await["id"]));
    api.target.answer(TARGET, Scripted::status(503).header("retry-after", "3600"));
    api.publish("a", json!("asked to come back")).await;
    api.deliver().await;
    let waits = text(&api.publish("a", json!("waits")).await["deliveries"][0]["id"]);
    api.deliver().await;
    assert_eq!(api.target.requests().len(), 1);
    assert_eq!(reasons(&api).await, [json!("parked"), json!(null)]);
    assert_eq!(api.delivery(&waits).await["status_reason"], "parked");

    // Outside of parking.
    let asked = api.ask(&format!("/deliveries/{waits}/retry")).await.value();
    assert_eq!(asked["status_reason"], json!(null));
    api.spawn();
    let path_of = format!("/deliveries/{waits}");
    api.until(&path_of, |delivery| delivery["status"] == "succeeded").await;

    api.publish("a", json!("again")).await;
    assert_eq!(api.ask(&format!("{path}/pause")).await.status, 200);
    assert_eq!(reasons(&api).await, ["paused", "paused"], "what a person did comes first");
}

#[tokio::test]
async fn deliveries_that_wait_behind_another_say_so() {
    let api = api();
    api.subscribe(json!({"ordered": true})).await;
    api.target.answer(TARGET, Scripted::status(500));
    for number in 0..3 {
        api.publish("a", json!(number)).await;
    }
    api.deliver().await;
    assert_eq!(api.target.requests().len(), 1);
    assert_eq!(reasons(&api).await, [json!("ordered"), json!("ordered"), json!(null)]);
}
