//! The queue's memory: jobs, their leases, and the lanes in the order of their turns.
//!
//! Everything here is one step under the queue's lock and is told the time. [`Jobs::lapse`] runs before each
//! step, so that a lease whose time is over is a pending job to all the rest.
//!
//! The invariants: a job is pending or leased. A pending one is in its lane's index once, and its lane has a
//! turn; a leased one is among the ends of leases and the jobs of its token once, and counts in its lane's
//! attempts in flight.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::lanes::Lane;
use crate::id::{DeliveryId, LaneId, Token};
use crate::lane::{Class, Room};
use crate::queue::{
    Claim, Depth, Enqueued, HandOff, Hold, LaneSettings, LaneState, Lease, NewJob, Settle, Settled, Verdict,
};
use crate::time::Timestamp;

#[derive(Debug)]
struct Job {
    lane: LaneId,
    due: Timestamp,
    urgent: bool,
    /// When its lease runs out; `None`: it is pending.
    leased_until: Option<Timestamp>,
    /// The token of the last claim, until it is settled. It outlives its lease: it is good until another
    /// claim takes the job.
    token: Option<Token>,
    /// Tokens of earlier claims that ended without being settled.
    unsettled: Vec<Token>,
}

/// Whether a claim is worth while.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Something can be served that the last claim had not seen.
    Now,
    /// Something can be served that the last claim had no room for, or avoided.
    PassedOver,
    /// Nothing can, before this moment.
    From(Timestamp),
    /// Nothing can, until something else changes.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Jobs {
    jobs: HashMap<DeliveryId, Job>,
    lanes: HashMap<LaneId, Lane>,
    /// Lanes with pending jobs; the first is the one that has not been served for longest.
    turns: BTreeMap<u64, LaneId>,
    last_turn: u64,
    /// Leased jobs by the end of their leases.
    ends: BTreeSet<(Timestamp, DeliveryId)>,
    /// Leased jobs by token.
    held: HashMap<Token, BTreeSet<DeliveryId>>,
    /// The limit of lanes without one of their own, as the last claim named it.
    default_limit: u32,
    /// Counts what may have made something servable.
    changes: u64,
    /// The changes that the last claim with room to spare had seen, and when it was.
    seen: (u64, Timestamp),
}

impl Jobs {
    pub(super) fn new() -> Self {
        Self {
            jobs: HashMap::new(),
            lanes: HashMap::new(),
            turns: BTreeMap::new(),
            last_turn: 0,
            ends: BTreeSet::new(),
            held: HashMap::new(),
            default_limit: u32::MAX,
            changes: 0,
            seen: (0, Timestamp::EPOCH),
        }
    }

