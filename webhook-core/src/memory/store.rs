//! [`MemoryStore`]: its tables, and how they are reached.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::inbox::InboxRow;
use super::ordering::{Order, OrderKey};
use super::replays::ReplayRow;
use super::statistics::RollupRow;
use super::subscriptions::{Config, SubscriptionRow};
use crate::error::BackendError;
use crate::id::{AttemptId, DeliveryId, EventId, ReplayId, RollupId, SubscriptionId};
use crate::model::{Attempt, DeliveryState, Event, Tenant};
use crate::queue::JobQueue;
use crate::store::{InboxId, Store};
use crate::time::{Clock, SystemClock, Timestamp};

/// A store in this process's memory: the reference implementation of [`Store`] and
/// [`History`](crate::store::History).
///
/// It has no queue of its own: leases that a [`Record`](crate::store::Record) names are the queue's business
/// and are ignored here, and no strikes are answered. Everything is lost with the process.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    tables: Mutex<Tables>,
}

impl MemoryStore {
    /// An empty store on the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store on this clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tables: Mutex::default() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic in here would be a defect of this module; what is stored is still better than nothing.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        None
    }

    async fn ping(&self) -> Result<(), BackendError> {
        Ok(())
    }

    async fn queue_epoch(&self) -> Result<u64, BackendError> {
        Ok(self.tables().queue_epoch)
    }

    async fn advance_epoch(&self, expected: u64, to: u64) -> Result<bool, BackendError> {
        let mut tables = self.tables();
        let is_expected = tables.queue_epoch == expected;
        if is_expected {
            tables.queue_epoch = to;
        }
        Ok(is_expected)
    }
}

/// Everything that is stored. Each method of the traits is one step on it.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) configs: HashMap<Tenant, Config>,
    pub(super) subscriptions: BTreeMap<SubscriptionId, SubscriptionRow>,
    /// Deleted subscriptions that may have unfinished deliveries yet.
    pub(super) deleting: BTreeSet<SubscriptionId>,
    pub(super) events: BTreeMap<EventId, EventRow>,
    pub(super) keys: HashMap<(Tenant, String), KeyRow>,
    pub(super) deliveries: BTreeMap<DeliveryId, DeliveryRow>,
    /// Deliveries that are due at some time: unfinished ones, and finished ones with an attempt forced.
    pub(super) open: BTreeSet<DeliveryId>,
    pub(super) attempts: BTreeMap<AttemptId, Attempt>,
    pub(super) orders: HashMap<OrderKey, Order>,
    pub(super) replays: BTreeMap<ReplayId, ReplayRow>,
    pub(super) rollups: BTreeMap<RollupId, RollupRow>,
    pub(super) inbox: BTreeMap<InboxId, InboxRow>,
    /// The number of the inbox's last row.
    pub(super) last_row: InboxId,
    /// The number of the last delivery, in the order of publishing.
    pub(super) last_number: u64,
    /// The memory of the queue that was filled last; 0 before the first.
    pub(super) queue_epoch: u64,
}

#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) event: Arc<Event>,
    pub(super) created_at: Timestamp,
    /// Those of its publish, and behind them those that were added later.
    pub(super) deliveries: Vec<DeliveryId>,
    /// How many deliveries its publish made.
    pub(super) published: usize,
}

/// A publish that named an idempotency key. It outlives its event.
#[derive(Debug)]
pub(super) struct KeyRow {
    pub(super) fingerprint: [u8; 32],
    pub(super) event_id: EventId,
    pub(super) delivery_count: u64,
    pub(super) created_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct DeliveryRow {
    pub(super) event_id: EventId,
    pub(super) subscription_id: SubscriptionId,
    /// Counts deliveries in the order of publishing, over all of the store.
    pub(super) number: u64,
    /// Whose turn it takes, when it was published to an ordered subscription.
    pub(super) order: Option<OrderKey>,
    pub(super) state: DeliveryState,
    /// When the schedule tries it next; an attempt that a person asked for does not wait for it.
    pub(super) due: Option<Timestamp>,
    pub(super) chain: Chain,
    pub(super) created_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    /// In the order of their numbers.
    pub(super) attempts: Vec<AttemptId>,
}

/// The time of a delivery's chain of attempts.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) start: Timestamp,
    /// From when on it may be given up, if its target does not answer.
    pub(super) give_up_at: Timestamp,
}

impl Chain {
    /// One that starts at the later of now and `deliver_at`.
    pub(super) fn starting(now: Timestamp, deliver_at: Option<Timestamp>, give_up_after: Duration) -> Self {
        let start = deliver_at.map_or(now, |at| at.max(now));
        Self { start, give_up_at: start.after(give_up_after) }
    }
}

impl DeliveryRow {
    /// When it is due: at once while a person's request waits.
    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        if self.state.request.is_some() { Some(self.due.map_or(now, |due| due.min(now))) } else { self.due }
    }
}
