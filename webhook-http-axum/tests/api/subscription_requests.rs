use futures::future::join_all;
use serde_json::{Value, json};

use super::harness::{Api, text};

#[tokio::test]
async fn a_paused_subscription_gets_deliveries_that_wait_until_it_is_resumed() {
    let api = Api::new();
    let path = format!("/subscriptions/{}", text(&api.subscribe(json!({})).await["id"]));
    let paused = api.ask(&format!("{path}/pause")).await;
    assert_eq!(paused.status, 200, "{}", paused.text());
    assert_eq!(paused.header("etag"), "\"2\"");
    assert_eq!((&paused.value()["status"], &paused.value()["version"]), (&json!("paused"), &json!(2)));
    assert_eq!(api.get(&path).await.value(), paused.value());
    assert_eq!(api.ask(&format!("{path}/pause")).await.value(), paused.value(), "a repeat changes nothing");

    let published = api.publish("a", json!(1)).await;
    assert_eq!(published["delivery_count"], 1);
    api.deliver().await;
    assert_eq!(api.target.requests().len(), 0);

    let resumed = api.ask(&format!("{path}/resume")).await;
    assert_eq!((resumed.status.as_u16(), resumed.header("etag")), (200, "\"3\""));
    assert_eq!(resumed.value()["status"], "active");
    api.deliver().await;
    assert_eq!(api.target.requests().len(), 1);
}

#[tokio::test]
async fn resume_enables_what_was_disabled_and_pause_does_not_hide_it() {
    let api = Api::new();
    let path = format!("/subscriptions/{}", text(&api.subscribe(json!({})).await["id"]));
    api.disable(&path).await;
    let paused = api.ask(&format!("{path}/pause")).await;
    assert_eq!(paused.status, 200);
    assert_eq!(
        (&paused.value()["status"], &paused.value()["disabled_reason"]),
        (&json!("disabled"), &json!("gone"))
    );
    let resumed = api.ask(&format!("{path}/resume")).await.value();
    assert_eq!((&resumed["status"], &resumed["disabled_reason"]), (&json!("active"), &json!(null)));
    api.publish("a", json!(2)).await;
    api.deliver().await;
    assert_eq!(api.target.requests().len(), 2);
}

#[tokio::test]
async fn after_a_rotation_both_secrets_sign_until_the_overlap_ends() {
    let api = Api::new();
    let created = api.subscribe(json!({})).await;
    let path = format!("/subscriptions/{}", text(&created["id"]));
    let rotated = api.ask(&format!("{path}/rotate-secret")).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    assert_eq!(rotated.header("cache-control"), "no-store");
    let secret = text(&rotated.value()["secret"]);
    assert_eq!(rotated.value(), json!({"secret": secret}));
    assert!(secret.starts_with("whsec_") && created["secret"] != secret);
    assert_eq!(api.get(&format!("{path}/secret")).await.value(), json!({"secret": secret}));
    assert_eq!(api.get(&path).await.value()["version"], 2);

    let signatures = async |expected: usize| {
        api.target.clear();
        api.publish("a", json!(1)).await;
        api.deliver().await;
        let sent = api.target.requests();
        let header = sent[0].header("webhook-signature").unwrap();
        assert_eq!(header.split(' ').count(), expected, "{header}");
    };
    signatures(2).await;
    let own = api
        .post(&format!("{path}/rotate-secret"), json!({"secret": "a-secret-of-my-own", "overlap": "0"}))
        .await;
    assert_eq!(own.value(), json!({"secret": "a-secret-of-my-own"}));
    signatures(1).await;
    let overlap = api.stored(&created).await.secrets[0].expires_at;
    assert_eq!(overlap, None);
}

