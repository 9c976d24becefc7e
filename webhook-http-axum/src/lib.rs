#![doc = include_str!("../README.md")]

mod access;
mod body;
mod cursor;
mod documentation;
mod extract;
mod fields;
mod guard;
mod json;
mod keys;
mod merge;
mod metrics;
mod openapi;
mod options;
mod params;
mod precondition;
mod probes;
mod problem;
mod reasons;
mod routes;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use webhook_core::Webhooks;
use webhook_core::store::History;

pub use access::Caller;
pub use documentation::documentation;
pub use keys::{KeyError, Keys};
pub use metrics::metrics;
pub use openapi::openapi;
pub use options::HttpOptions;
pub use probes::{Draining, probes};
pub use problem::{Problem, ProblemCode};
pub use routes::{ROUTES, Route};

/// The API over an engine, to be nested under any path; `history` is the store that the engine
/// works on.
///
/// Every answer to a request below that path is the API's own: errors, unknown routes and methods, and
/// panics too, are `application/problem+json`. A trailing slash is accepted on every route. Requests act for
/// all tenants unless the options have [`Keys`] or a layer around the router has put a [`Caller`] into their
/// extensions.
///
/// An application with a state of its own nests `router(…).with_state(())`.
pub fn router(webhooks: Webhooks, history: Arc<dyn History>, options: HttpOptions) -> Router {
    let loopback_only = options.loopback_only;
    let app = Arc::new(state::App { webhooks, history, options });
    let mut router = routes::all()
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method)
        .with_state(app);
    if loopback_only {
        router = router.layer(from_fn(guard::loopback_only));
    }
    router.layer(from_fn(guard::catch_panics))
}
