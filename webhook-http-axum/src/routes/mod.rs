//! The routes, one file a resource. Each handler reads its query, then its headers, then its body, so that a
//! request that is refused for its address is refused before its body is read.

mod attempts;
mod deliveries;
mod events;
mod inbox;
mod ingest;
mod publish;
mod replays;
mod requests;
mod subscription_change;
mod subscription_requests;
mod subscriptions;

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};
use http::{HeaderMap, HeaderName};

use crate::problem::{Problem, ProblemCode};
use crate::state::Shared;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// All routes of the API.
pub(crate) fn all() -> Router<Shared> {
    let router = Router::new();
    let router = both(router, "/subscriptions", post(subscriptions::create).get(subscriptions::list));
    let router = both(
        router,
        "/subscriptions/{id}",
        get(subscriptions::get)
            .put(subscription_change::replace)
            .patch(subscription_change::patch)
            .delete(subscription_change::delete),
    );
    let router = both(router, "/subscriptions/{id}/secret", get(subscriptions::secret));
    let router = both(router, "/subscriptions/{id}/pause", post(subscription_requests::pause));
    let router = both(router, "/subscriptions/{id}/resume", post(subscription_requests::resume));
    let router =
        both(router, "/subscriptions/{id}/rotate-secret", post(subscription_requests::rotate_secret));
    let router = both(router, "/subscriptions/{id}/test", post(subscription_requests::test));
    let router = both(router, "/subscriptions/{id}/replay", post(replays::of_subscription));
    let router = both(router, "/subscriptions/{id}/attempts", get(attempts::of_subscription));
    let router = both(router, "/subscriptions/{id}/deliveries", get(deliveries::of_subscription));
    let router = both(router, "/events", post(publish::one).get(events::list));
    let router = both(router, "/events/batch", post(publish::batch));
    let router = both(router, "/events/{id}", get(events::get));
    let router = both(router, "/events/{id}/payload", get(events::payload));
    let router = both(router, "/events/{id}/cancel", post(requests::cancel_event));
    let router = both(router, "/events/{id}/replay", post(requests::replay_event));
    let router = both(router, "/ingest/{id}", post(ingest::ingest));
    let router = both(router, "/deliveries", get(deliveries::list));
    let router = both(router, "/deliveries/retry", post(replays::retry));
    let router = both(router, "/deliveries/{id}", get(deliveries::get));
    let router = both(router, "/deliveries/{id}/retry", post(requests::retry));
    let router = both(router, "/deliveries/{id}/cancel", post(requests::cancel));
    let router = both(router, "/replays/{id}", get(replays::get));
    let router = both(router, "/inbox", get(inbox::list));
    let router = both(router, "/inbox/{id}", delete(inbox::delete));
    both(router, "/attempts", get(attempts::list))
}

/// With and without a trailing slash.
fn both(router: Router<Shared>, path: &str, methods: MethodRouter<Shared>) -> Router<Shared> {
    router.route(&format!("{path}/"), methods.clone()).route(path, methods)
}

/// The answer for a path that is no route.
pub(crate) async fn no_route() -> Problem {
    Problem::new(ProblemCode::NotFound, "there is no such route")
}

/// The answer for a route that has other methods; `Allow` is added by the router.
pub(crate) async fn no_method() -> Problem {
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
