//! Records results: what each delivery becomes is decided here and committed, all results that gathered
//! while the last commit was in flight as one.
//!
//! There is one recorder in a process. A result keeps its slot until it is recorded, so what waits here is
//! bounded while the store is away, and nothing is dropped (promises 15 and 16).

use std::collections::HashMap;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::backoff::{Backoff, sample};
use super::config::Endpoint;
use super::gathered::Happened;
use super::handle::Inner;
use super::meters::Call;
use super::spans;
use super::worker::{Phase, Worker};
use crate::error::BackendError;
use crate::id::{DeliveryId, LaneId};
use crate::lane::{Effect, PARKING_STRIKES};
use crate::lifecycle::{self, Ending, Input, Next, Step};
use crate::model::{Attempt, DeliveryState, DeliveryStatus, DisabledReason};
use crate::queue::{Enqueued, NewJob, Settle, Settled, Verdict};
use crate::retry::{RetryPolicy, RetrySpec};
use crate::store::{Record, RecordLease, Recorded};
use crate::time::Timestamp;

/// Results in one commit. Twice the places of a flood in the committer; more would save nothing worth having.
const BATCH: usize = 64;
/// How often one result is decided anew because its delivery moved on.
const DECISIONS: u32 = 16;

/// After the grace of a stop a store that fails is tried so many more times, with such a pause in between.
const LAST_TRIES: u32 = 3;
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// RFC 9110, section 15.5.11.
const GONE: u16 = 410;

/// An attempt that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub attempt: Attempt,
    pub ending: Ending,
    pub effect: Effect,
    /// The delivery as it was loaded.
    pub state: DeliveryState,
    pub endpoint: Arc<Endpoint>,
    /// When it was published or to be delivered, whichever is later, in its first chain: what latency counts
    /// from. The delivery's id tells, which core made when it was matched.
    pub expected: Option<Timestamp>,
}

/// A result on its way into the store.
#[derive(Debug)]
struct Pending {
    finished: Finished,
    /// The delivery's state that the decision is made on.
    state: DeliveryState,
    lease: Option<RecordLease>,
    late: bool,
    replaces: Option<u32>,
    decisions: u32,
}

impl Pending {
    fn new(finished: Finished, worker: &Worker) -> Self {
        let held = worker.slots.lease(finished.attempt.delivery_id);
        let lease = held.map(|(token, mark)| RecordLease { token, mark, effect: finished.effect });
        let state = finished.state.clone();
        Self { finished, state, lease, late: false, replaces: None, decisions: 0 }
    }

    fn id(&self) -> DeliveryId {
        self.finished.attempt.delivery_id
    }

    fn decide(&self) -> (Step, Record) {
        let chain = self.finished.state.chain;
        let input =
            Input::Ended { ending: &self.finished.ending, chain, late: self.late, replaces: self.replaces };
        let step = step(&self.state, &input, &*self.finished.endpoint.policy);
        let mut attempt = self.finished.attempt.clone();
        attempt.number = step.number.unwrap_or(attempt.number);
        let record = Record {
            id: self.id(),
            revision: self.state.revision,
            lease: self.lease,
            attempts: vec![attempt],
            state: step.state.clone(),
            next: step.next,
            new_chain: None,
        };
        (step, record)
    }

    /// Takes in that the delivery has moved on, or the lease is lost.
    fn moved_on(&mut self, now: DeliveryState, unknown: Option<u32>, own_queue: bool) {
        let same_revision = now.revision == self.state.revision;
        let others_result = now.attempts != self.finished.state.attempts;
        if (own_queue && same_revision) || (!own_queue && others_result) || unknown.is_some() {
            // With the revision unchanged it is the lease that is another worker's.
            self.late = true;
            self.lease = None;
        }
        self.replaces = unknown;
        self.state = now;
        self.decisions += 1;
    }
}

