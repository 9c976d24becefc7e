//! The store: the authority on every subscription, event, delivery and attempt.
//!
//! # Contract
//!
//! Every implementation owes:
//!
//! - **Durable on return** (promise 1): what a method reports as done survives the death of this process and
//!   of the machine's power, as far as the backend can promise it at all.
//! - **Batch first**: methods take slices and answer item by item, in input order. The outer `Err` says that
//!   nothing is known and the whole call may be repeated; each method's doc says what a repeat does. A stale
//!   write is an outcome, not an error. A batch may commit as one; its items must not depend on it.
//! - **Revisions**: every committed change of a delivery raises its `revision` by one or more, and
//!   [`record`](DeliveryStore::record) applies only on the revision that it names.
//! - **Its own clock** (promise 18): moments are stamped by the store; waits come as durations.
//! - **Its own queue**, when it has one ([`Store::own_queue`]): the store does the queue's part of every
//!   change in the same commit, and the engine makes no second call.
//! - **Cancel safety**: dropping any of these futures leaves the store as if the call had happened or had
//!   not, never in between.

mod deliveries;
mod history;
mod inbox;
mod replay;
mod subscriptions;

use std::sync::Arc;

use async_trait::async_trait;

pub use deliveries::{
    Added, DeliveryStore, Duplicate, EventDelivery, Expire, Expired, Insert, Inserted, KEY_LIFETIME, Load,
    Loaded, NewDelivery, OfEvent, Owed, Purged, Record, RecordLease, Recorded,
};
pub use history::{AttemptFilter, DeliveryFilter, EventFilter, EventRecord, History, Page, PageRequest};
pub use inbox::{Inbox, InboxEvent, InboxId, InboxOutcome, RejectedEvent};
pub use replay::{MATCHED_LIMIT, Matched, NewReplay, Replay, ReplayPage, ReplayRecorded, ReplayStore};
pub use subscriptions::{Changed, Changes, Snapshot, SubscriptionFilter, SubscriptionStore};

use crate::error::BackendError;
use crate::queue::JobQueue;

/// Counts the changes of a tenant's subscriptions that matter to matching, from 0.
pub type ConfigVersion = u64;

/// Everything that must not be lost.
#[async_trait]
pub trait Store: SubscriptionStore + DeliveryStore + ReplayStore + Inbox {
    /// The queue in the same database, when the store was opened with it. The store then does the queue's
    /// part of every change in the same commit.
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>>;

    /// Whether the store answers and can write.
    ///
    /// # Errors
    /// When it does not or cannot.
    async fn ping(&self) -> Result<(), BackendError>;
}
