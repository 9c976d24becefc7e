//! `POST /ingest/{id}`: any body becomes an event for one subscription.
//!
//! A subscription with `verify` believes whoever signs, whatever key the request carries; one without
//! believes the caller. Nothing of the body is looked at before the signature over its raw bytes is good. To a
//! stranger, a subscription that does not exist is one that wants a key.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use webhook_core::PublishError;
use webhook_core::id::SubscriptionId;
use webhook_core::model::{EventType, NewEvent, Subscription, Tenant};
use webhook_core::secret::Secret;
use webhook_core::signature::{Verified, verify};

use super::{header, idempotency_key, traced, traceparent};
use crate::access::{Caller, Scope};
use crate::body;
use crate::json::{PublishedJson, json};
use crate::params::{Id, Params};
use crate::problem::{Problem, ProblemCode};
use crate::state::{App, Shared};

/// The event type of whoever names none.
const DEFAULT_TYPE: &str = "webhook.received";
const X_EVENT_TYPE: HeaderName = HeaderName::from_static("x-event-type");

pub(super) async fn ingest(
    State(app): State<Shared>,
    caller: Result<Caller, Problem>,
    params: Params,
    id: Result<Id<SubscriptionId>, Problem>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let subscription = match id {
        Ok(Id(id)) => app.subscription(&Scope::All, id).await,
        Err(malformed) => Err(malformed),
    };
    let signs = subscription.as_ref().is_ok_and(|found| found.verify.is_some());
    let named = if signs { params.tenant()? } else { named(&caller?, &params)? };
    params.only(&["event_type"])?;
    let subscription = subscription?;
    if named.is_some_and(|named| named != subscription.tenant) {
        return Err(Problem::not_found("subscription"));
    }
    let payload = body::read(&headers, body, app.options.max_payload).await?;
    let signed_id = authenticate(&app, &subscription, &headers, &payload)?.message_id;

    let content_type = header(&headers, &CONTENT_TYPE)?.unwrap_or(NewEvent::JSON);
    let mut event = NewEvent::bytes(event_type(&params, &headers)?.to_string(), content_type, payload)
        .tenant(subscription.tenant.clone())
        .only(subscription.id);
    if let Some(key) = idempotency_key(&headers)?.or(signed_id) {
        event = event.idempotency_key(key);
    }
    match app.webhooks.publish(traced(event, traceparent(&headers))).await {
        Ok(published) => Ok(json(StatusCode::ACCEPTED, &PublishedJson::of(&published))),
        // The payload is the whole body here, so one that is not JSON is a malformed body.
        Err(PublishError::Invalid { field: "payload", detail }) => {
            Err(body::malformed(format!("the body is {detail}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The tenant that the subscription has to be of, if the caller or the query says one.
fn named(caller: &Caller, params: &Params) -> Result<Option<Tenant>, Problem> {
    if caller.is_admin() { params.tenant() } else { caller.tenant(params).map(Some) }
}

fn authenticate(
    app: &App,
    subscription: &Subscription,
    headers: &HeaderMap,
    payload: &Bytes,
) -> Result<Authenticated, Problem> {
    let Some(verification) = &subscription.verify else { return Ok(Authenticated { message_id: None }) };
    let now = app.options.clock.now();
    let secrets: Vec<Secret> = match &verification.secret {
        Some(own) => vec![own.clone()],
        None => subscription.signing_secrets(now).cloned().collect(),
    };
    let lookup = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let header = verification.header.as_deref();
    match verify(verification.scheme, &secrets, header, lookup, now.as_seconds(), payload) {
        Ok(Verified { message_id, .. }) => Ok(Authenticated { message_id }),
        Err(error) => Err(Problem::new(ProblemCode::Unauthorized, error.to_string())
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Signature"))),
    }
}

/// A caller that may send.
struct Authenticated {
    /// The id that it signed.
    message_id: Option<String>,
}

fn event_type(params: &Params, headers: &HeaderMap) -> Result<EventType, Problem> {
    let query: Option<EventType> = params.parsed("event_type")?;
    let named: Option<EventType> = header(headers, &X_EVENT_TYPE)?
        .map(|text| text.parse().map_err(|error| Problem::field("x-event-type", error)))
        .transpose()?;
    match (query, named) {
        (Some(query), Some(named)) if query != named => {
            Err(Problem::parameter("event_type", "the header X-Event-Type names another one"))
        }
        (Some(event_type), _) | (None, Some(event_type)) => Ok(event_type),
        (None, None) => DEFAULT_TYPE.parse().map_err(|_| Problem::internal()),
    }
}
