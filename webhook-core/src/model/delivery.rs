use std::fmt;

use serde::{Deserialize, Serialize};

use super::attempt::names;
use super::{AttemptError, EventType, Tenant};
use crate::id::{DeliveryId, EventId, SubscriptionId};
use crate::time::Timestamp;

/// One event on its way to one subscription, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, which is its job's in the queue too.
    pub id: DeliveryId,
    /// The event.
    pub event_id: EventId,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The event's type.
    pub event_type: EventType,
    /// Where it stands and what is known of its attempts.
    pub state: DeliveryState,
    /// When it is tried next, by the store's clock; `None` when finished or waiting for its turn.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was published, by the store's clock.
    pub created_at: Timestamp,
    /// When it ended, by the store's clock.
    pub finished_at: Option<Timestamp>,
}

/// What the lifecycle decides on: everything about a delivery that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryState {
    /// Counts the committed changes. A write names the revision it was decided on (fence of `record`).
    pub revision: u64,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Why it ended or, in what people are shown, why it waits.
    pub reason: Option<StatusReason>,
    /// How many attempts have a row, which is the highest number.
    pub attempts: u32,
    /// Failed scheduled attempts of the current chain: the position in the retry schedule.
    pub failed: u32,
    /// `unknown` attempts in a row, the last one included.
    pub unknowns: u32,
    /// Counts the reopenings: a result of an earlier chain moves nothing in this one.
    pub chain: u32,
    /// An attempt that a person asked for and that has not been made yet. While there is one, the delivery
    /// is due at once.
    pub request: Option<Request>,
    /// The last answer's status code.
    pub last_status_code: Option<u16>,
    /// The last attempt's error; `None` when it succeeded.
    pub last_error: Option<LastError>,
}

/// What a person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// One attempt outside the schedule, which goes on after it.
    Retry,
    /// A new chain, whose first attempt this is: it counts in the schedule.
    Reopen,
}

names!(Request { Retry => "retry", Reopen => "reopen" });

/// The error of the last attempt.
pub type LastError = AttemptError;

impl DeliveryState {
    /// A delivery that was just published.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            revision: 0,
            status: DeliveryStatus::Pending,
            reason: None,
            attempts: 0,
            failed: 0,
            unknowns: 0,
            chain: 0,
            request: None,
            last_status_code: None,
            last_error: None,
        }
    }
}

impl Default for DeliveryState {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Not tried yet.
    Pending,
    /// Tried, and to be tried again.
    Retrying,
    /// The target took it.
    Succeeded,
    /// Given up: the dead letters.
    Exhausted,
    /// Ended by a person.
    Cancelled,
}

names!(DeliveryStatus {
    Pending => "pending",
    Retrying => "retrying",
    Succeeded => "succeeded",
    Exhausted => "exhausted",
    Cancelled => "cancelled",
});

impl DeliveryStatus {
    /// Whether nothing more happens to it unless a person asks.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Pending | Self::Retrying => false,
            Self::Succeeded | Self::Exhausted | Self::Cancelled => true,
        }
    }
}

/// Why a delivery waits or ended. Clients must accept new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StatusReason {
    /// Waits for its `deliver_at`.
    Scheduled,
    /// Waits for its subscription's rate.
    RateLimited,
    /// Waits because its subscription's target does not answer, or asked for time.
    Parked,
    /// Waits because its subscription is paused.
    Paused,
    /// Waits because its subscription is disabled.
    Disabled,
    /// Waits for an earlier delivery with its ordering key.
    Ordered,
    /// Ended: the target answered 410.
    Gone,
    /// Ended: the retry policy has no more attempts.
    AttemptsExhausted,
    /// Ended: it was unfinished for too long.
    Expired,
    /// Ended: it crashed its worker again and again.
    Poison,
    /// Ended: its subscription was deleted.
    SubscriptionDeleted,
    /// Ended: a person cancelled it.
    CancelledByUser,
}

names!(StatusReason {
    Scheduled => "scheduled",
    RateLimited => "rate_limited",
    Parked => "parked",
    Paused => "paused",
    Disabled => "disabled",
    Ordered => "ordered",
    Gone => "gone",
    AttemptsExhausted => "attempts_exhausted",
    Expired => "expired",
    Poison => "poison",
    SubscriptionDeleted => "subscription_deleted",
    CancelledByUser => "cancelled_by_user",
});