#[tokio::test]
async fn a_rotation_overlaps_for_a_day_unless_told_otherwise() {
    let api = Api::new();
    let created = api.subscribe(json!({})).await;
    let path = format!("/subscriptions/{}/rotate-secret", text(&created["id"]));
    for (body, hours) in [(json!({}), 24), (json!({"overlap": null}), 24), (json!({"overlap": "1h30m"}), 1)] {
        assert_eq!(api.post(&path, body).await.status, 200);
        let stored = api.stored(&created).await;
        assert_eq!(stored.secrets.len(), 2, "those before the last no longer sign");
        let ends = stored.secrets[1].expires_at.unwrap();
        let left = ends.since(stored.updated_at).as_secs() as f64 / 3600.0;
        assert!((left.floor() - f64::from(hours)).abs() <= 1.0, "{left}");
    }
}

#[tokio::test]
async fn concurrent_changes_of_status_and_secret_are_all_made() {
    let api = Api::new();
    let path = format!("/subscriptions/{}", text(&api.subscribe(json!({})).await["id"]));
    let actions = ["rotate-secret", "rotate-secret", "rotate-secret", "pause"];
    let paths: Vec<_> = actions.iter().map(|action| format!("{path}/{action}")).collect();
    for answer in join_all(paths.iter().map(|path| api.ask(path))).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let read = api.get(&path).await.value();
    assert_eq!((&read["version"], &read["status"]), (&json!(5), &json!("paused")));
}

#[tokio::test]
async fn a_test_event_goes_the_whole_way_whatever_the_filters_say() {
    let api = Api::new();
    let picky = json!({"event_types": ["order.*"], "filter": {"a": 1}, "headers": {"X-Mine": "1"}});
    let subscription = api.subscribe(picky).await;
    api.subscribe(json!({"target_url": "https://example.com/other"})).await;
    let path = format!("/subscriptions/{}/test", text(&subscription["id"]));
    let tested = api.ask(&path).await;
    assert_eq!(tested.status, 202, "{}", tested.text());
    let tested = tested.value();
    let delivery = text(&tested["deliveries"][0]["id"]);
    assert_eq!(
        tested,
        json!({
            "id": tested["id"], "deliveries": [{"id": delivery, "subscription_id": subscription["id"]}],
            "delivery_count": 1, "duplicate": false,
        })
    );
    api.deliver().await;
    let sent = api.target.requests();
    assert_eq!(sent.len(), 1, "nobody else gets it");
    assert_eq!(sent[0].header("webhook-event-type"), Some("webhook.test"));
    assert_eq!(sent[0].header("webhook-id"), tested["id"].as_str());
    assert_eq!(sent[0].header("x-mine"), Some("1"));
    let payload: Value = serde_json::from_slice(&sent[0].request.body).unwrap();
    assert_eq!(payload["type"], "webhook.test");
    assert_eq!(payload["data"], json!({"subscription_id": subscription["id"]}));
    assert!(payload["timestamp"].is_string());
    assert_eq!(api.delivery(&delivery).await["status"], "succeeded");
    let event = api.get(&format!("/events/{}", text(&tested["id"]))).await.value();
    assert_eq!(event["event_type"], "webhook.test");
}

#[tokio::test]
async fn a_subscription_that_is_not_active_is_not_tested() {
    let api = Api::new();
    let path = format!("/subscriptions/{}", text(&api.subscribe(json!({})).await["id"]));
    let test = format!("{path}/test");
    let refused = (409, "subscription_not_active".to_owned());
    assert_eq!(api.ask(&format!("{path}/pause")).await.status, 200);
    assert_eq!(api.ask(&test).await.problem(), refused);
    assert_eq!(api.ask(&format!("{path}/resume")).await.status, 200);
    api.disable(&path).await;
    assert_eq!(api.ask(&test).await.problem(), refused);
    assert_eq!(api.delete(&path).await.status, 204);
    assert_eq!(api.ask(&test).await.problem(), (404, "not_found".into()));
    assert_eq!(api.get("/events").await.value()["data"].as_array().unwrap().len(), 1);
}