/// Lets a policy that panics fail by itself: the standard one decides in its place (promise 14).
fn step(state: &DeliveryState, input: &Input<'_>, policy: &dyn RetryPolicy) -> Step {
    let sample = sample();
    let decide = |policy: &dyn RetryPolicy| {
        std::panic::catch_unwind(AssertUnwindSafe(|| lifecycle::step(state, input, policy, sample)))
    };
    if let Ok(Ok(step)) = decide(policy) {
        return step;
    }
    tracing::error!(?policy, "the retry policy panicked; the standard schedule decides");
    match decide(&RetrySpec::standard()) {
        Ok(Ok(step)) => step,
        // An ended attempt is never refused, and the standard policy does not panic.
        _ => Step { state: state.clone(), next: Next::AsBefore, number: None, gone: false },
    }
}

/// Records until every sender and the worker are gone.
pub(super) async fn run(
    inner: Arc<Inner>,
    worker: Arc<Worker>,
    mut finished: mpsc::UnboundedReceiver<Finished>,
) {
    let mut gathered = Vec::with_capacity(BATCH);
    let mut last_tries = 0;
    while finished.recv_many(&mut gathered, BATCH).await > 0 {
        let mut batch: Vec<Pending> =
            gathered.drain(..).map(|finished| Pending::new(finished, &worker)).collect();
        let mut backoff = Backoff::default();
        while !batch.is_empty() {
            batch = match record(&inner, &worker, batch).await {
                Ok(moved_on) => moved_on,
                Err(Failed { batch, error }) => {
                    inner.meters.failure(Call::Record);
                    tracing::warn!(
                        error = &error as &dyn Error,
                        results = batch.len(),
                        "results wait for the store"
                    );
                    if worker.phase() < Phase::Aborting {
                        worker.unless(Phase::Aborting, tokio::time::sleep(backoff.after_failure())).await;
                        batch
                    } else if last_tries < LAST_TRIES {
                        last_tries += 1;
                        tokio::time::sleep(LAST_PAUSE).await;
                        batch
                    } else {
                        // Their leases run out, and the next worker finds unknown attempts.
                        tracing::warn!(results = batch.len(), "results are lost by the stop");
                        worker.slots.release(batch.iter().map(Pending::id));
                        Vec::new()
                    }
                }
            };
        }
    }
}

struct Failed {
    batch: Vec<Pending>,
    error: BackendError,
}

/// Commits a batch; returns what must be decided again because its delivery moved on.
async fn record(
    inner: &Arc<Inner>,
    worker: &Arc<Worker>,
    mut batch: Vec<Pending>,
) -> Result<Vec<Pending>, Failed> {
    if batch.iter().any(|pending| pending.finished.ending.status_code == Some(GONE))
        && let Err(error) = look_for_moved(inner, &mut batch).await
    {
        return Err(Failed { batch, error });
    }
    let (steps, records): (Vec<_>, Vec<_>) = batch.iter().map(Pending::decide).unzip();
    let started = Instant::now();
    let outcomes = match inner.store.record(&records).instrument(spans::record(records.len())).await {
        Ok(outcomes) => {
            inner.meters.record_time.took(started.elapsed());
            inner.meters.record_size.size(records.len());
            outcomes
        }
        Err(error) if error.is_retryable() => return Err(Failed { batch, error }),
        Err(error) if batch.len() == 1 => {
            // It stands alone: its lease runs out and the next worker finds an unknown attempt, eight of
            // which end it as poison.
            inner.meters.failure(Call::Record);
            tracing::error!(error = &error as &dyn Error, delivery = ?batch[0].id(), "a result cannot be stored");
            worker.slots.release(batch.iter().map(Pending::id));
            return Ok(Vec::new());
        }
        Err(_) => {
            let mut first = batch;
            let second = first.split_off(first.len() / 2);
            return halves(inner, worker, first, second).await;
        }
    };
    count(inner, &batch, &steps, &outcomes);
    let (mut again, mut over, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut settles, mut lanes) = (Vec::new(), Vec::new());
    for ((mut pending, step), outcome) in batch.into_iter().zip(steps).zip(outcomes) {
        match outcome {
            Recorded::Applied { released, strikes } => {
                over.push(pending.id());
                let unanswered = pending.finished.effect == Effect::Unanswered;
                if unanswered && strikes.is_some_and(|strikes| strikes >= PARKING_STRIKES) {
                    inner.give_up_on(pending.finished.attempt.subscription_id);
                }
                report(&pending, &step);
                if let Some(lease) = pending.lease.filter(|_| !inner.own_queue) {
                    let (id, verdict) = (pending.id(), verdict(step.next));
                    settles.push(Settle {
                        id,
                        token: lease.token,
                        verdict,
                        effect: lease.effect,
                        mark: lease.mark,
                    });
                    lanes.push(pending.finished.attempt.subscription_id);
                }
                if !inner.own_queue {
                    jobs.extend(released.into_iter().map(|(id, lane)| job(id, lane, false)));
                    // Somebody asked for an attempt while this one was in flight: it is due at once.
                    if step.state.request.is_some() {
                        jobs.push(job(pending.id(), pending.finished.attempt.subscription_id, true));
                    }
                }
                if step.gone {
                    disable(inner, &pending.finished);
                }
            }
            Recorded::Stale { state, unknown } if pending.decisions < DECISIONS => {
                pending.moved_on(*state, unknown, inner.own_queue);
                again.push(pending);
            }
            Recorded::Stale { .. } => {
                tracing::error!(delivery = %pending.id(), "a result was decided anew too often and is given up");
                over.push(pending.id());
            }
            Recorded::Gone => over.push(pending.id()),
        }
    }
    settle(inner, worker, &settles, &lanes).await;
    enqueue_jobs(inner, &jobs).await;
    worker.slots.release(over);
    Ok(again)
}

