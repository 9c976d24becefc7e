use serde_json::{Value, json};
use webhook_core::model::NewEvent;
use webhook_core::store::InboxEvent;

use super::harness::{Api, ids, text};

/// Inserts one event for each tenant that cannot be published; gives their ids when all are rejected.
pub(crate) async fn rejected<const N: usize>(api: &Api, tenants: [&str; N]) -> [String; N] {
    let published = tenants.map(|tenant| {
        let event: InboxEvent = NewEvent::json("not a type", "{}").into();
        api.store.0.publish_later(InboxEvent { tenant: tenant.to_owned(), ..event }).to_string()
    });
    api.webhooks.wake();
    for id in &published {
        api.until("/inbox?tenant=*&limit=250", |list| ids(list).contains(id)).await;
    }
    published
}

#[tokio::test]
async fn what_could_not_be_published_is_shown_with_its_problem_and_can_be_deleted() {
    let api = Api::new();
    api.spawn();
    let [id] = rejected(&api, ["default"]).await;
    let list = api.get("/inbox?status=rejected").await;
    assert_eq!(list.status, 200, "{}", list.text());
    let row = list.value()["data"][0].clone();
    assert_eq!(
        row,
        json!({
            "id": id, "tenant": "default", "event_type": "not a type", "problem": row["problem"],
            "created_at": row["created_at"],
        })
    );
    assert!(text(&row["problem"]).contains("event_type"), "{row}");
    assert!(text(&row["created_at"]).ends_with('Z'));
    assert_eq!(list.value(), json!({"data": [row], "next_cursor": null}));
    assert_eq!(api.get("/inbox").await.value(), list.value());

    let path = format!("/inbox/{id}");
    let deleted = api.delete(&path).await;
    assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));
    assert_eq!(api.delete(&path).await.problem(), (404, "not_found".into()));
    assert_eq!(api.get("/inbox").await.value()["data"], json!([]));
}

#[tokio::test]
async fn each_tenant_sees_its_own_rejected_events_and_an_admin_those_of_no_tenant_too() {
    let api = Api::new();
    api.spawn();
    let [own, theirs, nobodys] = rejected(&api, ["default", "acme", "not a tenant"]).await;
    assert_eq!(ids(&api.get("/inbox").await.value()), [own.as_str()]);
    assert_eq!(ids(&api.get("/inbox?tenant=acme").await.value()), [theirs.as_str()]);
    let all = [nobodys.as_str(), theirs.as_str(), own.as_str()];
    assert_eq!(ids(&api.get("/inbox?tenant=*").await.value()), all);

    let delete =
        async |id: &str, query: &str| api.delete(&format!("/inbox/{id}{query}")).await.status.as_u16();
    assert_eq!(delete(&theirs, "").await, 404);
    assert_eq!(delete(&theirs, "?tenant=acme").await, 204);
    assert_eq!(delete(&nobodys, "").await, 404);
    assert_eq!(delete(&nobodys, "?tenant=*").await, 204);
    assert_eq!(ids(&api.get("/inbox?tenant=*").await.value()), [own.as_str()]);
}

#[tokio::test]
async fn the_inbox_has_pages() {
    let api = Api::new();
    api.spawn();
    let mut expected = rejected(&api, ["default"; 7]).await.to_vec();
    expected.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/inbox?status=rejected&limit=3{cursor}")).await.value();
        assert!(ids(&page).len() <= 3);
        seen.extend(ids(&page));
        rejected(&api, ["default"]).await;
        match &page["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_published_row_leaves_the_inbox() {
    let api = Api::new();
    api.spawn();
    api.subscribe(json!({})).await;
    let id = api.store.0.publish_later(NewEvent::json("a", "{}"));
    api.webhooks.wake();
    let succeeded = |list: &Value| list["data"][0]["status"] == "succeeded";
    let list = api.until(&format!("/deliveries?event_id={id}"), succeeded).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/inbox?tenant=*").await.value()["data"], json!([]));
}
