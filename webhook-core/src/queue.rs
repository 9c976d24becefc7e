//! The queue: who works on what next.
//!
//! A queue holds one job for each unfinished delivery that may be tried, sorted into lanes, one a
//! subscription. It can be lost and rebuilt at any time: the store is the authority on every delivery
//! (promises 1 and 2).
//!
//! # Contract
//!
//! Every implementation, in memory or shared by many processes, owes:
//!
//! - **One live lease** (promise 3): between two claims of one job the first one's lease has ended, by the
//!   queue's clock, or it was settled. Running past its time alone does not cancel a token: it is good until
//!   another worker claims the job.
//! - **Settle clears every index in one step** (promise 4): a finished job is nowhere, a retried one is due
//!   exactly once, and its lane's count of attempts in flight is right.
//! - **Never early** (promise 6): a job is not claimed before its wait has passed on the queue's own clock.
//!   Waits come as durations; no method takes "now".
//! - **Lanes** (promise 13): [`lane`](crate::lane) is the reference for limits, strikes, classes and parking.
//!   Lanes that can be served are served in turn. A held lane (paused, disabled, parked, waiting for its
//!   rate) is not served, and what waits in it uses up nothing.
//! - **Answers in input order**: the outer `Err` says that nothing is known and the whole call may be
//!   repeated; the inner outcomes answer item by item. A stale token is an outcome, not an error.
//! - **Cancel safety**: dropping any of these futures leaves the queue as if the call had happened or had
//!   not, never in between.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::BackendError;
use crate::id::{DeliveryId, LaneId, Token, WorkerId};
use crate::lane::{Class, Effect, Health, Room};
use crate::model::RateLimit;

/// A delivery to be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The delivery, whose id is the job's.
    pub id: DeliveryId,
    /// The lane.
    pub lane: LaneId,
    /// How long from now it is not due yet.
    pub wait: Duration,
    /// The version of the lane's settings that the caller knows.
    pub lane_version: u64,
    /// A person asked for it: served although its lane is parked, within every other limit.
    pub urgent: bool,
}

/// A worker that takes fresh jobs at once, without a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOff {
    /// The token of every lease that comes of it.
    pub token: Token,
    /// The worker.
    pub worker: WorkerId,
    /// How long the leases hold.
    pub lease: Duration,
    /// How many jobs it can start.
    pub room: Room,
    /// The limit of lanes whose settings name none.
    pub max_in_flight: u32,
    /// Lanes that are not to be served to this worker now.
    pub avoid: Vec<LaneId>,
}

/// What became of an enqueued job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits in its lane.
    Queued,
    /// It is the worker's, by hand-off.
    Leased(Lease),
    /// It was there already, and is now due at the earlier of both times; a leased one stays leased.
    Present,
    /// The queue knows the lane not at all or with older settings: nothing was queued. Push the settings
    /// with [`JobQueue::lanes`] and repeat.
    LaneBehind,
}

/// A worker's wish for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The claim's id, which becomes the token of every lease that it gives. A repeat with the same id gives
    /// the same leases again, as far as they are still held by it.
    pub id: Token,
    /// The worker.
    pub worker: WorkerId,
    /// How long the leases hold, by the queue's clock.
    pub lease: Duration,
    /// How many jobs it can start now. A queue gives no more than fit.
    pub room: Room,
    /// The limit of lanes whose settings name none.
    pub max_in_flight: u32,
    /// Lanes that are not to be served to this worker now.
    pub avoid: Vec<LaneId>,
}

/// A worker's time-limited right to one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job, whose id is the delivery's.
    pub id: DeliveryId,
    /// Its lane.
    pub lane: LaneId,
    /// The proof.
    pub token: Token,
    /// Which share of the worker's slots it draws on.
    pub class: Class,
    /// The lane's strike mark now; see [`Health::mark`].
    pub mark: u64,
    /// The version of the lane's settings that the queue knows.
    pub lane_version: u64,
    /// Tokens of earlier claims that ended without being settled: each may stand for a request that was
    /// sent and never recorded.
    pub unsettled: Vec<Token>,
}

/// What a worker says of a job that it had claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The job.
    pub id: DeliveryId,
    /// The proof that the worker holds it.
    pub token: Token,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What the attempt did to the lane.
    pub effect: Effect,
    /// The lane's strike mark as claimed.
    pub mark: u64,
}

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is finished and leaves the queue.
    Done,
    /// It is due again after this wait.
    RetryAfter(Duration),
    /// Nothing was sent: it is due at once, for anybody, and its token counts as settled.
    Release,
}

/// What a settle did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect; the lane now has this many strikes.
    Settled {
        /// The lane's strikes after it.
        strikes: u8,
    },
    /// Another worker holds the job, or nobody does: nothing changed.
    Stale,
}

