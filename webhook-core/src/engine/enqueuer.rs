//! Brings jobs of fresh events to a queue apart from the store.
//!
//! An acknowledgement never waits for it (promise 15), and what it drops, because it has too much to do or the
//! queue is away, the reconciler finds in the store (promise 2).
//!
//! What is scheduled is never handed to a worker from here: whether its moment has come is for the store's clock
//! to say, when it is loaded, and not for this process's (promises 6 and 18).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::committer::Submission;
use super::handle::Inner;
use super::lane_settings;
use super::meters::Call;
use super::worker::{Ready, Worker};
use crate::error::BackendError;
use crate::model::DeliveryState;
use crate::queue::{Enqueued, NewJob};
use crate::store::Inserted;

/// Jobs that wait for the queue.
const WAITING: usize = 8192;
/// Jobs in one call.
const BATCH: usize = 256;
/// Payload bytes that waiting jobs may hold on to.
const BYTES: usize = 32 * 1024 * 1024;

#[derive(Debug)]
struct Waiting {
    job: NewJob,
    ready: Ready,
}

/// The way to the one task that enqueues.
#[derive(Debug)]
pub(super) struct Enqueuer {
    jobs: mpsc::Sender<Waiting>,
    load: Arc<Load>,
}

#[derive(Debug, Default)]
struct Load {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

impl Enqueuer {
    /// Starts the task. It ends when the engine's last handle is dropped.
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let load = Arc::new(Load::default());
        tokio::spawn(run(Arc::downgrade(inner), waiting, Arc::clone(&load)));
        Self { jobs, load }
    }

    /// How many jobs wait for the queue.
    pub(super) fn pending(&self) -> usize {
        self.load.jobs.load(Ordering::Acquire)
    }

    /// Passes on the jobs of committed events, as far as there is room.
    pub(super) fn enqueue(&self, inner: &Inner, submissions: &[Submission], outcomes: &[Inserted]) {
        let now = inner.clock.now();
        for (submission, outcome) in submissions.iter().zip(outcomes) {
            let Inserted::Stored { waiting, .. } = outcome else { continue };
            let event = &submission.insert.event;
            let wait = event.deliver_at.map_or(Duration::ZERO, |at| at.since(now));
            for (delivery, endpoint) in submission.insert.deliveries.iter().zip(&submission.endpoints) {
                if waiting.contains(&delivery.id) {
                    continue;
                }
                let bytes = event.payload.len();
                if self.load.bytes.load(Ordering::Relaxed) + bytes > BYTES {
                    return;
                }
                let job = NewJob {
                    id: delivery.id,
                    lane: delivery.subscription_id,
                    wait,
                    lane_version: endpoint.subscription.version,
                    urgent: false,
                };
                let ready = Ready {
                    state: DeliveryState::new(),
                    event: Arc::clone(event),
                    endpoint: Arc::clone(endpoint),
                };
                self.load.jobs.fetch_add(1, Ordering::AcqRel);
                self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
                if self.jobs.try_send(Waiting { job, ready }).is_err() {
                    self.load.jobs.fetch_sub(1, Ordering::AcqRel);
                    self.load.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

async fn run(inner: std::sync::Weak<Inner>, mut waiting: mpsc::Receiver<Waiting>, load: Arc<Load>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let Some(inner) = inner.upgrade() else { return };
        let jobs = batch.len();
        let bytes: usize = batch.iter().map(|waiting| waiting.ready.event.payload.len()).sum();
        let is_scheduled = |waiting: &Waiting| waiting.ready.event.deliver_at.is_some();
        let (scheduled, fresh): (Vec<_>, Vec<_>) = batch.drain(..).partition(is_scheduled);
        let worker = inner.worker();
        for (part, worker) in [(fresh, worker.as_ref()), (scheduled, None)] {
            let jobs = part.len();
            if jobs > 0
                && let Err(error) = enqueue(&inner, part, worker).await
            {
                inner.meters.failure(Call::Enqueue);
                tracing::warn!(
                    error = &error as &dyn Error,
                    jobs,
                    "jobs were not enqueued; the reconciler will find them"
                );
            }
        }
        load.bytes.fetch_sub(bytes, Ordering::Relaxed);
        load.jobs.fetch_sub(jobs, Ordering::AcqRel);
    }
}

/// Enqueues jobs, handed off to the worker as far as it has room.
async fn enqueue(
    inner: &Arc<Inner>,
    batch: Vec<Waiting>,
    worker: Option<&Arc<Worker>>,
) -> Result<(), BackendError> {
    let (jobs, mut ready): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.job, Some(waiting.ready))).unzip();
    let reservation = worker.and_then(|worker| worker.reserve(inner, jobs.len()));
    let hand_off = reservation.as_ref().map(|reserved| &reserved.hand_off);
    let outcome = inner.queue.enqueue(&jobs, hand_off).await;
    let mut leased = Vec::new();
    let mut behind = Vec::new();
    if let Ok(outcomes) = &outcome {
        for ((index, job), outcome) in jobs.iter().enumerate().zip(outcomes) {
            match outcome {
                Enqueued::Leased(lease) => {
                    leased.extend(ready[index].take().map(|ready| (lease.clone(), ready)));
                }
                Enqueued::LaneBehind => behind.push((job.clone(), index)),
                Enqueued::Queued | Enqueued::Present => {}
            }
        }
    }
    if let (Some(worker), Some(reservation)) = (worker, reservation) {
        worker.start_reserved(inner, &reservation, leased);
    }
    outcome?;
    if behind.is_empty() {
        return Ok(());
    }
    inner.lane_unknown.notify_one();
    let settings: Vec<_> = behind
        .iter()
        .filter_map(|(_, index)| Some(lane_settings(&ready[*index].as_ref()?.endpoint.subscription)))
        .collect();
    inner.queue.lanes(&settings).await?;
    let jobs: Vec<_> = behind.into_iter().map(|(job, _)| job).collect();
    inner.queue.enqueue(&jobs, None).await.map(drop)
}