/// Only the present target may say that it is gone. A change of the target that comes after this look and before
/// the commit is as one after it: the delivery ends, and the subscription, looked at once more, is left alone.
async fn look_for_moved(inner: &Inner, batch: &mut [Pending]) -> Result<(), BackendError> {
    let mut gone: Vec<_> =
        batch.iter_mut().filter(|pending| pending.finished.ending.status_code == Some(GONE)).collect();
    let mut ids: Vec<_> = gone.iter().map(|pending| pending.finished.attempt.subscription_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let stored = match inner.store.get(&ids).await {
        Ok(stored) => stored,
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => {
            tracing::error!(error = &error as &dyn Error, "the targets that are gone cannot be compared");
            return Ok(());
        }
    };
    let targets: HashMap<_, _> =
        stored.iter().flatten().map(|stored| (stored.id, &stored.target_url)).collect();
    for pending in &mut gone {
        let tried = &pending.finished.endpoint.subscription;
        pending.finished.ending.moved = targets.get(&tried.id).is_some_and(|now| **now != tried.target_url);
    }
    Ok(())
}

async fn halves(
    inner: &Arc<Inner>,
    worker: &Arc<Worker>,
    first: Vec<Pending>,
    second: Vec<Pending>,
) -> Result<Vec<Pending>, Failed> {
    let mut again = match Box::pin(record(inner, worker, first)).await {
        Ok(again) => again,
        Err(mut failed) => {
            failed.batch.extend(second);
            return Err(failed);
        }
    };
    match Box::pin(record(inner, worker, second)).await {
        Ok(more) => {
            again.extend(more);
            Ok(again)
        }
        Err(mut failed) => {
            failed.batch.extend(again);
            Err(failed)
        }
    }
}

/// Tells a queue apart from the store. If it cannot be told, the leases run out, and the next claims find
/// the rows and only settle.
async fn settle(inner: &Inner, worker: &Worker, settles: &[Settle], lanes: &[LaneId]) {
    if settles.is_empty() {
        return;
    }
    let mut backoff = Backoff::default();
    for _ in 0..3 {
        match inner.queue.settle(settles).await {
            Ok(outcomes) => {
                for (job, lane, outcome) in
                    settles.iter().zip(lanes).zip(outcomes).map(|((a, b), c)| (a, b, c))
                {
                    let unanswered = job.effect == Effect::Unanswered;
                    if unanswered
                        && matches!(outcome, Settled::Settled { strikes } if strikes >= PARKING_STRIKES)
                    {
                        inner.give_up_on(*lane);
                    }
                }
                return;
            }
            Err(error) => {
                inner.meters.failure(Call::Settle);
                tracing::warn!(
                    error = &error as &dyn Error,
                    jobs = settles.len(),
                    "recorded jobs could not be settled"
                );
                if !error.is_retryable() || worker.phase() == Phase::Aborting {
                    return;
                }
                tokio::time::sleep(backoff.after_failure()).await;
            }
        }
    }
}

/// Enqueues deliveries that became the heads of their ordering keys, or were reopened; the reconciler finds
/// those that the queue does not take now.
pub(super) async fn enqueue(inner: &Inner, heads: &[(DeliveryId, LaneId)]) {
    let jobs: Vec<_> = heads.iter().map(|(id, lane)| job(*id, *lane, false)).collect();
    enqueue_jobs(inner, &jobs).await;
}

/// Whatever settings the queue has of its lane will do: the deliveries before it went by these.
fn job(id: DeliveryId, lane: LaneId, urgent: bool) -> NewJob {
    NewJob { id, lane, wait: Duration::ZERO, lane_version: 0, urgent }
}

async fn enqueue_jobs(inner: &Inner, jobs: &[NewJob]) {
    if jobs.is_empty() {
        return;
    }
    match inner.queue.enqueue(jobs, None).await {
        Ok(outcomes) if !outcomes.contains(&Enqueued::LaneBehind) => {}
        other => {
            if other.is_err() {
                inner.meters.failure(Call::Enqueue);
            }
            inner.reconcile_now.notify_one();
        }
    }
}

fn verdict(next: Next) -> Verdict {
    match next {
        Next::Never => Verdict::Done,
        Next::After(wait) => Verdict::RetryAfter(wait),
        // Whoever claims it loads when it is due, and waits on.
        Next::AsBefore => Verdict::Release,
    }
}

/// For the metrics and the statistics: what was applied.
fn count(inner: &Arc<Inner>, batch: &[Pending], steps: &[Step], outcomes: &[Recorded]) {
    let mut counting = inner.counting();
    for ((pending, step), outcome) in batch.iter().zip(steps).zip(outcomes) {
        if !matches!(outcome, Recorded::Applied { .. }) {
            continue;
        }
        let Finished { attempt, expected, .. } = &pending.finished;
        let status = step.state.status;
        let ended = status.is_finished() && !pending.state.status.is_finished();
        let happened = Happened {
            attempt: Some((attempt.outcome, pending.replaces.is_some())),
            ended: ended.then_some((status, 1)),
            latency: expected
                .filter(|_| ended && status == DeliveryStatus::Succeeded)
                .map(|expected| attempt.started_at.after(attempt.duration).since(expected)),
        };
        counting.happened(&attempt.tenant, attempt.subscription_id, happened);
    }
}

fn report(pending: &Pending, step: &Step) {
    let attempt = &pending.finished.attempt;
    tracing::debug!(
        delivery = %attempt.delivery_id,
        subscription = %attempt.subscription_id,
        number = step.number,
        outcome = %attempt.outcome,
        "http.response.status_code" = attempt.status_code,
        "error.type" = attempt.error.as_ref().map(|error| error.kind.as_str()),
        duration_ms = attempt.duration.as_millis(),
        late = pending.late,
        "attempt"
    );
    if step.state.status == DeliveryStatus::Exhausted && pending.state.status != DeliveryStatus::Exhausted {
        tracing::info!(
            delivery = %attempt.delivery_id,
            event = %attempt.event_id,
            subscription = %attempt.subscription_id,
            attempts = step.state.attempts,
            reason = step.state.reason.map(crate::model::StatusReason::as_str),
            "delivery exhausted"
        );
    }
}

/// The target answered 410: its subscription is disabled, if this is still its target.
fn disable(inner: &Arc<Inner>, finished: &Finished) {
    let (inner, endpoint) = (Arc::clone(inner), Arc::clone(&finished.endpoint));
    tokio::spawn(async move {
        let subscription = &endpoint.subscription;
        let subscriptions = super::subscriptions::Subscriptions { inner: &inner };
        let still = |stored: &crate::model::Subscription| stored.target_url == subscription.target_url;
        let disabled =
            subscriptions.disable(&subscription.tenant, subscription.id, DisabledReason::Gone, still).await;
        match disabled {
            Ok(()) => {
                tracing::info!(subscription = %subscription.id, "the target is gone: subscription disabled");
            }
            // The next 410 tries again.
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, subscription = %subscription.id, "not disabled");
            }
        }
    });
}
