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

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::BackendError;
use crate::id::{AttemptId, DeliveryId, EventId, LaneId, SubscriptionId, Token};
use crate::lane::Effect;
use crate::lifecycle::Next;
use crate::model::{
    Attempt, Delivery, DeliveryState, DeliveryStatus, Event, EventType, Outcome, Subscription,
    SubscriptionStatus, Tenant,
};
use crate::queue::{HandOff, JobQueue, Lease};
use crate::time::Timestamp;

/// Counts the changes of a tenant's subscriptions that matter to matching, from 0.
pub type ConfigVersion = u64;

// ---------------------------------------------------------------------------------------------------------
// Subscriptions

/// What became of a change to a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    /// It was made; this is what is stored now.
    Done(Arc<Subscription>),
    /// The subscription has another version than expected: nothing changed.
    VersionMismatch {
        /// The version it has.
        current: u64,
    },
    /// There is none with this id in this tenant.
    NotFound,
}

/// All subscriptions of a tenant, as of one version of its configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The version.
    pub version: ConfigVersion,
    /// The subscriptions in the order of their ids, deleted ones left out.
    pub subscriptions: Vec<Arc<Subscription>>,
}

/// What changed in a tenant's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// The version with all these changes in it.
    pub version: ConfigVersion,
    /// Created or changed ones, as they are now.
    pub changed: Vec<Arc<Subscription>>,
    /// Deleted ones.
    pub deleted: Vec<SubscriptionId>,
}

/// Which subscriptions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Of this tenant; `None`: of all.
    pub tenant: Option<Tenant>,
    /// With one of these statuses; empty: with any.
    pub statuses: Vec<SubscriptionStatus>,
    /// That take this event type.
    pub event_type: Option<EventType>,
}

/// Who wants what.
#[async_trait]
pub trait SubscriptionStore: Debug + Send + Sync + 'static {
    /// Stores a new subscription at version 1, stamps its times and returns it as stored. Raises the
    /// tenant's configuration version in the same commit, so that every publish that starts after the return
    /// sees it, on every node (promise 10).
    ///
    /// A repeat with the same id returns what is stored.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn create(&self, subscription: &Subscription) -> Result<Arc<Subscription>, BackendError>;

    /// Replaces what is stored if its version is `expected`, with the version raised by one and
    /// `updated_at` stamped; `id`, `tenant` and `created_at` never change. Raises the configuration version.
    ///
    /// # Errors
    /// When nothing is known; after it took effect a repeat answers [`Changed::VersionMismatch`].
    async fn update(&self, subscription: &Subscription, expected: u64) -> Result<Changed, BackendError>;

    /// Deletes it, if `expected` is `None` or its version. In the same commit its lane is held and the
    /// configuration version is raised; its unfinished deliveries are cancelled by
    /// [`DeliveryStore::cancel_deleted`]. [`Changed::Done`] carries what was deleted.
    ///
    /// # Errors
    /// When nothing is known; after it took effect a repeat answers [`Changed::NotFound`].
    async fn delete(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<Changed, BackendError>;

    /// The subscriptions with these ids, of any tenant, in input order; `None` for unknown and deleted ones.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn get(&self, ids: &[SubscriptionId]) -> Result<Vec<Option<Arc<Subscription>>>, BackendError>;

    /// A page of subscriptions, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Result<Page<Arc<Subscription>, SubscriptionId>, BackendError>;

    /// All subscriptions of a tenant.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn snapshot(&self, tenant: &Tenant) -> Result<Snapshot, BackendError>;

    /// What changed since a version; `None` when the store no longer knows, and a snapshot is needed.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn changes_since(
        &self,
        tenant: &Tenant,
        version: ConfigVersion,
    ) -> Result<Option<Changes>, BackendError>;
}

// ---------------------------------------------------------------------------------------------------------
// Deliveries

/// An event with the deliveries it was matched to.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The event.
    pub event: Arc<Event>,
    /// One for each subscription that takes it.
    pub deliveries: Vec<NewDelivery>,
    /// The version of the tenant's configuration that it was matched against.
    pub config_version: ConfigVersion,
    /// A digest of the request, kept with the idempotency key to tell a repeat from another request.
    pub fingerprint: [u8; 32],
}

/// A delivery to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its subscription.
    pub subscription_id: SubscriptionId,
    /// Whether it takes its turn among those with its event's ordering key; fixed here (promise 12).
    pub ordered: bool,
}

/// What became of an inserted event.
#[derive(Debug, Clone, PartialEq)]
pub enum Inserted {
    /// It is stored with its deliveries.
    Stored {
        /// Those that were handed off to the worker.
        leases: Vec<Lease>,
        /// Those that wait behind an earlier one of their ordering key, and have no job.
        waiting: Vec<DeliveryId>,
    },
    /// An event with this id, or the same request with this key, is stored already.
    Duplicate(Duplicate),
    /// Another request is stored with this key: nothing was stored.
    KeyReused,
    /// The configuration has another version: nothing was stored. Match again.
    Outdated,
}

/// The event that a publish repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Its id.
    pub event_id: EventId,
    /// Its deliveries as first answered, at most 1,000; empty after a purge.
    pub deliveries: Vec<(DeliveryId, SubscriptionId)>,
    /// How many deliveries it had.
    pub delivery_count: u64,
}

/// How long an idempotency key is kept, whatever is purged.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A job whose delivery is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The delivery.
    pub id: DeliveryId,
    /// Tokens that its lease gave as unsettled.
    pub unsettled: Vec<Token>,
}

