//! Which job is next, and what becomes of it. Nothing here waits, locks or looks at a clock.
//!
//! The rule that makes the rest simple: **a job stands in exactly one place**, among those that wait in its
//! lane or among the leased ones. [`Jobs::take_out`] takes it from where it is; [`Jobs::wait_in_lane`] and
//! [`Jobs::hold`] put it there. Only these three change a lane's count of attempts in flight, so that no end
//! of an attempt can leak it.
//!
//! The arithmetic of lanes is not written again: [`Health`], [`limit`], [`next_permit`] and [`Room`] are
//! core's. A queue in SQL or Lua writes it in its own language and is tested against them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::{Class, Health, Room, limit, next_permit};
use webhook_core::queue::{
    Claim, Depth, Enqueued, HandOff, Hold, LaneSettings, LaneState, Lease, NewJob, Settle, Settled, Verdict,
};
use webhook_core::time::Timestamp;

#[derive(Debug, Default)]
pub(crate) struct Jobs {
    jobs: BTreeMap<DeliveryId, Job>,
    lanes: BTreeMap<LaneId, Lane>,
    /// By when their leases end. There are never more than the workers have slots.
    leased: BTreeSet<(Timestamp, DeliveryId)>,
    /// Counts leases; a lane keeps the number of its last one, which is its place in the turns.
    leases: u64,
    /// Counts what may have made a job claimable.
    pub(crate) changes: u64,
    /// The changes that the last claim saw, and when it looked.
    seen: (u64, Option<Timestamp>),
}

#[derive(Debug)]
struct Job {
    lane: LaneId,
    due: Timestamp,
    urgent: bool,
    /// None: it waits in its lane.
    leased_until: Option<Timestamp>,
    /// The last claim's, until it is settled. It outlives its lease: a worker that comes late may still
    /// settle, unless another has claimed the job.
    token: Option<Token>,
    /// Tokens of earlier claims that nobody settled.
    unsettled: Vec<Token>,
}

#[derive(Debug)]
struct Lane {
    settings: LaneSettings,
    health: Health,
    in_flight: u32,
    parked_until: Timestamp,
    permit_at: Timestamp,
    /// Those that wait, by when they are due.
    ordinary: BTreeSet<(Timestamp, DeliveryId)>,
    /// Those that wait and that a person asked for.
    urgent: BTreeSet<(Timestamp, DeliveryId)>,
    last_lease: u64,
}

impl Jobs {
    // The steps of the trait, in its order -----------------------------------------------------------------

    pub(crate) fn add(&mut self, new: &NewJob, now: Timestamp) -> Enqueued {
        if self.lanes.get(&new.lane).is_none_or(|lane| lane.settings.version < new.lane_version) {
            return Enqueued::LaneBehind;
        }
        let due = now.after(new.wait);
        let Some(known) = self.jobs.get(&new.id) else {
            let (lane, urgent) = (new.lane, new.urgent);
            let job = Job { lane, due, urgent, leased_until: None, token: None, unsettled: Vec::new() };
            self.jobs.insert(new.id, job);
            self.wait_in_lane(new.id);
            return Enqueued::Queued;
        };
        if known.leased_until.is_none() {
            self.take_out(new.id);
            if let Some(job) = self.jobs.get_mut(&new.id) {
                job.due = job.due.min(due);
                job.urgent |= new.urgent;
            }
            self.wait_in_lane(new.id);
        }
        Enqueued::Present
    }

    /// Leases a job that was just added, if a claim would have given it.
    pub(crate) fn hand_off(
        &mut self,
        job: &NewJob,
        to: &HandOff,
        room: &mut Room,
        now: Timestamp,
    ) -> Option<Lease> {
        let (next, class) = self.next_of(job.lane, to.max_in_flight, room, now)?;
        if next != job.id || to.avoid.contains(&job.lane) {
            return None;
        }
        room.take(class, 1);
        self.lease(next, to.token, to.lease, now)
    }

    /// One job of each lane and round, the lane first that was not served for longest.
    pub(crate) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Vec<Lease> {
        // The reply to the first call was lost: it gets the same again.
        let is_given = |id: &DeliveryId| self.jobs.get(id).is_some_and(|job| job.token == Some(claim.id));
        let given = self.leased.iter().map(|(_, id)| *id).filter(is_given);
        let given: Vec<Lease> = given.filter_map(|id| self.as_lease(id)).collect();
        if !given.is_empty() {
            return given;
        }
        let mut room = claim.room;
        let mut leases = Vec::new();
        let mut turns: Vec<LaneId> =
            self.lanes.keys().filter(|lane| !claim.avoid.contains(lane)).copied().collect();
        turns.sort_by_key(|lane| self.lanes.get(lane).map(|lane| lane.last_lease));
        while !turns.is_empty() {
            turns.retain(|lane| {
                let next = self.next_of(*lane, claim.max_in_flight, &room, now);
                if let Some((id, class)) = next {
                    room.take(class, 1);
                    leases.extend(self.lease(id, claim.id, claim.lease, now));
                }
                next.is_some()
            });
        }
        self.seen = (self.changes, Some(now));
        leases
    }

