//! Claims what is due and can start, loads it, and starts it or settles it at once.
//!
//! Nothing is claimed that has no slot, and there is no pool of claimed jobs that wait (promise 16). After a
//! claim that was filled it claims again at once; else it waits for the queue's hint.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::backoff::Backoff;
use super::config::Endpoint;
use super::gathered::Happened;
use super::handle::Inner;
use super::meters::Call;
use super::worker::{Phase, Ready, Worker};
use super::{lane_settings, spans};
use crate::error::BackendError;
use crate::id::{AttemptId, SubscriptionId, Token};
use crate::lane::{Class, Effect, Room};
use crate::lifecycle::{self, Ending, Input, Next};
use crate::model::{Attempt, DeliveryState, Outcome, SubscriptionStatus, Trigger};
use crate::queue::{Claim, LaneSettings, Lease, Settle, Verdict};
use crate::store::{Load, Loaded, Record, RecordLease, Recorded};

/// Jobs in one claim. The rest of the slots stays free for hand-offs meanwhile.
const BATCH: usize = 128;

/// Claims and starts until the worker stops. Only waits are cut short by a stop, never a claim: what it gave
/// would be lost until its leases end (promise 17).
pub(super) async fn run(inner: Arc<Inner>, worker: Arc<Worker>) {
    let mut backoff = Backoff::default();
    while worker.phase() == Phase::Running {
        match claim(&inner, &worker).await {
            Ok(Claimed::Filled) => backoff.reset(),
            // Jobs may be claimed without end that cannot be loaded.
            Ok(Claimed::StoreAway) => {
                worker.unless_stopped(tokio::time::sleep(backoff.after_failure())).await;
            }
            Ok(Claimed::NoRoom) => worker.unless_stopped(worker.slots.released.notified()).await,
            Ok(Claimed::Short { used_up, is_crowded }) => {
                backoff.reset();
                let servable = async {
                    tokio::select! {
                        () = inner.queue.wait(inner.settings.reconcile_period) => {}
                        // Jobs may be due that only their class had no room for.
                        () = worker.slots.doubtful_released.notified(), if used_up => {}
                        // Or only their lanes held too many slots.
                        () = worker.slots.left.notified(), if is_crowded => {}
                    }
                };
                worker.unless_stopped(servable).await;
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "nothing can be claimed");
                worker.unless_stopped(tokio::time::sleep(backoff.after_failure())).await;
            }
        }
    }
}

enum Claimed {
    /// As many as were asked for: there may be more.
    Filled,
    /// Fewer; `used_up` says that a class of lanes has no room left, `is_crowded` that lanes were passed over
    /// for the slots they hold.
    Short { used_up: bool, is_crowded: bool },
    /// There is no free slot.
    NoRoom,
    /// What was claimed cannot be loaded for now.
    StoreAway,
}

async fn claim(inner: &Arc<Inner>, worker: &Arc<Worker>) -> Result<Claimed, BackendError> {
    let mut room = worker.slots.reserve(BATCH);
    if room.all == 0 {
        return Ok(Claimed::NoRoom);
    }
    let since = Instant::now();
    let avoid = worker.slots.avoid();
    let claim = Claim {
        id: Token::new(),
        worker: worker.id,
        lease: inner.settings.lease,
        room,
        max_in_flight: inner.settings.max_in_flight,
        avoid: avoid.lanes,
    };
    let span = spans::claim();
    let leases = match inner.queue.claim(&claim).instrument(span.clone()).await {
        Ok(leases) => leases,
        Err(error) => {
            inner.meters.failure(Call::Claim);
            worker.slots.cancel(room);
            return Err(error);
        }
    };
    span.record("messaging.batch.message_count", leases.len());
    drop(span);
    if !leases.is_empty() {
        inner.meters.claim_size.size(leases.len());
    }
    let reserved = room;
    for lease in &leases {
        room.take(lease.class, 1);
    }
    let filled = leases.len() >= reserved.all as usize;
    let used_up = room.fits(Class::Doubtful) == 0 || room.fits(Class::Dead) == 0;
    if leases.is_empty() {
        worker.slots.cancel(reserved);
    } else if !start(inner, worker, leases, reserved, since).await {
        return Ok(Claimed::StoreAway);
    }
    let is_crowded = avoid.is_crowded;
    Ok(if filled { Claimed::Filled } else { Claimed::Short { used_up, is_crowded } })
}

