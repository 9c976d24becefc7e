use serde_json::{Value, json};
use webhook_core::model::{Subscription, SubscriptionStatus};
use webhook_core::store::SubscriptionStore as _;
use webhook_core::testing::Scripted;

use super::harness::{Api, TARGET, ids};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn a_delivery_shows_its_attempts_and_lists_leave_answers_out() {
    let api = Api::new();
    let subscription = api.subscribe(json!({"retry": {"schedule": []}})).await;
    let answer = Scripted::status(500).header("x-why", "because").body(vec![b'o', 0xff, b'k']);
    api.target.answer(TARGET, answer);
    let published = api.publish("order.paid", json!({"a": 1})).await;
    api.deliver().await;

    let id = published["deliveries"][0]["id"].as_str().unwrap();
    let delivery = api.get(&format!("/deliveries/{id}")).await.value();
    let attempt = &delivery["attempts"][0];
    assert_eq!(
        *attempt,
        json!({
            "id": attempt["id"], "delivery_id": id, "event_id": published["id"],
            "subscription_id": subscription["id"], "number": 1, "trigger": "schedule",
            "started_at": attempt["started_at"], "duration_ms": attempt["duration_ms"], "outcome": "failed",
            "status_code": 500, "error": attempt["error"], "response_body": "o\u{fffd}k",
            "response_headers": [["x-why", "because"]], "target_url": TARGET,
        })
    );
    assert_eq!(attempt["error"]["kind"], "status");
    assert!(attempt["duration_ms"].is_u64() && attempt["error"]["detail"].is_string());
    assert_eq!(
        delivery,
        json!({
            "id": id, "event_id": published["id"], "subscription_id": subscription["id"],
            "tenant": "default", "event_type": "order.paid", "status": "exhausted",
            "status_reason": "attempts_exhausted", "attempt_count": 1, "next_attempt_at": null,
            "last_status_code": 500, "last_error": attempt["error"], "created_at": delivery["created_at"],
            "finished_at": delivery["finished_at"], "attempts": delivery["attempts"],
        })
    );
    let mut row = delivery.clone();
    row.as_object_mut().unwrap().remove("attempts");
    let event = api.get(&format!("/events/{}", published["id"].as_str().unwrap())).await.value();
    assert_eq!(event["deliveries"], json!([row]));
    let of_subscription = format!("/subscriptions/{}/deliveries", subscription["id"].as_str().unwrap());
    for path in ["/deliveries", "/deliveries?status=exhausted", &of_subscription] {
        assert_eq!(api.get(path).await.value(), json!({"data": [row], "next_cursor": null}), "{path}");
    }

    let mut bare = attempt.clone();
    bare.as_object_mut().unwrap().retain(|name, _| !name.starts_with("response_"));
    let of_subscription = format!("/subscriptions/{}/attempts", subscription["id"].as_str().unwrap());
    for path in ["/attempts", "/attempts?outcome=failed,unknown", &of_subscription] {
        assert_eq!(api.get(path).await.value(), json!({"data": [bare], "next_cursor": null}), "{path}");
    }
    for path in ["/attempts?outcome=succeeded", "/deliveries?status=pending,succeeded"] {
        assert_eq!(api.get(path).await.value()["data"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn an_event_says_why_it_matched_and_why_not() {
    let api = Api::new();
    let orders = api.subscribe(json!({"event_types": ["order.*"]})).await;
    let large = api.subscribe(json!({"filter": {"amount": {"$gte": 100}}})).await;
    let all = api.subscribe(json!({})).await;
    let published = api.publish("invoice.paid", json!({"amount": 5})).await;
    assert_eq!(published["delivery_count"], 1);
    let event = api.get(&format!("/events/{}", published["id"].as_str().unwrap())).await.value();
    assert_eq!(
        keys(&event),
        [
            "content_type",
            "created_at",
            "deliver_at",
            "deliveries",
            "event_type",
            "id",
            "idempotency_key",
            "matches",
            "ordering_key",
            "payload_size",
            "tenant"
        ]
    );
    let verdicts: Vec<_> = event["matches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|verdict| (verdict["subscription_id"].clone(), verdict["matched"].clone()))
        .collect();
    let id = |subscription: &Value| subscription["id"].clone();
    assert_eq!(verdicts, [(id(&all), json!(true)), (id(&large), json!(false)), (id(&orders), json!(false))]);
    assert!(event["matches"][1]["reason"].as_str().unwrap().contains("at least 100"));
    assert_eq!(keys(&event["matches"][0]), ["matched", "reason", "subscription_id"]);
}

#[tokio::test]
async fn a_payload_is_an_attachment_that_no_browser_runs() {
    let api = Api::new();
    let published = api.publish("a", json!("<script>")).await;
    let id = published["id"].as_str().unwrap();
    let payload = api.get(&format!("/events/{id}/payload")).await;
    assert_eq!(payload.header("content-type"), "application/json");
    assert_eq!(payload.header("content-disposition"), format!("attachment; filename=\"{id}.json\""));
    assert_eq!(payload.header("x-content-type-options"), "nosniff");
    assert_eq!(payload.header("content-security-policy"), "default-src 'none'; sandbox");
}

#[tokio::test]
async fn deliveries_of_paused_and_disabled_subscriptions_say_so() {
    let api = Api::new();
    let paused = api.subscribe(json!({"event_types": ["p"]})).await;
    api.subscribe(json!({"event_types": ["d"], "target_url": "https://example.com/gone"})).await;
    let stored = api.stored(&paused).await;
    let change = Subscription { status: SubscriptionStatus::Paused, ..(*stored).clone() };
    api.store.update(&change, stored.version).await.unwrap();
    api.target.answer("https://example.com/gone", Scripted::status(410));
    api.publish("d", json!(1)).await;
    api.deliver().await;

    api.publish("p", json!(1)).await;
    api.publish("d", json!(2)).await;
    let list = api.get("/deliveries?status=pending").await.value();
    let reasons: Vec<_> = list["data"].as_array().unwrap().iter().map(|row| &row["status_reason"]).collect();
    assert_eq!(reasons, ["disabled", "paused"]);
    let row = &list["data"][0];
    let one = api.get(&format!("/deliveries/{}", row["id"].as_str().unwrap())).await.value();
    assert_eq!(one["status_reason"], "disabled");
    let event = api.get(&format!("/events/{}", row["event_id"].as_str().unwrap())).await.value();
    assert_eq!(event["deliveries"][0]["status_reason"], "disabled");
    let disabled = api.get("/subscriptions?status=disabled").await.value();
    assert_eq!(disabled["data"][0]["disabled_reason"], "gone");
    assert_eq!(api.get("/deliveries?status=exhausted").await.value()["data"][0]["status_reason"], "gone");
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_rows_are_inserted() {
    let api = Api::new();
    api.subscribe(json!({})).await;
    let mut expected = Vec::new();
    for number in 0..23 {
        expected.push(api.publish("a", json!(number)).await["id"].as_str().unwrap().to_owned());
    }
    expected.reverse();
    let mut seen = Vec::new();
    let mut path = "/events?event_type=a&limit=4".to_owned();
    loop {
        let page = api.get(&path).await.value();
        assert!(ids(&page).len() <= 4);
        seen.extend(ids(&page));
        api.publish("a", json!("meanwhile")).await;
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/events?limit=4&cursor={cursor}&event_type=a"),
            None => break,
        }
    }
    assert_eq!(seen, expected);

    api.deliver().await;
    for list in ["/deliveries", "/attempts"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("{list}?limit=7{cursor}")).await.value();
            seen.extend(ids(&page));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!((seen.len(), unique.len()), (29, 29), "{list}");
    }
}

#[tokio::test]
async fn since_is_inclusive_and_until_exclusive() {
    let api = Api::new();
    api.subscribe(json!({})).await;
    api.publish("a", json!(1)).await;
    api.deliver().await;
    for (list, field) in [("events", "created_at"), ("deliveries", "created_at"), ("attempts", "started_at")]
    {
        let at = api.get(&format!("/{list}")).await.value()["data"][0][field].as_str().unwrap().to_owned();
        let count = async |query: String| {
            api.get(&format!("/{list}?{query}")).await.value()["data"].as_array().unwrap().len()
        };
        assert_eq!(count(format!("since={at}")).await, 1, "{list}");
        assert_eq!(count(format!("until={at}")).await, 0, "{list}");
        assert_eq!(count("since=2000-01-01T00:00:00Z&until=2999-01-01T00:00:00Z".to_owned()).await, 1);
    }
}
