//! From an event to committed deliveries: validate, match, hand to the committer.

use std::sync::Arc;

use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use tracing::Instrument as _;

use super::committer::{Line, Submission};
use super::config::Endpoint;
use super::handle::Inner;
use super::spans;
use crate::error::BackendError;
use crate::id::{DeliveryId, EventId, SubscriptionId};
use crate::matching::LazyJson;
use crate::model::{Event, NewEvent, TraceParent};
use crate::store::{Insert, Inserted, NewDelivery};

/// What `publish` stored, or what an earlier one had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The event's id, the `webhook-id` of every attempt.
    pub id: EventId,
    /// Its deliveries with their subscriptions, at most 1,000.
    pub deliveries: Vec<(DeliveryId, SubscriptionId)>,
    /// How many deliveries it has.
    pub delivery_count: u64,
    /// It was published before, by the same id or the same idempotency key; nothing new was stored.
    pub duplicate: bool,
}

/// An answer names at most so many deliveries.
pub const LISTED_DELIVERIES: usize = 1000;

/// Why an event was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A field is wrong.
    #[error("{field}: {detail}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong and what is accepted.
        detail: String,
    },
    /// The payload is too large.
    #[error("the payload has {size} bytes, at most {limit} are taken")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The most that are taken.
        limit: usize,
    },
    /// The idempotency key belongs to another request of the last 24 hours.
    #[error("the idempotency key was used for another request within 24 hours")]
    KeyReused,
    /// The event is for one subscription, and there is none with this id in this tenant.
    #[error("there is no such subscription")]
    SubscriptionNotFound,
    /// The store did not say whether it took the event. A repeat is safe with an idempotency key or an id.
    #[error(
        "the event was not acknowledged; it may have been stored, and a repeat with the same key or id is safe"
    )]
    Unavailable(#[source] BackendError),
    /// The store cannot take this event.
    #[error("the store cannot take this event")]
    Rejected(#[source] BackendError),
    /// This engine has been shut down.
    #[error("the engine has been shut down")]
    Stopped,
}

impl PublishError {
    fn invalid(field: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Invalid { field, detail: detail.to_string() }
    }

    /// The kind of error, as a label and in spans.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::TooLarge { .. } => "too_large",
            Self::KeyReused => "key_reused",
            Self::SubscriptionNotFound => "subscription_not_found",
            Self::Unavailable(_) => "unavailable",
            Self::Rejected(_) => "rejected",
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn store(error: BackendError) -> Self {
        if error.is_retryable() { Self::Unavailable(error) } else { Self::Rejected(error) }
    }
}

/// How often an event is matched again because the configuration changed in between.
const MATCHES: usize = 16;

pub(super) async fn publish(
    inner: &Arc<Inner>,
    new: NewEvent,
    line: Line,
) -> Result<Published, PublishError> {
    let (regardless, is_traced) = (new.regardless, new.traceparent.is_some());
    let event = Arc::new(accept(inner, new)?);
    let span = spans::publish(&event, is_traced);
    let published = publish_accepted(inner, event, regardless, line).instrument(span.clone()).await;
    match &published {
        Ok(published) => span.record("webhook.deliveries", published.delivery_count),
        Err(error) => span.record("error.type", error.name()),
    };
    published
}

async fn publish_accepted(
    inner: &Arc<Inner>,
    event: Arc<Event>,
    regardless: bool,
    line: Line,
) -> Result<Published, PublishError> {
    let fingerprint = if event.idempotency_key.is_some() { fingerprint(&event) } else { [0; 32] };
    for _ in 0..MATCHES {
        let now = inner.clock.now();
        let config =
            inner.configs.of(&*inner.store, &event.tenant, now).await.map_err(PublishError::Unavailable)?;
        let endpoints = matched(inner, &config, &event, regardless).await?;
        let deliveries: Vec<_> = endpoints
            .iter()
            .map(|endpoint| NewDelivery {
                id: DeliveryId::new(),
                subscription_id: endpoint.subscription.id,
                ordered: endpoint.subscription.ordered,
                give_up_after: endpoint.give_up_after,
            })
            .collect();
        let ids: Vec<_> = deliveries.iter().map(|new| (new.id, new.subscription_id)).collect();
        let insert =
            Insert { event: Arc::clone(&event), deliveries, config_version: config.version, fingerprint };
        match inner.committer().submit(Submission { insert, endpoints }, line).await? {
            Inserted::Stored { .. } => return Ok(stored(event.id, ids)),
            Inserted::Duplicate(first) => {
                return Ok(Published {
                    id: first.event_id,
                    deliveries: first.deliveries,
                    delivery_count: first.delivery_count,
                    duplicate: true,
                });
            }
            Inserted::KeyReused => return Err(PublishError::KeyReused),
            Inserted::Outdated => inner.configs.outdated(&event.tenant, config.version),
        }
    }
    Err(PublishError::Unavailable(BackendError::new(
        crate::error::BackendErrorKind::Conflict,
        "engine",
        "publish",
        "the tenant's subscriptions kept changing while the event was matched",
    )))
}

fn stored(id: EventId, mut deliveries: Vec<(DeliveryId, SubscriptionId)>) -> Published {
    let delivery_count = deliveries.len() as u64;
    deliveries.truncate(LISTED_DELIVERIES);
    Published { id, deliveries, delivery_count, duplicate: false }
}

/// The subscriptions that take the event, in the order of their ids.
async fn matched(
    inner: &Arc<Inner>,
    config: &super::config::TenantConfig,
    event: &Event,
    regardless: bool,
) -> Result<Vec<Arc<Endpoint>>, PublishError> {
    let payload = LazyJson::new(&event.payload);
    let Some(only) = event.only else {
        let matches = config.matcher.matches(event.event_type.as_str(), &payload);
        return Ok(matches.into_iter().cloned().collect());
    };
    let Some(endpoint) = config.endpoints.get(&only) else {
        // It may have been created on another node a moment ago: only the store knows.
        let known = inner.store.get(&[only]).await.map_err(PublishError::Unavailable)?;
        return match known.into_iter().next().flatten() {
            Some(found) if found.tenant == event.tenant => {
                // The version that this was matched against cannot be the store's, which says so.
                inner.configs.outdated(&event.tenant, config.version);
                Ok(Vec::new())
            }
            _ => Err(PublishError::SubscriptionNotFound),
        };
    };
    let subscription = &endpoint.subscription;
    let verdict = crate::matching::explain(
        event.event_type.as_str(),
        &payload,
        &subscription.event_types,
        subscription.filter.as_deref(),
    );
    Ok(if regardless || verdict.is_match() { vec![Arc::clone(endpoint)] } else { Vec::new() })
}

fn accept(inner: &Inner, new: NewEvent) -> Result<Event, PublishError> {
    let event_type = new.event_type.parse().map_err(|error| PublishError::invalid("event_type", error))?;
    let limit = inner.settings.max_payload;
    if new.payload.len() > limit {
        return Err(PublishError::TooLarge { size: new.payload.len(), limit });
    }
    if !new.known_json && is_json(&new.content_type) {
        serde_json::from_slice::<IgnoredAny>(&new.payload)
            .map_err(|error| PublishError::invalid("payload", format!("not JSON: {error}")))?;
    }
    if !is_field_value(&new.content_type) {
        return Err(PublishError::invalid("content_type", "not a content type"));
    }
    if let Some(key) = &new.idempotency_key
        && !((1..=256).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Err(PublishError::invalid("idempotency_key", "expected 1 to 256 visible ASCII characters"));
    }
    if let Some(key) = &new.ordering_key
        && (!(1..=256).contains(&key.len()) || key.chars().any(char::is_control))
    {
        return Err(PublishError::invalid(
            "ordering_key",
            "expected 1 to 256 bytes without control characters",
        ));
    }
    Ok(Event {
        id: new.id.unwrap_or_else(EventId::new),
        tenant: new.tenant,
        event_type,
        content_type: new.content_type,
        payload: new.payload,
        ordering_key: new.ordering_key,
        deliver_at: new.deliver_at,
        idempotency_key: new.idempotency_key,
        only: new.only,
        traceparent: new.traceparent.or_else(|| inner.settings.begin_traces.then(TraceParent::new)),
    })
}

/// Whether a content type says JSON: `application/json`, or any with the suffix `+json` (RFC 6839).
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// RFC 9110, section 5.5, without obsolete text.
fn is_field_value(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

/// A digest of all that makes two requests the same (API.md, `Idempotency-Key`). Every part is preceded by
/// its length, so that no two requests run together.
fn fingerprint(event: &Event) -> [u8; 32] {
    let deliver_at = event.deliver_at.map(|at| at.as_micros().to_be_bytes());
    let parts: [Option<&[u8]>; 6] = [
        event.only.as_ref().map(|id| id.as_bytes().as_slice()),
        Some(event.event_type.as_str().as_bytes()),
        Some(event.content_type.as_bytes()),
        event.ordering_key.as_ref().map(String::as_bytes),
        deliver_at.as_ref().map(<[u8; 8]>::as_slice),
        Some(&event.payload),
    ];
    let mut digest = Sha256::new();
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        digest.update(length.to_be_bytes());
        digest.update(part.unwrap_or_default());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_that_say_json() {
        for json in ["application/json", "application/json; charset=utf-8", "Application/CloudEvents+JSON"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["text/plain", "application/jsonl", "application/x-www-form-urlencoded", ""] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn the_fingerprint_tells_apart_what_makes_a_request() {
        let event = |change: fn(&mut Event)| {
            let mut event = Event {
                id: EventId::new(),
                tenant: crate::model::Tenant::default(),
                event_type: "a.b".parse().expect("valid"),
                content_type: NewEvent::JSON.into(),
                payload: "{}".into(),
                ordering_key: None,
                deliver_at: None,
                idempotency_key: Some("k".into()),
                only: None,
                traceparent: None,
            };
            change(&mut event);
            fingerprint(&event)
        };
        let same = event(|_| {});
        assert_eq!(same, event(|event| event.id = EventId::new()));
        assert_eq!(same, event(|event| event.traceparent = Some(TraceParent::new())));
        assert_ne!(same, event(|event| event.payload = "{} ".into()));
        assert_ne!(same, event(|event| event.ordering_key = Some(String::new())));
        assert_ne!(same, event(|event| event.deliver_at = Some(crate::time::Timestamp::EPOCH)));
        assert_ne!(same, event(|event| event.only = Some(SubscriptionId::new())));
    }
}