    /// Counts what may have made something servable since the queue began.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes jobs pending again whose leases have run out. Their tokens stay good until another claim.
    pub(super) fn lapse(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.end_lease(id);
            self.arm(id);
        }
    }

    // -----------------------------------------------------------------------------------------------------
    // Steps

    pub(super) fn enqueue(&mut self, job: &NewJob, now: Timestamp) -> Enqueued {
        if self.lanes.get(&job.lane).is_none_or(|lane| lane.version() < job.lane_version) {
            return Enqueued::LaneBehind;
        }
        let due = now.after(job.wait);
        match self.jobs.get(&job.id) {
            Some(present) if present.leased_until.is_some() => Enqueued::Present,
            Some(_) => {
                self.disarm(job.id);
                if let Some(present) = self.jobs.get_mut(&job.id) {
                    present.due = present.due.min(due);
                    present.urgent |= job.urgent;
                }
                self.arm(job.id);
                Enqueued::Present
            }
            None => {
                let new = Job {
                    lane: job.lane,
                    due,
                    urgent: job.urgent,
                    leased_until: None,
                    token: None,
                    unsettled: Vec::new(),
                };
                self.jobs.insert(job.id, new);
                self.arm(job.id);
                Enqueued::Queued
            }
        }
    }

    /// Leases a job that was just queued, if it is its lane's next, the lane may be served to this worker and
    /// is not dead, and the worker has room.
    pub(super) fn hand_off(
        &mut self,
        job: &NewJob,
        to: &HandOff,
        room: &mut Room,
        now: Timestamp,
    ) -> Option<Lease> {
        let (head, class) = self.servable(job.lane, to.max_in_flight, room, now)?;
        if head != job.id || class == Class::Dead || to.avoid.contains(&job.lane) {
            return None;
        }
        room.take(class, 1);
        self.lease(head, to.token, to.lease, now)
    }

    pub(super) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Vec<Lease> {
        if let Some(held) = self.held.get(&claim.id) {
            return held.iter().filter_map(|id| self.lease_of(*id)).collect();
        }
        self.default_limit = claim.max_in_flight;
        let mut room = claim.room;
        let mut leases = Vec::new();
        // One job a lane and round, so that a claim with little room serves as many lanes as it can.
        let mut serving: Vec<LaneId> =
            self.turns.values().filter(|lane| !claim.avoid.contains(lane)).copied().collect();
        while !serving.is_empty() {
            serving.retain(|lane| {
                let Some((head, class)) = self.servable(*lane, claim.max_in_flight, &room, now) else {
                    return false;
                };
                room.take(class, 1);
                leases.extend(self.lease(head, claim.id, claim.lease, now));
                true
            });
        }
        if room.all > 0 || claim.room.all == 0 {
            self.seen = (self.changes, now);
        }
        leases
    }

    pub(super) fn settle(&mut self, settle: &Settle, now: Timestamp) -> Settled {
        let Some(job) = self.jobs.get(&settle.id).filter(|job| job.token == Some(settle.token)) else {
            return Settled::Stale;
        };
        let lane = job.lane;
        self.withdraw(settle.id);
        let strikes = self.lanes.get_mut(&lane).map_or(0, |lane| {
            lane.take(settle.effect, settle.mark, now);
            lane.health().strikes
        });
        if settle.verdict == Verdict::Done {
            self.jobs.remove(&settle.id);
        } else if let Some(job) = self.jobs.get_mut(&settle.id) {
            job.token = None;
            match settle.verdict {
                Verdict::Done => {}
                Verdict::RetryAfter(wait) => {
                    job.due = now.after(wait);
                    job.urgent = false;
                    job.unsettled.clear();
                }
                // It keeps its place in the lane, and the tokens of others, whose requests may still be
                // unrecorded.
                Verdict::Release => job.due = job.due.min(now),
            }
            self.arm(settle.id);
        }
        self.changes += 1;
        Settled::Settled { strikes }
    }

    pub(super) fn extend(&mut self, id: DeliveryId, token: Token, lease: Duration, now: Timestamp) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.token == Some(token)) else {
            return false;
        };
        let (lane, leased_until) = (job.lane, job.leased_until);
        match leased_until {
            Some(until) => {
                self.ends.remove(&(until, id));
            }
            // Its time was over, but nobody has claimed it since.
            None => {
                self.disarm(id);
                self.held.entry(token).or_default().insert(id);
                if let Some(lane) = self.lanes.get_mut(&lane) {
                    lane.resume();
                }
            }
        }
        self.ends.insert((now.after(lease), id));
        if let Some(job) = self.jobs.get_mut(&id) {
            job.leased_until = Some(now.after(lease));
        }
        true
    }

    pub(super) fn remove(&mut self, id: DeliveryId) {
        self.withdraw(id);
        self.jobs.remove(&id);
        self.changes += 1;
    }

    pub(super) fn set_lane(&mut self, settings: &LaneSettings, now: Timestamp) {
        self.lanes
            .entry(settings.lane)
            .and_modify(|lane| lane.set(settings, now))
            .or_insert_with(|| Lane::new(settings.clone()));
        self.changes += 1;
    }

    // -----------------------------------------------------------------------------------------------------
    // Looking

    pub(super) fn lane_state(&self, lane: LaneId, now: Timestamp) -> Option<LaneState> {
        self.lanes.get(&lane).map(|lane| lane.state(now))
    }

    pub(super) fn depth(&self, now: Timestamp) -> Depth {
        let mut depth = Depth::default();
        let mut oldest: Option<Timestamp> = None;
        for lane in self.turns.values().filter_map(|lane| self.lanes.get(lane)) {
            let (due, scheduled, first) = lane.count(now);
            depth.scheduled += scheduled;
            match lane.held() {
                Some(Hold::Paused) => depth.paused += 1,
                Some(Hold::Disabled) => depth.disabled += 1,
                Some(Hold::Deleted) => {}
                None if lane.is_parked(now) => depth.parked += 1,
                None if lane.is_rate_limited(now) => depth.rate_limited += 1,
                None => {
                    depth.due += due;
                    oldest = oldest.into_iter().chain(first).min();
                }
            }
        }
        depth.oldest_due = oldest.map(|due| now.since(due));
        depth
    }

    pub(super) fn outlook(&self, now: Timestamp) -> Outlook {
        let (seen_changes, seen_at) = self.seen;
        let mut next = self.ends.first().map(|(until, _)| *until);
        let mut passed_over = false;
        for lane in self.turns.values().filter_map(|lane| self.lanes.get(lane)) {
            match lane.servable_at(self.default_limit) {
                Some(at) if at > now => next = Some(next.map_or(at, |next| next.min(at))),
                Some(at) if at > seen_at || self.changes != seen_changes => return Outlook::Now,
                Some(_) => passed_over = true,
                None => {}
            }
        }
        if passed_over { Outlook::PassedOver } else { next.map_or(Outlook::Unknown, Outlook::From) }
    }

    // -----------------------------------------------------------------------------------------------------
    // Parts of steps

    /// The lane's next job, if the lane may be served now and a job of its class fits.
    fn servable(
        &self,
        lane: LaneId,
        default_limit: u32,
        room: &Room,
        now: Timestamp,
    ) -> Option<(DeliveryId, Class)> {
        let lane = self.lanes.get(&lane)?;
        let head = lane.head(default_limit, now)?;
        (room.fits(lane.class()) > 0).then(|| (head, lane.class()))
    }

    /// Leases a pending job. Its lane goes to the back of the turns.
    fn lease(&mut self, id: DeliveryId, token: Token, lease: Duration, now: Timestamp) -> Option<Lease> {
        self.disarm(id);
        let job = self.jobs.get_mut(&id)?;
        job.unsettled.extend(job.token.replace(token));
        job.leased_until = Some(now.after(lease));
        self.ends.insert((now.after(lease), id));
        self.held.entry(token).or_default().insert(id);
        let lane_id = job.lane;
        let lane = self.lanes.get_mut(&lane_id)?;
        lane.start(now);
        if let Some(turn) = &mut lane.turn {
            self.turns.remove(turn);
            self.last_turn += 1;
            *turn = self.last_turn;
            self.turns.insert(self.last_turn, lane_id);
        }
        self.lease_of(id)
    }

    /// A leased job, as its worker is told.
    fn lease_of(&self, id: DeliveryId) -> Option<Lease> {
        let job = self.jobs.get(&id)?;
        let lane = self.lanes.get(&job.lane)?;
        Some(Lease {
            id,
            lane: job.lane,
            token: job.token?,
            class: lane.class(),
            mark: lane.health().mark,
            lane_version: lane.version(),
            unsettled: job.unsettled.clone(),
        })
    }

    /// Takes a job out of wherever it stands: of its lane's index, or of its lease.
    fn withdraw(&mut self, id: DeliveryId) {
        match self.jobs.get(&id).map(|job| job.leased_until) {
            Some(Some(_)) => self.end_lease(id),
            Some(None) => self.disarm(id),
            None => {}
        }
    }

    fn end_lease(&mut self, id: DeliveryId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(until) = job.leased_until.take() {
            self.ends.remove(&(until, id));
        }
        if let Some(token) = job.token
            && let Some(held) = self.held.get_mut(&token)
        {
            held.remove(&id);
            if held.is_empty() {
                self.held.remove(&token);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&job.lane) {
            lane.end();
        }
    }

    /// Puts a job without a lease into its lane's index, and its lane among the turns.
    fn arm(&mut self, id: DeliveryId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&job.lane) else { return };
        lane.add(id, job.due, job.urgent);
        if lane.turn.is_none() {
            self.last_turn += 1;
            lane.turn = Some(self.last_turn);
            self.turns.insert(self.last_turn, job.lane);
        }
        self.changes += 1;
    }

    /// Takes a job out of its lane's index, and its lane out of the turns when it was the last.
    fn disarm(&mut self, id: DeliveryId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&job.lane) else { return };
        lane.remove(id, job.due, job.urgent);
        if !lane.has_pending()
            && let Some(turn) = lane.turn.take()
        {
            self.turns.remove(&turn);
        }
    }
}
