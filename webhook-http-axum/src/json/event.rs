//! Events, what publishing them answered, and why they reached whom they reached.

use serde::Serialize;
use webhook_core::Published;
use webhook_core::id::{DeliveryId, EventId, SubscriptionId};
use webhook_core::matching::MatchReason;
use webhook_core::model::{EventType, Tenant};
use webhook_core::store::EventRecord;
use webhook_core::time::Timestamp;

/// An event without its payload.
#[derive(Debug, Serialize)]
pub(crate) struct EventJson<'a> {
    id: EventId,
    tenant: &'a Tenant,
    event_type: &'a EventType,
    content_type: &'a str,
    payload_size: u64,
    ordering_key: Option<&'a str>,
    deliver_at: Option<Timestamp>,
    idempotency_key: Option<&'a str>,
    created_at: Timestamp,
}

impl<'a> EventJson<'a> {
    pub(crate) fn of(event: &'a EventRecord) -> Self {
        Self {
            id: event.id,
            tenant: &event.tenant,
            event_type: &event.event_type,
            content_type: &event.content_type,
            payload_size: event.payload_size,
            ordering_key: event.ordering_key.as_deref(),
            deliver_at: event.deliver_at,
            idempotency_key: event.idempotency_key.as_deref(),
            created_at: event.created_at,
        }
    }
}

/// A delivery by its id.
#[derive(Debug, Serialize)]
pub(crate) struct DeliveryRef {
    id: DeliveryId,
    subscription_id: SubscriptionId,
}

impl DeliveryRef {
    pub(crate) fn of(&(id, subscription_id): &(DeliveryId, SubscriptionId)) -> Self {
        Self { id, subscription_id }
    }
}

/// The answer to a publish.
#[derive(Debug, Serialize)]
pub(crate) struct PublishedJson {
    id: EventId,
    deliveries: Vec<DeliveryRef>,
    delivery_count: u64,
    duplicate: bool,
}

impl PublishedJson {
    pub(crate) fn of(published: &Published) -> Self {
        Self {
            id: published.id,
            deliveries: published.deliveries.iter().map(DeliveryRef::of).collect(),
            delivery_count: published.delivery_count,
            duplicate: published.duplicate,
        }
    }
}

/// Whether a subscription takes an event, as the two are now.
#[derive(Debug, Serialize)]
pub(crate) struct MatchJson {
    subscription_id: SubscriptionId,
    matched: bool,
    reason: String,
}

impl MatchJson {
    pub(crate) fn of(subscription_id: SubscriptionId, reason: &MatchReason) -> Self {
        Self { subscription_id, matched: reason.is_match(), reason: reason.to_string() }
    }
}
