use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use webhook_http_axum::{Caller, Draining, metrics, probes};

use super::harness::{Api, TARGET, request, send};

#[tokio::test]
async fn it_works_below_any_path_and_below_one_with_an_id_of_its_own() {
    for (nest, base) in [("/api/v1", "/api/v1"), ("/a", "/a"), ("/shops/{id}/hooks", "/shops/7/hooks")] {
        let api = Api::new();
        let app: Router = Router::new().nest(nest, api.router.clone());
        let body = json!({"target_url": TARGET}).to_string();
        let json = [("content-type", "application/json")];
        let post = request(Method::POST, &format!("{base}/subscriptions/"), &json, body);
        let created = send(app.clone(), post).await;
        assert_eq!(created.status, 201, "{base}: {}", created.text());
        let id = created.value()["id"].as_str().unwrap().to_owned();
        assert_eq!(created.header("location"), format!("{base}/subscriptions/{id}"));
        let get = async |path: &str| {
            send(app.clone(), request(Method::GET, &format!("{base}{path}"), &[], "")).await
        };
        assert_eq!(get(&format!("/subscriptions/{id}")).await.status, 200);
        assert_eq!(get("/nothing").await.problem(), (404, "not_found".into()));
        assert_eq!(get("/subscriptions/x/y/z").await.problem(), (404, "not_found".into()));
        let patch = request(Method::PATCH, &format!("{base}/events"), &[], "");
        assert_eq!(send(app.clone(), patch).await.problem(), (405, "method_not_allowed".into()));
    }
}

#[tokio::test]
async fn it_nests_into_an_application_with_a_state_of_its_own() {
    let api = Api::new();
    let app: Router<String> = Router::new().nest("/hooks", api.router.clone().with_state(()));
    let app: Router = app.with_state("state".to_owned());
    assert_eq!(send(app, request(Method::GET, "/hooks/events", &[], "")).await.status, 200);
}

#[tokio::test]
async fn trailing_slashes_are_accepted_on_every_route() {
    let api = Api::new();
    let subscription = api.subscribe(json!({})).await["id"].as_str().unwrap().to_owned();
    let published = api.publish("a", json!(1)).await;
    let (event, delivery) =
        (published["id"].as_str().unwrap(), published["deliveries"][0]["id"].as_str().unwrap());
    let app: Router = Router::new().nest("/api/v1", api.router.clone());
    for path in [
        "/subscriptions/".to_owned(),
        format!("/subscriptions/{subscription}/"),
        format!("/subscriptions/{subscription}/secret/"),
        format!("/subscriptions/{subscription}/attempts/?limit=1"),
        format!("/subscriptions/{subscription}/deliveries/"),
        "/events/?event_type=a".to_owned(),
        format!("/events/{event}/"),
        format!("/events/{event}/payload/"),
        "/deliveries/".to_owned(),
        format!("/deliveries/{delivery}/"),
        "/attempts/".to_owned(),
    ] {
        assert_eq!(api.get(&path).await.status, 200, "{path}");
        let nested = request(Method::GET, &format!("/api/v1{path}"), &[], "");
        assert_eq!(send(app.clone(), nested).await.status, 200, "{path}");
    }
    let event = json!({"event_type": "a", "payload": 1});
    assert_eq!(api.post("/events/", event.clone()).await.status, 202);
    assert_eq!(api.post("/events/batch/", json!({"events": [event]})).await.status, 202);
    assert_eq!(api.post(&format!("/ingest/{subscription}/"), json!({})).await.status, 202);
    assert_eq!(api.delete(&format!("/subscriptions/{subscription}/")).await.status, 204);
}

