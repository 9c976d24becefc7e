//! A client of the API that knows nothing but HTTP and JSON.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Speaks to one server.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }
}

impl Api {
    /// `url` without `/api/v1`.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), url: url.into() }
    }

    /// One request; `None` when there was no answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = self.client.request(request).await.ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Answer> {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Option<Answer> {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, path, &json, body.to_string()).await
    }

    /// Creates a subscription and gives its `id` and `secret`.
    pub(crate) async fn subscribe(&self, target_url: &str, event_types: &[&str]) -> (String, String) {
        let body = json!({"target_url": target_url, "event_types": event_types});
        let answer = self.post("/api/v1/subscriptions", &body).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        let created = answer.json();
        let text = |name: &str| created[name].as_str().expect("text").to_owned();
        (text("id"), text("secret"))
    }

    /// Publishes, and gives the event's id if it was acknowledged.
    pub(crate) async fn publish(&self, event_type: &str, payload: &Value) -> Option<String> {
        self.publish_with(&[], event_type, payload).await
    }

    /// Publishes with an idempotency key, so that it may be repeated.
    pub(crate) async fn publish_once(&self, key: &str, event_type: &str, payload: &Value) -> Option<String> {
        self.publish_with(&[("idempotency-key", key)], event_type, payload).await
    }

    /// The answer to an event with these headers; `None` when there was none.
    pub(crate) async fn try_publish(
        &self,
        headers: &[(&str, &str)],
        event_type: &str,
        payload: &Value,
    ) -> Option<Answer> {
        let body = json!({"event_type": event_type, "payload": payload}).to_string();
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send(Method::POST, "/api/v1/events", &headers, body).await
    }

    async fn publish_with(
        &self,
        headers: &[(&str, &str)],
        event_type: &str,
        payload: &Value,
    ) -> Option<String> {
        let answer = self.try_publish(headers, event_type, payload).await?;
        if answer.status != StatusCode::ACCEPTED {
            // Only a server that stops or whose store is away may say no to these events.
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{:?}", answer.body);
            return None;
        }
        Some(answer.json()["id"].as_str().expect("an id").to_owned())
    }

    /// Waits until no delivery is unfinished.
    pub(crate) async fn all_finished(&self) {
        super::eventually("every delivery is finished", async || {
            let answer = self.get("/api/v1/deliveries?status=pending,retrying&limit=1").await?;
            if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                return None;
            }
            assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
            answer.json()["data"].as_array()?.is_empty().then_some(())
        })
        .await;
    }
}
