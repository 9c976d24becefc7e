use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Tenant, TraceParent};
use crate::id::{EventId, SubscriptionId};
use crate::matching::{EventTypeError, check_event_type};
use crate::time::Timestamp;

/// What kind of event it is: 1 to 256 characters of `[A-Za-z0-9_.-]`, by custom dotted from the general to
/// the particular, such as `invoice.line.added`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(Arc<str>);

impl EventType {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = EventTypeError;

    fn from_str(text: &str) -> Result<Self, EventTypeError> {
        check_event_type(text)?;
        Ok(Self(Arc::from(text)))
    }
}

impl TryFrom<String> for EventType {
    type Error = EventTypeError;

    fn try_from(text: String) -> Result<Self, EventTypeError> {
        text.parse()
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0.as_ref().to_owned()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A published event. Its payload is kept and sent byte for byte (promise 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `webhook-id` of every attempt of every delivery.
    pub id: EventId,
    /// Whose event it is.
    pub tenant: Tenant,
    /// What happened.
    pub event_type: EventType,
    /// The `content-type` that the receiver gets; `application/json` unless ingested with another.
    pub content_type: Arc<str>,
    /// The bytes that were published.
    pub payload: Bytes,
    /// Deliveries of equal keys to one ordered subscription go one at a time, in order (promise 12).
    pub ordering_key: Option<String>,
    /// Not sent before this moment.
    pub deliver_at: Option<Timestamp>,
    /// Makes a repeat of the publish harmless for 24 hours (promise 11).
    pub idempotency_key: Option<String>,
    /// The one subscription that this event is for, when it was ingested for one.
    pub only: Option<SubscriptionId>,
    /// The trace that it was published in. No part of what makes two requests the same.
    pub traceparent: Option<TraceParent>,
}

/// An event to be published.
///
/// ```
/// use webhook_core::model::NewEvent;
///
/// let event = NewEvent::json("order.created", r#"{"id":42}"#)
///     .idempotency_key("order-42")
///     .ordering_key("customer-7");
/// ```
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub(crate) id: Option<EventId>,
    pub(crate) tenant: Tenant,
    pub(crate) event_type: String,
    pub(crate) content_type: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) ordering_key: Option<String>,
    pub(crate) deliver_at: Option<Timestamp>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) only: Option<SubscriptionId>,
    pub(crate) traceparent: Option<TraceParent>,
    /// `only` gets it whatever its event types and filter say.
    pub(crate) regardless: bool,
    /// The payload's type shows that it is JSON, so it need not be parsed to find out.
    pub(crate) known_json: bool,
}

impl NewEvent {
    /// An event whose payload is JSON text. The text is not re-encoded; that it is JSON is checked when the
    /// event is published.
    #[must_use]
    pub fn json(event_type: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self::bytes(event_type, Self::JSON, payload)
    }

    /// An event with any payload, sent with this `content-type`.
    #[must_use]
    pub fn bytes(
        event_type: impl Into<String>,
        content_type: impl Into<Arc<str>>,
        payload: impl Into<Bytes>,
    ) -> Self {
        Self {
            id: None,
            tenant: Tenant::default(),
            event_type: event_type.into(),
            content_type: content_type.into(),
            payload: payload.into(),
            ordering_key: None,
            deliver_at: None,
            idempotency_key: None,
            only: None,
            traceparent: None,
            regardless: false,
            known_json: false,
        }
    }

    /// An event whose payload was parsed as JSON already, and is sent as it was spelled.
    #[must_use]
    pub fn raw_json(event_type: impl Into<String>, payload: Box<RawValue>) -> Self {
        let text: Box<str> = payload.into();
        Self { known_json: true, ..Self::json(event_type, String::from(text)) }
    }

    /// The content type of a JSON payload.
    pub const JSON: &'static str = "application/json";

    /// Publishes under this id. A repeat with the same id returns what is stored (promise 1).
    #[must_use]
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// Publishes in this tenant rather than `default`.
    #[must_use]
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = tenant;
        self
    }

    /// Deliveries of equal keys to one ordered subscription go one at a time, in order (promise 12).
    #[must_use]
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Not sent before this moment.
    #[must_use]
    pub fn deliver_at(mut self, at: Timestamp) -> Self {
        self.deliver_at = Some(at);
        self
    }

    /// 1 to 256 visible ASCII characters. The same key with the same request within 24 hours is answered
    /// with what the first one stored; with another request it is refused (promise 11).
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Publishes for this one subscription, if its event types and filter take the event.
    #[must_use]
    pub fn only(mut self, subscription: SubscriptionId) -> Self {
        self.only = Some(subscription);
        self
    }

    /// Publishes as a step of this trace: each attempt carries a `traceparent` with its trace id and a parent id
    /// of its own (W3C Trace Context), also after a restart.
    #[must_use]
    pub fn traceparent(mut self, traceparent: TraceParent) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// With [`only`](Self::only): whatever that subscription's event types and filter say. For trying a
    /// subscription out.
    #[must_use]
    pub fn regardless(mut self) -> Self {
        self.regardless = true;
        self
    }
}