#[tokio::test]
async fn an_application_binds_its_callers_to_a_tenant() {
    let api = Api::new();
    let theirs = api.subscribe(json!({})).await["id"].as_str().unwrap().to_owned();
    let bind = from_fn(|mut request: Request, next: Next| {
        request.extensions_mut().insert(Caller::of("acme".parse().unwrap()));
        next.run(request)
    });
    let app: Router = Router::new().nest("/v1", api.router.clone()).layer(bind);
    let get = async |path: &str| send(app.clone(), request(Method::GET, path, &[], "")).await.status;
    assert_eq!(get("/v1/subscriptions").await, 200);
    assert_eq!(get("/v1/subscriptions?tenant=acme").await, 200);
    assert_eq!(get("/v1/subscriptions?tenant=default").await, 403);
    assert_eq!(get("/v1/subscriptions?tenant=*").await, 403);
    assert_eq!(get(&format!("/v1/subscriptions/{theirs}")).await, 404);
    let json = [("content-type", "application/json")];
    for (body, status) in [
        (json!({"event_type": "a", "payload": 1}), 202),
        (json!({"event_type": "a", "payload": 1, "tenant": "default"}), 403),
    ] {
        let post = request(Method::POST, "/v1/events", &json, body.to_string());
        assert_eq!(send(app.clone(), post).await.status, status);
    }
    let ingest = request(Method::POST, &format!("/v1/ingest/{theirs}"), &[], "{}");
    assert_eq!(send(app.clone(), ingest).await.status, 404);
    assert_eq!(api.get("/events?tenant=acme").await.value()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_loopback_only_server_refuses_foreign_hosts_and_origins() {
    let api = Api::with(|options| options.loopback_only(true));
    for (headers, status) in [
        (&[("host", "127.0.0.1:8080")][..], 200),
        (&[("host", "localhost:8080"), ("origin", "http://localhost:8080")], 200),
        (&[("host", "evil.example")], 403),
        (&[("host", "localhost:8080"), ("origin", "https://evil.example")], 403),
    ] {
        for path in ["/events", "/nothing"] {
            let answer = api.send(request(Method::GET, path, headers, "")).await;
            let expected = if status == 200 && path == "/nothing" { 404 } else { status };
            assert_eq!(answer.status, expected, "{headers:?} {path}");
            if status == 403 {
                assert_eq!(answer.problem().1, "forbidden");
            }
        }
    }
}

#[tokio::test]
async fn probes_answer_beside_the_api() {
    let api = Api::new();
    let draining = Draining::new();
    let app: Router = Router::new()
        .nest("/api/v1", api.router.clone())
        .merge(probes(api.webhooks.clone(), draining.clone()));
    let get = async |path: &str| send(app.clone(), request(Method::GET, path, &[], "")).await;
    assert_eq!(get("/health").await.value(), json!({"status": "ok"}));
    let checks = json!({"store": {"status": "ok"}, "queue": {"status": "ok"}});
    let ready = get("/ready").await;
    assert_eq!((ready.status.as_u16(), ready.value()), (200, json!({"status": "ready", "checks": checks})));
    draining.begin();
    let ready = get("/ready/").await;
    assert_eq!(
        (ready.status.as_u16(), ready.value()),
        (503, json!({"status": "draining", "checks": checks}))
    );
    assert_eq!(get("/health/").await.status, 200);
}

#[tokio::test]
async fn what_is_beside_the_api_refuses_other_methods_in_its_form() {
    let api = Api::new();
    let app: Router = Router::new()
        .merge(probes(api.webhooks.clone(), Draining::new()))
        .merge(metrics(api.webhooks.clone()));
    for path in ["/health", "/health/", "/ready", "/ready/", "/metrics", "/metrics/"] {
        let answer = send(app.clone(), request(Method::POST, path, &[], "")).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed".into()), "{path}");
        assert_eq!(answer.header("allow"), "GET,HEAD", "{path}");
    }
}

/// Sends bytes over a real socket and reads the answer until it is closed.
async fn raw(address: std::net::SocketAddr, text: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer in time").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_real_listener_answers_early_and_in_the_same_form() {
    let api = Api::new();
    let app: Router = Router::new().nest("/api/v1", api.router.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let body = r#"{"event_type":"a","payload":{"x":1.0}}"#;
    let post = format!("POST /api/v1/events HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
    assert!(raw(address, &post).await.starts_with("HTTP/1.1 202"));
    let chunked = format!(
        "POST /api/v1/events/ HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert!(raw(address, &chunked).await.starts_with("HTTP/1.1 202"));
    // Refused for its length alone: not a byte of the body is sent.
    let large = format!("POST /api/v1/events HTTP/1.1\r\n{head}Content-Length: 99999999\r\n\r\n");
    let answer = raw(address, &large).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload_too_large"), "{answer}");
    let put = format!("PUT /api/v1/events HTTP/1.1\r\n{head}\r\n");
    let answer = raw(address, &put).await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("method_not_allowed"), "{answer}");
    let allow = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("allow:")).unwrap();
    assert!(allow.contains("POST") && allow.contains("GET"), "{allow}");
    server.abort();
}