/// Loads claimed jobs and starts those that are to be sent. Answers whether the store did.
async fn start(
    inner: &Arc<Inner>,
    worker: &Arc<Worker>,
    leases: Vec<Lease>,
    reserved: Room,
    since: Instant,
) -> bool {
    let (mut go, mut settles, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let mut answered = true;
    let mut behind: HashMap<SubscriptionId, LaneSettings> = HashMap::new();
    for (lease, found) in load(inner, leases).await {
        answered &= !matches!(found, Found::Unknown);
        if let Found::Delivery(_, Some(endpoint)) = &found
            && !inner.own_queue
            && lease.lane_version < endpoint.subscription.version
        {
            behind.insert(lease.lane, lane_settings(&endpoint.subscription));
        }
        match decide(inner, worker, &lease, found, since) {
            Decision::Start(ready) => go.push((lease, ready)),
            Decision::Settle(verdict) => settles.push(settle(&lease, verdict)),
            Decision::RecordUnknown(loaded) => unknown.push((lease, loaded)),
            Decision::Leave => {}
        }
    }
    // First, and at once: what comes after it may take longer than its leases last (promise 18).
    let sizes = go.iter().map(|(lease, ready)| (lease, ready.event.payload.len()));
    let admitted = worker.slots.admit(reserved, sizes, since);
    for ((lease, ready), admitted) in go.into_iter().zip(admitted) {
        worker.go(inner, lease, ready, admitted);
    }
    push(inner, behind.into_values().collect()).await;
    if !settles.is_empty()
        && let Err(error) = inner.queue.settle(&settles).await
    {
        inner.meters.failure(Call::Settle);
        tracing::warn!(
            error = &error as &dyn Error,
            jobs = settles.len(),
            "jobs wait for their leases to end"
        );
    }
    for (lease, loaded) in unknown {
        if let Err(error) = record_unknown(inner, &lease, *loaded).await {
            inner.meters.failure(Call::Record);
            tracing::warn!(error = &error as &dyn Error, delivery = %lease.id, "an unknown attempt is not recorded yet");
        }
    }
    answered
}

/// Tells a queue apart from the store what it missed of lanes. Before anything is handed back: a lane that is held
/// and that the queue does not know as held would give it again at once.
async fn push(inner: &Inner, behind: Vec<LaneSettings>) {
    if !behind.is_empty()
        && let Err(error) = inner.queue.lanes(&behind).await
    {
        tracing::warn!(
            error = &error as &dyn Error,
            lanes = behind.len(),
            "the queue did not take lanes' settings"
        );
    }
}

/// A settle of a job that was not sent.
pub(super) fn settle(lease: &Lease, verdict: Verdict) -> Settle {
    Settle { id: lease.id, token: lease.token, verdict, effect: Effect::Neutral, mark: lease.mark }
}

/// What a load found for one lease.
enum Found {
    /// The delivery, with its subscription unless that was deleted or has changed again.
    Delivery(Box<Loaded>, Option<Arc<Endpoint>>),
    /// There is no such delivery.
    Nothing,
    /// The store does not answer for now.
    Unknown,
    /// This delivery cannot be loaded.
    Broken,
}

/// Loads what the leases are for; a batch that cannot be loaded is halved until the culprit stands alone
/// (promise 14).
async fn load(inner: &Arc<Inner>, leases: Vec<Lease>) -> Vec<(Lease, Found)> {
    match try_load(inner, &leases).await {
        Ok(found) => leases.into_iter().zip(found).collect(),
        Err(error) if error.is_retryable() => {
            inner.meters.failure(Call::Load);
            tracing::warn!(
                error = &error as &dyn Error,
                jobs = leases.len(),
                "claimed jobs cannot be loaded for now"
            );
            leases.into_iter().map(|lease| (lease, Found::Unknown)).collect()
        }
        Err(error) if leases.len() == 1 => {
            inner.meters.failure(Call::Load);
            tracing::error!(error = &error as &dyn Error, delivery = %leases[0].id, "a delivery cannot be loaded");
            leases.into_iter().map(|lease| (lease, Found::Broken)).collect()
        }
        Err(_) => {
            let mut first = leases;
            let second = first.split_off(first.len() / 2);
            let mut found = Box::pin(load(inner, first)).await;
            found.extend(Box::pin(load(inner, second)).await);
            found
        }
    }
}

async fn try_load(inner: &Arc<Inner>, leases: &[Lease]) -> Result<Vec<Found>, BackendError> {
    let loads: Vec<_> =
        leases.iter().map(|lease| Load { id: lease.id, unsettled: lease.unsettled.clone() }).collect();
    let loaded = inner.store.load(&loads).await?;
    let wanted: Vec<(SubscriptionId, u64)> = loaded
        .iter()
        .flatten()
        .filter_map(|loaded| Some((loaded.subscription_id, loaded.subscription_version?)))
        .collect();
    let endpoints: HashMap<_, _> = inner.configs.endpoints(&*inner.store, &wanted, inner.clock.now()).await?;
    let found = loaded.into_iter().map(|loaded| match loaded {
        None => Found::Nothing,
        Some(loaded) => {
            let endpoint = endpoints.get(&loaded.subscription_id).cloned();
            Found::Delivery(Box::new(loaded), endpoint)
        }
    });
    Ok(found.collect())
}

enum Decision {
    Start(Ready),
    Settle(Verdict),
    /// Earlier claims ended without a trace: what they may have sent gets its rows first.
    RecordUnknown(Box<Loaded>),
    /// Nothing can be said; the lease runs out.
    Leave,
}

/// How long claimed jobs wait that the store could not load because it was away.
const AWAY_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
/// How long a delivery waits that cannot be loaded.
const BROKEN_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

fn decide(inner: &Inner, worker: &Worker, lease: &Lease, found: Found, since: Instant) -> Decision {
    let (loaded, endpoint) = match found {
        Found::Delivery(loaded, endpoint) => (loaded, endpoint),
        Found::Nothing => return Decision::Settle(Verdict::Done),
        // A settle would forget the tokens that may stand for requests; without any, nobody need wait for
        // the lease to end.
        Found::Unknown if lease.unsettled.is_empty() => {
            return Decision::Settle(Verdict::RetryAfter(AWAY_WAIT));
        }
        Found::Unknown => return Decision::Leave,
        Found::Broken => return Decision::Settle(Verdict::RetryAfter(BROKEN_WAIT)),
    };
    // The delivery is in flight here: it only takes over the new token.
    let running = worker.slots.lease(lease.id).is_some();
    let finished = loaded.state.status.is_finished() && loaded.state.request.is_none();
    if !running && (finished || loaded.waiting || loaded.subscription_version.is_none()) {
        return Decision::Settle(Verdict::Done);
    }
    if !running && !loaded.unrecorded.is_empty() {
        return Decision::RecordUnknown(loaded);
    }
    if !running && !loaded.due_in.is_zero() && loaded.state.request.is_none() {
        return Decision::Settle(Verdict::RetryAfter(loaded.due_in));
    }
    let Some(endpoint) = endpoint else {
        return Decision::Settle(Verdict::Release);
    };
    // A request must not be on the wire when the lease ends: half of it is kept for renewing it.
    let too_late = since.elapsed() > inner.settings.lease / 2;
    let held = endpoint.subscription.status != SubscriptionStatus::Active;
    if !running && (too_late || held || worker.phase() != Phase::Running) {
        return Decision::Settle(Verdict::Release);
    }
    let Loaded { state, event, .. } = *loaded;
    Decision::Start(Ready { state, event, endpoint })
}

/// Writes an `unknown` row for every claim that ended without a trace (promise 7). The job is then due again
/// as the lifecycle says.
async fn record_unknown(inner: &Arc<Inner>, lease: &Lease, loaded: Loaded) -> Result<(), BackendError> {
    let Loaded { state: seen, event, unrecorded, .. } = loaded;
    let now = inner.clock.now();
    let mut state: DeliveryState = seen.clone();
    let mut next = Next::AsBefore;
    let mut attempts = Vec::with_capacity(unrecorded.len());
    for token in unrecorded {
        let trigger = if state.request.is_some() { Trigger::Manual } else { Trigger::Schedule };
        let ending = Ending {
            outcome: Outcome::Unknown,
            trigger,
            status_code: None,
            error: None,
            retry_after: None,
            // What was asked for is not made until its result is known.
            request: None,
            moved: false,
        };
        let input = Input::Ended { ending: &ending, chain: state.chain, late: false, replaces: None };
        // An unknown attempt asks no policy.
        let policy = &*inner.configs.defaults.policy;
        let Ok(step) = lifecycle::step(&state, &input, policy, 0.0) else { break };
        attempts.push(Attempt {
            id: AttemptId::new(),
            tenant: event.tenant.clone(),
            delivery_id: lease.id,
            event_id: event.id,
            subscription_id: lease.lane,
            number: step.number.unwrap_or(step.state.attempts),
            token,
            trigger,
            started_at: now,
            duration: std::time::Duration::ZERO,
            outcome: Outcome::Unknown,
            status_code: None,
            error: None,
            response_headers: Vec::new(),
            response_body: bytes::Bytes::new(),
            target_url: String::new(),
        });
        state = step.state;
        next = step.next;
        if state.status.is_finished() {
            break;
        }
    }
    let record = Record {
        id: lease.id,
        revision: seen.revision,
        lease: Some(RecordLease { token: lease.token, mark: lease.mark, effect: Effect::Neutral }),
        attempts,
        state,
        next,
        new_chain: None,
    };
    let recorded = inner.store.record(std::slice::from_ref(&record)).await?;
    if let [Recorded::Applied { .. }] = recorded.as_slice() {
        let Record { attempts, state, .. } = &record;
        let ended = state.status.is_finished() && !seen.status.is_finished();
        let mut counting = inner.counting();
        for (place, attempt) in (1..).zip(attempts) {
            inner.meters.attempt(attempt.outcome, None, attempt.duration);
            let happened = Happened {
                attempt: Some((attempt.outcome, false)),
                ended: (ended && place == attempts.len()).then_some((state.status, 1)),
                latency: None,
            };
            counting.happened(&event.tenant, lease.lane, happened);
        }
    }
    if !inner.own_queue {
        // Stale or not, the next claim sees what is there.
        let verdict = match next {
            Next::Never => Verdict::Done,
            Next::After(wait) => Verdict::RetryAfter(wait),
            Next::AsBefore => Verdict::Release,
        };
        inner.queue.settle(&[settle(lease, verdict)]).await?;
    }
    Ok(())
}
