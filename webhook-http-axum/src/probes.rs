//! `/health` and `/ready`, which live outside of the API and are open without a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::response::Response;
use axum::{Router, routing};
use http::StatusCode;
use serde::Serialize;
use webhook_core::Webhooks;

use crate::json::json;

/// Whether the process is on its way out. Clones share the answer: the application keeps one, and
/// [`probes`] gets another.
///
/// ```
/// use webhook_http_axum::Draining;
///
/// let draining = Draining::new();
/// let probe = draining.clone();
/// draining.begin();
/// assert!(probe.has_begun());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Not yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `/ready` answers 503, so that no new requests are sent here.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Debug, Serialize)]
struct Ready {
    status: &'static str,
    checks: Checks,
}

#[derive(Debug, Serialize)]
struct Checks {
    store: Health,
    queue: Health,
}

/// `GET /health`, which answers without any I/O for as long as the process runs, and `GET /ready`, which
/// asks the backends: 503 while the store is away or the process drains. A queue that is away is `degraded`
/// and 200, since publishing goes on.
///
/// Merge it into the application's root; orchestrators look for it there.
pub fn probes(webhooks: Webhooks, draining: Draining) -> Router {
    let health = routing::get(health);
    let ready = routing::get(ready);
    Router::new()
        .route("/health", health.clone())
        .route("/health/", health)
        .route("/ready", ready.clone())
        .route("/ready/", ready)
        .method_not_allowed_fallback(crate::routes::other_method)
        .with_state((webhooks, draining))
}

async fn health() -> Response {
    json(StatusCode::OK, &Health { status: "ok" })
}

async fn ready(State((webhooks, draining)): State<(Webhooks, Draining)>) -> Response {
    let readiness = webhooks.readiness().await;
    for error in [&readiness.store, &readiness.queue].into_iter().filter_map(|check| check.as_ref().err()) {
        tracing::warn!(%error, "a backend does not answer the readiness probe");
    }
    let word = |up: bool| Health { status: if up { "ok" } else { "down" } };
    let (store, queue) = (readiness.store.is_ok(), readiness.queue.is_ok());
    let (status, code) = match (draining.has_begun(), store, queue) {
        (true, ..) => ("draining", StatusCode::SERVICE_UNAVAILABLE),
        (false, false, _) => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        (false, true, false) => ("degraded", StatusCode::OK),
        (false, true, true) => ("ready", StatusCode::OK),
    };
    json(code, &Ready { status, checks: Checks { store: word(store), queue: word(queue) } })
}
