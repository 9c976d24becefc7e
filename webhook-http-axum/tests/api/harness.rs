//! A router over memory backends, and requests to it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use webhook_core::Webhooks;
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::model::Subscription;
use webhook_core::testing::{ManualClock, RecordingDeliverer, Scripted};
use webhook_http_axum::{HttpOptions, router};

use super::contract;
use super::plain::PlainStore;

/// Where subscriptions of tests go.
pub(crate) const TARGET: &str = "https://example.com/hook";
pub(crate) use super::bad_requests::table::MAX_PAYLOAD;

pub(crate) struct Api {
    pub(crate) router: Router,
    pub(crate) webhooks: Webhooks,
    pub(crate) store: Arc<PlainStore>,
    pub(crate) target: RecordingDeliverer,
    /// The clock of signatures alone.
    pub(crate) clock: ManualClock,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::with(|options| options)
    }

    pub(crate) fn with(options: impl FnOnce(HttpOptions) -> HttpOptions) -> Self {
        let store = Arc::new(PlainStore(MemoryStore::new()));
        let target = RecordingDeliverer::new();
        let webhooks = Webhooks::builder(store.clone())
            .queue(Arc::new(MemoryQueue::new()))
            .deliverer(Arc::new(target.clone()))
            .max_payload(MAX_PAYLOAD)
            .build()
            .unwrap();
        let clock = ManualClock::new();
        let options = options(HttpOptions::new().max_payload(MAX_PAYLOAD).clock(Arc::new(clock.clone())));
        let router = router(webhooks.clone(), store.clone(), options);
        Self { router, webhooks, store, target, clock }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().to_string());
        let answer = send(self.router.clone(), request).await;
        contract::check_answer(&method, &path, &answer);
        answer
    }

    /// A request with this body, which fits the document if it is accepted.
    async fn value(&self, method: Method, path: &str, body: Value) -> Answer {
        let answer = self.json(method.clone(), path, &[], body.to_string()).await;
        contract::check_request(&method, path, &body, &answer);
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], Body::empty())).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(request(Method::DELETE, path, &[], Body::empty())).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.value(Method::POST, path, body).await
    }

    /// A request that needs no body, without one.
    pub(crate) async fn ask(&self, path: &str) -> Answer {
        self.send(request(Method::POST, path, &[], Body::empty())).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.value(Method::PUT, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.value(Method::PATCH, path, body).await
    }

    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send(request(method, path, &headers, body)).await
    }

    /// Creates a subscription with these fields beside its target; gives its representation.
    pub(crate) async fn subscribe(&self, mut fields: Value) -> Value {
        fields["target_url"] = fields.get("target_url").cloned().unwrap_or(json!(TARGET));
        let created = self.post("/subscriptions", fields).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text());
        created.value()
    }

    /// What the store has of a subscription, secrets included.
    pub(crate) async fn stored(&self, subscription: &Value) -> Arc<Subscription> {
        let id = subscription["id"].as_str().unwrap().parse().unwrap();
        self.webhooks.subscriptions().get_any(id).await.unwrap()
    }

    /// Publishes an event; gives the answer.
    pub(crate) async fn publish(&self, event_type: &str, payload: Value) -> Value {
        let accepted = self.post("/events", json!({"event_type": event_type, "payload": payload})).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text());
        accepted.value()
    }

    /// Publishes an event that ends as exhausted at its first subscription; gives the delivery's id.
    pub(crate) async fn exhausted(&self, event_type: &str) -> String {
        self.target.answer(TARGET, Scripted::status(500));
        let published = self.publish(event_type, json!(1)).await;
        self.deliver().await;
        let id = text(&published["deliveries"][0]["id"]);
        assert_eq!(self.delivery(&id).await["status"], "exhausted");
        id
    }

    /// Has the subscription at [`TARGET`] disabled, as its target says that it is gone.
    pub(crate) async fn disable(&self, subscription: &str) {
        self.target.answer(TARGET, Scripted::status(410));
        self.publish("gone", json!(1)).await;
        self.deliver().await;
        self.until(subscription, |found| found["status"] == "disabled").await;
    }

    pub(crate) async fn delivery(&self, id: &str) -> Value {
        self.get(&format!("/deliveries/{id}")).await.value()
    }

    /// Starts workers that deliver until the test ends.
    pub(crate) fn spawn(&self) {
        self.webhooks.spawn(webhook_core::Workers::default()).unwrap();
    }

    /// Reads this path until the answer is as wanted, with a deadline.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..3000 {
            let answer = self.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
            last = answer.value();
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // verify: allow(sleep): a poll with a deadline
        }
        panic!("{path} never became as wanted: {last}")
    }

    /// Delivers all that is due, while no other workers run.
    pub(crate) async fn deliver(&self) {
        let idle = async {
            // A claimed job that is being loaded is neither due nor in flight: it is handed back, and due again.
            loop {
                self.webhooks.run_until_idle().await.unwrap();
                if self.webhooks.depth().await.unwrap().due == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), idle).await.expect("in time");
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap() }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem, whole in its form, and gives its code.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let value = self.value();
        let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "detail", "errors", "status", "title", "type"]);
        assert_eq!(value["status"], self.status.as_u16());
        assert!(value["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        for error in value["errors"].as_array().unwrap() {
            assert!(error["field"].is_string() && error["detail"].is_string(), "{error}");
        }
        (self.status.as_u16(), value["code"].as_str().unwrap().to_owned())
    }

    /// The names of the wrong fields.
    pub(crate) fn fields(&self) -> Vec<String> {
        let errors = self.value()["errors"].as_array().unwrap().clone();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

/// The ids of a list.
pub(crate) fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// An id, a status or another text of an answer.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
