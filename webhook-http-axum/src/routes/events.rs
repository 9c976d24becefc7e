//! Reading events: who got one and why, and the bytes themselves.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use webhook_core::SubscriptionError;
use webhook_core::engine::LISTED_DELIVERIES;
use webhook_core::id::EventId;
use webhook_core::matching::{LazyJson, explain};
use webhook_core::model::Tenant;
use webhook_core::store::{DeliveryFilter, EventFilter, EventRecord, PageRequest, SubscriptionFilter};

use crate::access::Caller;
use crate::cursor::Listing;
use crate::extract::One;
use crate::json::{DeliveryJson, EventJson, MatchJson, json};
use crate::params::Params;
use crate::problem::Problem;
use crate::reasons;
use crate::state::{App, Shared};

/// So many subscriptions are explained, the newest first.
const MATCHES: u32 = 100;

pub(super) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["event_type", "since", "until", "limit", "cursor"])?;
    let scope = caller.scope(&params)?;
    let filter = EventFilter {
        tenant: scope.tenant(),
        event_type: params.parsed("event_type")?,
        since: params.time("since")?,
        until: params.time("until")?,
    };
    let listing = Listing::new("events", &scope, &params);
    let page = app.history.events(&filter, listing.request(&params)?).await?;
    Ok(json(StatusCode::OK, &listing.body(&page.items, page.next, EventJson::of)))
}

#[derive(Serialize)]
struct WholeEvent<'a> {
    #[serde(flatten)]
    event: EventJson<'a>,
    deliveries: Vec<DeliveryJson<'a>>,
    matches: Vec<MatchJson>,
}

pub(super) async fn get(One { app, tenant, id }: One<EventId>) -> Result<Response, Problem> {
    let event = app.history.event(Some(&tenant), id).await?.ok_or_else(missing)?;
    let filter =
        DeliveryFilter { tenant: Some(tenant.clone()), event_id: Some(id), ..DeliveryFilter::default() };
    let first = PageRequest { before: None, limit: u32::try_from(LISTED_DELIVERIES).unwrap_or(u32::MAX) };
    let mut deliveries = app.history.deliveries(&filter, first).await?.items;
    reasons::fill(&app, &mut deliveries).await?;
    let matches = matches(&app, &tenant, &event).await?;
    Ok(json(
        StatusCode::OK,
        &WholeEvent {
            event: EventJson::of(&event),
            deliveries: deliveries.iter().map(DeliveryJson::of).collect(),
            matches,
        },
    ))
}

/// What matching says of the event and the subscriptions as they are now.
async fn matches(app: &App, tenant: &Tenant, event: &EventRecord) -> Result<Vec<MatchJson>, Problem> {
    let subscriptions = app.webhooks.subscriptions();
    let considered = match event.only {
        Some(only) => match subscriptions.get(tenant, only).await {
            Ok(found) => vec![found],
            Err(SubscriptionError::NotFound) => Vec::new(),
            Err(error) => return Err(error.into()),
        },
        None => {
            let filter = SubscriptionFilter { tenant: Some(tenant.clone()), ..SubscriptionFilter::default() };
            subscriptions.list(&filter, PageRequest { before: None, limit: MATCHES }).await?.items
        }
    };
    // Purged between the two reads: the event is gone, and so is the answer.
    let payload = app.history.payload(Some(tenant), event.id).await?.ok_or_else(missing)?;
    let payload = LazyJson::new(&payload);
    let verdict = |subscription: &std::sync::Arc<webhook_core::model::Subscription>| {
        let reason = explain(
            event.event_type.as_str(),
            &payload,
            &subscription.event_types,
            subscription.filter.as_deref(),
        );
        MatchJson::of(subscription.id, &reason)
    };
    Ok(considered.iter().map(verdict).collect())
}

pub(super) async fn payload(One { app, tenant, id }: One<EventId>) -> Result<Response, Problem> {
    let event = app.history.event(Some(&tenant), id).await?.ok_or_else(missing)?;
    let payload = app.history.payload(Some(&tenant), id).await?.ok_or_else(missing)?;
    let extension = if webhook_core::engine::is_json(&event.content_type) { "json" } else { "bin" };

    let mut response = (StatusCode::OK, payload).into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::try_from(&*event.content_type);
    headers.insert(
        CONTENT_TYPE,
        content_type.unwrap_or(const { HeaderValue::from_static("application/octet-stream") }),
    );
    if let Ok(name) = HeaderValue::try_from(format!("attachment; filename=\"{id}.{extension}\"")) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    // Foreign bytes under our own origin: not to be guessed at, not to be run.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    Ok(response)
}

fn missing() -> Problem {
    Problem::not_found("event")
}
