//! Between rows and the model.
//!
//! [`columns`] reads single values, [`settings`] the documents of subscriptions, and the functions here put
//! whole things together. A value that this version would not write is an error that names its column; it is
//! never guessed at.

mod columns;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use webhook_core::lane::Health;
use webhook_core::model::{
    Attempt, AttemptError, Delivery, DeliveryState, DeliveryStatus, ErrorKind, Event, Outcome, RateLimit,
    Request, StatusReason, Trigger,
};
use webhook_core::queue::Hold;
use webhook_core::store::EventRecord;
use webhook_core::time::Timestamp;

pub(crate) use columns::{
    attempt_id, blob, delivery_id, event_id, int, lane_id, moment, optional, optional_moment,
    optional_subscription, subscription_id, tenant, text, tokens, unsigned,
};
pub(crate) use settings::{Document, subscription, takes};

use self::columns::{event_type, name, small, span};
use crate::error::Fault;
use crate::lanes::Durable;

/// A duration as it is stored: in microseconds, the longest that fits when it is longer.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// A count as it is stored.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The time from `now` to `at`; zero when it has come.
pub(crate) fn wait_until(at: i64, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
}

pub(crate) const fn hold_name(hold: Hold) -> &'static str {
    match hold {
        Hold::Paused => "paused",
        Hold::Disabled => "disabled",
        Hold::Deleted => "deleted",
    }
}

/// What of a lane outlives a restart.
pub(crate) fn durable(row: &SqliteRow) -> Result<Durable, Fault> {
    let hold = name(row, "hold", |text| {
        [Hold::Paused, Hold::Disabled, Hold::Deleted].into_iter().find(|hold| hold_name(*hold) == text)
    })?;
    let rate = match (optional::<i64>(row, "rate_requests")?, optional::<i64>(row, "rate_per")?) {
        (Some(_), Some(_)) => {
            Some(RateLimit { requests: small(row, "rate_requests")?, per: span(row, "rate_per")? })
        }
        _ => None,
    };
    Ok(Durable {
        version: optional::<i64>(row, "version")?.map(i64::unsigned_abs),
        hold,
        max_in_flight: match optional::<i64>(row, "max_in_flight")? {
            Some(_) => Some(small(row, "max_in_flight")?),
            None => None,
        },
        rate,
        health: Health {
            strikes: small(row, "strikes")?,
            slow: int(row, "slow")? != 0,
            mark: unsigned(row, "mark")?,
        },
        parked_until: int(row, "parked_until")?,
        permit_at: int(row, "permit_at")?,
    })
}

/// A delivery's state, from columns named as in `webhooks_deliveries`.
pub(crate) fn state(row: &SqliteRow) -> Result<DeliveryState, Fault> {
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

/// A delivery as people see it, with the reason why it waits: `webhooks_deliveries` with what the history's
/// list of deliveries adds.
pub(crate) fn delivery(row: &SqliteRow, now: i64) -> Result<Delivery, Fault> {
    let mut state = state(row)?;
    let is_due = !state.status.is_finished() && int(row, "waiting")? == 0;
    let next = optional::<i64>(row, "next_attempt_at")?.filter(|_| is_due);
    let next = if state.request.is_some() { next.map(|at| at.min(now)) } else { next };
    if state.reason.is_none() && !state.status.is_finished() {
        state.reason = why_it_waits(row, &state, now)?;
    }
    Ok(Delivery {
        id: delivery_id(row, "id")?,
        event_id: event_id(row, "event_id")?,
        subscription_id: subscription_id(row, "subscription")?,
        tenant: tenant(row, "tenant")?,
        event_type: event_type(row, "event_type")?,
        state,
        next_attempt_at: next.map(Timestamp::from_micros),
        created_at: moment(row, "created_at")?,
        finished_at: optional_moment(row, "finished_at")?,
    })
}

fn why_it_waits(row: &SqliteRow, state: &DeliveryState, now: i64) -> Result<Option<StatusReason>, Fault> {
    if int(row, "leased")? != 0 {
        return Ok(None);
    }
    match optional::<&str>(row, "subscription_status")? {
        Some("paused") => return Ok(Some(StatusReason::Paused)),
        Some("disabled") => return Ok(Some(StatusReason::Disabled)),
        _ => {}
    }
    if int(row, "waiting")? != 0 {
        return Ok(Some(StatusReason::Ordered));
    }
    let Some(due) = optional::<i64>(row, "next_attempt_at")? else { return Ok(None) };
    if due > now {
        let scheduled = state.attempts == 0 && optional::<i64>(row, "deliver_at")?.is_some_and(|at| at > now);
        return Ok(scheduled.then_some(StatusReason::Scheduled));
    }
    let is_ahead = |column| Ok::<_, Fault>(optional::<i64>(row, column)?.is_some_and(|at| at > now));
    if state.request.is_none() && is_ahead("parked_until")? {
        return Ok(Some(StatusReason::Parked));
    }
    let limited = optional::<i64>(row, "rate_requests")?.is_some() && is_ahead("permit_at")?;
    Ok(limited.then_some(StatusReason::RateLimited))
}

/// A whole event, from columns named as in `webhooks_events` but `event_id` for its id.
pub(crate) fn event(row: &SqliteRow) -> Result<Event, Fault> {
    Ok(Event {
        id: event_id(row, "event_id")?,
        tenant: tenant(row, "tenant")?,
        event_type: event_type(row, "event_type")?,
        content_type: Arc::from(text(row, "content_type")?),
        payload: blob(row, "payload")?.to_vec().into(),
        ordering_key: optional(row, "ordering_key")?,
        deliver_at: optional_moment(row, "deliver_at")?,
        idempotency_key: optional(row, "idempotency_key")?,
        only: optional_subscription(row, "only_subscription")?,
        traceparent: optional::<String>(row, "traceparent")?.and_then(|given| given.parse().ok()),
    })
}

/// An event without its payload.
pub(crate) fn event_record(row: &SqliteRow) -> Result<EventRecord, Fault> {
    Ok(EventRecord {
        id: event_id(row, "event_id")?,
        tenant: tenant(row, "tenant")?,
        event_type: event_type(row, "event_type")?,
        content_type: Arc::from(text(row, "content_type")?),
        payload_size: unsigned(row, "payload_size")?,
        ordering_key: optional(row, "ordering_key")?,
        deliver_at: optional_moment(row, "deliver_at")?,
        idempotency_key: optional(row, "idempotency_key")?,
        only: optional_subscription(row, "only_subscription")?,
        created_at: moment(row, "created_at")?,
    })
}

/// An attempt; without body and headers unless the row has them and `whole` asks for them.
pub(crate) fn attempt(row: &SqliteRow, whole: bool) -> Result<Attempt, Fault> {
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
        event_id: event_id(row, "event_id")?,
        subscription_id: subscription_id(row, "subscription")?,
        number: small(row, "number")?,
        token: columns::token(row, "token")?,
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

fn failure(row: &SqliteRow) -> Result<Option<AttemptError>, Fault> {
    let Some(kind) = name(row, "error_kind", ErrorKind::from_name)? else { return Ok(None) };
    Ok(Some(AttemptError::new(kind, optional::<String>(row, "error_detail")?.unwrap_or_default())))
}

fn code(row: &SqliteRow, column: &'static str) -> Result<Option<u16>, Fault> {
    match optional::<i64>(row, column)? {
        None => Ok(None),
        Some(_) => small(row, column).map(Some),
    }
}

fn required<T>(
    row: &SqliteRow,
    column: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Fault> {
    name(row, column, read)?.ok_or_else(|| Fault::corrupt(column, "it is missing"))
}
