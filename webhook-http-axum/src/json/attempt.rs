//! An attempt as it is read: alone with what the target answered, in lists without.

use std::borrow::Cow;

use serde::Serialize;
use webhook_core::id::{AttemptId, DeliveryId, EventId, SubscriptionId};
use webhook_core::model::{Attempt, AttemptError, Outcome, Trigger};
use webhook_core::time::Timestamp;

#[derive(Debug, Serialize)]
pub(crate) struct AttemptJson<'a> {
    id: AttemptId,
    delivery_id: DeliveryId,
    event_id: EventId,
    subscription_id: SubscriptionId,
    number: u32,
    trigger: Trigger,
    started_at: Timestamp,
    duration_ms: u64,
    outcome: Outcome,
    status_code: Option<u16>,
    error: Option<&'a AttemptError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_headers: Option<&'a [(String, String)]>,
    target_url: &'a str,
}

impl<'a> AttemptJson<'a> {
    /// As a row of a list.
    pub(crate) fn row(attempt: &'a Attempt) -> Self {
        Self {
            id: attempt.id,
            delivery_id: attempt.delivery_id,
            event_id: attempt.event_id,
            subscription_id: attempt.subscription_id,
            number: attempt.number,
            trigger: attempt.trigger,
            started_at: attempt.started_at,
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            outcome: attempt.outcome,
            status_code: attempt.status_code,
            error: attempt.error.as_ref(),
            response_body: None,
            response_headers: None,
            target_url: &attempt.target_url,
        }
    }

    /// With the answer; what is not UTF-8 in its body is shown as U+FFFD.
    pub(crate) fn whole(attempt: &'a Attempt) -> Self {
        Self {
            response_body: Some(String::from_utf8_lossy(&attempt.response_body)),
            response_headers: Some(&attempt.response_headers),
            ..Self::row(attempt)
        }
    }
}
