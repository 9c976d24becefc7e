//! Reading deliveries.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::model::DeliveryStatus;
use webhook_core::store::DeliveryFilter;

use super::listed::{List, Listed};
use crate::extract::One;
use crate::json::{AttemptJson, DeliveryJson, json};
use crate::params::Id;
use crate::problem::Problem;
use crate::reasons;

const STATUSES: [DeliveryStatus; 5] = [
    DeliveryStatus::Pending,
    DeliveryStatus::Retrying,
    DeliveryStatus::Succeeded,
    DeliveryStatus::Exhausted,
    DeliveryStatus::Cancelled,
];

const FILTERS: &[&str] = &["status", "event_id", "event_type", "since", "until"];

pub(super) async fn list(listed: Listed) -> Result<Response, Problem> {
    page(listed.all("deliveries", FILTERS)?).await
}

pub(super) async fn of_subscription(listed: Listed, Id(id): Id<SubscriptionId>) -> Result<Response, Problem> {
    page(listed.of_subscription(id, "deliveries", FILTERS).await?).await
}

async fn page(list: List) -> Result<Response, Problem> {
    let List { app, params, scope, listing, subscription_id } = &list;
    let filter = DeliveryFilter {
        tenant: scope.tenant(),
        statuses: params.names("status", &STATUSES)?,
        subscription_id: *subscription_id,
        event_id: params.parsed("event_id")?,
        event_type: params.parsed("event_type")?,
        since: params.time("since")?,
        until: params.time("until")?,
    };
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

pub(super) async fn get(One { app, tenant, id }: One<DeliveryId>) -> Result<Response, Problem> {
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
