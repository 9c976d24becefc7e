//! The few calls of the server's API that a run needs besides publishing.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::Failure;
use crate::http1::Connection;

/// Whose the subscriptions are that name nobody.
pub(crate) const DEFAULT_TENANT: &str = "default";

#[derive(Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    connection: Connection,
}

impl Api {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let connection = Connection::open(address)
            .await
            .map_err(|error| format!("cannot connect to {address}: {error}"))?;
        Ok(Self { address, connection })
    }

    /// Creates a subscription and returns its id.
    pub(crate) async fn subscribe(&mut self, target: &str, event_type: &str) -> Result<String, Failure> {
        // Waits of a second without jitter: a run that makes failures retries them soon, others never use it.
        let body = json!({
            "target_url": target,
            "event_types": [event_type],
            "retry": {"schedule": ["1s", "1s", "1s"]},
        });
        self.create(&body).await
    }

    /// Creates a subscription of a tenant, with the server's own retry policy, and returns its id.
    pub(crate) async fn subscribe_of(
        &mut self,
        tenant: &str,
        target: &str,
        event_type: &str,
    ) -> Result<String, Failure> {
        self.create(&json!({"tenant": tenant, "target_url": target, "event_types": [event_type]})).await
    }

    async fn create(&mut self, subscription: &Value) -> Result<String, Failure> {
        let created = self.call("POST", "/subscriptions", Some(subscription)).await?;
        let id = created.get("id").and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| format!("a subscription without an id: {created}"))
    }

    pub(crate) async fn pause(&mut self, subscription: &str) -> Result<(), Failure> {
        self.call("POST", &format!("/subscriptions/{subscription}/pause"), None).await.map(drop)
    }

    /// Whether a delivery of the subscription is not finished in the store.
    pub(crate) async fn has_unfinished(&mut self, tenant: &str, subscription: &str) -> Result<bool, Failure> {
        let path = format!(
            "/subscriptions/{subscription}/deliveries?tenant={tenant}&status=pending,retrying&limit=1"
        );
        let page = self.call("GET", &path, None).await?;
        let rows = page.get("data").and_then(Value::as_array);
        rows.map(|rows| !rows.is_empty()).ok_or_else(|| format!("a list without `data`: {page}"))
    }

    async fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answer = self.connection.request(request.as_bytes()).await;
        let (status, answer) = answer.map_err(|error| format!("{method} {path}: {error}"))?;
        if !(200..300).contains(&status) {
            let answer = String::from_utf8_lossy(answer);
            return Err(format!("{method} {path} was answered with {status}: {answer}"));
        }
        serde_json::from_slice(answer).map_err(|error| format!("{method} {path}: {error}"))
    }
}
