//! What a person asks of one delivery or of one event's: an attempt now, its end, all of it anew.

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use webhook_core::id::{DeliveryId, EventId};
use webhook_core::model::Tenant;

use super::replays::FINISHED;
use crate::access::Caller;
use crate::extract::{NoOptions, One, Options};
use crate::json::{DeliveryJson, DeliveryRef, json};
use crate::params::{Id, Params};
use crate::problem::Problem;
use crate::reasons;
use crate::state::{App, Shared};

pub(super) async fn retry(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<DeliveryId>,
    request: Request,
) -> Result<Response, Problem> {
    params.only(&["force"])?;
    let tenant = caller.tenant(&params)?;
    let force = params.parsed("force")?.unwrap_or(false);
    NoOptions::from_request(request, &app).await?;
    let finished = "the delivery has succeeded; `?force=true` makes one more attempt of it";
    let asked = app.webhooks.retry(&tenant, id, force).await;
    asked.map_err(|error| Problem::refused(error, "delivery", finished))?;
    show(&app, &tenant, id, StatusCode::ACCEPTED).await
}

pub(super) async fn cancel(
    One { app, tenant, id }: One<DeliveryId>,
    _: NoOptions,
) -> Result<Response, Problem> {
    let finished = "the delivery has ended already; there is nothing left to cancel";
    let asked = app.webhooks.cancel(&tenant, id).await;
    asked.map_err(|error| Problem::refused(error, "delivery", finished))?;
    show(&app, &tenant, id, StatusCode::OK).await
}

/// The delivery as it is after the request, which may be more than the request made of it.
async fn show(app: &App, tenant: &Tenant, id: DeliveryId, status: StatusCode) -> Result<Response, Problem> {
    let found = app.history.delivery(Some(tenant), id).await?;
    let mut delivery = found.ok_or_else(|| Problem::not_found("delivery"))?;
    reasons::fill(app, std::slice::from_mut(&mut delivery)).await?;
    Ok(json(status, &DeliveryJson::of(&delivery)))
}

#[derive(Serialize)]
struct CancelledJson {
    cancelled: u64,
}

/// An event without deliveries finished when it was published, so there is nothing to cancel in it either.
pub(super) async fn cancel_event(
    One { app, tenant, id }: One<EventId>,
    _: NoOptions,
) -> Result<Response, Problem> {
    let finished = "no delivery of the event is unfinished; there is nothing left to cancel";
    let asked = app.webhooks.cancel_event(&tenant, id).await;
    let cancelled = asked.map_err(|error| Problem::refused(error, "event", finished))?;
    Ok(json(StatusCode::OK, &CancelledJson { cancelled }))
}

#[derive(Serialize)]
struct ReplayedJson {
    deliveries: Vec<DeliveryRef>,
}

pub(super) async fn replay_event(
    One { app, tenant, id }: One<EventId>,
    Options(mut fields): Options,
) -> Result<Response, Problem> {
    let statuses = fields.names("status", &FINISHED).unwrap_or_default();
    fields.finish()?;
    let asked = app.webhooks.replay_event(&tenant, id, &statuses).await;
    let finished = "the event's deliveries changed while they were replayed; repeat the request";
    let reopened = asked.map_err(|error| Problem::refused(error, "event", finished))?;
    let deliveries = reopened.iter().map(DeliveryRef::of).collect();
    Ok(json(StatusCode::ACCEPTED, &ReplayedJson { deliveries }))
}
