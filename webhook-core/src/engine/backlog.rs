//! What has to be done, for people and metrics.
//!
//! The store counts unfinished deliveries by subscription, up to a bound, from what it keeps of unfinished ones
//! alone; the queue says of the subscriptions with something due which are parked. A scope is counted for one who
//! asks at a time, and what took long is kept for a while, so that however many ask, counting a large backlog takes
//! no more than a sixth of one connection's time. A count that takes longer than its reader waits goes on and is
//! kept, so that the next reader has it.
//!
//! This holds for [`SCOPES`] scopes at a time, those that are being counted and those whose counts are kept. One that
//! finds no place among them is counted anew for each who asks, for as long as he waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::config::lock;
use super::handle::Inner;
use crate::error::{BackendError, BackendErrorKind};
use crate::id::LaneId;
use crate::queue::LaneState;
use crate::stats::{Backlog, LaneNow, Scope};

/// Deliveries are counted up to here.
const MOST: u32 = 100_000;
/// Fewer are counted anew for everybody who asks.
const FEW: u64 = 10_000;
/// What took less is counted anew for everybody who asks.
const CHEAP: Duration = Duration::from_millis(50);
/// For how many times as long as it took a count is kept.
const KEPT: u32 = 5;
/// And how long at most.
const LONGEST: Duration = Duration::from_secs(30);
/// So many scopes are counted or kept at a time.
const SCOPES: usize = 64;
/// How long a queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Lanes that a queue is asked about at once.
const LANES: usize = 1000;

/// A count that is kept, with the moment until which it is. Locked by who counts.
type Place = Arc<tokio::sync::Mutex<Option<(Backlog, Instant)>>>;

/// The scopes that are being counted, or whose counts are kept.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    places: Mutex<HashMap<Scope, Place>>,
}

impl Backlogs {
    /// The place of a scope; `None` when there are too many.
    fn place(&self, scope: &Scope) -> Option<Place> {
        let mut places = lock(&self.places);
        if let Some(place) = places.get(scope) {
            return Some(Arc::clone(place));
        }
        if places.len() >= SCOPES {
            let now = Instant::now();
            // A place that nobody else has can be locked.
            let is_good = |place: &Place| place.try_lock().is_ok_and(|kept| live(*kept, now).is_some());
            places.retain(|_, place| Arc::strong_count(place) > 1 || is_good(place));
        }
        (places.len() < SCOPES).then(|| Arc::clone(places.entry(scope.clone()).or_default()))
    }
}

/// What is kept, until its time is over.
fn live(kept: Option<(Backlog, Instant)>, now: Instant) -> Option<Backlog> {
    kept.filter(|(_, until)| now < *until).map(|(backlog, _)| backlog)
}

/// For how long a count is kept that took so long.
fn keep(backlog: &Backlog, took: Duration) -> Option<Duration> {
    let is_large = backlog.pending + backlog.retrying > FEW;
    (is_large && took >= CHEAP).then(|| took.saturating_mul(KEPT).min(LONGEST))
}

pub(super) async fn count(inner: &Arc<Inner>, scope: &Scope) -> Result<Backlog, BackendError> {
    let Some(place) = inner.backlogs.place(scope) else { return count_now(inner, scope).await };
    let mut kept = place.lock_owned().await;
    if let Some(backlog) = live(*kept, Instant::now()) {
        return Ok(backlog);
    }
    let (inner, scope) = (Arc::clone(inner), scope.clone());
    let counting = tokio::spawn(async move {
        let started = Instant::now();
        let backlog = count_now(&inner, &scope).await?;
        *kept = keep(&backlog, started.elapsed()).map(|time| (backlog, Instant::now() + time));
        Ok(backlog)
    });
    counting.await.unwrap_or_else(|_| {
        let detail = "the count came to no end";
        Err(BackendError::new(BackendErrorKind::Internal, "engine", "backlog", detail))
    })
}

async fn count_now(inner: &Inner, scope: &Scope) -> Result<Backlog, BackendError> {
    let unfinished = inner.store.unfinished(scope, MOST).await?;
    // Without its limits and parking a lane with nothing due is as every other.
    let due: Vec<LaneId> =
        unfinished.lanes.iter().filter(|lane| lane.due > 0).map(|lane| lane.subscription_id).collect();
    let lanes = look(inner, &due).await;
    let mut backlog = Backlog { more: unfinished.more, ..Backlog::default() };
    for load in &unfinished.lanes {
        backlog.add(load, lanes.get(&load.subscription_id).copied().unwrap_or_default());
    }
    Ok(backlog)
}

/// How lanes stand, as far as the queue answers.
async fn look(inner: &Inner, lanes: &[LaneId]) -> HashMap<LaneId, LaneNow> {
    let mut found = HashMap::with_capacity(lanes.len());
    for chunk in lanes.chunks(LANES) {
        match tokio::time::timeout(PATIENCE, inner.queue.lane_states(chunk)).await {
            Ok(Ok(states)) => {
                let known = chunk.iter().zip(states).filter_map(|(lane, state)| Some((*lane, state?)));
                found.extend(known.map(|(lane, state)| (lane, now(inner, &state))));
            }
            // Away, or too slow: what is parked counts as due.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    found
}

fn now(inner: &Inner, state: &LaneState) -> LaneNow {
    LaneNow {
        // A store with its own queue has left them out.
        in_flight: if inner.own_queue { 0 } else { u64::from(state.in_flight) },
        held: state.hold.is_some(),
        parked: state.parked_for.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_costly_count_of_many_is_kept_and_one_of_few_is_not() {
        let many = Backlog { pending: 20_000, ..Backlog::default() };
        assert_eq!(keep(&many, CHEAP / 2), None, "a cheap one is had anew");
        assert_eq!(keep(&many, Duration::from_secs(1)), Some(Duration::from_secs(5)));
        assert_eq!(keep(&many, Duration::MAX), Some(LONGEST));
        assert_eq!(keep(&Backlog { pending: 9, ..many }, Duration::from_secs(1)), None);
    }
    #[tokio::test(start_paused = true)]
    async fn places_are_bounded_and_those_in_use_or_kept_are_not_taken_away() {
        let backlogs = Backlogs::default();
        let scope = |number: usize| Scope::Tenant(format!("t{number}").parse().unwrap());
        let in_use = backlogs.place(&scope(0)).unwrap();
        let until = Instant::now() + LONGEST;
        *backlogs.place(&scope(1)).unwrap().lock().await = Some((Backlog::default(), until));
        for number in 2..10 * SCOPES {
            assert!(
                backlogs.place(&scope(number)).is_some(),
                "of those that came before, most are forgotten"
            );
        }
        assert!(Arc::ptr_eq(&in_use, &backlogs.place(&scope(0)).unwrap()));
        assert!(live(*backlogs.place(&scope(1)).unwrap().lock().await, Instant::now()).is_some());
        let all: Vec<_> = (0..2 * SCOPES).filter_map(|number| backlogs.place(&scope(number))).collect();
        assert_eq!(all.len(), SCOPES, "all are in use");
        assert!(backlogs.place(&Scope::All).is_none());
        drop(all);
        tokio::time::advance(LONGEST).await;
        assert!(backlogs.place(&Scope::All).is_some());
    }
}
