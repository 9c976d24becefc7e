//! What is logged: never a payload, a secret, a key or a header's value, at the highest level and in both formats.

use axum::Router;
use axum::http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::{Process, binary};

/// Each stands where no log may repeat it. The numbers tell which one did.
const CANARY: &str = "canary";
const KEY: &str = "canary01key-of-an-admin";
const BAD_KEY: &str = "canary02key-of-nobody";

/// A target that fails, with an answer that is nobody's business.
async fn target() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = async || {
        (StatusCode::INTERNAL_SERVER_ERROR, [("x-trace", "canary03answer-header")], "canary04answer-body")
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    format!("http://{address}/hooks?token=canary05query")
}

async fn provoke(api: &Api) {
    let target = target().await;
    let key = format!("Bearer {KEY}");
    let send = async |method: Method, path: &str, more: &[(&str, &str)], body: String| {
        let headers =
            [&[("authorization", key.as_str()), ("content-type", "application/json")], more].concat();
        api.send(method, &format!("/api/v1{path}"), &headers, body).await.expect("an answer")
    };
    let post =
        async |path: &str, body: serde_json::Value| send(Method::POST, path, &[], body.to_string()).await;
    let created = post(
        "/subscriptions",
        json!({
            "target_url": target,
            "secret": "canary06signing-secret",
            "headers": {"authorization": "Bearer canary07header", "x-plain": "canary08header"},
            "filter": {"a": {"$ne": "canary09filter"}},
            "verify": {"scheme": "github", "secret": "canary10verify-secret"},
            "retry": {"schedule": ["100ms"]},
        }),
    )
    .await;
    assert_eq!(created.status, StatusCode::CREATED, "{:?}", created.body);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let rotated =
        post(&format!("/subscriptions/{id}/rotate-secret"), json!({"secret": "canary11rotated-secret"}))
            .await;
    assert_eq!(rotated.status, StatusCode::OK, "{:?}", rotated.body);

    let event = json!({"event_type": "a", "payload": {"a": "canary12payload"}}).to_string();
    let published = send(Method::POST, "/events", &[("idempotency-key", "canary13idempotency")], event).await;
    assert_eq!(published.status, StatusCode::ACCEPTED, "{:?}", published.body);
    let batch = json!({"events": [{"event_type": "a", "payload": "canary14payload"}, {"payload": "canary15payload"}]});
    assert_eq!(post("/events/batch", batch).await.status, StatusCode::ACCEPTED);

    // Refusals, where the temptation is to say what was refused.
    let refused = [
        post("/subscriptions", json!({"target_url": "http://u:canary16password@127.0.0.1/"})).await,
        post("/events", json!({"event_type": "a b", "payload": "canary17payload"})).await,
        send(Method::POST, "/events", &[], "{\"payload\": canary18malformed".to_owned()).await,
        send(
            Method::POST,
            &format!("/ingest/{id}"),
            &[("x-hub-signature-256", "sha256=canary19")],
            "canary20".into(),
        )
        .await,
        api.send(Method::GET, "/api/v1/events", &[("authorization", &format!("Bearer {BAD_KEY}"))], "")
            .await
            .expect("an answer"),
    ];
    for answer in refused {
        assert!(answer.status.is_client_error(), "{:?}", answer.body);
    }
    eventually("what was published has failed for good", async || {
        let list = send(Method::GET, "/deliveries?status=exhausted", &[], String::new()).await.json();
        (list["data"].as_array()?.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_holds_a_payload_a_secret_a_key_or_a_header() {
    for format in ["json", "pretty"] {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
        let words =
            ["--listen=127.0.0.1:0", "--allow-cidr=127.0.0.1/32", "--log=trace", "--database-url", &url];
        let mut server =
            Process::spawn(binary(&words).env("WEBHOOK_API_KEYS", KEY).env("WEBHOOK_LOG_FORMAT", format));
        provoke(&Api::new(server.url())).await;
        server.signal(Signal::TERM);
        assert_eq!(server.ended().code(), Some(0));
        let (stdout, stderr) = (server.stdout(), server.stderr());
        let level = if format == "json" { "\"level\":\"DEBUG\"" } else { "DEBUG" };
        assert!(stderr.iter().any(|line| line.contains(level)), "the log says something at that level");
        for line in stdout.iter().chain(&stderr) {
            assert!(!line.contains(CANARY), "{format}: {line}");
            if format == "json" {
                let parsed: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
                assert!(parsed["level"].is_string() && parsed["timestamp"].is_string(), "{line}");
            }
        }
    }
}
