//! Counts what is committed, and writes what was counted as roll-ups.
//!
//! Counting is a look-up in a map under a lock that nobody holds for long; nothing on the way of a delivery waits
//! for a roll-up. A moment after the first count everything counted so far is written in one insert. How long that
//! moment is depends on how many rows came the last time: half a second while few subscriptions are busy, a minute
//! at most, so that a process writes no more than some hundred rows a second.
//!
//! What is being written keeps its rows and their ids until the store has confirmed them; meanwhile others are
//! counted. So a repeat adds nothing twice, and memory holds two such sets at most (promise 16). A set names at
//! most [`SUBSCRIPTIONS`] subscriptions and [`TENANTS`] tenants: what is counted for more of them within one set is
//! in the sums of their tenants, or of all, alone.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::backlog;
use super::backoff::Backoff;
use super::config::lock;
use super::handle::Inner;
use crate::error::{BackendError, BackendErrorKind};
use crate::id::SubscriptionId;
use crate::model::Tenant;
use crate::stats::{Backlog, Counts, Rollup, Scope, Worst};

/// Subscriptions that one set of roll-ups names.
const SUBSCRIPTIONS: usize = 10_000;
/// Tenants that one set of roll-ups names.
const TENANTS: usize = 10_000;
/// What is counted waits at least so long to be written, for more to come.
const SHORTEST: Duration = Duration::from_millis(500);
/// And at most so long.
const LONGEST: Duration = Duration::from_secs(60);
/// How long for each row that was written the last time.
const PER_ROW: Duration = Duration::from_millis(10);
/// A reader waits so long at most for what was counted to be written.
const WRITE: Duration = Duration::from_secs(2);
/// And a stop so long.
const LAST_WRITE: Duration = Duration::from_millis(500);
/// So many subscriptions are named as the worst.
const WORST: u32 = 10;

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

/// What was counted and is not being written yet.
#[derive(Debug, Default)]
struct Gathered {
    counts: HashMap<Scope, Counts>,
    subscriptions: usize,
    tenants: usize,
    is_full: bool,
}

impl Gathered {
    fn of(&mut self, scope: Scope) -> Option<&mut Counts> {
        if !self.counts.contains_key(&scope) {
            let (named, most) = match scope {
                Scope::All => (&mut 0, 1),
                Scope::Tenant(_) => (&mut self.tenants, TENANTS),
                Scope::Subscription(..) => (&mut self.subscriptions, SUBSCRIPTIONS),
            };
            if *named == most {
                if !self.is_full {
                    tracing::warn!(
                        "too many subscriptions are busy at once: some have no statistics for now"
                    );
                }
                self.is_full = true;
                return None;
            }
            *named += 1;
        }
        Some(self.counts.entry(scope).or_default())
    }
}

/// Counts of this process.
#[derive(Debug)]
pub(super) struct Tally {
    gathered: Mutex<Gathered>,
    /// What is being written; empty when the store has confirmed it.
    writing: tokio::sync::Mutex<Vec<Rollup>>,
    woken: mpsc::Sender<()>,
}

impl Tally {
    /// Starts the task that writes. It ends when the engine's last handle is dropped.
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let (woken, wakes) = mpsc::channel(1);
        tokio::spawn(run(Arc::downgrade(inner), wakes));
        Self { gathered: Mutex::default(), writing: tokio::sync::Mutex::default(), woken }
    }

    /// Counts something that happened to these subscriptions of a tenant: once for everybody, once for the tenant,
    /// and once for each of them.
    pub(super) fn count(
        &self,
        tenant: &Tenant,
        subscriptions: impl IntoIterator<Item = SubscriptionId>,
        count: impl Fn(&mut Counts),
    ) {
        let mut gathered = lock(&self.gathered);
        for scope in [Scope::All, Scope::Tenant(tenant.clone())] {
            gathered.of(scope).map(&count);
        }
        drop(gathered);
        self.count_for(tenant, subscriptions, count);
    }

    /// Counts something that happened to these subscriptions, for each of them alone.
    pub(super) fn count_for(
        &self,
        tenant: &Tenant,
        subscriptions: impl IntoIterator<Item = SubscriptionId>,
        count: impl Fn(&mut Counts),
    ) {
        let mut gathered = lock(&self.gathered);
        for subscription in subscriptions {
            gathered.of(Scope::Subscription(tenant.clone(), subscription)).map(&count);
        }
        drop(gathered);
        // Full: it is awake.
        let _ = self.woken.try_send(());
    }

    /// Writes all that was counted before the call. Returns how many rows that took.
    async fn write(&self, inner: &Inner) -> Result<usize, BackendError> {
        let mut writing = self.writing.lock().await;
        // What an earlier call could not write, and then what was counted since.
        let left_over = put(inner, &mut writing).await?;
        let gathered = std::mem::take(&mut *lock(&self.gathered));
        writing.extend(gathered.counts.into_iter().map(|(scope, counts)| Rollup::new(scope, counts)));
        Ok(left_over + put(inner, &mut writing).await?)
    }
}

/// Inserts rows and forgets them, or keeps them to be inserted again.
async fn put(inner: &Inner, rows: &mut Vec<Rollup>) -> Result<usize, BackendError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let count = rows.len();
    match inner.store.add_rollups(rows).await {
        Ok(()) => rows.clear(),
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn Error,
                rows = count,
                "counts cannot be stored and are lost"
            );
            rows.clear();
        }
    }
    Ok(count)
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
    write_within(inner, WRITE).await;
    let (totals, backlog) =
        tokio::join!(inner.store.totals(scope, window, WORST), backlog::count(inner, scope));
    let (totals, backlog) = (totals?, backlog?);
    Ok(Statistics { counts: totals.counts, worst: totals.worst, backlog })
}

/// Writes what was counted before a stop that may last so much longer.
pub(super) async fn write_last(inner: &Arc<Inner>, left: Duration) {
    write_within(inner, LAST_WRITE.min(left)).await;
}

/// What cannot be written within this time is written later; a store that reads is still worth reading.
async fn write_within(inner: &Arc<Inner>, time: Duration) {
    let late = |_| {
        BackendError::new(
            BackendErrorKind::Timeout,
            "engine",
            "add_rollups",
            "the store did not answer in time",
        )
    };
    let written = tokio::time::timeout(time, inner.tally().write(inner)).await.map_err(late);
    if let Err(error) = written.flatten() {
        tracing::warn!(error = &error as &dyn Error, "the last moments are not in the statistics yet");
    }
}
