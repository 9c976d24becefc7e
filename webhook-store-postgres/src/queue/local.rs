//! What this process has in flight that no lane's row counts.
//!
//! A lane that has proven itself and has no limit of its own is not counted in the database: its jobs are
//! taken and finished without a write to its row. So each process keeps the workers' limit for such lanes by
//! itself, here. For one process that is exact; several have at most the limit each
//! (`docs/decisions/postgres-lanes.md`).
//!
//! A claim and a hand-off may run at the same moment. What is free of a lane when a claim begins is split
//! between them: the claim may take the larger half of it, hand-offs meanwhile the rest.
//!
//! An entry ends with its settle, whatever that answers, with its removal, or with its lease, so nothing here
//! outgrows what the worker has in flight (promise 16).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use webhook_core::id::{DeliveryId, LaneId, Token};

/// How often entries are looked through for leases that have ended.
const SWEEP: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Local {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In flight or reserved, by lane.
    lanes: HashMap<LaneId, u32>,
    leases: HashMap<DeliveryId, Own>,
    /// What was in flight when the claim began that is under way.
    claiming: Option<HashMap<LaneId, u32>>,
    limit: u32,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Own {
    lane: LaneId,
    token: Token,
    until: Instant,
}

/// What a claim must know of it.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(super) lanes: Vec<LaneId>,
    pub(super) counts: Vec<i32>,
    /// Lanes that are at the limit here.
    pub(super) full: Vec<LaneId>,
}

impl Local {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets aside up to `wish` places of each lane for fresh jobs. To be given back by
    /// [`cancel`](Self::cancel) or exchanged by [`start`](Self::start). Answers how many were set aside, and
    /// how many jobs are in flight beside them.
    pub(super) fn reserve(&self, wishes: &[(LaneId, u32)], limit: u32) -> Vec<(u32, u32)> {
        let mut state = self.state();
        state.limit = limit;
        let State { lanes, claiming, .. } = &mut *state;
        let reserve = |(lane, wish): &(LaneId, u32)| {
            let own = lanes.get(lane).copied().unwrap_or(0);
            let claimable = claiming
                .as_ref()
                .map_or(0, |before| limit.saturating_sub(before.get(lane).copied().unwrap_or(0)).div_ceil(2));
            let most = limit.saturating_sub(claimable).saturating_sub(own).min(*wish);
            if most > 0 {
                *lanes.entry(*lane).or_default() += most;
            }
            (most, own)
        };
        wishes.iter().map(reserve).collect()
    }

    /// Gives back a reservation.
    pub(super) fn cancel(&self, reserved: &[(LaneId, u32)]) {
        let mut state = self.state();
        for (lane, jobs) in reserved {
            state.less(*lane, *jobs);
        }
    }

    /// These uncounted leases began.
    pub(super) fn start(
        &self,
        leases: impl Iterator<Item = (DeliveryId, LaneId)>,
        token: Token,
        lease: Duration,
    ) {
        let until = end(lease);
        let mut state = self.state();
        for (id, lane) in leases {
            state.end(id);
            state.leases.insert(id, Own { lane, token, until });
            *state.lanes.entry(lane).or_default() += 1;
        }
    }

    /// A claim begins.
    pub(super) fn begin_claim(&self, limit: u32) -> InFlight {
        let mut state = self.state();
        state.limit = limit;
        state.sweep();
        let mut own = InFlight::default();
        for (lane, count) in &state.lanes {
            if *count >= limit {
                own.full.push(*lane);
            } else {
                own.lanes.push(*lane);
                own.counts.push(i32::try_from(*count).unwrap_or(i32::MAX));
            }
        }
        state.claiming = Some(state.lanes.clone());
        own
    }

    /// The claim is over, and its leases have been told to [`start`](Self::start).
    pub(super) fn end_claim(&self) {
        self.state().claiming = None;
    }

    /// These leases are over, whatever became of them. Answers whether a lane was at the limit here, or a job
    /// was one that is counted in the database: then something may have become servable.
    pub(super) fn end(&self, leases: impl Iterator<Item = (DeliveryId, Option<Token>)>) -> bool {
        let mut state = self.state();
        let mut freed = false;
        for (id, token) in leases {
            let Some(own) = state.leases.get(&id) else { continue };
            if token.is_none_or(|token| token == own.token) {
                let lane = own.lane;
                freed |= state.lanes.get(&lane).is_some_and(|count| *count >= state.limit);
                state.end(id);
            }
        }
        freed
    }

    /// These leases hold on for so long.
    pub(super) fn extend(&self, leases: impl Iterator<Item = (DeliveryId, Token)>, lease: Duration) {
        let until = end(lease);
        let mut state = self.state();
        for (id, token) in leases {
            if let Some(own) = state.leases.get_mut(&id).filter(|own| own.token == token) {
                own.until = until;
            }
        }
    }
}

impl State {
    fn end(&mut self, id: DeliveryId) {
        if let Some(own) = self.leases.remove(&id) {
            self.less(own.lane, 1);
        }
    }

    fn less(&mut self, lane: LaneId, jobs: u32) {
        if let Some(count) = self.lanes.get_mut(&lane) {
            *count = count.saturating_sub(jobs);
            if *count == 0 {
                self.lanes.remove(&lane);
            }
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let over: Vec<DeliveryId> =
            self.leases.iter().filter(|(_, own)| own.until <= now).map(|(id, _)| *id).collect();
        for id in over {
            self.end(id);
        }
    }
}

fn end(lease: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(lease).unwrap_or(now + Duration::from_secs(86_400 * 365))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_and_hand_offs_together_keep_the_limit() {
        for own in 0..6 {
            let (local, lane, token) = (Local::default(), LaneId::new(), Token::new());
            local.start((0..own).map(|_| (DeliveryId::new(), lane)), token, SWEEP);
            let seen = local.begin_claim(6);
            assert_eq!(seen.counts.iter().sum::<i32>(), own);
            // What the claim's statement takes of such a lane.
            let claimed = (6 - own + 1) / 2;
            let handed: u32 = (0..4).map(|_| local.reserve(&[(lane, 2)], 6)[0].0).sum();
            assert_eq!(own.cast_unsigned() + claimed.cast_unsigned() + handed, 6);
        }
    }

    #[test]
    fn what_ends_leaves_nothing_behind() {
        let (local, lane, token) = (Local::default(), LaneId::new(), Token::new());
        let ids = [DeliveryId::new(), DeliveryId::new()];
        local.start(ids.iter().map(|id| (*id, lane)), token, SWEEP);
        assert!(!local.end([(ids[0], Some(Token::new()))].into_iter()), "another's token ends nothing");
        local.end([(ids[0], Some(token)), (ids[0], Some(token)), (ids[1], None)].into_iter());
        assert_eq!(local.reserve(&[(lane, 9)], 4), [(4, 0)]);
        local.cancel(&[(lane, 4)]);
        assert!(local.state().lanes.is_empty() && local.state().leases.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_never_settled_ends_by_itself() {
        let (local, lane) = (Local::default(), LaneId::new());
        local.start([(DeliveryId::new(), lane)].into_iter(), Token::new(), SWEEP * 2);
        assert_eq!(local.begin_claim(1).full, [lane]);
        tokio::time::advance(SWEEP * 3).await;
        assert!(local.begin_claim(1).full.is_empty());
    }
}
