//! The workers of one process: their tasks, their slots, and how they stop.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::config::{Endpoint, lock};
use super::handle::Inner;
use super::meters::Call;
use super::recorder::{self, Finished};
use super::slots::{Admitted, Slots};
use super::{attempt, dispatcher, keeper, rebuild, reconciler, relay, replayer};
use crate::error::BackendError;
use crate::id::{Token, WorkerId};
use crate::model::{DeliveryState, Event};
use crate::queue::{HandOff, Lease, Verdict};

/// How long after the grace a stop waits at most for what was cut off to be recorded, and for a claim to answer.
pub(super) const LAST_WORD: Duration = Duration::from_secs(5);

/// How this process delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    concurrency: u32,
}

impl Default for Workers {
    fn default() -> Self {
        Self { concurrency: 512 }
    }
}

impl Workers {
    /// At most so many attempts in flight in this process: half of them in slots that lanes share, half
    /// for attempts that have been in flight for more than a second. 1 or more; default 512.
    #[must_use]
    pub fn concurrency(mut self, attempts: u32) -> Self {
        self.concurrency = attempts.max(1);
        self
    }
}

/// A delivery that is ready to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    pub state: DeliveryState,
    pub event: Arc<Event>,
    pub endpoint: Arc<Endpoint>,
}

/// How far a worker has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It claims and delivers.
    Running,
    /// It claims nothing more; what is in flight may finish.
    Draining,
    /// What is in flight is cut off.
    Aborting,
}

/// The workers of one process.
#[derive(Debug)]
pub(super) struct Worker {
    pub id: WorkerId,
    pub slots: Slots,
    pub concurrency: u32,
    pub results: mpsc::UnboundedSender<Finished>,
    phase: watch::Sender<Phase>,
    tasks: Mutex<Option<Tasks>>,
}

#[derive(Debug)]
struct Tasks {
    dispatcher: JoinHandle<()>,
    others: JoinSet<()>,
}

/// Slots kept for what an insert may hand off.
#[derive(Debug)]
pub(super) struct Reservation {
    pub hand_off: HandOff,
    since: Instant,
}

impl Worker {
    /// Starts every task.
    pub(super) fn start(inner: &Arc<Inner>, workers: Workers) -> Arc<Self> {
        // Not bounded by itself: every result holds a slot until it is recorded.
        let (results, finished) = mpsc::unbounded_channel();
        let worker = Arc::new(Self {
            id: WorkerId::new(),
            slots: Slots::new(workers.concurrency),
            concurrency: workers.concurrency,
            results,
            phase: watch::Sender::new(Phase::Running),
            tasks: Mutex::new(None),
        });
        let mut others = JoinSet::new();
        others.spawn(recorder::run(Arc::clone(inner), Arc::clone(&worker), finished));
        others.spawn(keeper::run(Arc::clone(inner), Arc::clone(&worker)));
        others.spawn(reconciler::run(Arc::clone(inner), Arc::clone(&worker)));
        if !inner.own_queue {
            others.spawn(rebuild::run(Arc::clone(inner), Arc::clone(&worker)));
        }
        others.spawn(reconciler::prune(Arc::clone(inner), Arc::clone(&worker)));
        others.spawn(reconciler::compact(Arc::clone(inner), Arc::clone(&worker)));
        others.spawn(reconciler::expire(Arc::clone(inner), Arc::clone(&worker)));
        others.spawn(replayer::run(Arc::clone(inner), Arc::clone(&worker)));
        others.spawn(relay::run(Arc::clone(inner), Arc::clone(&worker)));
        let dispatcher = tokio::spawn(dispatcher::run(Arc::clone(inner), Arc::clone(&worker)));
        *lock(&worker.tasks) = Some(Tasks { dispatcher, others });
        worker
    }

