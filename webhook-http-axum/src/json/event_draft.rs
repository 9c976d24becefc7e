//! An event as a user publishes it in JSON.

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::time::Timestamp;

use crate::body::{RawObject, TWICE};
use crate::fields::Fields;
use crate::problem::Problem;

/// An event that was read. The payload is the text between its quotes, braces or digits as it was sent
/// (promise 9): it is cut out of the body and never built as a value.
#[derive(Debug)]
pub(crate) struct EventDraft {
    pub(crate) tenant: Option<Tenant>,
    event_type: String,
    payload: Box<RawValue>,
    ordering_key: Option<String>,
    deliver_at: Option<Timestamp>,
    idempotency_key: Option<String>,
}

impl EventDraft {
    /// Reads an item of a batch, which may bring its own idempotency key.
    pub(crate) fn item(object: RawObject<'_>) -> Result<Self, Problem> {
        Self::read(object, |fields| fields.text("idempotency_key"))
    }

    /// Reads the one event of a request, whose idempotency key is a header.
    pub(crate) fn single(object: RawObject<'_>) -> Result<Self, Problem> {
        Self::read(object, |_| None)
    }

    fn read(object: RawObject<'_>, key: impl Fn(&mut Fields) -> Option<String>) -> Result<Self, Problem> {
        let mut map = Map::new();
        let mut payload = None;
        let mut twice = Vec::new();
        for (name, raw) in object.0 {
            let first = if name == "payload" {
                payload.replace(raw).is_none()
            } else {
                map.insert(name.clone(), value(raw)).is_none()
            };
            if !first {
                twice.push(name);
            }
        }
        let mut fields = Fields::new(map);
        for name in twice {
            fields.refuse(&name, TWICE);
        }
        let tenant = fields.parsed("tenant");
        let event_type = fields.required("event_type");
        let ordering_key = fields.text("ordering_key");
        let deliver_at = fields.parsed("deliver_at");
        let idempotency_key = key(&mut fields);
        if payload.is_none() {
            fields.refuse("payload", "the field is missing");
        }
        fields.finish()?;
        let payload = payload.ok_or_else(|| Problem::field("payload", "the field is missing"))?.to_owned();
        Ok(Self { tenant, event_type, payload, ordering_key, deliver_at, idempotency_key })
    }

    /// The event for this tenant, with the key of the request when it has none of its own.
    pub(crate) fn into_event(self, tenant: Tenant, key: Option<String>) -> NewEvent {
        let mut event = NewEvent::raw_json(self.event_type, self.payload).tenant(tenant);
        if let Some(ordering_key) = self.ordering_key {
            event = event.ordering_key(ordering_key);
        }
        if let Some(at) = self.deliver_at {
            event = event.deliver_at(at);
        }
        if let Some(key) = self.idempotency_key.or(key) {
            event = event.idempotency_key(key);
        }
        event
    }
}

/// A field beside the payload as a value. What cannot be one, such as half of a surrogate pair, becomes
/// something that no reader of [`Fields`] takes here, so that it is refused by its name.
fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Array(Vec::new()))
}