    pub(crate) fn settle(&mut self, settle: &Settle, now: Timestamp) -> Settled {
        let Some(job) = self.jobs.get(&settle.id).filter(|job| job.token == Some(settle.token)) else {
            return Settled::Stale;
        };
        let lane = job.lane;
        self.take_out(settle.id);
        let strikes = self.lanes.get_mut(&lane).map_or(0, |lane| {
            if let Some(wait) = lane.health.take(settle.effect, settle.mark) {
                lane.parked_until = lane.parked_until.max(now.after(wait));
            }
            lane.health.strikes
        });
        if let Some(job) = self.jobs.get_mut(&settle.id) {
            job.token = None;
            match settle.verdict {
                Verdict::Done => {
                    self.jobs.remove(&settle.id);
                }
                Verdict::RetryAfter(wait) => {
                    (job.due, job.urgent) = (now.after(wait), false);
                    job.unsettled.clear();
                }
                // Nothing was sent by this claim; what others sent may still be unrecorded.
                Verdict::Release => job.due = job.due.min(now),
            }
        }
        self.wait_in_lane(settle.id);
        Settled::Settled { strikes }
    }

    pub(crate) fn extend(&mut self, id: DeliveryId, token: Token, until: Timestamp) -> bool {
        let is_its_own = self.jobs.get(&id).is_some_and(|job| job.token == Some(token));
        if is_its_own {
            self.take_out(id);
            self.hold(id, until);
        }
        is_its_own
    }

    pub(crate) fn remove(&mut self, id: DeliveryId) {
        self.take_out(id);
        self.jobs.remove(&id);
        self.changes += 1;
    }

    pub(crate) fn set_lane(&mut self, settings: &LaneSettings, now: Timestamp) {
        let lane = self.lanes.entry(settings.lane).or_insert_with(|| Lane::new(settings.clone()));
        if settings.version >= lane.settings.version {
            if let Some(rate) = settings.rate {
                // A lane that waits for a slow rate need not wait longer than the new one asks.
                lane.permit_at = lane.permit_at.min(now.after(rate.gap()));
            }
            lane.settings = settings.clone();
            self.changes += 1;
        }
    }

    pub(crate) fn lane_state(&self, lane: LaneId, now: Timestamp) -> Option<LaneState> {
        let left = |until: Timestamp| (until > now).then(|| until.since(now));
        self.lanes.get(&lane).map(|lane| LaneState {
            version: lane.settings.version,
            health: lane.health,
            in_flight: lane.in_flight,
            parked_for: left(lane.parked_until),
            rate_limited_for: lane.settings.rate.and_then(|_| left(lane.permit_at)),
            hold: lane.settings.hold,
        })
    }

    /// When a claim may give what the last one could not: in the past after a change, else when the next job,
    /// parking, permit or lease runs its time. What the last claim saw and left (its room was used up, its
    /// lane is full) is not worth another: a settle will be a change.
    pub(crate) fn worth_a_claim_at(&self) -> Option<Timestamp> {
        let (changes, looked) = self.seen;
        if changes != self.changes {
            return Some(Timestamp::EPOCH);
        }
        let opens = self.lanes.values().filter_map(Lane::opens_at).filter(|at| Some(*at) > looked);
        opens.chain(self.leased.first().map(|(until, _)| *until)).min()
    }

    pub(crate) fn depth(&self, now: Timestamp) -> Depth {
        let mut depth = Depth::default();
        let mut oldest = None;
        for lane in self.lanes.values() {
            let all = || lane.ordinary.iter().chain(&lane.urgent).map(|(due, _)| *due);
            if all().next().is_none() {
                continue;
            }
            depth.scheduled += all().filter(|due| *due > now).count() as u64;
            match lane.settings.hold {
                Some(Hold::Paused) => depth.paused += 1,
                Some(Hold::Disabled) => depth.disabled += 1,
                Some(Hold::Deleted) => {}
                None if lane.parked_until > now => depth.parked += 1,
                None if lane.settings.rate.is_some() && lane.permit_at > now => depth.rate_limited += 1,
                None => {
                    depth.due += all().filter(|due| *due <= now).count() as u64;
                    oldest = all().filter(|due| *due <= now).chain(oldest).min();
                }
            }
        }
        depth.oldest_due = oldest.map(|due| now.since(due));
        depth
    }