/// What a worker needs for an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Where the delivery stands.
    pub state: DeliveryState,
    /// What is sent.
    pub event: Arc<Event>,
    /// To whom.
    pub subscription_id: SubscriptionId,
    /// The subscription's version now; `None` when it was deleted, which is final.
    pub subscription_version: Option<u64>,
    /// How long until it is due; zero when it is.
    pub due_in: Duration,
    /// Waits behind an earlier delivery of its ordering key.
    pub waiting: bool,
    /// Those of the unsettled tokens that have no row among the attempts.
    pub unrecorded: Vec<Token>,
}

/// A result to be committed: attempts, and what the delivery becomes by them.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The delivery.
    pub id: DeliveryId,
    /// The revision that was decided on.
    pub revision: u64,
    /// The lease it was made under, and what the attempt did to the lane. A store with its own queue ends it
    /// in the same commit; `None` leaves the lease of whoever has one.
    pub lease: Option<RecordLease>,
    /// Rows to be added. One whose token has an `unknown` row replaces that row.
    pub attempts: Vec<Attempt>,
    /// What the delivery becomes.
    pub state: DeliveryState,
    /// When it is due.
    pub next: Next,
}

/// The lease that a result ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLease {
    /// Its token.
    pub token: Token,
    /// The lane's strike mark as claimed.
    pub mark: u64,
    /// What the attempt did to the lane.
    pub effect: Effect,
}

/// What became of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// It is committed.
    Applied {
        /// Deliveries that are now the heads of their ordering keys, to be enqueued unless the store has its
        /// own queue.
        released: Vec<(DeliveryId, LaneId)>,
        /// The lane's strikes after it, from a store with its own queue that ended the lease.
        strikes: Option<u8>,
    },
    /// The delivery has moved on, or the lease is another worker's: nothing changed.
    Stale {
        /// Where the delivery stands now.
        state: Box<DeliveryState>,
        /// The number of the `unknown` row with the token of the first attempt, if there is one.
        unknown: Option<u32>,
    },
    /// There is no such delivery any more.
    Gone,
}

/// A delivery that the queue must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The delivery.
    pub id: DeliveryId,
    /// Its lane.
    pub lane: LaneId,
    /// How long until it is due.
    pub wait: Duration,
    /// The version of its subscription.
    pub lane_version: u64,
    /// A person asked for it.
    pub urgent: bool,
}

/// Every event on its way.
#[async_trait]
pub trait DeliveryStore: Debug + Send + Sync + 'static {
    /// Commits events with their deliveries, all parts of one event together or not at all (promise 1).
    ///
    /// To ensure correctness:
    /// - an event whose `config_version` is not the tenant's current one is [`Outdated`](Inserted::Outdated);
    ///   the comparison and the insert are one atomic step (promise 10);
    /// - the idempotency key is a unique constraint on (tenant, key), kept for [`KEY_LIFETIME`]; of two in
    ///   one batch, the second is the duplicate (promise 11);
    /// - a store with its own queue adds the jobs in the same commit, leased when `hand_off` has room and
    ///   their lane allows; others ignore `hand_off`;
    /// - an event whose `deliver_at` is ahead of the store's clock is due then, others at once;
    /// - ordered deliveries are inserted waiting, and the lowest unfinished of a key without a head becomes
    ///   its head (promise 12).
    ///
    /// # Errors
    /// When nothing is known; a repeat with the same ids answers [`Duplicate`](Inserted::Duplicate) for what
    /// had been stored.
    async fn insert(
        &self,
        events: &[Insert],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Inserted>, BackendError>;

    /// What a worker needs for these; `None` for a delivery that does not exist.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn load(&self, deliveries: &[Load]) -> Result<Vec<Option<Loaded>>, BackendError>;

    /// Commits results: rows and state together, for each delivery (promise 7).
    ///
    /// To ensure correctness:
    /// - an item applies only if the delivery's revision is the one named and, in a store with its own queue,
    ///   only if a named lease is still that token's; else it changes nothing and answers
    ///   [`Stale`](Recorded::Stale);
    /// - an item that is stale because it has taken effect before, which the row of its first attempt's token
    ///   shows, answers [`Applied`](Recorded::Applied) and changes nothing: a repeat is harmless;
    /// - with its own queue, the job is removed, or due as `next` says (at once while `state.request` is
    ///   some), and the lane's count and strikes follow, in the same commit (promise 4). Without `lease` a
    ///   finished delivery's job is still removed.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn record(&self, results: &[Record]) -> Result<Vec<Recorded>, BackendError>;

    /// Cancels up to `limit` unfinished deliveries of deleted subscriptions and returns how many. Part of
    /// the deletion, which survives restarts because it is asked for until it answers 0.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn cancel_deleted(&self, limit: u32) -> Result<u64, BackendError>;

    /// A page of what the queue must hold, in the order of ids: unfinished, not waiting behind another. For
    /// the reconciler; a store with its own queue answers nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Owed>, BackendError>;

    /// Deletes up to `limit` events that finished longer than `retention` ago, each with its deliveries and
    /// attempts, and forgets expired idempotency keys. An event finishes when its last delivery does; one
    /// without deliveries when it is published. Returns how many events went.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn prune(&self, retention: Duration, limit: u32) -> Result<u64, BackendError>;
}

/// Everything that must not be lost.
#[async_trait]
pub trait Store: SubscriptionStore + DeliveryStore {
    /// The queue in the same database, when the store was opened with it. The store then does the queue's
    /// part of every change in the same commit.
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>>;

    /// Whether the store answers and can write.
    ///
    /// # Errors
    /// When it does not or cannot.
    async fn ping(&self) -> Result<(), BackendError>;
}

// ---------------------------------------------------------------------------------------------------------
// What people look at

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
