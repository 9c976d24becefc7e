//! Reading deliveries.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::model::DeliveryStatus;
use webhook_core::store::DeliveryFilter;

use crate::access::{Caller, Scope};
use crate::cursor::Listing;
use crate::json::{AttemptJson, DeliveryJson, json};
use crate::params::{Id, Params};
use crate::problem::Problem;
use crate::reasons;
use crate::state::{App, Shared};

const STATUSES: [DeliveryStatus; 5] = [
    DeliveryStatus::Pending,
    DeliveryStatus::Retrying,
    DeliveryStatus::Succeeded,
    DeliveryStatus::Exhausted,
    DeliveryStatus::Cancelled,
];

pub(super) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&[
        "status",
        "subscription_id",
        "event_id",
        "event_type",
        "since",
        "until",
        "limit",
        "cursor",
    ])?;
    let scope = caller.scope(&params)?;
    let subscription_id = params.parsed("subscription_id")?;
    page(&app, &params, &scope, "deliveries", subscription_id).await
}

pub(super) async fn of_subscription(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
) -> Result<Response, Problem> {
    params.only(&["status", "event_id", "event_type", "since", "until", "limit", "cursor"])?;
    let scope = caller.scope(&params)?;
    app.subscription(&scope, id).await?;
    page(&app, &params, &scope, &format!("subscriptions/{id}/deliveries"), Some(id)).await
}

async fn page(
    app: &App,
    params: &Params,
    scope: &Scope,
    route: &str,
    subscription_id: Option<SubscriptionId>,
) -> Result<Response, Problem> {
    let filter = DeliveryFilter {
        tenant: scope.tenant(),
        statuses: params.names("status", &STATUSES)?,
        subscription_id,
        event_id: params.parsed("event_id")?,
        event_type: params.parsed("event_type")?,
        since: params.time("since")?,
        until: params.time("until")?,
    };
    let listing = Listing::new(route, scope, params);
    let mut page = app.history.deliveries(&filter, listing.request(params)?).await?;
    reasons::fill(app, &mut page.items).await?;
    Ok(json(StatusCode::OK, &listing.body(&page.items, page.next, DeliveryJson::of)))
}

#[derive(Serialize)]
struct WholeDelivery<'a> {
    #[serde(flatten)]
    delivery: DeliveryJson<'a>,
    attempts: Vec<AttemptJson<'a>>,
}

pub(super) async fn get(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let tenant = caller.tenant(&params)?;
    let missing = || Problem::not_found("delivery");
    // In this order a row may be newer than the count, and none that was counted is missing.
    let mut delivery = app.history.delivery(Some(&tenant), id).await?.ok_or_else(missing)?;
    let attempts = app.history.attempts_of(Some(&tenant), id).await?;
    reasons::fill(&app, std::slice::from_mut(&mut delivery)).await?;
    Ok(json(
        StatusCode::OK,
        &WholeDelivery {
            delivery: DeliveryJson::of(&delivery),
            attempts: attempts.iter().map(AttemptJson::whole).collect(),
        },
    ))
}
