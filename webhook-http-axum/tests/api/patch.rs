use http::Method;
use serde_json::{Value, json};

use super::harness::{Api, TARGET, request};

/// What a patch makes of one field, or the field that it is refused for.
enum Expected {
    Value(&'static str, Value),
    Refused(&'static str),
}
use Expected::{Refused, Value as Is};

#[tokio::test]
async fn a_merge_patch_changes_what_it_names_and_null_clears() {
    let table = [
        (json!({}), Is("description", json!("before"))),
        (json!({"description": "after"}), Is("description", json!("after"))),
        (json!({"description": null}), Is("description", json!(null))),
        (json!({"description": 1}), Refused("description")),
        (json!({"target_url": null}), Refused("target_url")),
        (json!({"target_url": "https://example.org/"}), Is("target_url", json!("https://example.org/"))),
        (json!({"event_types": ["b"]}), Is("event_types", json!(["b"]))),
        (json!({"event_types": null}), Is("event_types", json!([]))),
        (json!({"event_types": []}), Is("event_types", json!([]))),
        (json!({"filter": null}), Is("filter", json!(null))),
        (json!({"filter": {"b": 2}}), Is("filter", json!({"a": 1, "b": 2}))),
        (json!({"filter": {"a": null, "b": 2}}), Is("filter", json!({"b": 2}))),
        (
            json!({"headers": {"X-New": "n"}}),
            Is("headers", json!({"Authorization": "***", "X-Old": "o", "X-New": "n"})),
        ),
        (json!({"headers": {"X-Old": null}}), Is("headers", json!({"Authorization": "***"}))),
        (json!({"headers": {"authorization": null}}), Is("headers", json!({"X-Old": "o"}))),
        (json!({"headers": {"x-old": "p"}}), Is("headers", json!({"Authorization": "***", "X-Old": "p"}))),
        (
            json!({"headers": {"Authorization": "***"}}),
            Is("headers", json!({"Authorization": "***", "X-Old": "o"})),
        ),
        (json!({"headers": {"Host": "h"}}), Refused("headers.Host")),
        (json!({"headers": null}), Is("headers", json!({}))),
        (json!({"metadata": {"k": "v"}}), Is("metadata", json!({"a": "b", "k": "v"}))),
        (json!({"metadata": {"a": null}}), Is("metadata", json!({}))),
        (json!({"metadata": null}), Is("metadata", json!({}))),
        (json!({"retry": {"schedule": []}}), Is("retry", json!({"schedule": []}))),
        (json!({"retry": null}), Is("retry", json!(null))),
        (json!({"retry": {"jitter": 0.5}}), Is("retry", json!({"schedule": ["1s"], "jitter": 0.5}))),
        (
            json!({"retry": {"exponential": {"base": "1s", "attempts": 3}}}),
            Is(
                "retry",
                json!({"exponential": {"base": "1s", "factor": 2, "max": "7d", "attempts": 3, "jitter": 0}}),
            ),
        ),
        (json!({"retry": {"exponential": {"base": "1s"}}}), Refused("retry.exponential.attempts")),
        (json!({"retry": {"exponential": {"base": "1s", "attempts": 3}, "schedule": []}}), Refused("retry")),
        (json!({"retry": {"foo": 1}}), Refused("retry.foo")),
        (json!({"retry": {"schedule": ["soon"]}}), Refused("retry.schedule[0]")),
        (json!({"timeout": "1s"}), Is("timeout", json!("1s"))),
        (json!({"timeout": null}), Is("timeout", json!(null))),
        (json!({"max_in_flight": null}), Is("max_in_flight", json!(null))),
        (json!({"rate_limit": {"requests": 7}}), Is("rate_limit", json!({"requests": 7, "per": "1s"}))),
        (json!({"rate_limit": {"per": null}}), Refused("rate_limit.per")),
        (json!({"ordered": true}), Is("ordered", json!(true))),
        (json!({"signature": "stripe"}), Is("signature", json!("stripe"))),
        (json!({"signature": null}), Is("signature", json!("standard"))),
        (
            json!({"verify": {"scheme": "github"}}),
            Is("verify", json!({"scheme": "github", "header": "X-Sig"})),
        ),
        (json!({"verify": {"header": null}}), Is("verify", json!({"scheme": "hex", "header": null}))),
        (json!({"verify": null}), Is("verify", json!(null))),
        (json!({"status": "active"}), Is("status", json!("active"))),
        (json!({"status": "paused"}), Refused("status")),
        (json!({"status": null}), Refused("status")),
        (json!({"disabled_reason": null}), Is("disabled_reason", json!(null))),
        (json!({"tenant": "default"}), Is("tenant", json!("default"))),
        (json!({"tenant": "acme"}), Refused("tenant")),
        (json!({"id": "0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d"}), Refused("id")),
        (json!({"created_at": "2026-01-01T00:00:00Z"}), Refused("created_at")),
        (json!({"secret": "another-secret-text"}), Refused("secret")),
        (json!({"version": "1"}), Refused("version")),
        (json!({"bogus": null}), Is("description", json!("before"))),
        (json!({"bogus": 1}), Refused("bogus")),
    ];
    let api = Api::new();
    for (patch, expected) in table {
        let created = api
            .subscribe(json!({
                "description": "before", "event_types": ["a"], "filter": {"a": 1},
                "headers": {"Authorization": "Bearer x", "X-Old": "o"}, "metadata": {"a": "b"},
                "retry": {"schedule": ["1s"]}, "timeout": "2s", "max_in_flight": 2,
                "rate_limit": {"requests": 5, "per": "1s"},
                "verify": {"scheme": "hex", "header": "X-Sig", "secret": "v"},
            }))
            .await;
        let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
        let before = api.get(&path).await.value();
        let answer = api.patch(&path, patch.clone()).await;
        match expected {
            Is(field, value) => {
                assert_eq!(answer.status, 200, "{patch}: {}", answer.text());
                let after = answer.value();
                assert_eq!(after[field], value, "{patch}");
                for (name, value) in before.as_object().unwrap() {
                    if name != field && !matches!(name.as_str(), "version" | "updated_at") {
                        assert_eq!(&after[name], value, "{patch} touched {name}");
                    }
                }
            }
            Refused(field) => {
                assert_eq!(answer.status, 422, "{patch}: {}", answer.text());
                assert_eq!(answer.fields(), [field], "{patch}");
                assert_eq!(api.get(&path).await.value(), before, "{patch}");
            }
        }
    }
}

#[tokio::test]
async fn a_patch_comes_as_json_or_as_merge_patch_and_as_nothing_else() {
    let api = Api::new();
    let created = api.subscribe(json!({})).await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    for (content_type, status) in [
        ("application/json", 200),
        ("application/merge-patch+json", 200),
        ("Application/Merge-Patch+JSON; charset=UTF-8", 200),
        ("application/json-patch+json", 415),
        ("text/plain", 415),
    ] {
        let patch = request(Method::PATCH, &path, &[("content-type", content_type)], r#"{"ordered":true}"#);
        assert_eq!(api.send(patch).await.status, status, "{content_type}");
    }
    let merge = [("content-type", "application/merge-patch+json")];
    let post = request(Method::POST, "/subscriptions", &merge, r#"{"target_url":"https://example.com/"}"#);
    assert_eq!(api.send(post).await.status, 415);
}

#[tokio::test]
async fn a_verify_secret_that_is_left_out_or_masked_is_kept() {
    let api = Api::new();
    let created = api.subscribe(json!({"verify": {"scheme": "hex", "secret": "kept"}})).await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    for patch in [
        json!({"verify": {"scheme": "github"}}),
        json!({"verify": {"secret": "***"}}),
        json!({"description": "x"}),
    ] {
        assert_eq!(api.patch(&path, patch).await.status, 200);
        let verify = api.stored(&created).await.verify.clone().unwrap();
        assert_eq!(verify.secret.unwrap().expose(), "kept");
    }
}

#[tokio::test]
async fn a_patch_changes_the_kind_of_retry_policy_both_ways() {
    let api = Api::new();
    let created = api.subscribe(json!({"retry": {"schedule": ["1s"], "jitter": 0.1}})).await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    let exponential =
        json!({"exponential": {"base": "1s", "factor": 3, "max": "1h", "attempts": 3, "jitter": 0}});
    for (patch, expected) in [
        (exponential.clone(), exponential.clone()),
        (json!({"schedule": ["2s"]}), json!({"schedule": ["2s"]})),
        (json!({"schedule": null, "exponential": exponential["exponential"]}), exponential.clone()),
        (json!({"schedule": ["3s"], "jitter": 0.2}), json!({"schedule": ["3s"], "jitter": 0.2})),
    ] {
        let answer = api.patch(&path, json!({"retry": patch})).await;
        assert_eq!(answer.status, 200, "{patch}: {}", answer.text());
        assert_eq!(answer.value()["retry"], expected, "{patch}");
    }
}

#[tokio::test]
async fn null_in_a_patch_clears_a_verify_secret() {
    let api = Api::new();
    let created = api.subscribe(json!({"verify": {"scheme": "hex", "secret": "kept"}})).await;
    let path = format!("/subscriptions/{}", created["id"].as_str().unwrap());
    assert_eq!(api.patch(&path, json!({"verify": {"secret": null}})).await.status, 200);
    let verify = api.stored(&created).await.verify.clone().unwrap();
    assert_eq!(verify.secret, None, "the subscription's own is used");

    let answer = api.patch(&path, json!({"verify": {"secret": "***"}})).await;
    assert_eq!(
        (answer.problem(), answer.fields()),
        ((422, "validation_failed".into()), vec!["verify.secret".into()])
    );
}

#[tokio::test]
async fn a_masked_verify_secret_without_one_stored_is_refused_at_creation() {
    let api = Api::new();
    let body = json!({"target_url": TARGET, "verify": {"scheme": "hex", "secret": "***"}});
    let answer = api.post("/subscriptions", body).await;
    assert_eq!(
        (answer.problem(), answer.fields()),
        ((422, "validation_failed".into()), vec!["verify.secret".into()])
    );
}
