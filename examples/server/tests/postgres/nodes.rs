//! Several nodes, one database: each does its part, and all see the same.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use axum::http::Method;
use futures::future::join_all;
use rustix::process::Signal;
use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::{HELD, database, node};

#[tokio::test(flavor = "multi_thread")]
async fn an_api_node_takes_events_and_a_worker_node_delivers_them() {
    let Some(url) = database("roles").await else { return };
    let mut api_node = node(&url, "api", &[]);
    let api = Api::new(api_node.url());
    let receiver = Receiver::start(Duration::ZERO).await;
    api.subscribe(&receiver.url, &[]).await;
    let id = api.publish("order.created", &json!({"id": 1})).await.expect("acknowledged");

    let line = api_node.line_with("listening");
    assert!(line.contains("role: api"), "{line}");
    let ready = api.get("/ready").await.unwrap();
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (200, &json!("ready")));

    let mut worker_node = node(&url, "worker", &[]);
    let worker = Api::new(worker_node.url());
    eventually("the delivery", async || (receiver.count() == 1).then_some(())).await;
    assert_eq!(receiver.times(), [(id, 1)].into());
    api.all_finished().await;
    eventually("what the worker counted", async || {
        let stats = api.get("/api/v1/stats?window=1h").await?.json();
        let counts = (&stats["events"], &stats["deliveries"]["succeeded"], &stats["attempts"]["succeeded"]);
        (counts == (&json!(1), &json!(1), &json!(1))).then_some(())
    })
    .await;

    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(worker.get(path).await.unwrap().status, 200, "{path}");
    }
    // Each counts what it did itself.
    let counts = async |node: &Api, line: &str| {
        let text = node.get("/metrics").await.unwrap().body;
        std::str::from_utf8(&text).unwrap().lines().any(|found| found == line)
    };
    assert!(counts(&api, "webhook_events_published_total 1").await);
    assert!(counts(&api, "webhook_attempts_in_flight_limit 0").await);
    assert!(counts(&worker, "webhook_events_published_total 0").await);
    assert!(counts(&worker, "webhook_store_connections_max{pool=\"claimer\"} 1").await);
    eventually("the success is counted", async || {
        counts(&worker, "webhook_deliveries_total{outcome=\"succeeded\"} 1").await.then_some(())
    })
    .await;
    for path in ["/", "/api/v1/subscriptions", "/api/v1/events"] {
        let answer = worker.get(path).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!("not_found")), "{path}");
    }
    let answer = worker.post("/api/v1/events", &json!({"event_type": "a", "payload": 1})).await.unwrap();
    assert_eq!(answer.status, 404);
}

/// Promise 10, over processes: what one node was told, the next publish on another knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_one_node_is_seen_by_the_next_publish_on_another() {
    let Some(url) = database("configuration").await else { return };
    let (mut first, mut second) = (node(&url, "api", &[]), node(&url, "api", &[]));
    let nodes = [Api::new(first.url()), Api::new(second.url())];
    let count = async |api: &Api| {
        let answer = api.post("/api/v1/events", &json!({"event_type": "a.b", "payload": 1})).await.unwrap();
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        answer.json()["delivery_count"].as_u64().unwrap()
    };
    for round in 0..20 {
        let (here, there) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
        assert_eq!(count(there).await, 0, "round {round}: it has an opinion of its own from now on");
        let (id, _) = here.subscribe("http://127.0.0.1:9000/hooks", &["a.*"]).await;
        assert_eq!(count(there).await, 1, "round {round}: created");
        let path = format!("/api/v1/subscriptions/{id}");
        let json = [("content-type", "application/json")];
        let body = r#"{"event_types": ["other"]}"#;
        let changed = here.send(Method::PATCH, &path, &json, body).await.unwrap();
        assert_eq!(changed.status, 200, "{:?}", changed.body);
        assert_eq!(count(there).await, 0, "round {round}: changed");
        let back = here.send(Method::PATCH, &path, &json, r#"{"event_types": []}"#).await.unwrap();
        assert_eq!(back.status, 200);
        assert_eq!(count(there).await, 1, "round {round}: changed back");
        assert_eq!(here.send(Method::DELETE, &path, &[], "").await.unwrap().status, 204);
        assert_eq!(count(there).await, 0, "round {round}: deleted");
    }
}

/// Promise 11: one key, one event, however many ask at once and wherever.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_publishes_at_once_with_one_key_over_two_nodes_are_one_event() {
    let Some(url) = database("idempotency").await else { return };
    let (mut first, mut second) = (node(&url, "all", &[]), node(&url, "all", &[]));
    let nodes = [Api::new(first.url()), Api::new(second.url())];
    let receiver = Receiver::start(Duration::ZERO).await;
    nodes[0].subscribe(&receiver.url, &[]).await;
    for round in 0..5 {
        let key = format!("order-{round}");
        let publishes = (0..100).map(|number| {
            let (api, key) = (&nodes[number % 2], &key);
            async move {
                let headers = [("idempotency-key", key.as_str())];
                let answer =
                    api.try_publish(&headers, "order.created", &json!(round)).await.expect("an answer");
                assert_eq!(answer.status, 202, "{:?}", answer.body);
                answer.json()
            }
        });
        let answers = join_all(publishes).await;
        let ids: HashSet<_> = answers.iter().map(|answer| answer["id"].to_string()).collect();
        let fresh = answers.iter().filter(|answer| answer["duplicate"] == json!(false)).count();
        assert_eq!((ids.len(), fresh), (1, 1), "round {round}");
    }
    nodes[0].all_finished().await;
    let mut times: Vec<_> = receiver.times().into_values().collect();
    times.sort_unstable();
    assert_eq!(times, [1; 5], "five events, each delivered once");
}

/// Promise 17: a worker that is stopped hands back what it cannot finish, and another goes on at once, long before a
/// lease would have ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_hands_back_and_another_goes_on_at_once() {
    const LEASE: Duration = Duration::from_secs(300);
    let Some(url) = database("graceful stop").await else { return };
    let mut api_node = node(&url, "api", &[]);
    let api = Api::new(api_node.url());
    let slow = Receiver::start(Duration::from_secs(4)).await;
    // One for each of eight: a new subscription gets few at once, and all new ones a quarter of a worker's slots.
    for _ in 0..HELD {
        api.subscribe(&slow.url, &[]).await;
    }
    let more = ["--lease=300s", "--shutdown-grace=500ms"];
    let mut stopped = node(&url, "worker", &more);
    stopped.url();
    let id = api.publish("a", &json!(1)).await.expect("acknowledged");
    eventually("all are on the wire", async || (slow.count() == HELD).then_some(())).await;
    let mut other = node(&url, "worker", &more);
    other.url();
    stopped.signal(Signal::TERM);
    assert_eq!(stopped.ended().code(), Some(0), "{:#?}", stopped.stderr());
    let end = Instant::now();
    eventually("all are on the wire again", async || (slow.count() == 2 * HELD).then_some(())).await;
    let took = end.elapsed();
    println!(
        "graceful stop: {HELD} deliveries that were cut off started elsewhere within {took:?} of its end"
    );
    assert!(took < LEASE / 10, "{took:?}");
    api.all_finished().await;
    assert_eq!(slow.times(), [(id, 2 * HELD)].into(), "each twice");
    let failed = api.get("/api/v1/attempts?outcome=failed&limit=50").await.unwrap().json();
    let kinds: Vec<_> = failed["data"].as_array().unwrap().iter().map(|row| &row["error"]["kind"]).collect();
    assert_eq!(kinds, [&json!("interrupted"); HELD]);
}