    /// Returns when the worker is at least in this phase.
    pub(super) async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }

    /// Waits for `event`, unless the worker stops first.
    pub(super) async fn unless_stopped(&self, event: impl Future<Output = ()>) {
        self.unless(Phase::Draining, event).await;
    }

    /// Waits for `event`, unless the worker is at least in this phase first.
    pub(super) async fn unless(&self, phase: Phase, event: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.reached(phase) => {}
            () = event => {}
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Slots for up to `deliveries` of an insert; none while there is no room or the worker stops.
    pub(super) fn reserve(&self, inner: &Inner, deliveries: usize) -> Option<Reservation> {
        if deliveries == 0 || self.phase() != Phase::Running {
            return None;
        }
        let room = self.slots.reserve(deliveries);
        if room.all == 0 {
            return None;
        }
        let hand_off = HandOff {
            token: Token::new(),
            worker: self.id,
            lease: inner.settings.lease,
            room,
            max_in_flight: inner.settings.max_in_flight,
            avoid: self.slots.avoid().lanes,
        };
        Some(Reservation { hand_off, since: Instant::now() })
    }

    /// Starts what an insert handed off.
    pub(super) fn start_reserved(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        reservation: &Reservation,
        ready: Vec<(Lease, Ready)>,
    ) {
        let room = reservation.hand_off.room;
        if reservation.since.elapsed() > inner.settings.lease / 2 {
            // The commit took so long that a lease might end while its request is on the wire.
            self.slots.cancel(room);
            return self.hand_back(inner, &ready);
        }
        let sizes = ready.iter().map(|(lease, ready)| (lease, ready.event.payload.len()));
        let admitted = self.slots.admit(room, sizes, reservation.since);
        for ((lease, ready), admitted) in ready.into_iter().zip(admitted) {
            self.go(inner, lease, ready, admitted);
        }
    }

    fn hand_back(&self, inner: &Arc<Inner>, ready: &[(Lease, Ready)]) {
        let settles: Vec<_> =
            ready.iter().map(|(lease, _)| dispatcher::settle(lease, Verdict::Release)).collect();
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            if let Err(error) = inner.queue.settle(&settles).await {
                inner.meters.failure(Call::Settle);
                tracing::warn!(error = &error as &dyn std::error::Error, "jobs wait for their leases to end");
            }
        });
    }

    /// Starts an attempt that has its slot.
    pub(super) fn go(self: &Arc<Self>, inner: &Arc<Inner>, lease: Lease, ready: Ready, admitted: Admitted) {
        if admitted == Admitted::Start {
            tokio::spawn(attempt::run(Arc::clone(inner), Arc::clone(self), lease, ready));
        }
    }

    /// Returns when nothing is due and nothing is in flight.
    pub(super) async fn idle(&self, inner: &Arc<Inner>) -> Result<(), BackendError> {
        loop {
            self.slots.empty().await;
            if inner.enqueuer().pending() == 0 && inner.queue.depth().await?.due == 0 && self.slots.idle() {
                return Ok(());
            }
            // What is due starts by itself; there is nothing that tells when it has.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Claims nothing more from now on; what is in flight goes on.
    pub(super) fn drain(&self) {
        self.phase.send_if_modified(|phase| {
            let is_running = *phase == Phase::Running;
            if is_running {
                *phase = Phase::Draining;
            }
            is_running
        });
    }

    /// Stops every task: first what claims, then what is in flight, at last what records. Takes no longer than the
    /// grace and [`LAST_WORD`], whatever is away.
    pub(super) async fn stop(&self, inner: &Arc<Inner>, grace: Duration) {
        let start = Instant::now();
        self.drain();
        if tokio::time::timeout(grace, self.slots.empty()).await.is_err() {
            tracing::info!(
                cut_off = self.slots.in_flight(),
                "the grace is over: requests on the wire are cut off"
            );
        }
        self.phase.send_replace(Phase::Aborting);
        // After their leases, results are another worker's to find.
        let last_word = LAST_WORD.min(inner.settings.lease);
        let left = || grace.saturating_add(last_word).saturating_sub(start.elapsed());
        if tokio::time::timeout(left(), self.slots.empty()).await.is_err() {
            tracing::warn!(left = self.slots.in_flight(), "results could not be recorded before the stop");
        }
        let tasks = lock(&self.tasks).take();
        if let Some(mut tasks) = tasks {
            // It may be in the middle of a claim, and hands back what that gives.
            if tokio::time::timeout(left(), &mut tasks.dispatcher).await.is_err() {
                tasks.dispatcher.abort();
            }
            tasks.others.shutdown().await;
        }
    }
}
