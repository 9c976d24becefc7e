//! Counts what is committed, and writes what was counted as roll-ups.
//!
//! Counting is a look-up in a map under a lock that nobody holds for long; nothing on the way of a delivery waits
//! for a roll-up. A moment after the first count everything counted so far is written, by few rows at once, so that
//! a store with one writer commits other things in between. How long that moment is depends on how many rows came
//! the last time: half a second while few subscriptions are busy, a minute at most, so that a process writes no more
//! than some hundred rows a second.
//!
//! What is being written keeps its rows and their ids until the store has confirmed them; meanwhile others are
//! counted. So a repeat adds nothing twice while the store still knows the ids
//! ([`PARTS_KEPT`](crate::stats::PARTS_KEPT)), and memory holds two such sets at most (promise 16). A set names a
//! bounded number of subscriptions and tenants: what is counted for more of them within one set is in the sums of
//! their tenants, or of all, alone.
//!
//! A reader writes nothing, however often it asks: it adds what this process has not written to what the store
//! says. While it does, no row goes from the one to the other, so each is counted once. Of rows of which nobody
//! knows whether the store has them, since an insert was not answered, a reader first repeats the insert.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, mpsc};

use super::backlog;
use super::backoff::Backoff;
use super::config::lock;
use super::gathered::{Counting, Gathered};
use super::handle::Inner;
use crate::error::{BackendError, BackendErrorKind};
use crate::id::SubscriptionId;
use crate::model::Tenant;
use crate::stats::{Backlog, Counts, Rollup, Scope, Totals, Worst};

/// Rows that are inserted at once. On SQLite nothing else commits meanwhile.
const CHUNK: usize = 256;
/// What is counted waits at least so long to be written, for more to come.
const SHORTEST: Duration = Duration::from_millis(500);
/// And at most so long.
const LONGEST: Duration = Duration::from_secs(60);
/// How long for each row that was written the last time.
const PER_ROW: Duration = Duration::from_millis(10);
/// A reader waits so long at most for an insert to be over.
const PATIENCE: Duration = Duration::from_millis(500);
/// And a stop so long for the last ones.
const LAST_WRITE: Duration = Duration::from_millis(500);
/// So many subscriptions are named as the worst.
const WORST: usize = 10;
/// The store is asked for so many, since what is not written yet may change their order.
const WORST_STORED: u32 = 30;

/// What was counted in a window, and what has to be done now.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// The sums.
    pub counts: Counts,
    /// The ten subscriptions with the most failed attempts, the worst first.
    pub worst: Vec<Worst>,
    /// What has to be done.
    pub backlog: Backlog,
}

/// What is being written; empty when the store has confirmed all of it.
#[derive(Debug, Default)]
struct Unwritten {
    rows: Vec<Rollup>,
    /// The last rows of these were sent, and nobody knows whether they are stored.
    is_doubtful: bool,
}

impl Unwritten {
    /// Inserts some rows and forgets them, or keeps them to be inserted again. Returns how many.
    async fn put(&mut self, inner: &Inner) -> Result<usize, BackendError> {
        let left = self.rows.len().saturating_sub(CHUNK);
        let chunk = &self.rows[left..];
        let count = chunk.len();
        if count == 0 {
            return Ok(0);
        }
        self.is_doubtful = true;
        match inner.store.add_rollups(chunk).await {
            Ok(()) => {}
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => tracing::error!(
                error = &error as &dyn Error,
                rows = count,
                "counts cannot be stored and are lost"
            ),
        }
        self.rows.truncate(left);
        self.is_doubtful = false;
        Ok(count)
    }
}

/// Counts of this process.
#[derive(Debug)]
pub(super) struct Tally {
    gathered: Mutex<Gathered>,
    /// Changed by who writes alone. Who reads the store keeps it as it is meanwhile.
    unwritten: RwLock<Unwritten>,
    woken: mpsc::Sender<()>,
}

impl Inner {
    /// Counts for the metrics and the statistics. What is counted of one commit is counted by one of these.
    pub(super) fn counting(self: &Arc<Self>) -> Counting<'_> {
        let Tally { gathered, woken, .. } = self.tally();
        Counting::new(&self.meters, lock(gathered), woken)
    }
}

impl Tally {
    /// Starts the task that writes. It ends when the engine's last handle is dropped.
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let (woken, wakes) = mpsc::channel(1);
        tokio::spawn(run(Arc::downgrade(inner), wakes));
        Self { gathered: Mutex::default(), unwritten: RwLock::default(), woken }
    }

    /// Writes all that was counted before the call. Returns how many rows that took.
    async fn write(&self, inner: &Inner) -> Result<usize, BackendError> {
        // What an earlier call could not write, and then what was counted since.
        let left_over = self.put_all(inner).await?;
        let mut unwritten = self.unwritten.write().await;
        if unwritten.rows.is_empty() {
            let gathered = std::mem::take(&mut *lock(&self.gathered));
            unwritten.rows = gathered.into_rollups();
        }
        drop(unwritten);
        Ok(left_over + self.put_all(inner).await?)
    }

    async fn put_all(&self, inner: &Inner) -> Result<usize, BackendError> {
        let mut all = 0;
        loop {
            // Readers get their turn between two inserts.
            let count = self.unwritten.write().await.put(inner).await?;
            if count == 0 {
                return Ok(all);
            }
            all += count;
        }
    }

    /// What is not written, as it stays while this is held; `None` when an insert does not come to its end.
    async fn settled(&self, inner: &Inner) -> Option<RwLockReadGuard<'_, Unwritten>> {
        let settled = async {
            let unwritten = self.unwritten.read().await;
            if !unwritten.is_doubtful {
                return unwritten;
            }
            drop(unwritten);
            let mut unwritten = self.unwritten.write().await;
            if unwritten.is_doubtful
                && let Err(error) = unwritten.put(inner).await
            {
                tracing::warn!(error = &error as &dyn Error, "some counts may be in the statistics twice");
            }
            unwritten.downgrade()
        };
        tokio::time::timeout(PATIENCE, settled).await.ok()
    }

    /// What of a scope is not stored.
    fn own(&self, unwritten: &Unwritten, scope: &Scope) -> Own {
        let mut own = Own::default();
        for Rollup { scope: of, counts, .. } in &unwritten.rows {
            if of == scope {
                own.counts.merge(counts);
            }
            if let Scope::Subscription(tenant, id) = of
                && scope.includes(of)
            {
                own.attempts_of(tenant, *id, counts);
            }
        }
        let gathered = lock(&self.gathered);
        if let Some(counts) = gathered.of(scope) {
            own.counts.merge(counts);
        }
        gathered.each_subscription(scope, |tenant, id, counts| own.attempts_of(tenant, id, counts));
        own
    }
}

