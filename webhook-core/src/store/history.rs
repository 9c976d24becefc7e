use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::BackendError;
use crate::id::{AttemptId, DeliveryId, EventId, SubscriptionId};
use crate::model::{Attempt, Delivery, DeliveryStatus, EventType, Outcome, Tenant};
use crate::time::Timestamp;

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<Id> {
    /// Only older than this one: the last id of the page before.
    pub before: Option<Id>,
    /// At most so many.
    pub limit: u32,
}

/// A part of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, Id> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<Id>,
}

/// An event without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub tenant: Tenant,
    /// What happened.
    pub event_type: EventType,
    /// The payload's type.
    pub content_type: Arc<str>,
    /// How many bytes the payload has.
    pub payload_size: u64,
    /// The key of its order.
    pub ordering_key: Option<String>,
    /// Not sent before.
    pub deliver_at: Option<Timestamp>,
    /// The key of its publish.
    pub idempotency_key: Option<String>,
    /// The one subscription that it was ingested for.
    pub only: Option<SubscriptionId>,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// Which events to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this tenant; `None`: of all.
    pub tenant: Option<Tenant>,
    /// Of exactly this type.
    pub event_type: Option<EventType>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this tenant; `None`: of all.
    pub tenant: Option<Tenant>,
    /// With one of these statuses; empty: with any.
    pub statuses: Vec<DeliveryStatus>,
    /// Of this subscription.
    pub subscription_id: Option<SubscriptionId>,
    /// Of this event.
    pub event_id: Option<EventId>,
    /// Of exactly this event type.
    pub event_type: Option<EventType>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
}

/// Which attempts to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttemptFilter {
    /// Of this tenant; `None`: of all.
    pub tenant: Option<Tenant>,
    /// Of this subscription.
    pub subscription_id: Option<SubscriptionId>,
    /// Of this delivery.
    pub delivery_id: Option<DeliveryId>,
    /// Of this event.
    pub event_id: Option<EventId>,
    /// With one of these outcomes; empty: with any.
    pub outcomes: Vec<Outcome>,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
}

/// Lists and look-ups for people. The engine never needs it.
///
/// Every method takes the tenant it acts for; what belongs to another does not exist. Pages are keyed by id,
/// so rows that come meanwhile neither repeat nor hide others.
#[async_trait]
pub trait History: Debug + Send + Sync + 'static {
    /// A page of events.
    ///
    /// # Errors
    /// When the store does not answer; so for every method here.
    async fn events(
        &self,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Result<Page<EventRecord, EventId>, BackendError>;

    /// One event.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn event(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<EventRecord>, BackendError>;

    /// One event's payload.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn payload(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<Bytes>, BackendError>;

    /// A page of deliveries.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Result<Page<Delivery, DeliveryId>, BackendError>;

    /// One delivery.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn delivery(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, BackendError>;

    /// A page of attempts, without bodies and headers.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn attempts(
        &self,
        filter: &AttemptFilter,
        page: PageRequest<AttemptId>,
    ) -> Result<Page<Attempt, AttemptId>, BackendError>;

    /// All attempts of one delivery with bodies and headers, oldest first.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn attempts_of(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Vec<Attempt>, BackendError>;
}
