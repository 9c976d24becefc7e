//! Creating and reading subscriptions.

use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use webhook_core::id::SubscriptionId;
use webhook_core::model::{Subscription, SubscriptionStatus, Tenant};
use webhook_core::secret::Secret;
use webhook_core::store::SubscriptionFilter;

use crate::access::Caller;
use crate::body;
use crate::cursor::Listing;
use crate::extract::One;
use crate::json::{READ_ONLY, SubscriptionJson, SubscriptionWithSecret, json as answer, read_draft};
use crate::params::Params;
use crate::precondition::etag;
use crate::problem::Problem;
use crate::state::Shared;

/// The largest body that describes a subscription: all its fields at their limits, each character escaped.
pub(super) const BODY: usize = 256 * 1024;

pub(super) async fn create(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    body::expect_type(&headers, &[body::JSON])?;
    let mut body = body::object(&body::read(&headers, body, BODY).await?)?;
    let tenant = caller.tenant_with_body(&params, body_tenant(&mut body)?)?;
    take_what_a_new_one_has(&mut body)?;
    let draft = read_draft(body)?;
    let subscriptions = app.webhooks.subscriptions();
    let created = subscriptions.create(&tenant, &draft).await?;
    let newest = created.secrets.first().ok_or_else(Problem::internal)?;

    let shown = SubscriptionWithSecret::of(&created, &newest.secret);
    let mut response = answer(StatusCode::CREATED, &shown);
    let headers = response.headers_mut();
    headers.insert(ETAG, etag(created.version));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let location = format!("{}/{}", uri.path().trim_end_matches('/'), created.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(LOCATION, location);
    }
    Ok(response)
}

fn body_tenant(body: &mut Map<String, Value>) -> Result<Option<Tenant>, Problem> {
    match body.remove("tenant") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|error| Problem::field("tenant", error)),
        Some(_) => Err(Problem::field("tenant", "expected a string")),
    }
}

/// Read-only fields are taken when they are what a new subscription has, so that a representation can be
/// used as a template.
fn take_what_a_new_one_has(body: &mut Map<String, Value>) -> Result<(), Problem> {
    let new = json!({"status": "active", "disabled_reason": null, "version": 1});
    let errors: Vec<_> = READ_ONLY
        .into_iter()
        .chain(["version"])
        .filter(|name| body.remove(*name).is_some_and(|given| new.get(name) != Some(&given)))
        .map(|name| webhook_core::FieldError::new(name, "read-only; leave it out"))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::fields(errors)) }
}

pub(super) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["status", "event_type", "limit", "cursor"])?;
    let scope = caller.scope(&params)?;
    let filter = SubscriptionFilter {
        tenant: scope.tenant(),
        statuses: params.names(
            "status",
            &[SubscriptionStatus::Active, SubscriptionStatus::Paused, SubscriptionStatus::Disabled],
        )?,
        event_type: params.parsed("event_type")?,
    };
    let listing = Listing::new("subscriptions", &scope, &params);
    let page = app.webhooks.subscriptions().list(&filter, listing.request(&params)?).await?;
    Ok(answer(StatusCode::OK, &listing.body(&page.items, page.next, |row| SubscriptionJson::of(row))))
}

pub(super) async fn get(One { app, tenant, id }: One<SubscriptionId>) -> Result<Response, Problem> {
    let found = app.webhooks.subscriptions().get(&tenant, id).await?;
    Ok(show(&found))
}

/// 200 with the subscription and its version as `ETag`.
pub(super) fn show(subscription: &Subscription) -> Response {
    let mut response = answer(StatusCode::OK, &SubscriptionJson::of(subscription));
    response.headers_mut().insert(ETAG, etag(subscription.version));
    response
}

#[derive(Serialize)]
struct SecretBody<'a> {
    secret: &'a str,
}

pub(super) async fn secret(One { app, tenant, id }: One<SubscriptionId>) -> Result<Response, Problem> {
    let secret = app.webhooks.subscriptions().secret(&tenant, id).await?;
    Ok(show_secret(&secret))
}

/// 200 with a secret, which nobody is to keep.
pub(super) fn show_secret(secret: &Secret) -> Response {
    let mut response = answer(StatusCode::OK, &SecretBody { secret: secret.expose() });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
