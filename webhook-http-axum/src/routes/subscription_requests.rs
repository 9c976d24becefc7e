//! What a person asks of a subscription: a pause, its end, another secret, a try.
//!
//! These make a change on whatever is stored, so none of them is ever 412: one that never got through is 409.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use webhook_core::SubscriptionError;
use webhook_core::id::SubscriptionId;
use webhook_core::model::{NewEvent, SubscriptionStatus};
use webhook_core::secret::Secret;

use super::subscriptions::{show, show_secret};
use crate::access::{Caller, Scope};
use crate::body;
use crate::json::{PublishedJson, json as answer};
use crate::params::{Id, Params};
use crate::problem::Problem;
use crate::state::Shared;

/// How long both secrets sign unless told otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The type of an event that only tries a subscription out.
const TEST: &str = "webhook.test";

pub(super) async fn pause(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let tenant = caller.tenant(&params)?;
    body::expect_none(&headers, body).await?;
    let paused = app.webhooks.subscriptions().pause(&tenant, id).await.map_err(not_made)?;
    Ok(show(&paused))
}

pub(super) async fn resume(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let tenant = caller.tenant(&params)?;
    body::expect_none(&headers, body).await?;
    let resumed = app.webhooks.subscriptions().resume(&tenant, id).await.map_err(not_made)?;
    Ok(show(&resumed))
}

pub(super) async fn rotate_secret(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let tenant = caller.tenant(&params)?;
    let mut fields = body::optional_fields(&headers, body).await?;
    let secret = fields.text("secret").map(Secret::from_stored);
    let overlap = fields.duration("overlap").unwrap_or(OVERLAP);
    fields.finish()?;
    let subscriptions = app.webhooks.subscriptions();
    let secret = subscriptions.rotate_secret(&tenant, id, secret, overlap).await.map_err(not_made)?;
    Ok(show_secret(&secret))
}

fn not_made(error: SubscriptionError) -> Problem {
    match error {
        SubscriptionError::VersionMismatch { .. } => Problem::kept_changing(),
        error => error.into(),
    }
}

pub(super) async fn test(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let tenant = caller.tenant(&params)?;
    body::expect_none(&headers, body).await?;
    let subscription = app.subscription(&Scope::One(tenant.clone()), id).await?;
    if subscription.status != SubscriptionStatus::Active {
        return Err(Problem::subscription_not_active(subscription.status));
    }
    // The shape that Standard Webhooks recommends for payloads.
    let payload =
        json!({"type": TEST, "timestamp": app.options.clock.now(), "data": {"subscription_id": id}});
    let event = NewEvent::json(TEST, payload.to_string()).tenant(tenant).only(id).regardless();
    let published = app.webhooks.publish(event).await?;
    Ok(answer(StatusCode::ACCEPTED, &PublishedJson::of(&published)))
}
