//! The routes, one file a resource. Each handler asks who calls before all else, then reads its query, then its
//! headers, then its body, so that a request that is refused for its address is refused before its body is read.

mod attempts;
mod deliveries;
mod events;
mod inbox;
mod ingest;
mod listed;
mod publish;
mod purge;
mod replays;
mod requests;
mod stats;
mod subscription_change;
mod subscription_requests;
mod subscriptions;

use axum::{Router, routing};
use http::{HeaderMap, HeaderName};
use webhook_core::model::{NewEvent, TraceParent};

use crate::access::Caller;
use crate::problem::{Problem, ProblemCode};
use crate::state::Shared;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A route of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Its path below the one that the router is nested under, with `{id}` where an id stands.
    pub path: &'static str,
}

/// Writes the list of routes and the router from one table, so that what holds for every route (keys, tenants,
/// the OpenAPI document) is checked on every route.
macro_rules! routes {
    ($($method:ident $path:literal => $handler:path;)*) => {
        /// Every route of the API, in the order of its page.
        pub const ROUTES: &[Route] = &[$(Route { method: method(stringify!($method)), path: $path }),*];

        /// The routes with their handlers, each with and without a trailing slash.
        pub(crate) fn all() -> Router<Shared> {
            let router = Router::new();
            $(let router = router
                .route($path, routing::$method($handler))
                .route(concat!($path, "/"), routing::$method($handler));)*
            router
        }
    };
}

routes! {
    post "/subscriptions" => subscriptions::create;
    get "/subscriptions" => subscriptions::list;
    get "/subscriptions/{id}" => subscriptions::get;
    put "/subscriptions/{id}" => subscription_change::replace;
    patch "/subscriptions/{id}" => subscription_change::patch;
    delete "/subscriptions/{id}" => subscription_change::delete;
    post "/subscriptions/{id}/pause" => subscription_requests::pause;
    post "/subscriptions/{id}/resume" => subscription_requests::resume;
    get "/subscriptions/{id}/secret" => subscriptions::secret;
    post "/subscriptions/{id}/rotate-secret" => subscription_requests::rotate_secret;
    post "/subscriptions/{id}/test" => subscription_requests::test;
    post "/subscriptions/{id}/replay" => replays::of_subscription;
    get "/subscriptions/{id}/attempts" => attempts::of_subscription;
    get "/subscriptions/{id}/deliveries" => deliveries::of_subscription;
    get "/subscriptions/{id}/stats" => stats::of_subscription;
    post "/events" => publish::one;
    post "/events/batch" => publish::batch;
    post "/ingest/{id}" => ingest::ingest;
    get "/events" => events::list;
    get "/events/{id}" => events::get;
    get "/events/{id}/payload" => events::payload;
    post "/events/{id}/cancel" => requests::cancel_event;
    post "/events/{id}/replay" => requests::replay_event;
    get "/deliveries" => deliveries::list;
    post "/deliveries/retry" => replays::retry;
    get "/deliveries/{id}" => deliveries::get;
    post "/deliveries/{id}/retry" => requests::retry;
    post "/deliveries/{id}/cancel" => requests::cancel;
    get "/attempts" => attempts::list;
    get "/inbox" => inbox::list;
    delete "/inbox/{id}" => inbox::delete;
    get "/replays/{id}" => replays::get;
    get "/stats" => stats::all;
    post "/purge" => purge::purge;
}

/// The name of a method by that of the function for it.
const fn method(function: &str) -> &'static str {
    match function.as_bytes() {
        b"get" => "GET",
        b"post" => "POST",
        b"put" => "PUT",
        b"patch" => "PATCH",
        b"delete" => "DELETE",
        _ => panic!("not a method"),
    }
}

/// The answer for a path that is no route, to whoever may know.
pub(crate) async fn no_route(_: Caller) -> Problem {
    Problem::new(ProblemCode::NotFound, "there is no such route")
}

/// The answer for a route that has other methods; `Allow` is added by the router.
pub(crate) async fn no_method(_: Caller) -> Problem {
    other_method().await
}

/// The same for whoever asks.
pub(crate) async fn other_method() -> Problem {
    Problem::new(ProblemCode::MethodNotAllowed, "this route has other methods; `Allow` names them")
}

/// A header that may be given once, as text.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::field(name.as_str(), "the header is given more than once"));
    }
    value.to_str().map(Some).map_err(|_| Problem::field(name.as_str(), "expected visible ASCII characters"))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    Ok(header(headers, &IDEMPOTENCY_KEY)?.map(str::to_owned))
}

/// The trace that the caller is in. One that is not valid, or is given twice, is no trace: W3C Trace Context forbids
/// to refuse a request for it (sections 3.2.1 and 4.3).
fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()?.parse().ok()
}

/// The event as a step of the caller's trace, if there is one.
fn traced(event: NewEvent, trace: Option<TraceParent>) -> NewEvent {
    match trace {
        Some(trace) => event.traceparent(trace),
        None => event,
    }
}
