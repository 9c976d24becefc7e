use http::Method;
use serde_json::json;

use super::harness::{Api, MAX_PAYLOAD, request};

/// Promise 9: what was sent is what is delivered, to the byte.
#[tokio::test]
async fn a_payload_is_delivered_and_downloaded_byte_for_byte() {
    let payloads = [
        r#"{"z":1,"a":2}"#,
        "{ \"a\" :\t1 ,\r\n  \"b\":[ 1 , 2 ] }",
        r#"{"n":1.0,"m":1e3,"big":123456789012345678901234567890,"neg":-0,"e":1E+2,"f":1.10}"#,
        r#"{"u":"\u00e9\u0000\/","e":"é😀","pair":"\ud83d\ude00"}"#,
        r#"{"twice":1,"twice":2}"#,
        r#"{"huge":1e999}"#,
        "null",
        "true",
        "0",
        r#""text""#,
        "[]",
        "{}",
    ];
    let api = Api::new();
    let created = api.subscribe(json!({})).await;
    for payload in payloads {
        let whole = format!("{{ \"payload\" :\n {payload} \t, \"event_type\":\"a.b\"}}");
        let batch = format!(r#"{{"events":[{{"event_type":"a.b","payload":  {payload} }}]}}"#);
        let one = api.json(Method::POST, "/events", &[], whole).await;
        assert_eq!(one.status, 202, "{payload}: {}", one.text());
        let many = api.json(Method::POST, "/events/batch", &[], batch).await;
        assert_eq!(many.value()["data"][0]["status"], 202, "{payload}: {}", many.text());
        for id in [&one.value()["id"], &many.value()["data"][0]["id"]] {
            let id = id.as_str().unwrap();
            let download = api.get(&format!("/events/{id}/payload")).await;
            assert_eq!(download.text(), payload);
            assert_eq!(api.get(&format!("/events/{id}")).await.value()["payload_size"], payload.len());
        }
    }
    // Ingest keeps even the white space around it.
    let path = format!("/ingest/{}", created["id"].as_str().unwrap());
    let ingested = api.json(Method::POST, &path, &[], " \n{ } ").await;
    assert_eq!(ingested.status, 202, "{}", ingested.text());

    api.deliver().await;
    let mut sent: Vec<_> = api.target.requests().into_iter().map(|sent| sent.request.body).collect();
    let mut expected: Vec<_> = payloads
        .iter()
        .flat_map(|payload| [*payload; 2])
        .chain([" \n{ } "])
        .map(bytes::Bytes::from)
        .collect();
    sent.sort();
    expected.sort();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn the_answer_names_the_deliveries() {
    let api = Api::new();
    let subscription = api.subscribe(json!({"event_types": ["order.*"]})).await;
    let published = api.publish("order.paid", json!({})).await;
    let delivery = published["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(
        published,
        json!({
            "id": published["id"], "delivery_count": 1, "duplicate": false,
            "deliveries": [{"id": delivery, "subscription_id": subscription["id"]}],
        })
    );
    let unmatched = api.publish("invoice.paid", json!({})).await;
    assert_eq!(unmatched["deliveries"], json!([]));
    assert_eq!(unmatched["delivery_count"], 0);
}

/// Promise 11, as a client sees it.
#[tokio::test]
async fn the_same_key_is_a_duplicate_and_another_request_with_it_is_409() {
    let api = Api::new();
    api.subscribe(json!({})).await;
    let key = [("idempotency-key", "order-42")];
    let send = async |path: &str, body: &str| api.json(Method::POST, path, &key, body.to_owned()).await;
    let body = r#"{"event_type":"a","payload":{"x":1}}"#;
    let first = send("/events", body).await.value();
    let again = send("/events", r#"{"payload":{"x":1},"event_type":"a"}"#).await;
    assert_eq!(again.status, 202);
    let mut expected = first.clone();
    expected["duplicate"] = json!(true);
    assert_eq!(again.value(), expected);
    for other in [
        r#"{"event_type":"a","payload":{"x": 1}}"#,
        r#"{"event_type":"b","payload":{"x":1}}"#,
        r#"{"event_type":"a","payload":{"x":1},"ordering_key":"k"}"#,
        r#"{"event_type":"a","payload":{"x":1},"deliver_at":"2026-01-01T00:00:00Z"}"#,
    ] {
        assert_eq!(send("/events", other).await.problem(), (409, "idempotency_key_reused".into()), "{other}");
    }
    assert_eq!(send("/events?tenant=acme", body).await.value()["duplicate"], false);
    assert_eq!(api.get("/events").await.value()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_answers_each_event_by_itself_and_in_order() {
    let api = Api::new();
    api.subscribe(json!({"tenant": "acme"})).await;
    let large = "x".repeat(MAX_PAYLOAD);
    let events = json!({"events": [
        {"event_type": "a", "payload": 1},
        {"event_type": "a", "payload": 1, "tenant": "acme"},
        {"event_type": "a"},
        {"payload": 1},
        {"event_type": "not ok", "payload": 1},
        {"event_type": "a", "payload": 1, "bogus": 1},
        "text",
        {"event_type": "a", "payload": large},
        {"event_type": "a", "payload": 2, "idempotency_key": "k"},
        {"event_type": "a", "payload": 2, "idempotency_key": "k"},
        {"event_type": "a", "payload": 3, "idempotency_key": "k"},
        {"event_type": "a", "payload": 1, "tenant": "no tenant"},
        {"event_type": "a", "payload": 1, "deliver_at": "tomorrow"},
        {"event_type": "a", "payload": 1, "ordering_key": 7},
        {"event_type": "a", "payload": 1, "idempotency_key": "ä"},
    ]});
    let answer = api.post("/events/batch", events).await;
    assert_eq!(answer.status, 202);
    let data = answer.value()["data"].as_array().unwrap().clone();
    let statuses: Vec<_> = data.iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 202, 422, 422, 422, 422, 422, 413, 202, 202, 409, 422, 422, 422, 422]);
    assert_eq!(data[1]["delivery_count"], 1, "the tenant's own subscription");
    assert_eq!(data[2]["problem"]["errors"][0]["field"], "payload");
    assert_eq!(data[5]["problem"]["code"], "target_not_allowed");
    assert_eq!(data[7]["problem"]["code"], "payload_too_large");
    assert_eq!((&data[8]["duplicate"], &data[9]["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(data[8]["id"], data[9]["id"]);
    assert_eq!(data[10]["problem"]["code"], "idempotency_key_reused");
    for item in &data {
        assert_eq!(item.get("problem").is_some(), item["status"] != 202, "{item}");
    }
}

#[tokio::test]
async fn a_batch_has_1_to_1000_events() {
    let api = Api::with(|options| options.max_payload(1024 * 1024));
    let batch = |events: usize| json!({"events": vec![json!({"event_type": "a", "payload": 1}); events]});
    assert_eq!(api.post("/events/batch", batch(0)).await.problem().0, 422);
    assert_eq!(api.post("/events/batch", batch(1001)).await.problem().0, 422);
    let full = api.post("/events/batch", batch(1000)).await.value();
    assert_eq!(full["data"].as_array().unwrap().len(), 1000);
    // Many short items are not kept just to be counted.
    let short = format!("{{\"events\":[1{}]}}", ",1".repeat(100_000));
    assert_eq!(api.json(Method::POST, "/events/batch", &[], short).await.problem().0, 422);
}

#[tokio::test]
async fn sizes_are_limited_to_the_byte() {
    let api = Api::new();
    let text = |size: usize| format!("\"{}\"", "x".repeat(size - 2));
    let event = |size: usize| format!(r#"{{"event_type":"a","payload":{}}}"#, text(size));
    let post = async |path: &str, body: String| api.json(Method::POST, path, &[], body).await;

    assert_eq!(post("/events", event(MAX_PAYLOAD)).await.status, 202);
    assert_eq!(post("/events", event(MAX_PAYLOAD + 1)).await.problem().0, 413);
    assert_eq!(post("/events", event(1024 * 1024)).await.problem().0, 413);
    let batch = format!(r#"{{"events":[{}]}}"#, vec![event(MAX_PAYLOAD); 9].join(","));
    assert_eq!(post("/events/batch", batch).await.problem().0, 413);
    let created = api.subscribe(json!({})).await;
    let ingest = format!("/ingest/{}", created["id"].as_str().unwrap());
    assert_eq!(post(&ingest, text(MAX_PAYLOAD)).await.status, 202);
    assert_eq!(post(&ingest, text(MAX_PAYLOAD + 1)).await.problem(), (413, "payload_too_large".into()));
    let description = json!({"target_url": "https://example.com", "description": "x".repeat(300_000)});
    assert_eq!(api.post("/subscriptions", description).await.problem().0, 413);

    // Without a length the body is refused as soon as it grows too large.
    let endless =
        futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 1000])));
    let body = axum::body::Body::from_stream(endless);
    let json = [("content-type", "application/json")];
    let answer = api.send(request(Method::POST, "/events", &json, body)).await;
    assert_eq!(answer.problem(), (413, "payload_too_large".into()));
}

#[tokio::test]
async fn a_scheduled_event_says_why_it_waits() {
    let api = Api::new();
    api.subscribe(json!({})).await;
    let body = json!({"event_type": "a", "payload": 1, "deliver_at": "2999-01-01T00:00:00+01:00", "ordering_key": "k"});
    let published = api.post("/events", body).await.value();
    let event = api.get(&format!("/events/{}", published["id"].as_str().unwrap())).await.value();
    assert_eq!(event["deliver_at"], "2998-12-31T23:00:00Z");
    assert_eq!(event["ordering_key"], "k");
    assert_eq!(event["deliveries"][0]["status"], "pending");
    assert_eq!(event["deliveries"][0]["status_reason"], "scheduled");
    assert_eq!(event["deliveries"][0]["next_attempt_at"], "2998-12-31T23:00:00Z");
}

#[tokio::test]
async fn a_payload_may_be_as_deep_as_it_likes() {
    let api = Api::new();
    api.subscribe(json!({})).await;
    api.subscribe(json!({"filter": {"a": 1}})).await;
    let payload = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let event = format!(r#"{{"event_type":"a","payload":{payload}}}"#);
    let published = api.json(Method::POST, "/events", &[], event).await.value();
    assert_eq!(published["delivery_count"], 1, "no filter can read it");
    let path = format!("/events/{}", published["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.value()["matches"][0]["matched"], false);
    assert_eq!(api.get(&format!("{path}/payload")).await.text(), payload);
}
