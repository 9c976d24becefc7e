use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::ConfigVersion;
use crate::error::BackendError;
use crate::id::{DeliveryId, EventId, LaneId, SubscriptionId, Token};
use crate::lane::Effect;
use crate::lifecycle::Next;
use crate::model::{Attempt, DeliveryState, Event, Tenant};
use crate::queue::{HandOff, Lease};

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
    /// How long after the start of its chain it may be given up. A chain starts at the later of publishing or
    /// reopening and `deliver_at`.
    pub give_up_after: Duration,
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
    /// A new chain starts by this, to be given up after so long.
    pub new_chain: Option<Duration>,
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

/// What is to be expired. In either case unfinished deliveries only, whether they were tried or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expire {
    /// Those of one lane that may be given up by now.
    Lane(LaneId),
    /// Those of any lane whose chain started longer ago than this.
    OlderThan(Duration),
}

/// How many deliveries of a subscription a sweep has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Whose it is.
    pub tenant: Tenant,
    /// The subscription, which may be deleted.
    pub subscription_id: SubscriptionId,
    /// How many, one or more.
    pub count: u64,
}

impl Ended {
    /// How many deliveries ended in all.
    #[must_use]
    pub fn total(ended: &[Self]) -> u64 {
        ended.iter().map(|ended| ended.count).sum()
    }
}

/// What was expired.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expired {
    /// How many deliveries of which subscriptions, each named once, in the order of their ids.
    pub ended: Vec<Ended>,
    /// Deliveries that became the heads of their ordering keys by it.
    pub released: Vec<(DeliveryId, LaneId)>,
}

/// An event with all its deliveries.
#[derive(Debug, Clone, PartialEq)]
pub struct OfEvent {
    /// The event.
    pub event: Arc<Event>,
    /// Its deliveries in the order of their ids.
    pub deliveries: Vec<EventDelivery>,
}

/// A delivery of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its subscription.
    pub subscription_id: SubscriptionId,
    /// Where it stands.
    pub state: DeliveryState,
}

/// What became of deliveries that were added to a stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// They are stored, but for those whose subscription had one of this event already.
    Stored {
        /// Those that were stored.
        added: Vec<DeliveryId>,
        /// Those of them that wait behind an earlier one of their ordering key.
        waiting: Vec<DeliveryId>,
    },
    /// The configuration has another version: nothing was stored. Match again.
    Outdated,
    /// There is no such event.
    Gone,
}

/// What became of a page of a tenant's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// How many of them were deleted.
    pub deleted: u64,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<EventId>,
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

    /// Cancels up to `limit` unfinished deliveries of deleted subscriptions and returns how many of which, each
    /// subscription once, in the order of their ids. Part of the deletion, which survives restarts because it is
    /// asked for until it answers with none.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn cancel_deleted(&self, limit: u32) -> Result<Vec<Ended>, BackendError>;

    /// Ends as `expired` up to `limit` deliveries. A store with its own queue removes their jobs in the same
    /// commit.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn expire(&self, which: Expire, limit: u32) -> Result<Expired, BackendError>;

    /// An event of this tenant with all its deliveries.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Result<Option<OfEvent>, BackendError>;

    /// Adds deliveries to a stored event, due at once or at its `deliver_at`, as
    /// [`insert`](Self::insert) stores them: against the configuration version, ordered ones in turn, with
    /// their jobs in a store with its own queue. An event has at most one delivery for each subscription.
    ///
    /// # Errors
    /// When nothing is known; a repeat adds nothing twice.
    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Result<Added, BackendError>;

    /// A page of what the queue must hold, in the order of ids: unfinished, not waiting behind another. For
    /// the reconciler; a store with its own queue answers nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Owed>, BackendError>;

    /// Deletes up to `limit` events that finished longer than `retention` ago, each with its deliveries and
    /// attempts, and as many replays that did; and forgets expired idempotency keys. An event finishes when its
    /// last delivery does; one without deliveries when it is published. Returns how many events went.
    ///
    /// To ensure correctness: a replay that runs stays, however old it is, and so do the progress and the count of
    /// a finished one until then, whatever becomes of its deliveries.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn prune(&self, retention: Duration, limit: u32) -> Result<u64, BackendError>;

    /// Looks at up to `limit` events of a tenant, in the order of their ids behind `after`, and deletes those that
    /// finished longer than `older_than` ago, as [`prune`](Self::prune) does and by its meaning of finished: whole,
    /// with their deliveries and attempts. Replays stay, and so do idempotency keys with the count that they answer
    /// (promise 11).
    ///
    /// To ensure correctness:
    /// - nothing of another tenant goes, and no event that has anything unfinished;
    /// - a call is short: a page may end early when its events have many deliveries, and one that ended early is
    ///   not the last.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Purged, BackendError>;
}
