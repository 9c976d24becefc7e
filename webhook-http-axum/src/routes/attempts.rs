//! Reading attempts. Lists leave out what the targets answered; a delivery shows it.

use axum::response::Response;
use http::StatusCode;
use webhook_core::id::SubscriptionId;
use webhook_core::model::Outcome;
use webhook_core::store::AttemptFilter;

use super::listed::{List, Listed};
use crate::json::{AttemptJson, json};
use crate::params::Id;
use crate::problem::Problem;

const OUTCOMES: [Outcome; 3] = [Outcome::Succeeded, Outcome::Failed, Outcome::Unknown];

const FILTERS: &[&str] = &["delivery_id", "event_id", "outcome", "since", "until"];

pub(super) async fn list(listed: Listed) -> Result<Response, Problem> {
    page(listed.all("attempts", FILTERS)?).await
}

pub(super) async fn of_subscription(listed: Listed, Id(id): Id<SubscriptionId>) -> Result<Response, Problem> {
    page(listed.of_subscription(id, "attempts", FILTERS).await?).await
}

async fn page(list: List) -> Result<Response, Problem> {
    let List { app, params, scope, listing, subscription_id } = &list;
    let filter = AttemptFilter {
        tenant: scope.tenant(),
        subscription_id: *subscription_id,
        delivery_id: params.parsed("delivery_id")?,
        event_id: params.parsed("event_id")?,
        outcomes: params.names("outcome", &OUTCOMES)?,
        since: params.time("since")?,
        until: params.time("until")?,
    };
    let page = app.history.attempts(&filter, listing.request(params)?).await?;
    Ok(json(StatusCode::OK, &listing.body(&page.items, page.next, AttemptJson::row)))
}
