use serde_json::{Value, json};
use webhook_core::testing::Scripted;

use super::harness::{Api, TARGET, text};

/// Waits until a replay is done, with workers running.
async fn done(api: &Api, id: &str) -> Value {
    let path = format!("/replays/{id}");
    api.until(&path, |replay| replay["status"] != "running").await
}

fn is_done(delivery: &Value) -> bool {
    delivery["status"] == "succeeded"
}

async fn one_of_each(api: &Api) -> [String; 3] {
    let exhausted = api.exhausted("a.exhausted").await;
    let succeeded = api.publish("a.succeeded", json!(1)).await;
    api.deliver().await;
    let cancelled = text(&api.publish("a.cancelled", json!(1)).await["deliveries"][0]["id"]);
    assert_eq!(api.ask(&format!("/deliveries/{cancelled}/cancel")).await.status, 200);
    [exhausted, text(&succeeded["deliveries"][0]["id"]), cancelled]
}

#[tokio::test]
async fn a_bulk_retry_reopens_the_dead_letters_and_tells_how_far_it_is() {
    let api = Api::new();
    api.subscribe(json!({"retry": {"schedule": []}})).await;
    let [exhausted, succeeded, cancelled] = one_of_each(&api).await;
    // No body: the defaults.
    let started = api.ask("/deliveries/retry").await;
    assert_eq!(started.status, 202, "{}", started.text());
    let started = started.value();
    let id = text(&started["id"]);
    assert_eq!(started, json!({"id": id, "matched": 1, "more": false, "done": 0}));
    let running = api.get(&format!("/replays/{id}")).await.value();
    assert_eq!(running, json!({"id": id, "status": "running", "matched": 1, "more": false, "done": 0}));

    api.spawn();
    let finished = done(&api, &id).await;
    assert_eq!(finished, json!({"id": id, "status": "done", "matched": 1, "more": false, "done": 1}));
    let delivery = api.until(&format!("/deliveries/{exhausted}"), is_done).await;
    assert_eq!(delivery["attempt_count"], 2);
    assert_eq!(api.delivery(&succeeded).await["attempt_count"], 1);
    assert_eq!(api.delivery(&cancelled).await["status"], "cancelled");
}

#[tokio::test]
async fn a_dry_run_counts_and_starts_nothing() {
    let api = Api::new();
    let subscription = text(&api.subscribe(json!({"retry": {"schedule": []}})).await["id"]);
    let other = json!({"target_url": "https://example.com/other", "event_types": ["none"]});
    let other = text(&api.subscribe(other).await["id"]);
    let [exhausted, ..] = one_of_each(&api).await;
    let at = text(&api.delivery(&exhausted).await["created_at"]);
    let dry = |matched: u64| json!({"matched": matched, "more": false, "done": 0});
    for (mut body, expected) in [
        (json!({}), 1),
        (json!({"status": null}), 1),
        (json!({"status": ["exhausted", "cancelled", "succeeded"]}), 3),
        (json!({"status": ["succeeded"]}), 1),
        (json!({"subscription_id": subscription}), 1),
        (json!({"subscription_id": other}), 0),
        (json!({"event_type": "a.exhausted"}), 1),
        (json!({"event_type": "a.cancelled"}), 0),
        (json!({"since": at}), 1),
        (json!({"until": at}), 0),
        (json!({"since": "2999-01-01T00:00:00+01:00"}), 0),
    ] {
        body["dry_run"] = json!(true);
        let answer = api.post("/deliveries/retry", body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.value()), (200, dry(expected)), "{body}");
    }
    let path = format!("/subscriptions/{subscription}/replay");
    for (mut body, expected) in [
        (json!({"since": at}), 2),
        (json!({"since": at, "until": at}), 0),
        (json!({"since": at, "status": ["exhausted"]}), 1),
        (json!({"since": at, "status": ["succeeded", "exhausted", "cancelled"]}), 3),
    ] {
        body["dry_run"] = json!(true);
        let answer = api.post(&path, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.value()), (200, dry(expected)), "{body}");
    }
    let elsewhere = api.post("/deliveries/retry?tenant=acme", json!({"dry_run": true})).await;
    assert_eq!(elsewhere.value(), dry(0));
    api.deliver().await;
    assert_eq!(api.delivery(&exhausted).await["status"], "exhausted");
}

#[tokio::test]
async fn a_subscriptions_replay_reopens_what_it_missed_and_no_others() {
    let api = Api::new();
    let subscription = text(&api.subscribe(json!({"retry": {"schedule": []}})).await["id"]);
    let [exhausted, _, cancelled] = one_of_each(&api).await;
    let other =
        json!({"target_url": "https://example.com/b", "event_types": ["b"], "retry": {"schedule": []}});
    api.subscribe(other).await;
    api.target.answer("https://example.com/b", Scripted::status(500));
    let theirs = api.publish("b", json!(1)).await;
    api.deliver().await;
    let of_b = theirs["deliveries"].as_array().unwrap();
    assert_eq!(of_b.len(), 2);

    let since = json!({"since": "2000-01-01T00:00:00Z", "dry_run": false});
    let started = api.post(&format!("/subscriptions/{subscription}/replay"), since).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let started = started.value();
    assert_eq!((&started["matched"], &started["more"]), (&json!(2), &json!(false)));
    api.spawn();
    assert_eq!(done(&api, &text(&started["id"])).await["done"], 2);
    for id in [exhausted, cancelled] {
        api.until(&format!("/deliveries/{id}"), is_done).await;
    }
    assert_eq!(api.target.requests_to("https://example.com/b").len(), 1);
    assert_eq!(api.target.requests_to(TARGET).len(), 5);
}

/// Reopened deliveries of a paused subscription wait there, as new ones do.
#[tokio::test]
async fn a_replay_of_a_paused_subscription_is_taken() {
    let api = Api::new();
    let subscription = text(&api.subscribe(json!({"retry": {"schedule": []}})).await["id"]);
    let id = api.exhausted("a").await;
    assert_eq!(api.ask(&format!("/subscriptions/{subscription}/pause")).await.status, 200);
    let since = json!({"since": "2000-01-01T00:00:00Z"});
    let started = api.post(&format!("/subscriptions/{subscription}/replay"), since).await;
    assert_eq!(started.status, 202, "{}", started.text());
    api.spawn();
    done(&api, &text(&started.value()["id"])).await;
    let delivery = api.delivery(&id).await;
    assert_eq!((&delivery["status"], &delivery["status_reason"]), (&json!("pending"), &json!("paused")));
}