    // Where a job stands -----------------------------------------------------------------------------------

    /// Leases whose time is over: their jobs wait again. Their tokens stay.
    pub(crate) fn end_leases(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.leased.first().copied().filter(|(until, _)| *until <= now) {
            self.take_out(id);
            self.wait_in_lane(id);
        }
    }

    fn take_out(&mut self, id: DeliveryId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&job.lane) else { return };
        if let Some(until) = job.leased_until.take() {
            self.leased.remove(&(until, id));
            lane.in_flight -= 1;
        } else {
            lane.waiting(job.urgent).remove(&(job.due, id));
        }
    }

    /// Nothing, when the job is gone.
    fn wait_in_lane(&mut self, id: DeliveryId) {
        self.changes += 1;
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&job.lane) else { return };
        lane.waiting(job.urgent).insert((job.due, id));
    }

    fn hold(&mut self, id: DeliveryId, until: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&job.lane) else { return };
        job.leased_until = Some(until);
        self.leased.insert((until, id));
        lane.in_flight += 1;
    }

    // Claims -----------------------------------------------------------------------------------------------

    /// A lane's next job, if the lane may be served and a job of its class fits.
    fn next_of(&self, lane: LaneId, limit: u32, room: &Room, now: Timestamp) -> Option<(DeliveryId, Class)> {
        let lane = self.lanes.get(&lane)?;
        let class = lane.health.class();
        (room.fits(class) > 0).then_some((lane.next(limit, now)?, class))
    }

    fn lease(&mut self, id: DeliveryId, token: Token, span: Duration, now: Timestamp) -> Option<Lease> {
        self.take_out(id);
        let job = self.jobs.get_mut(&id)?;
        // The claim before this one ended without a settle: its request may have been sent.
        job.unsettled.extend(job.token.replace(token));
        let lane = self.lanes.get_mut(&job.lane)?;
        if let Some(rate) = lane.settings.rate {
            let next = next_permit(lane.permit_at.as_micros(), now.as_micros(), rate);
            lane.permit_at = Timestamp::from_micros(next);
        }
        self.leases += 1;
        lane.last_lease = self.leases;
        self.hold(id, now.after(span));
        self.as_lease(id)
    }

    fn as_lease(&self, id: DeliveryId) -> Option<Lease> {
        let job = self.jobs.get(&id)?;
        let lane = self.lanes.get(&job.lane)?;
        Some(Lease {
            id,
            lane: job.lane,
            token: job.token?,
            class: lane.health.class(),
            mark: lane.health.mark,
            lane_version: lane.settings.version,
            unsettled: job.unsettled.clone(),
        })
    }
}

impl Lane {
    fn new(settings: LaneSettings) -> Self {
        Self {
            settings,
            health: Health::default(),
            in_flight: 0,
            parked_until: Timestamp::EPOCH,
            permit_at: Timestamp::EPOCH,
            ordinary: BTreeSet::new(),
            urgent: BTreeSet::new(),
            last_lease: 0,
        }
    }

    fn waiting(&mut self, urgent: bool) -> &mut BTreeSet<(Timestamp, DeliveryId)> {
        if urgent { &mut self.urgent } else { &mut self.ordinary }
    }

    /// The job to be served now. Urgent ones ignore parking, and nothing else.
    fn next(&self, default_limit: u32, now: Timestamp) -> Option<DeliveryId> {
        let most = limit(self.settings.max_in_flight.unwrap_or(default_limit), self.health.strikes);
        if self.in_flight >= most || self.opens_at()? > now {
            return None;
        }
        let due = |jobs: &BTreeSet<_>| jobs.first().filter(|(due, _)| *due <= now).map(|(_, id)| *id);
        due(&self.urgent).or_else(|| due(&self.ordinary))
    }

    /// When the lane may be served next, its limit aside; none: not before something changes.
    fn opens_at(&self) -> Option<Timestamp> {
        if self.settings.hold.is_some() {
            return None;
        }
        let urgent = self.urgent.first().map(|(due, _)| *due);
        let ordinary = self.ordinary.first().map(|(due, _)| (*due).max(self.parked_until));
        let first = urgent.into_iter().chain(ordinary).min()?;
        Some(if self.settings.rate.is_some() { first.max(self.permit_at) } else { first })
    }
}
