use futures::future::{FutureExt as _, join_all};
use http::Method;
use serde_json::json;

use super::harness::{Api, TARGET, ids, request};

#[tokio::test]
async fn a_new_subscription_has_every_field_and_shows_its_secret_once() {
    let api = Api::new();
    let created = api.post("/subscriptions", json!({"target_url": TARGET})).await;
    assert_eq!(created.status, 201);
    let mut value = created.value();
    let id = value["id"].as_str().unwrap().to_owned();
    assert_eq!(created.header("etag"), "\"1\"");
    assert_eq!(created.header("location"), format!("/subscriptions/{id}"));
    assert_eq!(created.header("cache-control"), "no-store");

    let secret = value.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    let read = api.get(&format!("/subscriptions/{id}")).await;
    assert_eq!(read.header("etag"), "\"1\"");
    assert_eq!(read.value(), value);
    assert_eq!(
        value,
        json!({
            "id": id, "tenant": "default", "target_url": TARGET, "description": null, "event_types": [],
            "filter": null, "headers": {}, "metadata": {}, "status": "active", "disabled_reason": null,
            "retry": null, "timeout": null, "max_in_flight": null, "rate_limit": null, "ordered": false,
            "signature": "standard", "verify": null, "version": 1,
            "created_at": value["created_at"], "updated_at": value["updated_at"],
        })
    );
    assert!(value["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(api.get(&format!("/subscriptions/{id}/secret")).await.value(), json!({"secret": secret}));
}

#[tokio::test]
async fn all_that_can_be_written_is_read_back_and_sent_back() {
    let api = Api::new();
    let fields = json!({
        "target_url": "https://example.com/a?b=c", "description": "orders",
        "event_types": ["invoice.*", "order.paid"], "filter": {"data.amount": {"$gte": 100}},
        "headers": {"X-Team": "billing", "Authorization": "Bearer hidden-value"},
        "metadata": {"owner": "me"}, "retry": {"schedule": ["10s", "1m"]}, "timeout": "5s",
        "max_in_flight": 3, "rate_limit": {"requests": 100, "per": "1s"}, "ordered": true,
        "signature": "github", "secret": "my-own-secret-text",
        "verify": {"scheme": "hex", "header": "X-Sig", "secret": "verify-secret-text"},
    });
    let created = api.subscribe(fields.clone()).await;
    assert_eq!(created["secret"], "my-own-secret-text");
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    let read = api.get(&path).await;
    assert!(!read.text().contains("hidden-value") && !read.text().contains("secret"), "{}", read.text());
    let read = read.value();
    for (name, value) in fields.as_object().unwrap() {
        match name.as_str() {
            "secret" => {}
            "headers" => {
                assert_eq!(read[name], json!({"X-Team": "billing", "Authorization": "***"}));
            }
            "verify" => assert_eq!(read[name], json!({"scheme": "hex", "header": "X-Sig"})),
            _ => assert_eq!(&read[name], value, "{name}"),
        }
    }

    // What was read can be sent back, and changes nothing, not even the masked values.
    let before = api.stored(&read).await;
    for again in [api.put(&path, read.clone()).await, api.patch(&path, read.clone()).await] {
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(again.value(), read);
    }
    let after = api.stored(&read).await;
    assert_eq!(before, after);
    assert_eq!(after.headers["Authorization"], "Bearer hidden-value");

    // The secret, which the creation showed, may come along too.
    let mut with_secret = read.clone();
    with_secret["secret"] = json!("my-own-secret-text");
    assert_eq!(api.put(&path, with_secret.clone()).await.status, 200);
    with_secret["secret"] = json!("another-secret-text");
    assert_eq!(api.put(&path, with_secret).await.fields(), ["secret"]);
}

#[tokio::test]
async fn put_replaces_and_defaults_what_is_left_out() {
    let api = Api::new();
    let created = api
        .subscribe(json!({"description": "old", "headers": {"X-Api-Key": "k"}, "metadata": {"a": "b"}}))
        .await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    let replaced = api
        .put(&path, json!({"target_url": "https://example.org/new", "headers": {"X-Api-Key": "***"}}))
        .await;
    assert_eq!(replaced.header("etag"), "\"2\"");
    let value = replaced.value();
    assert_eq!(value["target_url"], "https://example.org/new");
    assert_eq!((&value["description"], &value["metadata"]), (&json!(null), &json!({})));
    assert_eq!(value["headers"], json!({"X-Api-Key": "***"}));
    assert_eq!(api.stored(&value).await.headers["X-Api-Key"], "k");
}

#[tokio::test]
async fn a_change_on_another_version_is_412() {
    let api = Api::new();
    let created = api.subscribe(json!({})).await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    let body = || json!({"target_url": TARGET, "description": "x"}).to_string();
    let stale = [("if-match", "\"7\"")];
    for answer in [
        api.json(Method::PUT, &path, &stale, body()).await,
        api.json(Method::PATCH, &path, &stale, body()).await,
        api.send(request(Method::DELETE, &path, &stale, "")).await,
        api.put(&path, json!({"target_url": TARGET, "version": 2})).await,
        api.patch(&path, json!({"version": 2})).await,
        // An old representation differs in more than its version.
        api.put(&path, json!({"target_url": TARGET, "version": 2, "status": "paused"})).await,
    ] {
        assert_eq!(answer.problem(), (412, "version_mismatch".into()));
    }
    assert_eq!(api.get(&path).await.value()["version"], 1);

    let fresh = [("if-match", "\"1\"")];
    assert_eq!(api.json(Method::PUT, &path, &fresh, body()).await.status, 200);
    assert_eq!(api.json(Method::PUT, &path, &fresh, body()).await.status, 412);
    assert_eq!(api.patch(&path, json!({"version": 2, "description": "y"})).await.value()["version"], 3);
    assert_eq!(api.send(request(Method::DELETE, &path, &[("if-match", "\"3\"")], "")).await.status, 204);
    assert_eq!(api.get(&path).await.problem(), (404, "not_found".into()));
}

#[tokio::test]
async fn concurrent_patches_of_different_fields_are_all_kept() {
    let api = Api::new();
    let created = api.subscribe(json!({})).await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    let names: Vec<_> = (0..6).map(|number| format!("k{number}")).collect();
    let patches = names.iter().map(|name| api.patch(&path, json!({"metadata": {name: "v"}})));
    for answer in join_all(patches).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let read = api.get(&path).await.value();
    assert_eq!(read["metadata"].as_object().unwrap().len(), names.len());
    assert_eq!(read["version"], 7);
}

#[tokio::test]
async fn of_concurrent_changes_on_one_version_one_is_made() {
    let api = Api::new();
    let created = api.subscribe(json!({})).await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    let read = [("if-match", "\"1\"")];
    let with_header = (0..3).map(|number| {
        let body = json!({"metadata": {"winner": number.to_string()}}).to_string();
        let (api, path) = (&api, &path);
        async move { api.json(Method::PATCH, path, &read, body).await }.left_future()
    });
    let with_field = (3..6).map(|number| {
        let body = json!({"version": 1, "target_url": TARGET, "metadata": {"winner": number.to_string()}});
        let (api, path) = (&api, &path);
        async move { api.put(path, body).await }.right_future()
    });
    let answers = join_all(with_header.chain(with_field)).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412]);
    assert_eq!(api.get(&path).await.value()["version"], 2);
}

