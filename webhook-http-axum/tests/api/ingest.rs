use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use webhook_core::testing::START;

use super::harness::{Answer, Api, request};

fn hmac(key: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().to_vec()
}

/// The hex HMAC-SHA256 of a body.
pub(crate) fn hex_signature(key: &[u8], body: &[u8]) -> String {
    hex::encode(hmac(key, &[body]))
}

async fn ingest(api: &Api, subscription: &Value, headers: &[(&str, &str)], body: &str) -> Answer {
    let path = format!("/ingest/{}", subscription["id"].as_str().unwrap());
    api.send(request(Method::POST, &path, headers, body.to_owned())).await
}

#[tokio::test]
async fn any_body_reaches_the_one_subscription() {
    let api = Api::new();
    let subscription = api.subscribe(json!({})).await;
    api.subscribe(json!({})).await;
    for (headers, body, event_type, content_type) in [
        (&[][..], "{}", "webhook.received", "application/json"),
        (&[("content-type", "text/csv"), ("x-event-type", "a.b")], "a,b", "a.b", "text/csv"),
        (&[("content-type", "application/octet-stream")], "", "webhook.received", "application/octet-stream"),
        (
            &[("content-type", "application/cloudevents+json; charset=utf-8")],
            "[1]",
            "webhook.received",
            "application/cloudevents+json; charset=utf-8",
        ),
    ] {
        let answer = ingest(&api, &subscription, headers, body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let answer = answer.value();
        assert_eq!(answer["delivery_count"], 1);
        assert_eq!(answer["deliveries"][0]["subscription_id"], subscription["id"]);
        let path = format!("/events/{}", answer["id"].as_str().unwrap());
        let event = api.get(&path).await.value();
        assert_eq!(
            (&event["event_type"], &event["content_type"]),
            (&json!(event_type), &json!(content_type))
        );
        assert_eq!(event["matches"].as_array().unwrap().len(), 1, "only the one it is for");
        let payload = api.get(&format!("{path}/payload")).await;
        assert_eq!((payload.text().as_str(), payload.header("content-type")), (body, content_type));
    }
}

#[tokio::test]
async fn the_event_type_comes_from_the_header_or_the_query() {
    let api = Api::new();
    let subscription = api.subscribe(json!({"event_types": ["order.*"]})).await;
    let path = format!("/ingest/{}?event_type=order.paid", subscription["id"].as_str().unwrap());
    let post = async |headers: &[(&str, &str)]| api.send(request(Method::POST, &path, headers, "{}")).await;
    assert_eq!(post(&[]).await.value()["delivery_count"], 1);
    assert_eq!(post(&[("x-event-type", "order.paid")]).await.status, 202);
    assert_eq!(post(&[("x-event-type", "order.sent")]).await.problem().0, 400);
    let unmatched = ingest(&api, &subscription, &[("x-event-type", "invoice.paid")], "{}").await;
    assert_eq!((unmatched.status.as_u16(), unmatched.value()["delivery_count"].clone()), (202, json!(0)));
}

#[tokio::test]
async fn json_that_is_not_json_is_400() {
    let api = Api::new();
    let subscription = api.subscribe(json!({})).await;
    for headers in [&[][..], &[("content-type", "application/json")], &[("content-type", "a/b+json")]] {
        for body in ["", "{", "a=1", "{} {}"] {
            let answer = ingest(&api, &subscription, headers, body).await;
            assert_eq!(answer.problem(), (400, "malformed_json".into()), "{headers:?} {body}");
        }
    }
    assert_eq!(ingest(&api, &subscription, &[("content-type", "text/plain")], "{").await.status, 202);
}

#[tokio::test]
async fn github_and_hex_signatures_are_verified_over_the_raw_bytes() {
    let body = "{ \"raw\":  1.0}";
    let own = hex::encode(hmac(b"its own secret", &[body.as_bytes()]));
    let signing = hex::encode(hmac(b"the signing secret of it", &[body.as_bytes()]));
    let api = Api::new();
    for (verify, header, prefix) in [
        (json!({"scheme": "github"}), "x-hub-signature-256", "sha256="),
        (json!({"scheme": "github", "header": "X-Mine"}), "x-mine", "sha256="),
        (json!({"scheme": "hex"}), "x-signature", ""),
        (json!({"scheme": "hex"}), "X-Signature", "sha256="),
        (json!({"scheme": "hex", "header": "X-Mine"}), "x-mine", ""),
    ] {
        for own_secret in [true, false] {
            let mut verify = verify.clone();
            if own_secret {
                verify["secret"] = json!("its own secret");
            }
            let fields = json!({"verify": verify, "secret": "the signing secret of it"});
            let subscription = api.subscribe(fields).await;
            let (good, bad) = if own_secret { (&own, &signing) } else { (&signing, &own) };
            let good = format!("{prefix}{good}");
            let answer = ingest(&api, &subscription, &[(header, &good)], body).await;
            assert_eq!(answer.status, 202, "{verify} {}", answer.text());

            let wrong = format!("{prefix}{bad}");
            let short = &good[..good.len() - 1];
            for (headers, body) in [
                (vec![(header, wrong.as_str())], body),
                (vec![(header, good.as_str())], "{\"raw\":1.0}"),
                (vec![(header, short)], body),
                (vec![(header, "")], body),
                (vec![("authorization", good.as_str())], body),
                (vec![], body),
                // Not even JSON: nothing is looked at before the signature.
                (vec![], "{"),
            ] {
                let answer = ingest(&api, &subscription, &headers, body).await;
                assert_eq!(answer.problem(), (401, "unauthorized".into()), "{headers:?} {body}");
                assert!(!answer.header("www-authenticate").is_empty());
                assert!(!answer.text().contains("secret of it") && !answer.text().contains(&good));
            }
        }
    }
}

#[tokio::test]
async fn a_standard_signature_is_verified_and_its_id_is_the_idempotency_key() {
    let api = Api::new();
    let key = [7_u8; 32];
    let secret = format!("whsec_{}", BASE64.encode(key));
    let subscription = api.subscribe(json!({"verify": {"scheme": "standard"}, "secret": secret})).await;
    let body = "{\"a\": 1}";
    let sign = |id: &str, at: i64, body: &str| {
        let tag = hmac(&key, &[format!("{id}.{at}.").as_bytes(), body.as_bytes()]);
        format!("v1,{}", BASE64.encode(tag))
    };
    let now = START.as_seconds();
    let send = async |id: &str, at: i64, signature: &str, extra: &[(&str, &str)], body: &str| {
        let at = at.to_string();
        let own = [("webhook-id", id), ("webhook-timestamp", &at), ("webhook-signature", signature)];
        ingest(&api, &subscription, &[&own, extra].concat(), body).await
    };

    let first = send("msg_1", now, &sign("msg_1", now, body), &[], body).await;
    assert_eq!(first.status, 202, "{}", first.text());
    let event = api.get(&format!("/events/{}", first.value()["id"].as_str().unwrap())).await.value();
    assert_eq!(event["idempotency_key"], "msg_1");
    let replay = send("msg_1", now - 10, &sign("msg_1", now - 10, body), &[], body).await.value();
    assert_eq!((&replay["duplicate"], &replay["id"]), (&json!(true), &first.value()["id"]));
    let other = send("msg_1", now, &sign("msg_1", now, "{}"), &[], "{}").await;
    assert_eq!(other.problem(), (409, "idempotency_key_reused".into()));
    let own_key = [("idempotency-key", "mine")];
    assert_eq!(
        send("msg_1", now, &sign("msg_1", now, "{}"), &own_key, "{}").await.value()["duplicate"],
        false
    );

    for (id, at, signature) in [
        ("msg_2", now, sign("msg_3", now, body)),
        ("msg_2", now, sign("msg_2", now - 1, body)),
        ("msg_2", now, sign("msg_2", now, "{}")),
        ("msg_2", now, "v1,AAAA".to_owned()),
        ("msg_2", now - 301, sign("msg_2", now - 301, body)),
        ("msg_2", now + 301, sign("msg_2", now + 301, body)),
        ("", now, sign("", now, body)),
    ] {
        let answer = send(id, at, &signature, &[], body).await;
        assert_eq!(answer.problem(), (401, "unauthorized".into()), "{id} {at} {signature}");
    }
    let several = format!("v1,{} v2,x {}", BASE64.encode([0; 32]), sign("msg_2", now - 300, body));
    assert_eq!(send("msg_2", now - 300, &several, &[], body).await.status, 202);
    api.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(send("msg_2", now, &sign("msg_2", now, body), &[], body).await.problem().0, 401);
}

#[tokio::test]
async fn ingest_takes_the_subscriptions_tenant_and_no_other() {
    let api = Api::new();
    let subscription = api.subscribe(json!({"tenant": "acme"})).await;
    let id = subscription["id"].as_str().unwrap();
    for (path, status) in [
        (format!("/ingest/{id}"), 202),
        (format!("/ingest/{id}?tenant=acme"), 202),
        (format!("/ingest/{id}?tenant=default"), 404),
        (format!("/ingest/{id}?tenant=*"), 400),
        ("/ingest/0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d".to_owned(), 404),
        ("/ingest/x".to_owned(), 404),
    ] {
        assert_eq!(api.send(request(Method::POST, &path, &[], "{}")).await.status, status, "{path}");
    }
    assert_eq!(api.get("/events?tenant=acme").await.value()["data"].as_array().unwrap().len(), 2);
}
