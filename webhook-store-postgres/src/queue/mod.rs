//! The queue: jobs, lanes and leases, in the same database as the store.
//!
//! # How it works
//!
//! The statements are functions of the server (`schema/0003_queue_claim.sql`, `schema/0004_queue_settle.sql`), so
//! that a publish or a batch of results is one round trip with the queue's part in it. Jobs that are added leave a row in `wakes`; the next
//! claim folds those into their lanes, then takes lanes in turn and jobs from them. Only a claim, and what
//! changes a lane, locks lanes.
//!
//! A job of a lane in good health, without a limit of its own, is handed off and finished without touching its
//! lane: what is in flight of such lanes each process counts by itself ([`local`]).
//!
//! # What it owes
//!
//! - What the store calls inside its own transactions takes a `&mut PgConnection`, or binds arguments to the
//!   store's own statement, and never commits. What this process must know of it is gathered in an [`After`],
//!   which the store calls behind its commit.
//! - Leases are only taken and ended by the server's clock.
//! - Nobody is notified by a publishing transaction: that would make commits wait for each other. This process
//!   rings its own bell; what others add is looked for every 200 ms while nothing is to be done here.

mod add;
mod after;
mod claim;
mod depth;
mod lanes;
mod limit;
mod local;
mod settle;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use sqlx::PgConnection;
use tokio::sync::Notify;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::queue::{
    Claim, Depth, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled,
};
use webhook_core::store::PoolUse;

pub(crate) use add::{Adding, add};
pub(crate) use after::After;
pub(crate) use lanes::configure;
pub(crate) use settle::{Fate, Settling, end_leases, hold, lock, remove_jobs};

use crate::connection::{Connections, Connector, Role};
use crate::error::Fault;
use crate::open::PgStore;
use claim::Claims;
use local::Local;

/// The limit of lanes without one of their own, until a worker has told it.
const DEFAULT_LIMIT: u32 = 64;

/// One process's side of the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Everything but claiming, looking and counting.
    connections: Connections,
    claimers: Connections,
    watchers: Connections,
    /// The store's own, for what people ask.
    people: Arc<Connections>,
    depth: depth::Kept,
    local: Local,
    claims: Claims,
    bell: Notify,
    default_limit: AtomicU32,
}

impl Queue {
    pub(crate) fn new(connector: &Connector, people: Arc<Connections>) -> Self {
        let connections = |most| Connections::new(connector.clone(), Role::Engine, most);
        Self {
            connections: connections(2),
            claimers: connections(1),
            watchers: connections(1),
            people,
            depth: depth::Kept::default(),
            local: Local::default(),
            claims: Claims::new(),
            bell: Notify::new(),
            default_limit: AtomicU32::new(DEFAULT_LIMIT),
        }
    }

    /// What follows from a transaction that begins.
    pub(crate) fn after(self: &Arc<Self>) -> After {
        After::new(self)
    }

    /// Something may have become servable.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// The limit of lanes without one of their own, as workers told it last.
    pub(crate) fn default_limit(&self) -> u32 {
        self.default_limit.load(Ordering::Acquire)
    }

    /// How the queue's own connections are used.
    pub(crate) fn pools(&self) -> [PoolUse; 3] {
        let Self { connections, claimers, watchers, .. } = self;
        [connections.usage("queue"), claimers.usage("claimer"), watchers.usage("watcher")]
    }

    /// Closes what stands idle; no call succeeds any more.
    pub(crate) fn close(&self) {
        for connections in [&self.connections, &self.claimers, &self.watchers] {
            connections.close();
        }
    }
}

/// Runs an operation on one of these connections. The box tells the compiler here, where it knows every type, that
/// what it returns may move between threads.
fn run<'a, A, T, F>(
    connections: &'a Connections,
    name: &'static str,
    args: &'a A,
    operation: F,
) -> BoxFuture<'a, Result<T, BackendError>>
where
    A: Sync + ?Sized,
    F: for<'b> Fn(&'b mut PgConnection, &'b A) -> BoxFuture<'b, Result<T, Fault>> + Send + Sync + 'a,
    T: Send + 'a,
{
    Box::pin(connections.run(name, args, operation))
}

/// A span as whole microseconds. No wait and no lease is longer than a hundred years, so that every moment is
/// one that the server can hold.
fn micros(span: Duration) -> i64 {
    const LONGEST: i64 = 100 * 366 * 86_400 * 1_000_000;
    i64::try_from(span.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST))
}

/// A count as the server's integer.
fn small(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[async_trait]
impl JobQueue for PgStore {
    async fn enqueue(
        &self,
        jobs: &[NewJob],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Enqueued>, BackendError> {
        add::enqueue(&self.inner.queue, jobs, hand_off).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Lease>, BackendError> {
        claim::claim(&self.inner.queue, claim).await
    }

    async fn settle(&self, jobs: &[Settle]) -> Result<Vec<Settled>, BackendError> {
        settle::settle(&self.inner.queue, jobs).await
    }

    async fn extend(
        &self,
        leases: &[(DeliveryId, Token)],
        lease: Duration,
    ) -> Result<Vec<bool>, BackendError> {
        settle::extend(&self.inner.queue, leases, lease).await
    }

    async fn remove(&self, ids: &[DeliveryId]) -> Result<(), BackendError> {
        settle::remove(&self.inner.queue, ids).await
    }

    async fn lanes(&self, settings: &[LaneSettings]) -> Result<(), BackendError> {
        lanes::set(&self.inner.queue, settings).await
    }

    async fn lane_states(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError> {
        lanes::states(&self.inner.queue, lanes).await
    }

    /// Waits for a change in this process that makes a lane servable, or for the moment at which one becomes
    /// so by time; what other processes add is seen within 200 ms. While there are lanes that the last claim
    /// passed over, for want of room or because it avoided them, it returns after 20 ms.
    async fn wait(&self, timeout: Duration) {
        // Either way there is nothing to tell: it is a hint.
        let _ = tokio::time::timeout(timeout, wait::servable(&self.inner.queue)).await;
    }

    /// Counted anew when that is quick. A count that took long, which is one of very many lanes, answers for the
    /// next while: five times as long as it took, half a minute at most. Jobs are counted up to a hundred thousand,
    /// in as many lanes.
    async fn depth(&self) -> Result<Depth, BackendError> {
        depth::depth(&self.inner.queue).await
    }

    async fn epoch(&self) -> Result<u64, BackendError> {
        lanes::epoch(&self.inner.queue).await
    }
}
