//! A delivery as it is read.

use serde::Serialize;
use webhook_core::id::{DeliveryId, EventId, SubscriptionId};
use webhook_core::model::{Delivery, DeliveryStatus, EventType, LastError, StatusReason, Tenant};
use webhook_core::time::Timestamp;

#[derive(Debug, Serialize)]
pub(crate) struct DeliveryJson<'a> {
    id: DeliveryId,
    event_id: EventId,
    subscription_id: SubscriptionId,
    tenant: &'a Tenant,
    event_type: &'a EventType,
    status: DeliveryStatus,
    status_reason: Option<StatusReason>,
    attempt_count: u32,
    next_attempt_at: Option<Timestamp>,
    last_status_code: Option<u16>,
    last_error: Option<&'a LastError>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl<'a> DeliveryJson<'a> {
    pub(crate) fn of(delivery: &'a Delivery) -> Self {
        let state = &delivery.state;
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            subscription_id: delivery.subscription_id,
            tenant: &delivery.tenant,
            event_type: &delivery.event_type,
            status: state.status,
            status_reason: state.reason,
            attempt_count: state.attempts,
            next_attempt_at: delivery.next_attempt_at,
            last_status_code: state.last_status_code,
            last_error: state.last_error.as_ref(),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
        }
    }
}
