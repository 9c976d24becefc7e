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
mod statistics;
mod subscriptions;

use std::sync::Arc;

use async_trait::async_trait;

pub use deliveries::{
    Added, DeliveryStore, Duplicate, Ended, EventDelivery, Expire, Expired, Insert, Inserted, KEY_LIFETIME,
    Load, Loaded, NewDelivery, OfEvent, Owed, Purged, Record, RecordLease, Recorded,
};
pub use history::{AttemptFilter, DeliveryFilter, EventFilter, EventRecord, History, Page, PageRequest};
pub use inbox::{Inbox, InboxEvent, InboxId, InboxOutcome, RejectedEvent};
pub use replay::{MATCHED_LIMIT, Matched, NewReplay, Replay, ReplayPage, ReplayRecorded, ReplayStore};
pub use statistics::StatisticsStore;
pub use subscriptions::{Changed, Changes, Snapshot, SubscriptionFilter, SubscriptionStore};

use crate::error::BackendError;
use crate::queue::JobQueue;

/// Counts the changes of a tenant's subscriptions that matter to matching, from 0.
pub type ConfigVersion = u64;

/// Everything that must not be lost.
#[async_trait]
pub trait Store: SubscriptionStore + DeliveryStore + ReplayStore + Inbox + StatisticsStore {
    /// The queue in the same database, when the store was opened with it. The store then does the queue's
    /// part of every change in the same commit.
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>>;

    /// Whether the store answers and can write.
    ///
    /// # Errors
    /// When it does not or cannot.
    async fn ping(&self) -> Result<(), BackendError>;

    /// The epoch of the queue's memory that was last filled from this store: what
    /// [`advance_epoch`](Self::advance_epoch) noted, another number before its first call. For a store with its
    /// own queue, that queue's.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn queue_epoch(&self) -> Result<u64, BackendError>;

    /// Notes that the memory of a queue apart from the store is another one, `to`, if what is noted is
    /// `expected`. Answers whether it did: of the nodes that notice together that the queue lost its memory, one
    /// hears `true` and leads the rebuild.
    ///
    /// To ensure correctness:
    /// - the comparison and the change are one atomic step;
    /// - a store with its own queue changes nothing and answers `false`.
    ///
    /// # Errors
    /// When nothing is known; after it took effect a repeat answers `false`.
    async fn advance_epoch(&self, expected: u64, to: u64) -> Result<bool, BackendError>;

    /// How the store's connections are used, one entry a pool. For people and metrics; a store that has none says
    /// nothing.
    fn pools(&self) -> Vec<PoolUse> {
        Vec::new()
    }
}

/// How a pool of connections is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// What its connections do.
    pub name: &'static str,
    /// So many connections it may open.
    pub max: u32,
    /// So many are open.
    pub open: u32,
    /// So many of them work for somebody.
    pub in_use: u32,
}
