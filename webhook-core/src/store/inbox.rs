use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Page, PageRequest};
use crate::error::BackendError;
use crate::id::EventId;
use crate::model::{NewEvent, Tenant};
use crate::time::Timestamp;

/// The number of a row of the inbox; later rows have higher numbers, though a low one may commit late.
pub type InboxId = i64;

/// An event that an application inserted in a transaction of its own, as it stands in the inbox: nothing of it
/// has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxEvent {
    /// The row.
    pub row: InboxId,
    /// The event's id, under which it is published.
    pub id: EventId,
    /// Whose it is.
    pub tenant: String,
    /// Its type.
    pub event_type: String,
    /// Its payload's type.
    pub content_type: Arc<str>,
    /// Its payload.
    pub payload: Bytes,
    /// The key of its order.
    pub ordering_key: Option<String>,
    /// Not sent before.
    pub deliver_at: Option<Timestamp>,
    /// The key of its publish.
    pub idempotency_key: Option<String>,
    /// The trace that it was published in; ignored when it cannot be read.
    pub traceparent: Option<String>,
}

impl From<NewEvent> for InboxEvent {
    /// The row that publishes this event, under a new id unless it has one. A row is for all subscriptions:
    /// [`only`](NewEvent::only) is left out. The store gives it its number.
    fn from(event: NewEvent) -> Self {
        Self {
            row: 0,
            id: event.id.unwrap_or_else(EventId::new),
            tenant: event.tenant.as_str().to_owned(),
            event_type: event.event_type,
            content_type: event.content_type,
            payload: event.payload,
            ordering_key: event.ordering_key,
            deliver_at: event.deliver_at,
            idempotency_key: event.idempotency_key,
            traceparent: event.traceparent.map(|given| given.to_string()),
        }
    }
}

/// What became of an event of the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxOutcome {
    /// It is published, or was before: its row goes.
    Published,
    /// It cannot be published, for this reason: its row stays, to be looked at and deleted by a person.
    Rejected(String),
}

/// An event of the inbox that cannot be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedEvent {
    /// The event's id.
    pub id: EventId,
    /// Whose it is.
    pub tenant: String,
    /// Its type.
    pub event_type: String,
    /// Why it cannot be published.
    pub problem: String,
    /// When it was inserted, by the store's clock.
    pub created_at: Timestamp,
}

/// Publishing inside an application's own transaction: the application inserts a row, which is relayed after
/// its commit through the ordinary publish with that event's id.
///
/// Rows are taken in the order of their numbers and deleted when they are published, never skipped by a
/// cursor: a low number may commit late. A repeat is harmless, because publishing by an id is.
#[async_trait]
pub trait Inbox: Debug + Send + Sync + 'static {
    /// Up to `limit` committed rows that are not rejected, the lowest first. A store may answer nothing
    /// while another relay of the same database is at work; where it does not, both publish the same rows,
    /// each in order, which is harmless.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn inbox_take(&self, limit: u32) -> Result<Vec<InboxEvent>, BackendError>;

    /// Says what became of taken rows.
    ///
    /// # Errors
    /// When nothing is known; a repeat is harmless.
    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Result<(), BackendError>;

    /// A page of rejected events, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Result<Page<RejectedEvent, EventId>, BackendError>;

    /// Deletes a rejected event; answers whether there was one.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Result<bool, BackendError>;
}