#[tokio::test]
async fn lists_filter_by_status_event_type_and_tenant() {
    let api = Api::new();
    let orders = api.subscribe(json!({"event_types": ["order.*"]})).await;
    let all = api.subscribe(json!({})).await;
    let other = api.subscribe(json!({"tenant": "acme"})).await;
    let id = |value: &serde_json::Value| value["id"].as_str().unwrap().to_owned();

    for (query, expected) in [
        ("", vec![id(&all), id(&orders)]),
        ("?event_type=order.paid", vec![id(&all), id(&orders)]),
        ("?event_type=invoice.paid", vec![id(&all)]),
        ("?status=active,paused", vec![id(&all), id(&orders)]),
        ("?status=disabled", vec![]),
        ("?tenant=acme", vec![id(&other)]),
        ("?tenant=*", vec![id(&other), id(&all), id(&orders)]),
    ] {
        let list = api.get(&format!("/subscriptions{query}")).await;
        assert_eq!(list.status, 200, "{query}: {}", list.text());
        assert_eq!(ids(&list.value()), expected, "{query}");
        assert_eq!(list.value()["next_cursor"], json!(null), "{query}");
    }
    assert!(!api.get("/subscriptions").await.text().contains("whsec_"));
}

#[tokio::test]
async fn what_belongs_to_another_tenant_is_404_on_every_route() {
    let api = Api::new();
    let theirs = api.subscribe(json!({"tenant": "acme"})).await;
    let event = api.post("/events?tenant=acme", json!({"event_type": "a", "payload": 1})).await.value();
    let (subscription, event, delivery) = (
        theirs["id"].as_str().unwrap(),
        event["id"].as_str().unwrap(),
        event["deliveries"][0]["id"].as_str().unwrap().to_owned(),
    );
    for path in [
        format!("/subscriptions/{subscription}"),
        format!("/subscriptions/{subscription}/secret"),
        format!("/subscriptions/{subscription}/attempts"),
        format!("/subscriptions/{subscription}/deliveries"),
        format!("/events/{event}"),
        format!("/events/{event}/payload"),
        format!("/deliveries/{delivery}"),
    ] {
        assert_eq!(api.get(&path).await.problem(), (404, "not_found".into()), "{path}");
        assert_eq!(api.get(&format!("{path}?tenant=acme")).await.status, 200, "{path}");
    }
    let path = format!("/subscriptions/{subscription}");
    assert_eq!(api.put(&path, json!({"target_url": TARGET})).await.status, 404);
    assert_eq!(api.patch(&path, json!({})).await.status, 404);
    assert_eq!(api.delete(&path).await.status, 404);
    assert_eq!(api.get(&format!("{path}?tenant=acme")).await.status, 200);
}
