use http::Method;
use serde_json::{Value, json};
use webhook_core::testing::Scripted;

use super::harness::{Api, TARGET, request, text};

/// A subscription whose deliveries are exhausted by one failure.
fn once() -> Value {
    json!({"retry": {"schedule": []}})
}

#[tokio::test]
async fn a_retry_of_an_exhausted_delivery_reopens_it_and_numbers_go_on() {
    let api = Api::new();
    api.subscribe(once()).await;
    let id = api.exhausted("a").await;
    let asked = api.ask(&format!("/deliveries/{id}/retry")).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    let delivery = asked.value();
    assert_eq!((&delivery["id"], &delivery["status"]), (&json!(id), &json!("pending")));
    assert_eq!((&delivery["status_reason"], &delivery["finished_at"]), (&json!(null), &json!(null)));
    assert_eq!(delivery.get("attempts"), None, "the answer is a Delivery");

    api.deliver().await;
    let delivery = api.delivery(&id).await;
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("succeeded"), &json!(2)));
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!((&attempts[1]["number"], &attempts[1]["trigger"]), (&json!(2), &json!("manual")));
}

#[tokio::test]
async fn a_retry_of_an_unfinished_delivery_is_one_attempt_now_and_the_schedule_goes_on() {
    let api = Api::new();
    api.subscribe(json!({"retry": {"schedule": ["1h"]}})).await;
    for _ in 0..2 {
        api.target.answer(TARGET, Scripted::status(500));
    }
    let published = api.publish("a", json!(1)).await;
    api.deliver().await;
    let id = text(&published["deliveries"][0]["id"]);
    let before = api.delivery(&id).await;
    assert_eq!(before["status"], "retrying");
    let asked = api.post(&format!("/deliveries/{id}/retry"), json!({})).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    api.deliver().await;
    let after = api.delivery(&id).await;
    assert_eq!((&after["status"], &after["attempt_count"]), (&json!("retrying"), &json!(2)));
    assert_eq!(after["next_attempt_at"], before["next_attempt_at"]);
}

#[tokio::test]
async fn a_succeeded_delivery_is_retried_by_force_alone_and_stays_succeeded() {
    let api = Api::new();
    api.subscribe(once()).await;
    let published = api.publish("a", json!(1)).await;
    api.deliver().await;
    let id = text(&published["deliveries"][0]["id"]);
    let path = format!("/deliveries/{id}/retry");
    for path in [&path, &format!("{path}?force=false")] {
        assert_eq!(api.ask(path).await.problem(), (409, "delivery_finished".into()), "{path}");
    }
    api.target.answer(TARGET, Scripted::status(500));
    let forced = api.ask(&format!("{path}?force=true")).await;
    assert_eq!((forced.status.as_u16(), &forced.value()["status"]), (202, &json!("succeeded")));
    api.deliver().await;
    let delivery = api.delivery(&id).await;
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("succeeded"), &json!(2)));
    assert_eq!(delivery["attempts"][1]["outcome"], "failed");
}

#[tokio::test]
async fn nothing_is_retried_while_the_subscription_is_paused_disabled_or_deleted() {
    let api = Api::new();
    let subscription = format!("/subscriptions/{}", text(&api.subscribe(once()).await["id"]));
    let id = api.exhausted("a").await;
    let retry = format!("/deliveries/{id}/retry");
    let refused = (409, "subscription_not_active".to_owned());

    assert_eq!(api.ask(&format!("{subscription}/pause")).await.status, 200);
    assert_eq!(api.ask(&retry).await.problem(), refused);
    assert_eq!(api.ask(&format!("{subscription}/resume")).await.status, 200);

    api.disable(&subscription).await;
    assert_eq!(api.ask(&retry).await.problem(), refused);

    assert_eq!(api.delete(&subscription).await.status, 204);
    assert_eq!(api.ask(&retry).await.problem(), refused);
    assert_eq!(api.delivery(&id).await["attempt_count"], 1);
}

#[tokio::test]
async fn a_cancelled_delivery_is_not_sent() {
    let api = Api::new();
    api.subscribe(once()).await;
    let published = api.publish("a", json!(1)).await;
    let path = format!("/deliveries/{}", text(&published["deliveries"][0]["id"]));
    let cancelled = api.ask(&format!("{path}/cancel")).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    let delivery = cancelled.value();
    assert_eq!(delivery["status"], "cancelled");
    assert_eq!(delivery["status_reason"], "cancelled_by_user");
    assert!(delivery["finished_at"].is_string() && delivery["next_attempt_at"].is_null());
    api.deliver().await;
    assert_eq!(api.target.requests().len(), 0);
    assert_eq!(api.ask(&format!("{path}/cancel")).await.problem(), (409, "delivery_finished".into()));

    assert_eq!(api.ask(&format!("{path}/retry")).await.value()["status"], "pending");
    api.deliver().await;
    assert_eq!(api.ask(&format!("{path}/cancel")).await.problem(), (409, "delivery_finished".into()));
    assert_eq!(api.get(&path).await.value()["status"], "succeeded");
}

#[tokio::test]
async fn cancelling_an_event_ends_what_is_unfinished_and_counts_it() {
    let api = Api::new();
    api.subscribe(json!({})).await;
    for number in 0..3 {
        let other = format!("https://example.com/{number}");
        api.subscribe(json!({"target_url": other, "event_types": ["many"]})).await;
    }
    let published = api.publish("many", json!(1)).await;
    let first = text(&published["deliveries"][0]["id"]);
    assert_eq!(api.ask(&format!("/deliveries/{first}/cancel")).await.status, 200);
    let path = format!("/events/{}", text(&published["id"]));
    let cancelled = api.ask(&format!("{path}/cancel")).await;
    assert_eq!((cancelled.status.as_u16(), cancelled.value()), (200, json!({"cancelled": 3})));
    api.deliver().await;
    assert_eq!(api.target.requests().len(), 0);
    for delivery in api.get(&path).await.value()["deliveries"].as_array().unwrap() {
        assert_eq!(delivery["status"], "cancelled");
    }
    assert_eq!(api.ask(&format!("{path}/cancel")).await.problem(), (409, "delivery_finished".into()));
}

