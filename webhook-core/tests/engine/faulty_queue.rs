//! A queue that is away on command, or slow.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::memory::MemoryQueue;
use webhook_core::queue::{
    Claim, Depth, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Works,
    /// Every call fails at once.
    Away,
    /// No call is answered.
    Hangs,
}

/// A call whose reply can be made slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum QueueCall {
    Enqueue,
    Claim,
    Settle,
}

#[derive(Debug)]
pub(crate) struct FaultyQueue {
    inner: Arc<MemoryQueue>,
    state: watch::Sender<State>,
    slow: Mutex<HashMap<QueueCall, VecDeque<Duration>>>,
    calls: AtomicUsize,
    most: AtomicUsize,
}

type Answer<T> = Result<T, BackendError>;

impl FaultyQueue {
    pub(crate) fn new(inner: Arc<MemoryQueue>) -> Self {
        let state = watch::Sender::new(State::Works);
        Self {
            inner,
            state,
            slow: Mutex::default(),
            calls: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
        }
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// The next such call that is not to be slow yet takes effect, and its reply takes so long.
    pub(crate) fn delay(&self, call: QueueCall, by: Duration) {
        self.slow.lock().unwrap().entry(call).or_default().push_back(by);
    }

    /// How many calls came since the last time somebody asked.
    pub(crate) fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    /// After so many calls nothing is answered: in paused time, who spins would spin for ever.
    pub(crate) fn most(&self, calls: usize) {
        self.most.store(calls, Ordering::SeqCst);
    }

    async fn check(&self) -> Answer<()> {
        if self.calls.fetch_add(1, Ordering::SeqCst) >= self.most.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        let mut state = self.state.subscribe();
        // The sender lives in `self`.
        let now = *state.wait_for(|state| *state != State::Hangs).await.unwrap();
        if now == State::Works {
            return Ok(());
        }
        Err(BackendError::new(BackendErrorKind::Unavailable, "faulty", "call", "on command"))
    }

    async fn make<T>(&self, call: QueueCall, made: impl Future<Output = Answer<T>>) -> Answer<T> {
        self.check().await?;
        let slow = self.slow.lock().unwrap().get_mut(&call).and_then(VecDeque::pop_front);
        let done = made.await;
        tokio::time::sleep(slow.unwrap_or_default()).await; // verify: allow(sleep): a queue that is slow
        done
    }
}

#[async_trait]
impl JobQueue for FaultyQueue {
    async fn enqueue(&self, jobs: &[NewJob], hand_off: Option<&HandOff>) -> Answer<Vec<Enqueued>> {
        self.make(QueueCall::Enqueue, self.inner.enqueue(jobs, hand_off)).await
    }
    async fn claim(&self, claim: &Claim) -> Answer<Vec<Lease>> {
        self.make(QueueCall::Claim, self.inner.claim(claim)).await
    }
    async fn settle(&self, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        self.make(QueueCall::Settle, self.inner.settle(jobs)).await
    }
    async fn extend(&self, leases: &[(DeliveryId, Token)], lease: Duration) -> Answer<Vec<bool>> {
        self.check().await?;
        self.inner.extend(leases, lease).await
    }
    async fn remove(&self, ids: &[DeliveryId]) -> Answer<()> {
        self.check().await?;
        self.inner.remove(ids).await
    }
    async fn lanes(&self, settings: &[LaneSettings]) -> Answer<()> {
        self.check().await?;
        self.inner.lanes(settings).await
    }
    async fn lane_states(&self, lanes: &[LaneId]) -> Answer<Vec<Option<LaneState>>> {
        self.check().await?;
        self.inner.lane_states(lanes).await
    }
    async fn wait(&self, timeout: Duration) {
        self.inner.wait(timeout).await;
    }
    async fn depth(&self) -> Answer<Depth> {
        self.check().await?;
        self.inner.depth().await
    }
    async fn epoch(&self) -> Answer<u64> {
        self.check().await?;
        self.inner.epoch().await
    }
}
