//! Between rows and the model.
//!
//! [`columns`] reads single values, [`moment`] the server's times, [`settings`] the documents of
//! subscriptions, and the functions here put whole things together. A value that this version would not write
//! is an error that names its column; it is never guessed at.

mod columns;
mod moment;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgRow;
use uuid::Uuid;
use webhook_core::id::SubscriptionId;
use webhook_core::model::{
    Attempt, AttemptError, Delivery, DeliveryState, DeliveryStatus, ErrorKind, Event, Outcome, Request,
    StatusReason, Trigger,
};
use webhook_core::store::EventRecord;
use webhook_core::time::Timestamp;

pub(crate) use columns::{
    blob, delivery_id, event_id, flag, get, moment, optional, optional_moment, replay_id, small,
    subscription_id, tenant, text, token, unsigned,
};
pub(crate) use moment::Moment;
pub(crate) use settings::{Document, subscription, takes};

use self::columns::{attempt_id, event_type, name, required, span};
use crate::error::Fault;

/// The longest wait that is added to a moment: about a hundred years, which no moment of the server's overflows.
const LONGEST: i64 = 100 * 366 * 86_400 * 1_000_000;

/// A duration as it is stored: in microseconds.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(LONGEST).min(LONGEST)
}

/// A count as it is stored.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A smaller count as it is stored.
pub(crate) fn signed_small(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

/// The time from `now` to `at`; zero when it has come.
pub(crate) fn wait_until(at: Timestamp, now: Timestamp) -> Duration {
    at.since(now)
}

/// A delivery's state, from columns named as in `deliveries`.
pub(crate) fn state(row: &PgRow) -> Result<DeliveryState, Fault> {
    Ok(DeliveryState {
        revision: unsigned(row, "revision")?,
        status: required(row, "status", DeliveryStatus::from_name)?,
        reason: name(row, "reason", StatusReason::from_name)?,
        attempts: small(row, "attempts")?,
        failed: small(row, "failed")?,
        unknowns: small(row, "unknowns")?,
        chain: small(row, "chain")?,
        request: name(row, "request", Request::from_name)?,
        last_status_code: code(row, "last_status_code")?,
        last_error: failure(row)?,
    })
}

/// A delivery as people see it, with the reason why it waits: `deliveries` with what the history's list of
/// deliveries adds.
pub(crate) fn delivery(row: &PgRow) -> Result<Delivery, Fault> {
    let mut state = state(row)?;
    let now = moment(row, "now")?;
    let is_open = !state.status.is_finished();
    let waits = flag(row, "waiting")?;
    let next = optional_moment(row, "next_attempt_at")?.filter(|_| is_open && !waits);
    let next = if state.request.is_some() { next.map(|at| at.min(now)) } else { next };
    if state.reason.is_none() && is_open {
        state.reason = why_it_waits(row, &state, waits, now)?;
    }
    Ok(Delivery {
        id: delivery_id(row, "id")?,
        event_id: event_id(row, "event")?,
        subscription_id: subscription_id(row, "subscription")?,
        tenant: tenant(row, "tenant")?,
        event_type: event_type(row, "event_type")?,
        state,
        next_attempt_at: next,
        created_at: moment(row, "created_at")?,
        finished_at: optional_moment(row, "finished_at")?,
    })
}

fn why_it_waits(
    row: &PgRow,
    state: &DeliveryState,
    waits: bool,
    now: Timestamp,
) -> Result<Option<StatusReason>, Fault> {
    if flag(row, "leased")? {
        return Ok(None);
    }
    match optional::<&str>(row, "subscription_status")? {
        Some("paused") => return Ok(Some(StatusReason::Paused)),
        Some("disabled") => return Ok(Some(StatusReason::Disabled)),
        _ => {}
    }
    if waits {
        return Ok(Some(StatusReason::Ordered));
    }
    let is_ahead = |column| Ok::<_, Fault>(optional_moment(row, column)?.is_some_and(|at| at > now));
    if state.request.is_none() && is_ahead("next_attempt_at")? {
        let scheduled = state.attempts == 0 && is_ahead("deliver_at")?;
        return Ok(scheduled.then_some(StatusReason::Scheduled));
    }
    if state.request.is_none() && is_ahead("parked_until")? {
        return Ok(Some(StatusReason::Parked));
    }
    Ok(is_ahead("permit_at")?.then_some(StatusReason::RateLimited))
}

/// A whole event, from columns named as in `events` but `event` for its id.
pub(crate) fn event(row: &PgRow) -> Result<Event, Fault> {
    Ok(Event {
        id: event_id(row, "event")?,
        tenant: tenant(row, "tenant")?,
        event_type: event_type(row, "event_type")?,
        content_type: Arc::from(text(row, "content_type")?),
        payload: blob(row, "payload")?.to_vec().into(),
        ordering_key: optional(row, "ordering_key")?,
        deliver_at: optional_moment(row, "deliver_at")?,
        idempotency_key: optional(row, "idempotency_key")?,
        only: only(row)?,
        traceparent: optional::<String>(row, "traceparent")?.and_then(|given| given.parse().ok()),
    })
}

/// An event without its payload.
pub(crate) fn event_record(row: &PgRow) -> Result<EventRecord, Fault> {
    Ok(EventRecord {
        id: event_id(row, "event")?,
        tenant: tenant(row, "tenant")?,
        event_type: event_type(row, "event_type")?,
        content_type: Arc::from(text(row, "content_type")?),
        payload_size: small(row, "payload_size")?,
        ordering_key: optional(row, "ordering_key")?,
        deliver_at: optional_moment(row, "deliver_at")?,
        idempotency_key: optional(row, "idempotency_key")?,
        only: only(row)?,
        created_at: moment(row, "created_at")?,
    })
}

fn only(row: &PgRow) -> Result<Option<SubscriptionId>, Fault> {
    Ok(optional::<Uuid>(row, "only_subscription")?.map(SubscriptionId::from_uuid))
}

/// An attempt; without body and headers unless the row has them and `whole` asks for them.
pub(crate) fn attempt(row: &PgRow, whole: bool) -> Result<Attempt, Fault> {
    let (headers, body) = if whole {
        let headers = serde_json::from_str(text(row, "response_headers")?)
            .map_err(|error| Fault::corrupt("response_headers", error))?;
        (headers, blob(row, "response_body")?.to_vec().into())
    } else {
        (Vec::new(), bytes::Bytes::new())
    };
    Ok(Attempt {
        id: attempt_id(row, "id")?,
        tenant: tenant(row, "tenant")?,
        delivery_id: delivery_id(row, "delivery")?,
        event_id: event_id(row, "event")?,
        subscription_id: subscription_id(row, "subscription")?,
        number: small(row, "number")?,
        token: token(row, "token")?,
        trigger: required(row, "trigger", Trigger::from_name)?,
        started_at: moment(row, "started_at")?,
        duration: span(row, "duration")?,
        outcome: required(row, "outcome", Outcome::from_name)?,
        status_code: code(row, "status_code")?,
        error: failure(row)?,
        response_headers: headers,
        response_body: body,
        target_url: text(row, "target_url")?.to_owned(),
    })
}

/// The text of an attempt's headers.
pub(crate) fn headers(headers: &[(String, String)]) -> String {
    if headers.is_empty() {
        return "[]".to_owned();
    }
    serde_json::to_string(headers).unwrap_or_else(|_| "[]".to_owned())
}

fn failure(row: &PgRow) -> Result<Option<AttemptError>, Fault> {
    let Some(kind) = name(row, "error_kind", ErrorKind::from_name)? else { return Ok(None) };
    Ok(Some(AttemptError::new(kind, optional::<String>(row, "error_detail")?.unwrap_or_default())))
}

fn code(row: &PgRow, column: &'static str) -> Result<Option<u16>, Fault> {
    match optional::<i32>(row, column)? {
        None => Ok(None),
        Some(_) => small(row, column).map(Some),
    }
}
