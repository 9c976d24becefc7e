//! Works off replays: many deliveries reopened, at a bounded rate, once each.
//!
//! The store keeps where each replay stands and moves it on in the commit that reopens a page, so a crash
//! repeats nothing and several workers do each page once.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::{Backoff, jittered};
use super::handle::Inner;
use super::recorder;
use super::worker::{Phase, Worker};
use crate::error::BackendError;
use crate::id::ReplayId;
use crate::lifecycle::{Input, step};
use crate::model::{DeliveryStatus, Tenant};
use crate::retry;
use crate::store::{DeliveryFilter, NewReplay, Record, Replay, ReplayPage, ReplayRecorded};

/// Deliveries in one commit.
const PAGE: u32 = 100;
/// Between two pages: a thousand deliveries a second at most, for each worker.
const PAUSE: Duration = Duration::from_millis(100);

/// The filter of a replay: of this tenant, finished deliveries only.
pub(super) fn narrowed(tenant: &Tenant, filter: DeliveryFilter) -> DeliveryFilter {
    let statuses = filter.statuses.iter().copied().filter(|status| status.is_finished());
    let mut statuses: Vec<DeliveryStatus> = statuses.collect();
    if statuses.is_empty() {
        statuses.push(DeliveryStatus::Exhausted);
    }
    DeliveryFilter { tenant: Some(tenant.clone()), statuses, ..filter }
}

pub(super) async fn start(
    inner: &Inner,
    tenant: &Tenant,
    filter: DeliveryFilter,
) -> Result<Replay, BackendError> {
    let filter = narrowed(tenant, filter);
    let replay =
        inner.store.replay_start(&NewReplay { id: ReplayId::new(), tenant: tenant.clone(), filter }).await?;
    inner.replay_now.notify_one();
    Ok(replay)
}

/// Works off replays until the worker stops.
pub(super) async fn run(inner: Arc<Inner>, worker: Arc<Worker>) {
    let mut backoff = Backoff::default();
    while worker.phase() == Phase::Running {
        let pause = match work(&inner).await {
            Ok(true) => {
                backoff.reset();
                PAUSE
            }
            Ok(false) => jittered(inner.settings.reconcile_period),
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "the replay goes on later");
                backoff.after_failure()
            }
        };
        let next = async {
            tokio::select! {
                () = inner.replay_now.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        worker.unless_stopped(next).await;
    }
}

/// Does one page; answers whether there was one.
async fn work(inner: &Inner) -> Result<bool, BackendError> {
    let Some(page) = inner.store.replay_next(PAGE).await? else { return Ok(false) };
    let last = page.deliveries.last().map(|(id, ..)| *id);
    let records = records(inner, &page).await?;
    match inner.store.replay_record(page.id, page.after, last, &records).await? {
        ReplayRecorded::Applied { reopened } if !inner.own_queue => recorder::enqueue(inner, &reopened).await,
        ReplayRecorded::Applied { .. } | ReplayRecorded::Stale => {}
    }
    Ok(true)
}

async fn records(inner: &Inner, page: &ReplayPage) -> Result<Vec<Record>, BackendError> {
    let mut lanes: Vec<_> = page.deliveries.iter().map(|(_, lane, _)| *lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let subscriptions = inner.store.get(&lanes).await?;
    let wanted: Vec<_> =
        subscriptions.iter().flatten().map(|subscription| (subscription.id, subscription.version)).collect();
    let endpoints = inner.configs.endpoints(&*inner.store, &wanted, inner.clock.now()).await?;
    let policy = &*inner.configs.defaults.policy;
    let mut records = Vec::with_capacity(page.deliveries.len());
    for (id, lane, state) in &page.deliveries {
        // Reopening asks no policy. What is not finished any more is left alone.
        let Ok(step) = step(state, &Input::Reopen, policy, 0.0) else { continue };
        let give_up_after = endpoints
            .get(lane)
            .map_or_else(|| retry::give_up_after(policy), |endpoint| endpoint.give_up_after);
        records.push(Record {
            id: *id,
            revision: state.revision,
            lease: None,
            attempts: Vec::new(),
            state: step.state,
            next: step.next,
            new_chain: Some(give_up_after),
        });
    }
    Ok(records)
}
