//! What is answered where: the API below `/api/v1`, probes, metrics and its description beside it, and `/`, which leads
//! to the description; of a process that only delivers, probes and metrics alone; and the gate that a stop closes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use tokio::sync::watch;
use webhook_core::Webhooks;
use webhook_core::store::History;
use webhook_http_axum::{Draining, HttpOptions, Problem, ProblemCode, documentation, metrics, probes};

use crate::config::ServeConfig;

/// Where the API is.
pub(crate) const API: &str = "/api/v1";

/// Lets requests to the API in while the service runs, and knows how many are inside.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    state: watch::Sender<Inside>,
    /// What `/ready` tells of it.
    draining: Draining,
}

#[derive(Debug, Default)]
struct Inside {
    requests: usize,
    closed: bool,
}

/// One request inside; leaves when dropped, also when its client went away.
#[derive(Debug)]
struct Visit(watch::Sender<Inside>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.send_modify(|inside| inside.requests -= 1);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: watch::Sender::new(Inside::default()), draining: Draining::new() }
    }
}

impl Gate {
    fn enter(&self) -> Option<Visit> {
        let mut entered = false;
        self.state.send_if_modified(|inside| {
            entered = !inside.closed;
            inside.requests += usize::from(entered);
            false // nobody waits for more requests
        });
        entered.then(|| Visit(self.state.clone()))
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.draining.begin();
        self.state.send_modify(|inside| inside.closed = true);
    }

    /// Returns when nobody is inside.
    pub(crate) async fn empty(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|inside| inside.requests == 0).await;
    }
}

/// Everything that this server answers.
pub(crate) fn app(
    webhooks: &Webhooks,
    history: Arc<dyn History>,
    config: &ServeConfig,
    gate: Gate,
) -> Router {
    let probes = probes(webhooks.clone(), gate.draining.clone()).merge(metrics(webhooks.clone()));
    if !config.role.serves_api() {
        return probes.fallback(only_probes);
    }
    let options = HttpOptions::new().max_payload(config.max_payload);
    let options = match &config.keys {
        Some(keys) => options.keys(keys.clone()),
        // It listens on loopback, and no web page may drive it.
        None => options.loopback_only(true),
    };
    let api = webhook_http_axum::router(webhooks.clone(), history, options)
        .layer(middleware::from_fn_with_state(gate, through_the_gate));
    Router::new()
        .route("/", get(page))
        .method_not_allowed_fallback(other_method)
        .nest(API, api)
        .merge(probes)
        .merge(documentation(API))
        .fallback(nothing_here)
}

async fn through_the_gate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Some(visit) = gate.enter() else {
        return stopping();
    };
    let response = next.run(request).await;
    drop(visit);
    response
}

/// The answer to whoever comes while the server stops: another one will take it.
fn stopping() -> Response {
    let problem =
        Problem::new(ProblemCode::Unavailable, "the server is stopping; repeat the request in a moment");
    let mut response = problem.into_response();
    response.headers_mut().entry(RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn other_method() -> Problem {
    Problem::new(ProblemCode::MethodNotAllowed, "this path has other methods; `Allow` names them")
}

async fn nothing_here() -> Problem {
    Problem::new(ProblemCode::NotFound, "there is no such path; the API is below /api/v1")
}

async fn only_probes() -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        "this process delivers and answers probes and /metrics alone; ask one that serves the API",
    )
}

/// Until there is a dashboard, the page that there is. A browser must not remember it.
async fn page() -> Redirect {
    Redirect::temporary("/docs")
}

/// Why a port could not be taken, for the operator.
pub(crate) fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it or choose another port with --listen"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose another with --listen",
        io::ErrorKind::PermissionDenied => {
            "this user may not take that port; choose one above 1023 with --listen"
        }
        _ => return format!("cannot listen on {address}: {error}"),
    };
    format!("cannot listen on {address}: {why}")
}