/// What a queue must know of a lane to serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSettings {
    /// The lane.
    pub lane: LaneId,
    /// The version of the subscription that these settings are of. Older ones are ignored.
    pub version: u64,
    /// The subscription's own limit of attempts in flight.
    pub max_in_flight: Option<u32>,
    /// Its rate.
    pub rate: Option<RateLimit>,
    /// Why it is not to be served, when it is not.
    pub hold: Option<Hold>,
}

/// Why a lane is held without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Its subscription is paused.
    Paused,
    /// Its subscription is disabled.
    Disabled,
    /// Its subscription was deleted.
    Deleted,
}

/// How a lane stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// The version of its settings.
    pub version: u64,
    /// What is remembered of its behaviour.
    pub health: Health,
    /// Attempts in flight, over all workers.
    pub in_flight: u32,
    /// How long it is parked yet.
    pub parked_for: Option<Duration>,
    /// How long until its rate permits the next job.
    pub rate_limited_for: Option<Duration>,
    /// Held without an end.
    pub hold: Option<Hold>,
}

/// How much work there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Jobs that are due in lanes that are not held, leased ones left out. Up to a bound of the backend's.
    pub due: u64,
    /// Jobs whose time has not come. Up to a bound of the backend's.
    pub scheduled: u64,
    /// How long the oldest due job has been due.
    pub oldest_due: Option<Duration>,
    /// Lanes that wait because they are paused.
    pub paused: u64,
    /// Lanes that wait because they are disabled.
    pub disabled: u64,
    /// Lanes that wait because they are parked.
    pub parked: u64,
    /// Lanes that wait for their rate.
    pub rate_limited: u64,
}

/// Who works on what next. See the [module](self) for what every implementation owes.
#[async_trait]
pub trait JobQueue: Debug + Send + Sync + 'static {
    /// Adds jobs; with `hand_off`, leases as many of those that are due at once as their lanes and the
    /// worker's room allow.
    ///
    /// To ensure correctness:
    /// - one job is added or not at all, together with its lane's indexes; jobs are independent;
    /// - a repeat finds them [`Present`](Enqueued::Present);
    /// - a job whose lane is unknown or known older is not added ([`LaneBehind`](Enqueued::LaneBehind)).
    ///
    /// # Errors
    /// When nothing is known of what was added; the call may be repeated.
    async fn enqueue(
        &self,
        jobs: &[NewJob],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Enqueued>, BackendError>;

    /// Leases due jobs to a worker, lanes in turn, no more than fit its room.
    ///
    /// To ensure correctness:
    /// - a repeat with the same claim id gives the same leases, as far as they are still its own;
    /// - a lease whose time has run out makes its job claimable again, and its token is given as unsettled
    ///   with every later claim until one settles.
    ///
    /// An empty answer does not say that nothing is due.
    ///
    /// # Errors
    /// When nothing is known; repeat with the same claim id.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Lease>, BackendError>;

    /// Ends leases. Each item clears or re-arms its job, its lane's count and its lane's strikes in one step.
    ///
    /// # Errors
    /// When nothing is known; a repeat answers [`Settled::Stale`] for what had taken effect.
    async fn settle(&self, jobs: &[Settle]) -> Result<Vec<Settled>, BackendError>;

    /// Renews leases to end `lease` from now. Answers whether each is still its token's.
    ///
    /// # Errors
    /// When nothing is known; a repeat is harmless.
    async fn extend(
        &self,
        leases: &[(DeliveryId, Token)],
        lease: Duration,
    ) -> Result<Vec<bool>, BackendError>;

    /// Forgets jobs, leased or not; unknown ones are no error.
    ///
    /// # Errors
    /// When nothing is known; a repeat is harmless.
    async fn remove(&self, ids: &[DeliveryId]) -> Result<(), BackendError>;

    /// Sets lanes' settings; older versions than the known one change nothing. A lane without settings is
    /// never served.
    ///
    /// # Errors
    /// When nothing is known; a repeat is harmless.
    async fn lanes(&self, settings: &[LaneSettings]) -> Result<(), BackendError>;

    /// How lanes stand; `None` for one that the queue does not know.
    ///
    /// # Errors
    /// When the queue does not answer.
    async fn lane_states(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError>;

    /// Returns when a claim may give something, at the latest after `timeout`. A hint: it may return early
    /// and for nothing.
    async fn wait(&self, timeout: Duration);

    /// How much work there is, for people and metrics.
    ///
    /// # Errors
    /// When the queue does not answer.
    async fn depth(&self) -> Result<Depth, BackendError>;

    /// Which memory this is: another number says that the queue was lost and must be rebuilt.
    ///
    /// # Errors
    /// When the queue does not answer, which is how readiness is probed.
    async fn epoch(&self) -> Result<u64, BackendError>;
}
