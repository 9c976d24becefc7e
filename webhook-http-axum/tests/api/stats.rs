//! Statistics, as a client that asks at once sees them.

use serde_json::{Value, json};
use webhook_core::testing::Scripted;

use super::harness::{Api, TARGET, text};

const OTHER: &str = "https://example.com/other";

fn path(subscription: &Value, rest: &str) -> String {
    format!("/subscriptions/{}{rest}", text(&subscription["id"]))
}

async fn stats(api: &Api, path: &str) -> Value {
    let answer = api.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.value()
}

/// Two that succeed, one that is exhausted after two attempts, one that is cancelled, one that nobody takes.
async fn a_few_of_each(api: &Api) -> (Value, Value) {
    let good = api.subscribe(json!({"event_types": ["good.*"]})).await;
    let bad = json!({"event_types": ["bad.*"], "target_url": OTHER, "retry": {"schedule": ["1ms"]}});
    let bad = api.subscribe(bad).await;
    api.target.answer(TARGET, Scripted::status(200));
    for _ in 0..2 {
        api.publish("good.one", json!(1)).await;
    }
    api.target.answer(OTHER, Scripted::status(500));
    api.target.answer(OTHER, Scripted::status(503));
    let exhausted = text(&api.publish("bad.one", json!(1)).await["deliveries"][0]["id"]);
    api.publish("nobody.takes.it", json!(1)).await;
    api.spawn();
    api.until(&format!("/deliveries/{exhausted}"), |delivery| delivery["status"] == "exhausted").await;
    let is_done = |list: &Value| list["data"].as_array().is_some_and(|rows| rows.len() == 2);
    api.until(&path(&good, "/deliveries?status=succeeded"), is_done).await;
    assert_eq!(api.ask(&path(&good, "/pause")).await.status, 200);
    let cancelled = text(&api.publish("good.two", json!(1)).await["deliveries"][0]["id"]);
    assert_eq!(api.ask(&format!("/deliveries/{cancelled}/cancel")).await.status, 200);
    (good, bad)
}

#[tokio::test]
async fn what_happened_is_in_the_statistics_at_once() {
    let api = Api::new();
    let (good, bad) = a_few_of_each(&api).await;
    for window in ["", "?window=1h", "?window=24h", "?window=30d", "?tenant=*", "?tenant=default&window=1m"] {
        let found = stats(&api, &format!("/stats{window}")).await;
        assert_eq!(found["events"], 5, "{window}: {found}");
        let deliveries = json!({"pending": 0, "retrying": 0, "succeeded": 2, "exhausted": 1, "cancelled": 1});
        assert_eq!(found["deliveries"], deliveries, "{window}");
        assert_eq!(found["attempts"], json!({"succeeded": 2, "failed": 2, "unknown": 0}), "{window}");
        assert_eq!(found["success_rate"], 0.5);
        let latency = |name: &str| found["latency_ms"][name].as_u64().unwrap();
        assert!(1 <= latency("p50") && latency("p50") <= latency("p95") && latency("p95") <= latency("p99"));
        let backlog = json!({"due": 0, "scheduled": 0, "waiting": 0, "oldest_due_age_ms": 0, "more": false});
        assert_eq!(found["backlog"], backlog);
        let worst = json!([{"subscription_id": bad["id"], "succeeded": 0, "failed": 2}]);
        assert_eq!(found["worst_subscriptions"], worst);
    }
    let found = stats(&api, &path(&good, "/stats")).await;
    assert_eq!((&found["window"], &found["events"]), (&json!("24h"), &json!(3)));
    assert_eq!(
        (&found["deliveries"]["succeeded"], &found["deliveries"]["cancelled"]),
        (&json!(2), &json!(1))
    );
    assert_eq!((&found["attempts"]["succeeded"], &found["worst_subscriptions"]), (&json!(2), &json!([])));
    let found = stats(&api, &path(&bad, "/stats/?window=90m")).await;
    assert_eq!((&found["window"], &found["events"]), (&json!("90m"), &json!(1)));
    assert_eq!((&found["success_rate"], &found["attempts"]["failed"]), (&json!(0.0), &json!(2)));
    assert_eq!(found["latency_ms"], json!({"p50": null, "p95": null, "p99": null}));
    assert_eq!(found["worst_subscriptions"][0]["failed"], 2);
}

