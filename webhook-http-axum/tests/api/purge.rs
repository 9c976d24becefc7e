use serde_json::json;

use super::harness::{Api, ids, text};

/// Events of a tenant, newest first.
async fn events(api: &Api, tenant: &str) -> Vec<String> {
    ids(&api.get(&format!("/events?tenant={tenant}")).await.value())
}

#[tokio::test]
async fn a_purge_deletes_what_is_finished_of_its_tenant_and_says_how_many_events() {
    let api = Api::new();
    let subscription = text(&api.subscribe(json!({})).await["id"]);
    api.subscribe(json!({"tenant": "acme"})).await;
    let done = api.publish("a", json!(1)).await;
    let theirs =
        api.post("/events", json!({"event_type": "a", "payload": 1, "tenant": "acme"})).await.value();
    api.deliver().await;
    assert_eq!(api.ask(&format!("/subscriptions/{subscription}/pause")).await.status, 200);
    let waiting = api.publish("b", json!(1)).await;
    let unmatched = api.post("/events?tenant=other", json!({"event_type": "a", "payload": 1})).await;
    assert_eq!(unmatched.status, 202);

    let young = api.post("/purge", json!({"older_than": "72h"})).await;
    assert_eq!((young.status.as_u16(), young.value()), (200, json!({"deleted": 0})));
    assert_eq!(api.post("/purge", json!({"older_than": "0s"})).await.value(), json!({"deleted": 1}));
    assert_eq!(events(&api, "default").await, [text(&waiting["id"])]);
    assert_eq!(events(&api, "acme").await, [text(&theirs["id"])]);
    for path in [
        format!("/events/{}", text(&done["id"])),
        format!("/deliveries/{}", text(&done["deliveries"][0]["id"])),
    ] {
        assert_eq!(api.get(&path).await.problem(), (404, "not_found".into()), "{path}");
    }
    let left = api.get(&format!("/attempts?delivery_id={}", text(&done["deliveries"][0]["id"]))).await;
    assert_eq!(left.value()["data"], json!([]));

    assert_eq!(
        api.post("/purge?tenant=acme", json!({"older_than": "0"})).await.value(),
        json!({"deleted": 1})
    );
    assert_eq!(
        api.post("/purge?tenant=other", json!({"older_than": "0s"})).await.value(),
        json!({"deleted": 1})
    );
    assert_eq!(api.post("/purge", json!({"older_than": "0s"})).await.value(), json!({"deleted": 0}), "again");
}

/// Promise 11, after a purge: no deliveries, and the count as it was.
#[tokio::test]
async fn a_repeat_with_a_key_is_answered_after_a_purge() {
    let api = Api::new();
    api.subscribe(json!({})).await;
    api.subscribe(json!({"target_url": "https://example.com/second"})).await;
    let body = json!({"event_type": "a", "payload": 1}).to_string();
    let publish =
        async || api.json(http::Method::POST, "/events", &[("idempotency-key", "k")], body.clone()).await;
    let first = publish().await.value();
    assert_eq!((first["delivery_count"].as_u64(), first["duplicate"].as_bool()), (Some(2), Some(false)));
    api.deliver().await;
    assert_eq!(api.post("/purge", json!({"older_than": "0s"})).await.value(), json!({"deleted": 1}));
    let again = publish().await;
    let expected = json!({"id": first["id"], "deliveries": [], "delivery_count": 2, "duplicate": true});
    assert_eq!((again.status.as_u16(), again.value()), (202, expected));
    let other = json!({"event_type": "b", "payload": 1}).to_string();
    let other = api.json(http::Method::POST, "/events", &[("idempotency-key", "k")], other).await;
    assert_eq!(other.problem(), (409, "idempotency_key_reused".into()));
}
