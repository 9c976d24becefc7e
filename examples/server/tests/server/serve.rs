//! `webhook-server serve` from a subscription to a verified delivery, and its stop.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use axum::http::Method;
use rustix::process::Signal;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::receiver::{Receiver, Silent};

fn serve(directory: &tempfile::TempDir, more: &[&str]) -> Process {
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let base = ["--listen", "127.0.0.1:0", "--allow-cidr", "127.0.0.1/32", "--database-url", &url];
    Process::start(&[&base, more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_delivered_byte_for_byte_and_signed_by_standard_webhooks() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(&directory, &[]);
    let api = Api::new(server.url());
    let receiver = Receiver::start(Duration::ZERO).await;
    let (_, secret) = api.subscribe(&receiver.url, &["order.*"]).await;

    let body = r#"{"event_type":"order.paid","payload":{"b": 1.50,  "a":"€"}}"#;
    let json = [("content-type", "application/json")];
    let answer = api.send(Method::POST, "/api/v1/events", &json, body).await.expect("an answer");
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let accepted = answer.json();
    assert_eq!((&accepted["delivery_count"], &accepted["duplicate"]), (&json!(1), &json!(false)));

    eventually("the delivery", async || (receiver.count() == 1).then_some(())).await;
    let got = receiver.got().remove(0);
    assert_eq!(got.path, "/hooks");
    assert_eq!(got.body, r#"{"b": 1.50,  "a":"€"}"#);
    assert_eq!(got.header("webhook-id"), accepted["id"].as_str().unwrap());
    assert_eq!(got.header("webhook-event-type"), "order.paid");
    assert_eq!(got.header("webhook-attempt"), "1");
    assert_eq!(got.header("content-type"), "application/json");
    let agent = format!("webhook-server/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(got.header("user-agent"), agent);
    Webhook::new(&secret).unwrap().verify(&got.body, &got.headers).expect("a good signature");

    let delivery = format!("/api/v1/deliveries/{}", accepted["deliveries"][0]["id"].as_str().unwrap());
    let shown = eventually("the result is recorded", async || {
        let shown = api.get(&delivery).await?.json();
        (shown["status"] == "succeeded").then_some(shown)
    })
    .await;
    assert_eq!(shown["attempts"][0]["status_code"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_what_happened_at_once_and_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(&directory, &[]);
    let api = Api::new(server.url());
    let receiver = Receiver::start(Duration::ZERO).await;
    api.subscribe(&receiver.url, &["order.*"]).await;
    for event_type in ["order.paid", "order.sent", "nobody.asked"] {
        api.publish(event_type, &json!(1)).await.expect("acknowledged");
    }
    api.all_finished().await;
    let check = async |api: &Api| {
        let stats = api.get("/api/v1/stats?window=1h").await.unwrap().json();
        assert_eq!((&stats["window"], &stats["events"]), (&json!("1h"), &json!(3)), "{stats}");
        assert_eq!(stats["attempts"], json!({"succeeded": 2, "failed": 0, "unknown": 0}), "{stats}");
        assert_eq!((&stats["deliveries"]["succeeded"], &stats["success_rate"]), (&json!(2), &json!(1.0)));
        assert!(stats["latency_ms"]["p99"].as_u64().unwrap() < 60_000, "{stats}");
    };
    check(&api).await;
    server.signal(Signal::TERM);
    assert!(server.ended().success());
    let mut server = serve(&directory, &[]);
    check(&Api::new(server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_settings_reach_the_engine() {
    let directory = tempfile::tempdir().unwrap();
    let more = ["--max-payload", "64", "--retry", "schedule:100ms", "--timeout", "200ms"];
    let mut server = serve(&directory, &more);
    let api = Api::new(server.url());
    let silent = Silent::start().await;
    api.subscribe(&silent.url, &[]).await;

    let large = json!({"event_type": "a", "payload": "x".repeat(65)});
    assert_eq!(api.post("/api/v1/events", &large).await.expect("an answer").status, 413);

    let answer = api.post("/api/v1/events", &json!({"event_type": "a", "payload": 1})).await.unwrap().json();
    let delivery = format!("/api/v1/deliveries/{}", answer["deliveries"][0]["id"].as_str().unwrap());
    let shown = eventually("two attempts that timed out", async || {
        let shown = api.get(&delivery).await?.json();
        (shown["status"] == "exhausted").then_some(shown)
    })
    .await;
    assert_eq!(shown["attempt_count"], 2);
    assert_eq!(shown["last_error"]["kind"], "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_no_target_unless_a_range_allows_it() {
    let mut server = Process::start(&["--listen", "127.0.0.1:0", "--database-url", "memory:"]);
    let api = Api::new(server.url());
    for target in ["http://127.0.0.1:9000/", "http://localhost:9000/", "http://[::1]/"] {
        let answer = api.post("/api/v1/subscriptions", &json!({"target_url": target})).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (422, &json!("target_not_allowed")),
            "{target}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_it_listens_anywhere_and_wants_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "# keys\nacme:the-key-of-acme-corp\n").unwrap();
    let mut server = Process::start(&[
        "--listen",
        "0.0.0.0:0",
        "--database-url",
        "memory:",
        "--api-key",
        "the-key-of-an-admin",
        "--api-key-file",
        file.to_str().unwrap(),
    ]);
    let api = Api::new(server.url().replace("0.0.0.0", "127.0.0.1"));
    let get = async |path: &str, key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("host", "hooks.example.com"), ("authorization", bearer.as_str())];
        api.send(Method::GET, path, &headers, "").await.unwrap()
    };
    for (path, key, status) in [
        ("/api/v1/events", "the-key-of-an-admin", 200),
        ("/api/v1/events?tenant=*", "the-key-of-an-admin", 200),
        ("/api/v1/events", "the-key-of-acme-corp", 200),
        ("/api/v1/events?tenant=*", "the-key-of-acme-corp", 403),
        ("/api/v1/events", "the-key-of-nobody-at-all", 401),
        ("/api/v1/nothing", "", 401),
        ("/health", "", 200),
        ("/ready", "", 200),
        ("/", "", 307),
        ("/docs", "", 200),
        ("/openapi.json", "", 200),
    ] {
        assert_eq!(get(path, key).await.status.as_u16(), status, "{path} {key}");
    }
    let printed = [server.stdout(), server.stderr()].concat().join("\n");
    assert!(!printed.contains("the-key-of"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_docs_are_at_the_root_and_the_rest_is_a_problem() {
    let mut server = Process::start(&["--listen", "127.0.0.1:0", "--database-url", "memory:"]);
    let api = Api::new(server.url());
    let health = api.get("/health").await.unwrap();
    assert_eq!((health.status.as_u16(), &health.json()["status"]), (200, &json!("ok")));
    assert_eq!(api.get("/ready").await.unwrap().status, 200);
    // As a browser asks, with the headers of a person who typed the address or came by a link.
    for headers in [&[][..], &[("origin", "https://example.com")], &[("host", "hooks.example.com")]] {
        let page = api.send(Method::GET, "/", headers, "").await.unwrap();
        assert_eq!((page.status.as_u16(), &page.headers["location"]), (307, &"/docs".parse().unwrap()));
    }
    // What the page of /docs tries out comes from this server's own origin.
    let (origin, json) = (server.url(), ("content-type", "application/json"));
    let tried = [("origin", origin.as_str()), json];
    let created = r#"{"target_url": "https://example.com/"}"#;
    let created = api.send(Method::POST, "/api/v1/subscriptions", &tried, created).await.unwrap();
    assert_eq!(created.status, 201, "{:?}", created.body);
    let document = api.get("/openapi.json").await.unwrap();
    assert!(document.status == 200 && document.json()["paths"]["/api/v1/events"].is_object());
    for path in ["/docs", "/docs/", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/start.js"] {
        let page = api.get(path).await.unwrap();
        assert!(page.status == 200 && !page.body.is_empty(), "{path}");
    }
    for path in ["/nothing", "/api/v1/nothing", "/api/v2", "/docs/nothing"] {
        let answer = api.get(path).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!("not_found")), "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
    }
    let undecodable = api.get("/docs/%FF").await.unwrap();
    assert_eq!((undecodable.status.as_u16(), &undecodable.json()["code"]), (404, &json!("not_found")));
    for path in ["/", "/health", "/ready", "/metrics", "/docs", "/docs/start.js", "/openapi.json"] {
        let answer = api.send(Method::POST, path, &[], "").await.unwrap();
        let code = answer.json()["code"].clone();
        assert_eq!((answer.status.as_u16(), code), (405, json!("method_not_allowed")), "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert_eq!(answer.headers["allow"], "GET,HEAD", "{path}");
    }
    let other =
        api.send(Method::GET, "/api/v1/subscriptions", &[("host", "evil.example")], "").await.unwrap();
    assert_eq!(other.status, 403, "a name that was rebound to loopback");
}

/// Promise 17: while an attempt is in flight the server drains, says so, and takes nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn while_it_stops_ready_says_draining_and_nothing_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(&directory, &["--shutdown-grace", "20s"]);
    let api = Api::new(server.url());
    let slow = Receiver::start(Duration::from_secs(3)).await;
    api.subscribe(&slow.url, &[]).await;
    let id = api.publish("a", &json!(1)).await.expect("acknowledged");
    eventually("it is on the wire", async || (slow.count() == 1).then_some(())).await;

    server.signal(Signal::TERM);
    let ready = eventually("it drains", async || {
        let ready = api.get("/ready").await?;
        (ready.status == 503).then_some(ready)
    })
    .await;
    assert_eq!(ready.json()["status"], "draining");
    let refused =
        api.post("/api/v1/events", &json!({"event_type": "a", "payload": 2})).await.expect("an answer");
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (503, &json!("unavailable")));
    assert!(refused.headers.contains_key("retry-after"));

    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
    assert_eq!(slow.times(), [(id.clone(), 1)].into());

    // What was in flight was recorded: the next server has nothing to do.
    let mut server = serve(&directory, &[]);
    let api = Api::new(server.url());
    let event = api.get(&format!("/api/v1/events/{id}")).await.expect("an answer").json();
    assert_eq!(event["deliveries"][0]["status"], "succeeded");
    assert_eq!(slow.count(), 1);
}

#[test]
fn idle_connections_and_half_sent_requests_do_not_hold_up_a_stop() {
    let mut server =
        Process::start(&["--listen=127.0.0.1:0", "--database-url=memory:", "--shutdown-grace=2s"]);
    let address = server.url().trim_start_matches("http://").to_owned();
    let mut idle = TcpStream::connect(&address).unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let untouched = TcpStream::connect(&address).unwrap();
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(b"GET /health HTT").unwrap();
    let mut half_a_body = TcpStream::connect(&address).unwrap();
    let head = b"POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: 100\r\n\r\n{";
    half_a_body.write_all(head).unwrap();

    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    drop((idle, untouched, half, half_a_body));
}

/// Promise 17: a client that stopped in the middle of its request keeps the API's gate for five seconds, and nothing is
/// claimed in them.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_claims_nothing_while_it_waits_for_requests() {
    let directory = tempfile::tempdir().unwrap();
    let waits = ["100ms"; 100].join(",");
    let mut server = serve(&directory, &["--shutdown-grace=20s", "--retry", &format!("schedule:{waits}")]);
    let url = server.url();
    let api = Api::new(url.clone());
    let failing = Receiver::answering(&[500; 100]).await;
    api.subscribe(&failing.url, &[]).await;
    let mut half_a_body = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    let head = b"POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    half_a_body.write_all(head).unwrap();
    let mut answer = [0; 12];
    half_a_body.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100", "the server waits for the body");
    api.publish("a", &json!(1)).await.expect("acknowledged");
    eventually("it is retried", async || (failing.count() >= 2).then_some(())).await;

    let start = Instant::now();
    server.signal(Signal::TERM);
    eventually("it drains", async || (api.get("/ready").await?.status == 503).then_some(())).await;
    let before = failing.count();
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
    assert!(start.elapsed() > Duration::from_secs(4), "it waited for the request: {:?}", start.elapsed());
    // One may have been on its way.
    assert!(failing.count() <= before + 1, "{} requests after {before}", failing.count());
}
