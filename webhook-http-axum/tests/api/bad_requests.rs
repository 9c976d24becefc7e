//! Requests that are wrong, and that they change nothing. The table of them is shared with the bundled server's tests.

pub(crate) mod table;

use http::Method;
use serde_json::json;

use super::harness::{Api, request};
use table::{INVALID, REFUSED, table};

#[tokio::test]
async fn every_bad_request_has_its_status_its_code_and_its_field() {
    let api = Api::new();
    let table = table();
    assert!(table.len() >= 450, "{}", table.len());
    let mut wrong = Vec::new();
    for bad in table {
        let method: Method = bad.method.parse().unwrap();
        let answer = api.send(request(method, &bad.path, &bad.headers(), bad.body.clone())).await;
        let (name, status) = (bad.name(), bad.status);
        if answer.status != status || answer.problem().1 != bad.code {
            let expected = format!("{status} {}", bad.code);
            wrong.push(format!("{name}: expected {expected}, got {}: {}", answer.status, answer.text()));
            continue;
        }
        if let Some(field) = bad.field {
            assert!(answer.fields().iter().any(|named| named == field), "{name}: {}", answer.text());
        }
        if status == 405 {
            let allow = answer.header("allow");
            assert!(!allow.is_empty() && !allow.contains(bad.method), "{name}: {allow}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for list in ["/events", "/subscriptions", "/deliveries", "/attempts", "/inbox"] {
        assert_eq!(
            api.get(&format!("{list}?tenant=*")).await.value()["data"],
            json!([]),
            "nothing was stored"
        );
    }
}

/// What is wrong with a request over a subscription that exists.
#[tokio::test]
async fn a_refused_request_changes_nothing() {
    let api = Api::new();
    let id = api.subscribe(json!({})).await["id"].as_str().unwrap().to_owned();
    for (path, body, expected, field) in [
        ("replay", json!({}), INVALID, "since"),
        ("replay", json!({"since": null}), INVALID, "since"),
        ("replay", json!({"since": "2026-01-01"}), INVALID, "since"),
        ("replay", json!({"since": "2026-01-01T00:00:00Z", "status": ["pending"]}), INVALID, "status[0]"),
        ("replay", json!({"since": "2026-01-01T00:00:00Z", "event_type": "a"}), REFUSED, "event_type"),
        ("rotate-secret", json!({"secret": "short"}), INVALID, "secret"),
        ("rotate-secret", json!({"secret": "whsec_notbase64!"}), INVALID, "secret"),
        ("rotate-secret", json!({"overlap": "31d"}), INVALID, "overlap"),
        ("pause", json!({"status": "paused"}), REFUSED, "status"),
        ("test", json!({"event_type": "a"}), REFUSED, "event_type"),
    ] {
        let answer = api.post(&format!("/subscriptions/{id}/{path}"), body.clone()).await;
        assert_eq!(answer.problem(), (expected.0, expected.1.to_owned()), "{path} {body}");
        assert_eq!(answer.fields(), [field], "{path} {body}");
        assert!(!answer.text().contains("notbase64"), "a secret is not repeated");
    }
    assert_eq!(api.get(&format!("/subscriptions/{id}")).await.value()["version"], 1);
    assert_eq!(api.get("/events").await.value()["data"], json!([]));
}

#[tokio::test]
async fn an_answer_stays_small_however_much_is_wrong() {
    let api = Api::new();
    let mut body = json!({"x".repeat(10_000): 1, "event_types": vec![1; 1000]});
    for number in 0..1000 {
        body[number.to_string()] = json!(1);
    }
    let answer = api.post("/subscriptions", body).await;
    assert_eq!(answer.problem(), (422, "target_not_allowed".into()));
    assert!(answer.body.len() < 16 * 1024, "{}", answer.body.len());
}
