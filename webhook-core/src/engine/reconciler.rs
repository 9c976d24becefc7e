//! Finds what was forgotten, gives up what is hopeless, and lets go what is old.
//!
//! Every node sweeps, with jitter and at a bounded rate, what the store owes to the queue (promise 2). It is
//! idempotent, because a job's id is its delivery's. A store with its own queue owes it nothing. A queue whose memory
//! was lost is filled by one node at full speed: [`rebuild`](super::rebuild).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::backoff::jittered;
use super::gathered::Happened;
use super::handle::Inner;
use super::meters::Call;
use super::worker::{Phase, Worker};
use super::{lane_settings, recorder};
use crate::error::BackendError;
use crate::model::DeliveryStatus;
use crate::queue::{Enqueued, NewJob};
use crate::store::{Ended, Expire, Owed};

/// Deliveries in one step of a sweep.
const PAGE: u32 = 500;
/// Events in one step of pruning.
const PRUNE: u32 = 500;
/// Roll-ups in one step of merging them.
const ROLLUPS: u32 = 1000;
/// Between two steps, so that neither takes a store for itself.
const BREATH: Duration = Duration::from_millis(5);
/// Finished events are looked after at least this often.
const PRUNE_PERIOD: Duration = Duration::from_secs(60);

/// Sweeps every reconcile period and whenever somebody asks, until the worker stops.
pub(super) async fn run(inner: Arc<Inner>, worker: Arc<Worker>) {
    loop {
        match sweep(&inner).await {
            Ok(()) => inner.meters.sweeps.one(),
            Err(error) => {
                inner.meters.failure(Call::Sweep);
                tracing::warn!(error = &error as &dyn Error, "the sweep is tried again later");
            }
        }
        let pause = jittered(inner.settings.reconcile_period);
        tokio::select! {
            biased;
            () = worker.reached(Phase::Draining) => return,
            () = inner.reconcile_now.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn sweep(inner: &Arc<Inner>) -> Result<(), BackendError> {
    loop {
        let cancelled = inner.store.cancel_deleted(PAGE).await?;
        count(inner, &cancelled, DeliveryStatus::Cancelled);
        if Ended::total(&cancelled) < u64::from(PAGE) {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    for lane in inner.hopeless() {
        expire_all(inner, Expire::Lane(lane)).await?;
    }
    if inner.own_queue {
        return Ok(());
    }
    let mut after = None;
    // While this node fills the queue, that finds everything, and faster.
    while !inner.filling.load(Ordering::Acquire) {
        let owed = inner.store.owed(after, PAGE).await?;
        let Some(last) = owed.last() else { return Ok(()) };
        after = Some(last.id);
        offer(inner, &owed).await?;
        if owed.len() < PAGE as usize {
            return Ok(());
        }
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Offers owed jobs to the queue, settings before jobs.
pub(super) async fn offer(inner: &Inner, owed: &[Owed]) -> Result<(), BackendError> {
    let job = |owed: &Owed| NewJob {
        id: owed.id,
        lane: owed.lane,
        wait: owed.wait,
        lane_version: owed.lane_version,
        urgent: owed.urgent,
    };
    let jobs: Vec<NewJob> = owed.iter().map(job).collect();
    let outcomes = inner.queue.enqueue(&jobs, None).await?;
    inner.meters.offered.add(jobs.len() as u64);
    count_recovered(inner, &outcomes);
    let behind: Vec<NewJob> = jobs
        .into_iter()
        .zip(outcomes)
        .filter(|(_, outcome)| *outcome == Enqueued::LaneBehind)
        .map(|(job, _)| job)
        .collect();
    if behind.is_empty() {
        return Ok(());
    }
    inner.lane_unknown.notify_one();
    let mut lanes: Vec<_> = behind.iter().map(|job| job.lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let subscriptions = inner.store.get(&lanes).await?;
    let settings: Vec<_> =
        subscriptions.iter().flatten().map(|subscription| lane_settings(subscription)).collect();
    inner.queue.lanes(&settings).await?;
    count_recovered(inner, &inner.queue.enqueue(&behind, None).await?);
    Ok(())
}

fn count_recovered(inner: &Inner, outcomes: &[Enqueued]) {
    let missed = outcomes.iter().filter(|outcome| matches!(outcome, Enqueued::Queued)).count();
    inner.meters.recovered.add(missed as u64);
}

/// Prunes finished events at least every minute, until the worker stops.
pub(super) async fn prune(inner: Arc<Inner>, worker: Arc<Worker>) {
    let Some(retention) = inner.settings.retention else { return };
    let period = PRUNE_PERIOD.min(retention.max(Duration::from_secs(1)));
    loop {
        if let Err(error) = prune_all(&inner, retention).await {
            inner.meters.failure(Call::Sweep);
            tracing::warn!(error = &error as &dyn Error, "finished events are pruned later");
        }
        tokio::select! {
            biased;
            () = worker.reached(Phase::Draining) => return,
            () = tokio::time::sleep(jittered(period)) => {}
        }
    }
}

/// Merges old roll-ups at least every minute, until the worker stops.
pub(super) async fn compact(inner: Arc<Inner>, worker: Arc<Worker>) {
    loop {
        tokio::select! {
            biased;
            () = worker.reached(Phase::Draining) => return,
            () = tokio::time::sleep(jittered(PRUNE_PERIOD)) => {}
        }
        if let Err(error) = compact_all(&inner).await {
            tracing::warn!(error = &error as &dyn Error, "statistics are merged later");
        }
    }
}

async fn compact_all(inner: &Inner) -> Result<(), BackendError> {
    while inner.store.compact_rollups(ROLLUPS).await? > 0 {
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Expires at least every minute what is unfinished for too long, until the worker stops.
pub(super) async fn expire(inner: Arc<Inner>, worker: Arc<Worker>) {
    let Some(max_age) = inner.settings.max_age else { return };
    loop {
        if let Err(error) = expire_all(&inner, Expire::OlderThan(max_age)).await {
            inner.meters.failure(Call::Sweep);
            tracing::warn!(error = &error as &dyn Error, "old deliveries are expired later");
        }
        tokio::select! {
            biased;
            () = worker.reached(Phase::Draining) => return,
            () = tokio::time::sleep(jittered(PRUNE_PERIOD.mul_f64(0.9))) => {}
        }
    }
}

async fn expire_all(inner: &Arc<Inner>, which: Expire) -> Result<(), BackendError> {
    loop {
        let expired = inner.store.expire(which, PAGE).await?;
        let count_of_all = Ended::total(&expired.ended);
        count(inner, &expired.ended, DeliveryStatus::Exhausted);
        if count_of_all > 0 {
            tracing::info!(deliveries = count_of_all, ?which, "unfinished deliveries expired");
        }
        if !inner.own_queue {
            recorder::enqueue(inner, &expired.released).await;
        }
        if count_of_all < u64::from(PAGE) {
            return Ok(());
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// For the metrics and the statistics.
fn count(inner: &Arc<Inner>, ended: &[Ended], status: DeliveryStatus) {
    let mut counting = inner.counting();
    for Ended { tenant, subscription_id, count } in ended {
        let happened = Happened { ended: Some((status, *count)), ..Happened::default() };
        counting.happened(tenant, *subscription_id, happened);
    }
}

async fn prune_all(inner: &Inner, retention: Duration) -> Result<(), BackendError> {
    loop {
        let pruned = inner.store.prune(retention, PRUNE).await?;
        inner.meters.pruned.add(pruned);
        if pruned < u64::from(PRUNE) {
            return Ok(());
        }
        tokio::time::sleep(BREATH).await;
    }
}