/// What this process has counted and not written.
#[derive(Debug, Default)]
struct Own {
    counts: Counts,
    /// Attempts of the subscriptions that have any.
    attempts: BTreeMap<SubscriptionId, (Tenant, Worst)>,
}

impl Own {
    fn attempts_of(&mut self, tenant: &Tenant, id: SubscriptionId, counts: &Counts) {
        let Counts { attempts_succeeded: succeeded, attempts_failed: failed, .. } = *counts;
        if succeeded == 0 && failed == 0 {
            return;
        }
        let none = || (tenant.clone(), Worst { subscription_id: id, succeeded: 0, failed: 0 });
        let (_, sums) = self.attempts.entry(id).or_insert_with(none);
        sums.succeeded += succeeded;
        sums.failed += failed;
    }
}

/// Writes a moment after something was counted, until the engine is gone.
async fn run(inner: Weak<Inner>, mut wakes: mpsc::Receiver<()>) {
    let mut pause = SHORTEST;
    while wakes.recv().await.is_some() {
        tokio::time::sleep(pause).await;
        let mut backoff = Backoff::default();
        loop {
            let Some(inner) = inner.upgrade() else { return };
            match inner.tally().write(&inner).await {
                Ok(rows) => {
                    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
                    pause = PER_ROW.saturating_mul(rows).clamp(SHORTEST, LONGEST);
                    break;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "statistics wait for the store");
                }
            }
            drop(inner);
            tokio::time::sleep(backoff.after_failure()).await;
        }
    }
}

/// Reads a window, with what this process has counted before the call.
pub(super) async fn read(
    inner: &Arc<Inner>,
    scope: &Scope,
    window: Duration,
) -> Result<Statistics, BackendError> {
    let (totals, backlog) = tokio::join!(totals(inner, scope, window), backlog::count(inner, scope));
    let (Totals { counts, worst }, backlog) = (totals?, backlog?);
    Ok(Statistics { counts, worst, backlog })
}

async fn totals(inner: &Arc<Inner>, scope: &Scope, window: Duration) -> Result<Totals, BackendError> {
    let tally = inner.tally();
    let unwritten = tally.settled(inner).await;
    if unwritten.is_none() {
        tracing::warn!("the last moments are not in the statistics yet: the store takes its time for them");
    }
    let own = unwritten.as_ref().map(|unwritten| tally.own(unwritten, scope)).unwrap_or_default();
    let mut totals = inner.store.totals(scope, window, WORST_STORED).await?;
    totals.counts.merge(&own.counts);
    totals.worst = match scope {
        Scope::Subscription(_, id) => Worst::of(*id, &totals.counts).into_iter().collect(),
        Scope::All | Scope::Tenant(_) => worst(inner, window, totals.worst, own).await?,
    };
    drop(unwritten);
    Ok(totals)
}

/// The worst of what is stored and what is not. One that the store did not name has no failed attempts there, or
/// less than all that it named, and is asked for when it comes among the first by its unwritten ones.
async fn worst(
    inner: &Inner,
    window: Duration,
    mut list: Vec<Worst>,
    mut own: Own,
) -> Result<Vec<Worst>, BackendError> {
    for stored in &mut list {
        if let Some((_, unwritten)) = own.attempts.remove(&stored.subscription_id) {
            stored.succeeded += unwritten.succeeded;
            stored.failed += unwritten.failed;
        }
    }
    list.extend(own.attempts.values().map(|(_, unwritten)| *unwritten).filter(|worst| worst.failed > 0));
    Worst::sort(&mut list);
    list.truncate(WORST);
    for worst in &mut list {
        let Some((tenant, _)) = own.attempts.remove(&worst.subscription_id) else { continue };
        let scope = Scope::Subscription(tenant, worst.subscription_id);
        let stored = inner.store.totals(&scope, window, 0).await?.counts;
        worst.succeeded += stored.attempts_succeeded;
        worst.failed += stored.attempts_failed;
    }
    Worst::sort(&mut list);
    Ok(list)
}

/// Writes what was counted before a stop that may last so much longer. What cannot be written by then is written
/// later, if the process goes on.
pub(super) async fn write_last(inner: &Arc<Inner>, left: Duration) {
    let late = |_| {
        BackendError::new(
            BackendErrorKind::Timeout,
            "engine",
            "add_rollups",
            "the store did not answer in time",
        )
    };
    let written = tokio::time::timeout(LAST_WRITE.min(left), inner.tally().write(inner)).await.map_err(late);
    if let Err(error) = written.flatten() {
        tracing::warn!(error = &error as &dyn Error, "the last moments are not in the statistics yet");
    }
}
