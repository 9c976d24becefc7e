//! What a person asks of a subscription: a pause, its end, another secret, a try.
//!
//! These make a change on whatever is stored, so none of them is ever 412: one that never got through is 409.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use serde_json::json;
use webhook_core::SubscriptionError;
use webhook_core::id::SubscriptionId;
use webhook_core::model::{NewEvent, SubscriptionStatus};
use webhook_core::secret::Secret;

use super::subscriptions::{show, show_secret};
use crate::access::Scope;
use crate::extract::{NoOptions, One, Options};
use crate::json::{PublishedJson, json as answer};
use crate::problem::Problem;

/// How long both secrets sign unless told otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The type of an event that only tries a subscription out.
const TEST: &str = "webhook.test";

pub(super) async fn pause(one: One<SubscriptionId>, _: NoOptions) -> Result<Response, Problem> {
    let paused = one.app.webhooks.subscriptions().pause(&one.tenant, one.id).await.map_err(not_made)?;
    Ok(show(&paused))
}

pub(super) async fn resume(one: One<SubscriptionId>, _: NoOptions) -> Result<Response, Problem> {
    let resumed = one.app.webhooks.subscriptions().resume(&one.tenant, one.id).await.map_err(not_made)?;
    Ok(show(&resumed))
}

pub(super) async fn rotate_secret(
    One { app, tenant, id }: One<SubscriptionId>,
    Options(mut fields): Options,
) -> Result<Response, Problem> {
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
    One { app, tenant, id }: One<SubscriptionId>,
    _: NoOptions,
) -> Result<Response, Problem> {
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
