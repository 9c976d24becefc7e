//! What has to be done, for people and metrics.
//!
//! The store counts unfinished deliveries by subscription, up to a bound, from what it keeps of unfinished ones
//! alone; the queue says of the subscriptions with something due which are parked. What took long to count is
//! counted by one at a time and kept for a while, so that however many ask, counting a large backlog takes no more
//! than a sixth of one connection's time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::config::lock;
use super::handle::Inner;
use crate::error::BackendError;
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
/// So many counts are kept.
const SCOPES: usize = 64;
/// How long a queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Lanes that a queue is asked about at once.
const LANES: usize = 1000;

/// Counts that are kept, with the moment until which they are.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    kept: Mutex<HashMap<Scope, (Backlog, Instant)>>,
    /// One large count at a time.
    counting: tokio::sync::Mutex<()>,
}

impl Backlogs {
    fn kept(&self, scope: &Scope) -> Option<Backlog> {
        let mut kept = lock(&self.kept);
        let now = Instant::now();
        kept.retain(|_, (_, until)| now < *until);
        kept.get(scope).map(|(backlog, _)| *backlog)
    }

    fn keep(&self, scope: &Scope, backlog: Backlog, took: Duration) {
        let Some(time) = keep(&backlog, took) else { return };
        let mut kept = lock(&self.kept);
        if kept.len() < SCOPES {
            kept.insert(scope.clone(), (backlog, Instant::now() + time));
        }
    }
}

/// For how long a count is kept that took so long.
fn keep(backlog: &Backlog, took: Duration) -> Option<Duration> {
    let is_large = backlog.pending + backlog.retrying > FEW;
    (is_large && took >= CHEAP).then(|| took.saturating_mul(KEPT).min(LONGEST))
}

pub(super) async fn count(inner: &Arc<Inner>, scope: &Scope) -> Result<Backlog, BackendError> {
    let _alone = inner.backlogs.counting.lock().await;
    if let Some(backlog) = inner.backlogs.kept(scope) {
        return Ok(backlog);
    }
    let started = Instant::now();
    let unfinished = inner.store.unfinished(scope, MOST).await?;
    // Without its limits and parking a lane with nothing due is as every other.
    let due: Vec<LaneId> =
        unfinished.lanes.iter().filter(|lane| lane.due > 0).map(|lane| lane.subscription_id).collect();
    let lanes = look(inner, &due).await;
    let mut backlog = Backlog { more: unfinished.more, ..Backlog::default() };
    for load in &unfinished.lanes {
        backlog.add(load, lanes.get(&load.subscription_id).copied().unwrap_or_default());
    }
    inner.backlogs.keep(scope, backlog, started.elapsed());
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
}