#[tokio::test]
async fn the_statistics_of_nothing_are_empty() {
    let api = Api::new();
    let expected = json!({
        "window": "24h",
        "events": 0,
        "deliveries": {"pending": 0, "retrying": 0, "succeeded": 0, "exhausted": 0, "cancelled": 0},
        "attempts": {"succeeded": 0, "failed": 0, "unknown": 0},
        "success_rate": null,
        "latency_ms": {"p50": null, "p95": null, "p99": null},
        "backlog": {"due": 0, "scheduled": 0, "waiting": 0, "oldest_due_age_ms": 0, "more": false},
        "worst_subscriptions": [],
    });
    for path in ["/stats", "/stats/", "/stats?tenant=somebody", "/stats?tenant=*"] {
        assert_eq!(stats(&api, path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_repeat_of_a_publish_is_not_counted() {
    let api = Api::new();
    let body = json!({"event_type": "a", "payload": 1}).to_string();
    for duplicate in [false, true] {
        let headers = [("idempotency-key", "k")];
        let answer = api.json(http::Method::POST, "/events", &headers, body.clone()).await;
        assert_eq!(answer.value()["duplicate"], duplicate);
    }
    assert_eq!(stats(&api, "/stats").await["events"], 1);
}

#[tokio::test]
async fn the_backlog_tells_due_scheduled_and_waiting_apart() {
    let api = Api::new();
    api.subscribe(json!({"event_types": ["now"]})).await;
    let paused = api.subscribe(json!({"event_types": ["held"]})).await;
    assert_eq!(api.ask(&path(&paused, "/pause")).await.status, 200);
    for event_type in ["now", "held", "held"] {
        api.publish(event_type, json!(1)).await;
    }
    let later = json!({"event_type": "now", "payload": 1, "deliver_at": "2999-01-01T00:00:00Z"});
    assert_eq!(api.post("/events", later).await.status, 202);
    let found = stats(&api, "/stats").await;
    let backlog = &found["backlog"];
    assert_eq!(
        (&backlog["due"], &backlog["scheduled"], &backlog["waiting"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert!(backlog["oldest_due_age_ms"].as_u64().unwrap() > 0);
    assert_eq!(found["deliveries"]["pending"], 4);
    let found = stats(&api, &path(&paused, "/stats")).await;
    assert_eq!((&found["backlog"]["waiting"], &found["deliveries"]["pending"]), (&json!(2), &json!(2)));
    assert_eq!(stats(&api, "/stats?tenant=other").await["deliveries"]["pending"], 0);
}

#[tokio::test]
async fn each_tenant_has_statistics_of_its_own() {
    let api = Api::new();
    api.subscribe(json!({"tenant": "acme"})).await;
    let event = json!({"event_type": "a", "payload": 1, "tenant": "acme"});
    assert_eq!(api.post("/events", event).await.status, 202);
    api.publish("a", json!(1)).await;
    api.publish("a", json!(1)).await;
    for (tenant, events, pending) in [("acme", 1, 1), ("default", 2, 0), ("*", 3, 1), ("other", 0, 0)] {
        let found = stats(&api, &format!("/stats?tenant={tenant}")).await;
        assert_eq!(
            (&found["events"], &found["deliveries"]["pending"]),
            (&json!(events), &json!(pending)),
            "{tenant}"
        );
    }
}

#[tokio::test]
async fn another_tenants_subscription_has_no_statistics() {
    let api = Api::new();
    let subscription = api.subscribe(json!({"tenant": "acme"})).await;
    for query in ["?tenant=acme", "?tenant=*&window=1h"] {
        assert_eq!(api.get(&path(&subscription, &format!("/stats{query}"))).await.status, 200, "{query}");
    }
    let deleted = api.subscribe(json!({})).await;
    assert_eq!(api.delete(&path(&deleted, "")).await.status, 204);
    for path in [
        path(&subscription, "/stats"),
        path(&subscription, "/stats?tenant=other"),
        path(&deleted, "/stats"),
        "/subscriptions/0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d/stats".to_owned(),
        "/subscriptions/x/stats".to_owned(),
    ] {
        assert_eq!(api.get(&path).await.problem(), (404, "not_found".into()), "{path}");
    }
}
