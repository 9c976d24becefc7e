//! Identifiers.
//!
//! Every id is a UUID of version 7 (RFC 9562), so that ids of one process sort by the time they were made
//! and rows that are written together lie together. Only this crate makes ids: `clippy.toml` forbids the
//! calls elsewhere, because a backend that invents an id cannot be replayed, compared or simulated.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected a UUID such as 0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d")]
pub struct InvalidId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id. Within one process, ids made later sort later.
            #[must_use]
            #[allow(clippy::new_without_default, reason = "an id is drawn, not defaulted")]
            #[allow(clippy::disallowed_methods, reason = "the one place that makes ids")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps a UUID that was read from storage or given by a user.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }

            /// The sixteen bytes, in network order, as stores keep them.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// When it was made, to the millisecond, by the clock of whoever made it; `None` of a UUID that
            /// does not tell.
            #[must_use]
            pub fn made_at(&self) -> Option<Timestamp> {
                let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
                Some(Timestamp::EPOCH.after(Duration::new(seconds, nanos)))
            }

            /// Reads the sixteen bytes of [`as_bytes`](Self::as_bytes).
            ///
            /// # Errors
            /// [`InvalidId`] when there are not exactly sixteen.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| InvalidId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Reads the hyphenated form only: one id has one spelling in a URL.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() != 36 {
                    return Err(InvalidId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }
    };
}

id! {
    /// An event. It is also the `webhook-id` that every receiver sees, on every attempt.
    EventId
}
id! {
    /// A subscription. Its lane in the queue goes by the same id, see [`LaneId`].
    SubscriptionId
}
id! {
    /// A delivery of one event to one subscription. Its job in the queue goes by the same id, which is what
    /// makes enqueueing idempotent.
    DeliveryId
}
id! {
    /// One row of the log of attempts.
    AttemptId
}
id! {
    /// A worker's proof that it holds the lease of a job: the id of the claim that took it, or for a fresh
    /// delivery that was handed off, one that the publisher drew. It never repeats, not even after a queue
    /// lost its memory, so a stale worker can always be told apart.
    Token
}
id! {
    /// A replay: many deliveries to be reopened.
    ReplayId
}
id! {
    /// A worker, that is one process that claims jobs. New at every start.
    WorkerId
}

/// A lane is the part of the queue that belongs to one subscription.
pub type LaneId = SubscriptionId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_later_sort_later() {
        let ids: Vec<EventId> = (0..1000).map(|_| EventId::new()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let id: EventId = "0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d".parse().unwrap();
        let millis = Timestamp::from_micros(0x0190_c8f2_7d1e * 1000);
        assert_eq!(id.made_at(), Some(millis));
        assert_eq!(EventId::from_uuid(Uuid::nil()).made_at(), None);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = EventId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.as_uuid().simple().to_string().parse::<EventId>(), Err(InvalidId));
        assert_eq!(format!("{{{id}}}").parse::<EventId>(), Err(InvalidId));
        assert_eq!("".parse::<EventId>(), Err(InvalidId));
    }

    #[test]
    fn bytes_round_trip_and_a_short_slice_is_refused() {
        let id = DeliveryId::new();
        assert_eq!(DeliveryId::from_slice(id.as_bytes()), Ok(id));
        assert_eq!(DeliveryId::from_slice(&id.as_bytes()[..15]), Err(InvalidId));
    }
}
