//! Reading attempts. Lists leave out what the targets answered; a delivery shows it.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use webhook_core::id::SubscriptionId;
use webhook_core::model::Outcome;
use webhook_core::store::AttemptFilter;

use crate::access::{Caller, Scope};
use crate::cursor::Listing;
use crate::json::{AttemptJson, json};
use crate::params::{Id, Params};
use crate::problem::Problem;
use crate::state::{App, Shared};

const OUTCOMES: [Outcome; 3] = [Outcome::Succeeded, Outcome::Failed, Outcome::Unknown];

pub(super) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&[
        "subscription_id",
        "delivery_id",
        "event_id",
        "outcome",
        "since",
        "until",
        "limit",
        "cursor",
    ])?;
    let scope = caller.scope(&params)?;
    let subscription_id = params.parsed("subscription_id")?;
    page(&app, &params, &scope, "attempts", subscription_id).await
}

pub(super) async fn of_subscription(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
) -> Result<Response, Problem> {
    params.only(&["delivery_id", "event_id", "outcome", "since", "until", "limit", "cursor"])?;
    let scope = caller.scope(&params)?;
    app.subscription(&scope, id).await?;
    page(&app, &params, &scope, &format!("subscriptions/{id}/attempts"), Some(id)).await
}

async fn page(
    app: &App,
    params: &Params,
    scope: &Scope,
    route: &str,
    subscription_id: Option<SubscriptionId>,
) -> Result<Response, Problem> {
    let filter = AttemptFilter {
        tenant: scope.tenant(),
        subscription_id,
        delivery_id: params.parsed("delivery_id")?,
        event_id: params.parsed("event_id")?,
        outcomes: params.names("outcome", &OUTCOMES)?,
        since: params.time("since")?,
        until: params.time("until")?,
    };
    let listing = Listing::new(route, scope, params);
    let page = app.history.attempts(&filter, listing.request(params)?).await?;
    Ok(json(StatusCode::OK, &listing.body(&page.items, page.next, AttemptJson::row)))
}
