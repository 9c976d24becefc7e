//! [`SmallQueue`]: a [`JobQueue`] of one's own, in two files that are read in ten minutes.
//!
//! This file does what has nothing to do with queues: one lock, one clock, and the wake-up of workers that
//! wait. What becomes of a job, and which one is next, is `jobs.rs`. In a queue on a server the split is the
//! same: here the connection, the time-outs and the classes of errors, there the statements or scripts.
//!
//! What the two owe is written above [`webhook_core::queue`], and `tests/conformance.rs` holds them to it:
//! every method is one step under the lock, so that nobody sees half of it and a dropped future has done all
//! or nothing; every instant is made here, of the queue's own clock, from the waits that callers give.
//!
//! It is no better than [`MemoryQueue`](webhook_core::memory::MemoryQueue) at anything: a claim looks at
//! every lane, so thousands of lanes are slow, and all is lost with the process. The engine survives the
//! latter, because the store knows what it owes.

mod jobs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::queue::{
    Claim, Depth, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled,
};
use webhook_core::time::{Clock, SystemClock, Timestamp};

use jobs::Jobs;

/// A queue in this process's memory, written to be read.
#[derive(Debug)]
pub struct SmallQueue {
    clock: Arc<dyn Clock>,
    jobs: Mutex<Jobs>,
    changed: Notify,
    epoch: u64,
}

impl SmallQueue {
    /// An empty queue on the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty queue on this clock. Tests give one that they move; no method takes "now".
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        // Each process begins with an empty memory, so each has another epoch.
        let epoch = clock.now().as_micros().unsigned_abs();
        Self { clock, jobs: Mutex::default(), changed: Notify::new(), epoch }
    }

    /// Makes one step at one moment, and wakes those who wait when there may be work.
    fn step<T>(&self, step: impl FnOnce(&mut Jobs, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut jobs = self.jobs(now);
        let before = jobs.changes;
        let answer = step(&mut jobs, now);
        if jobs.changes != before {
            self.changed.notify_waiters();
        }
        answer
    }

    /// The jobs as they stand now: leases whose time is over have ended.
    fn jobs(&self, now: Timestamp) -> MutexGuard<'_, Jobs> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.end_leases(now);
        jobs
    }
}

impl Default for SmallQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl JobQueue for SmallQueue {
    async fn enqueue(&self, jobs: &[NewJob], to: Option<&HandOff>) -> Result<Vec<Enqueued>, BackendError> {
        Ok(self.step(|all, now| {
            let mut room = to.map(|to| to.room).unwrap_or_default();
            let one = |job: &NewJob| match (all.add(job, now), to) {
                (Enqueued::Queued, Some(to)) => {
                    all.hand_off(job, to, &mut room, now).map_or(Enqueued::Queued, Enqueued::Leased)
                }
                (answer, _) => answer,
            };
            jobs.iter().map(one).collect()
        }))
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Lease>, BackendError> {
        Ok(self.step(|all, now| all.claim(claim, now)))
    }

    async fn settle(&self, jobs: &[Settle]) -> Result<Vec<Settled>, BackendError> {
        Ok(self.step(|all, now| jobs.iter().map(|job| all.settle(job, now)).collect()))
    }

    async fn extend(
        &self,
        leases: &[(DeliveryId, Token)],
        lease: Duration,
    ) -> Result<Vec<bool>, BackendError> {
        let until = |now: Timestamp| now.after(lease);
        Ok(self
            .step(|all, now| leases.iter().map(|(id, token)| all.extend(*id, *token, until(now))).collect()))
    }

    async fn remove(&self, ids: &[DeliveryId]) -> Result<(), BackendError> {
        self.step(|all, _| ids.iter().for_each(|id| all.remove(*id)));
        Ok(())
    }

    async fn lanes(&self, settings: &[LaneSettings]) -> Result<(), BackendError> {
        self.step(|all, now| settings.iter().for_each(|lane| all.set_lane(lane, now)));
        Ok(())
    }

    async fn lane_states(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError> {
        Ok(self.step(|all, now| lanes.iter().map(|lane| all.lane_state(*lane, now)).collect()))
    }

    /// A hint, so it need not be right: it ends with any change, and when time alone may make a job
    /// claimable. It must not end at once for ever, or the engine would spin.
    async fn wait(&self, timeout: Duration) {
        // Made before looking, so that no change is lost in between.
        let changed = self.changed.notified();
        let now = self.clock.now();
        let next = self.jobs(now).worth_a_claim_at();
        let sleep = next.map_or(timeout, |at| at.since(now).min(timeout));
        // Either end is fine.
        let _ = tokio::time::timeout(sleep, changed).await;
    }

    async fn depth(&self) -> Result<Depth, BackendError> {
        Ok(self.step(|all, now| all.depth(now)))
    }

    async fn epoch(&self) -> Result<u64, BackendError> {
        Ok(self.epoch)
    }
}