#[tokio::test]
async fn an_event_without_deliveries_is_finished_and_has_nothing_to_cancel() {
    let api = Api::new();
    let published = api.publish("nobody", json!(1)).await;
    assert_eq!(published["delivery_count"], 0);
    let cancelled = api.ask(&format!("/events/{}/cancel", text(&published["id"]))).await;
    assert_eq!(cancelled.problem(), (409, "delivery_finished".into()));
}

#[tokio::test]
async fn replaying_an_event_reopens_what_is_finished_and_adds_who_matches_now() {
    let api = Api::new();
    let first = api.subscribe(json!({})).await;
    let gone = api.subscribe(json!({"target_url": "https://example.com/gone"})).await;
    let published = api.publish("a", json!(1)).await;
    api.deliver().await;
    assert_eq!(api.delete(&format!("/subscriptions/{}", text(&gone["id"]))).await.status, 204);
    let late = api.subscribe(json!({"target_url": "https://example.com/late"})).await;

    let path = format!("/events/{}/replay", text(&published["id"]));
    let replayed = api.ask(&path).await;
    assert_eq!(replayed.status, 202, "{}", replayed.text());
    let value = replayed.value();
    assert_eq!(value.as_object().unwrap().len(), 1);
    let deliveries = value["deliveries"].as_array().unwrap();
    let subscriptions: Vec<_> = deliveries.iter().map(|row| &row["subscription_id"]).collect();
    assert_eq!(subscriptions, [&first["id"], &late["id"]]);
    for delivery in deliveries {
        assert_eq!(delivery.as_object().unwrap().len(), 2, "{delivery}");
    }
    api.deliver().await;
    assert_eq!(api.target.requests_to(TARGET).len(), 2);
    assert_eq!(api.target.requests_to("https://example.com/late").len(), 1);
    assert_eq!(api.target.requests_to("https://example.com/gone").len(), 1);

    // All are finished and none is exhausted, and everybody has one.
    let narrowed = api.post(&path, json!({"status": ["exhausted", "cancelled"]})).await;
    assert_eq!((narrowed.status.as_u16(), narrowed.value()), (202, json!({"deliveries": []})));
    let narrowed = api.post(&path, json!({"status": ["succeeded"]})).await.value();
    assert_eq!(narrowed["deliveries"].as_array().unwrap().len(), 2);
}

/// What another tenant has does not exist, whatever is asked of it, and does not change by it.
#[tokio::test]
async fn requests_over_what_belongs_to_another_tenant_are_404() {
    let api = Api::new();
    let theirs = api.subscribe(json!({"tenant": "acme"})).await;
    let event = api.post("/events?tenant=acme", json!({"event_type": "a", "payload": 1})).await.value();
    let (subscription, delivery) = (text(&theirs["id"]), text(&event["deliveries"][0]["id"]));
    let event = text(&event["id"]);
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    let replay = api.post(&format!("/subscriptions/{subscription}/replay?tenant=acme"), since.clone()).await;
    let replay = text(&replay.value()["id"]);

    for path in [
        format!("/subscriptions/{subscription}/pause"),
        format!("/subscriptions/{subscription}/resume"),
        format!("/subscriptions/{subscription}/rotate-secret"),
        format!("/subscriptions/{subscription}/test"),
        format!("/events/{event}/cancel"),
        format!("/events/{event}/replay"),
        format!("/deliveries/{delivery}/retry"),
        format!("/deliveries/{delivery}/cancel"),
    ] {
        assert_eq!(api.ask(&path).await.problem(), (404, "not_found".into()), "{path}");
    }
    let path = format!("/subscriptions/{subscription}/replay");
    assert_eq!(api.post(&path, since).await.problem(), (404, "not_found".into()));
    let bulk = api.post("/deliveries/retry", json!({"subscription_id": subscription})).await;
    assert_eq!(bulk.problem(), (404, "not_found".into()));
    assert_eq!(api.get(&format!("/replays/{replay}")).await.problem(), (404, "not_found".into()));
    assert_eq!(api.get(&format!("/replays/{replay}?tenant=acme")).await.status, 200);

    let unchanged = api.get(&format!("/subscriptions/{subscription}?tenant=acme")).await.value();
    assert_eq!(unchanged["version"], 1);
    let delivery = api.get(&format!("/deliveries/{delivery}?tenant=acme")).await.value();
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("pending"), &json!(0)));
    assert_eq!(
        api.ask(&format!("/deliveries/{}/cancel?tenant=acme", text(&delivery["id"]))).await.status,
        200
    );
}

#[tokio::test]
async fn requests_with_an_optional_body_take_none_an_empty_one_and_any_type_of_nothing() {
    let api = Api::new();
    let id = text(&api.subscribe(json!({})).await["id"]);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let json = [("content-type", "application/json")];
    for action in ["pause", "resume", "rotate-secret", "test"] {
        for path in [format!("/subscriptions/{id}/{action}"), format!("/subscriptions/{id}/{action}/")] {
            for (headers, body) in [(&[][..], ""), (&form[..], ""), (&json[..], ""), (&json[..], " { } ")] {
                let answer = api.send(request(Method::POST, &path, headers, body)).await;
                assert!(answer.status.is_success(), "{path} {headers:?} {body}: {}", answer.text());
            }
        }
    }
}
