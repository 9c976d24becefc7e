//! [`MemoryQueue`]: one lock around [`Jobs`], and the wake-up of waiting workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::jobs::{Jobs, Outlook};
use crate::error::BackendError;
use crate::id::{DeliveryId, LaneId, Token};
use crate::lane::Room;
use crate::queue::{
    Claim, Depth, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled,
};
use crate::time::{Clock, SystemClock, Timestamp};

/// How long a wait lasts when all that could be served was passed over by the last claim: it may be another
/// worker's, or this one's when slots become free, but must not make anybody spin.
const PASSED_OVER: Duration = Duration::from_millis(20);

/// A queue in this process's memory: the reference implementation of [`JobQueue`].
///
/// Jobs and lanes are lost with the process; the engine rebuilds them from the store. Several workers may
/// share one behind an `Arc`.
///
/// Where the contract leaves a choice, this queue serves a lane's urgent jobs before its others, a released
/// job keeps its place in its lane, and extending a lease that has run out revives it unless another worker
/// has claimed the job.
///
/// [`wait`](JobQueue::wait) sleeps by tokio's time for as long as the clock says that nothing is due, so a
/// clock that is moved by hand does not end it: use a [`TokioClock`](crate::testing::TokioClock) with paused
/// time where that matters.
#[derive(Debug)]
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
    changed: Notify,
}

#[derive(Debug)]
struct Memory {
    epoch: u64,
    jobs: Jobs,
}

impl MemoryQueue {
    /// An empty queue on the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty queue on this clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        // Each begins with an empty memory, so each has another epoch.
        let epoch = clock.now().as_micros().unsigned_abs().max(1);
        Self { clock, memory: Mutex::new(Memory { epoch, jobs: Jobs::new() }), changed: Notify::new() }
    }

    /// Forgets all jobs and lanes, and changes the epoch: what the flush of a shared queue does. For tests.
    pub fn forget_everything(&self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.epoch += 1;
        memory.jobs = Jobs::new();
        drop(memory);
        self.changed.notify_waiters();
    }

    /// Makes one step, and wakes those who wait when something may have become servable.
    fn step<T>(&self, step: impl FnOnce(&mut Jobs, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut memory = self.lapsed(now);
        let before = memory.jobs.changes();
        let answer = step(&mut memory.jobs, now);
        let changed = memory.jobs.changes() != before;
        drop(memory);
        if changed {
            self.changed.notify_waiters();
        }
        answer
    }

    fn lapsed(&self, now: Timestamp) -> MutexGuard<'_, Memory> {
        // A step that panicked would be a defect of this module; what it left is still better than nothing.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.jobs.lapse(now);
        memory
    }

    async fn servable(&self) {
        loop {
            // Made before looking, so that no change is lost in between.
            let changed = self.changed.notified();
            let now = self.clock.now();
            let outlook = self.lapsed(now).jobs.outlook(now);
            let sleep = match outlook {
                Outlook::Now => return,
                Outlook::PassedOver => PASSED_OVER,
                Outlook::From(moment) => moment.since(now),
                Outlook::Unknown => Duration::MAX,
            };
            let over = tokio::time::timeout(sleep, changed).await.is_err();
            if over && outlook == Outlook::PassedOver {
                return;
            }
        }
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn enqueue(
        &self,
        jobs: &[NewJob],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Enqueued>, BackendError> {
        Ok(self.step(|memory, now| {
            let mut room = hand_off.map_or_else(Room::default, |to| to.room);
            jobs.iter()
                .map(|job| {
                    let queued = memory.enqueue(job, now);
                    match hand_off {
                        Some(to) if queued == Enqueued::Queued => {
                            memory.hand_off(job, to, &mut room, now).map_or(queued, Enqueued::Leased)
                        }
                        _ => queued,
                    }
                })
                .collect()
        }))
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Lease>, BackendError> {
        Ok(self.step(|memory, now| memory.claim(claim, now)))
    }

    async fn settle(&self, jobs: &[Settle]) -> Result<Vec<Settled>, BackendError> {
        Ok(self.step(|memory, now| jobs.iter().map(|job| memory.settle(job, now)).collect()))
    }

    async fn extend(
        &self,
        leases: &[(DeliveryId, Token)],
        lease: Duration,
    ) -> Result<Vec<bool>, BackendError> {
        Ok(self.step(|memory, now| {
            leases.iter().map(|(id, token)| memory.extend(*id, *token, lease, now)).collect()
        }))
    }

    async fn remove(&self, ids: &[DeliveryId]) -> Result<(), BackendError> {
        self.step(|memory, _| ids.iter().for_each(|id| memory.remove(*id)));
        Ok(())
    }

    async fn lanes(&self, settings: &[LaneSettings]) -> Result<(), BackendError> {
        self.step(|memory, now| settings.iter().for_each(|lane| memory.set_lane(lane, now)));
        Ok(())
    }

    async fn lane_states(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError> {
        Ok(self.step(|memory, now| lanes.iter().map(|lane| memory.lane_state(*lane, now)).collect()))
    }

    async fn wait(&self, timeout: Duration) {
        // Either way there is nothing to tell: it is a hint.
        let _ = tokio::time::timeout(timeout, self.servable()).await;
    }

    async fn depth(&self) -> Result<Depth, BackendError> {
        Ok(self.step(|memory, now| memory.depth(now)))
    }

    async fn epoch(&self) -> Result<u64, BackendError> {
        Ok(self.memory.lock().unwrap_or_else(PoisonError::into_inner).epoch)
    }
}
