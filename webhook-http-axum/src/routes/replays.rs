//! Reopening many deliveries at once, and how far that is.
//!
//! The request only says which; the workers do it at a bounded rate, across restarts, once for each delivery.
//! `GET /replays/{id}` tells how far they are.

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::StatusCode;
use webhook_core::id::{ReplayId, SubscriptionId};
use webhook_core::model::{DeliveryStatus, Tenant};
use webhook_core::store::DeliveryFilter;

use crate::access::{Caller, Scope};
use crate::extract::{One, Options};
use crate::fields::Fields;
use crate::json::{ReplayJson, ReplayProgressJson, json};
use crate::params::Params;
use crate::problem::Problem;
use crate::state::{App, Shared};

/// What can be reopened.
pub(super) const FINISHED: [DeliveryStatus; 3] =
    [DeliveryStatus::Succeeded, DeliveryStatus::Exhausted, DeliveryStatus::Cancelled];

/// `POST /deliveries/retry`: the dead letters, unless `status` names others.
pub(super) async fn retry(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let tenant = caller.tenant(&params)?;
    let Options(mut fields) = Options::from_request(request, &app).await?;
    let subscription_id = fields.parsed("subscription_id");
    let filter = DeliveryFilter {
        event_type: fields.parsed("event_type"),
        subscription_id,
        ..read(&mut fields, &[DeliveryStatus::Exhausted])
    };
    let dry_run = finish(fields)?;
    if let Some(id) = subscription_id {
        app.subscription(&Scope::One(tenant.clone()), id).await?;
    }
    start(&app, &tenant, filter, dry_run).await
}

/// `POST /subscriptions/{id}/replay`: what one subscription missed since a moment.
pub(super) async fn of_subscription(
    One { app, tenant, id }: One<SubscriptionId>,
    Options(mut fields): Options,
) -> Result<Response, Problem> {
    app.subscription(&Scope::One(tenant.clone()), id).await?;
    fields.demand("since");
    let missed = [DeliveryStatus::Exhausted, DeliveryStatus::Cancelled];
    let filter = DeliveryFilter { subscription_id: Some(id), ..read(&mut fields, &missed) };
    let dry_run = finish(fields)?;
    start(&app, &tenant, filter, dry_run).await
}

/// The fields that both have.
fn read(fields: &mut Fields, default: &[DeliveryStatus]) -> DeliveryFilter {
    DeliveryFilter {
        statuses: fields.names("status", &FINISHED).unwrap_or_else(|| default.to_vec()),
        since: fields.parsed("since"),
        until: fields.parsed("until"),
        ..DeliveryFilter::default()
    }
}

/// Whether it is a dry run, if all fields are right.
fn finish(mut fields: Fields) -> Result<bool, Problem> {
    let dry_run = fields.boolean("dry_run").unwrap_or_default();
    fields.finish().map(|()| dry_run)
}

async fn start(
    app: &App,
    tenant: &Tenant,
    filter: DeliveryFilter,
    dry_run: bool,
) -> Result<Response, Problem> {
    if dry_run {
        let counted = app.webhooks.replay_count(tenant, filter).await?;
        return Ok(json(StatusCode::OK, &ReplayJson::dry(counted)));
    }
    let replay = app.webhooks.replay(tenant, filter).await?;
    Ok(json(StatusCode::ACCEPTED, &ReplayJson::started(&replay)))
}

pub(super) async fn get(One { app, tenant, id }: One<ReplayId>) -> Result<Response, Problem> {
    let found = app.webhooks.replay_progress(&tenant, id).await?;
    let replay = found.ok_or_else(|| Problem::not_found("replay"))?;
    Ok(json(StatusCode::OK, &ReplayProgressJson::of(&replay)))
}
