//! The queue's working memory: lanes, leases and what is servable when.
//!
//! One process serves a file, through one writer, and leases die with it. So what a lane has in flight, whose
//! turn it is and until when leases hold need no rows: they live here, exactly, beside the rows that must
//! survive (`jobs` with their tokens, each lane's settings and strikes). In the steady state of a healthy
//! target a delivery writes no lane row at all.
//!
//! # What it owes
//!
//! - It changes only inside a transaction of the writer, and follows that transaction's fate:
//!   [`keep`](Memory::keep) after the commit, [`undo`](Memory::undo) after a rollback; and likewise for each
//!   call's part of it: [`keep_call`](Memory::keep_call), [`undo_call`](Memory::undo_call).
//! - `in_flight` of a lane is the number of its live leases, always.
//! - `next_due` of a lane is never later than its first pending job. It may be earlier, after one was
//!   removed; the next claim then finds nothing and sets it right.
//! - The arithmetic is [`webhook_core::lane`]'s; nothing is decided here.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};

use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::{Class, Health, Room, limit, next_permit};
use webhook_core::model::{RateLimit, Tenant};
use webhook_core::queue::{Hold, LaneSettings};

/// Later than every moment: a lane with nothing to do.
pub(crate) const NEVER: i64 = i64::MAX;
/// Earlier than every moment: the due time of a pending job that a person asked for. It goes before all
/// others of its lane, and although the lane is parked.
pub(crate) const URGENT: i64 = i64::MIN;
/// How many claims are remembered, to answer a repeat with the same leases.
const CLAIMS: usize = 1024;

/// What outlives a restart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Durable {
    /// Of the settings; `None` when there are none, and the lane is not served.
    pub(crate) version: Option<u64>,
    pub(crate) hold: Option<Hold>,
    pub(crate) max_in_flight: Option<u32>,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) health: Health,
    pub(crate) parked_until: i64,
    pub(crate) permit_at: i64,
}

/// A lane.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) durable: Durable,
    pub(crate) in_flight: u32,
    /// When its first pending job is due.
    pub(crate) next_due: i64,
    /// When it was last served, in services.
    turn: u64,
    place: Place,
}

/// Where a lane stands in the indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Ready(Class, u64),
    Later(i64),
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            durable: Durable {
                version: None,
                hold: None,
                max_in_flight: None,
                rate: None,
                health: Health::default(),
                parked_until: URGENT,
                permit_at: URGENT,
            },
            in_flight: 0,
            next_due: NEVER,
            turn: 0,
            place: Place::Nowhere,
        }
    }

    pub(crate) fn restored(durable: Durable, next_due: i64) -> Self {
        Self { durable, next_due, ..Self::new() }
    }

    /// How many more attempts it may have in flight.
    pub(crate) fn free(&self, default: u32) -> u32 {
        let most = self.durable.max_in_flight.unwrap_or(default);
        limit(most, self.durable.health.strikes).saturating_sub(self.in_flight)
    }

    pub(crate) fn class(&self) -> Class {
        self.durable.health.class()
    }

    pub(crate) fn is_parked(&self, now: i64) -> bool {
        self.durable.parked_until > now
    }

    /// How many jobs it may be given at `now`, whatever is due: none when it is held.
    pub(crate) fn permits(&self, default: u32, now: i64) -> u32 {
        let durable = &self.durable;
        if durable.version.is_none() || durable.hold.is_some() || self.permit_at() > now {
            return 0;
        }
        let free = self.free(default);
        if durable.rate.is_some() { free.min(1) } else { free }
    }

    /// When its rate permits the next job.
    pub(crate) fn permit_at(&self) -> i64 {
        self.durable.rate.map_or(URGENT, |_| self.durable.permit_at)
    }

    /// Takes note that `jobs` were given to a worker.
    pub(crate) fn give(&mut self, jobs: u32, now: i64) {
        self.in_flight += jobs;
        if let Some(rate) = self.durable.rate {
            for _ in 0..jobs {
                self.durable.permit_at = next_permit(self.durable.permit_at, now, rate);
            }
        }
    }

    /// When it can be served; `None` when only a change can make it so.
    fn ready_at(&self, default: u32) -> Option<i64> {
        let durable = &self.durable;
        if durable.version.is_none()
            || durable.hold.is_some()
            || self.next_due == NEVER
            || self.free(default) == 0
        {
            return None;
        }
        let parked = if self.next_due == URGENT { URGENT } else { durable.parked_until };
        Some(self.next_due.max(parked).max(self.permit_at()))
    }

    /// Takes over settings unless they are older than the known ones.
    pub(crate) fn configure(&mut self, settings: &LaneSettings, now: i64) {
        let durable = &mut self.durable;
        if durable.version.is_some_and(|known| known > settings.version) {
            return;
        }
        durable.version = Some(settings.version);
        durable.hold = settings.hold;
        durable.max_in_flight = settings.max_in_flight;
        if let Some(rate) = settings.rate {
            // A lane that waited for a slower rate does not wait longer than the new one asks for.
            durable.permit_at = durable.permit_at.min(next_permit(now, now, rate));
        }
        durable.rate = settings.rate;
    }
}

/// A worker's right to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) token: Token,
    pub(crate) lane: LaneId,
    pub(crate) until: i64,
    /// Its time has not been found to be over. One that ran out is good until another worker claims the job.
    pub(crate) live: bool,
    /// Its delivery takes turns.
    pub(crate) ordered: bool,
    /// When its job was due. Handed back without a result, the job keeps its place in the lane.
    pub(crate) due: i64,
}

/// All of it. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Memory {
    lanes: HashMap<LaneId, Lane>,
    ready: [BTreeSet<(u64, LaneId)>; 3],
    later: BTreeSet<(i64, LaneId)>,
    leases: HashMap<DeliveryId, Held>,
    /// No lease ends before.
    first_end: Option<i64>,
    configs: HashMap<Tenant, u64>,
    next_seq: i64,
    turn: u64,
    default_limit: u32,
    claims: VecDeque<Token>,
    /// How it was when the transaction began.
    at_begin: Before,
    /// How it was when the running call began.
    at_call: Before,
    /// A lane became servable in the transaction, now or at a time.
    woken: bool,
}

/// How it was, where it has changed since.
#[derive(Debug, Default)]
struct Before {
    lanes: HashMap<LaneId, Option<Lane>>,
    leases: Vec<(DeliveryId, Option<Held>)>,
    configs: Vec<(Tenant, Option<u64>)>,
    next_seq: Option<i64>,
    /// What was claimed since.
    claims: Vec<Token>,
}

impl Before {
    /// Takes in what changed after all that it knows of.
    fn extend(&mut self, later: Self) {
        for (id, lane) in later.lanes {
            self.lanes.entry(id).or_insert(lane);
        }
        self.leases.extend(later.leases);
        self.configs.extend(later.configs);
        self.next_seq = self.next_seq.or(later.next_seq);
        self.claims.extend(later.claims);
    }
}

impl Memory {
    pub(crate) fn restore(
        lanes: impl IntoIterator<Item = (LaneId, Lane)>,
        configs: HashMap<Tenant, u64>,
        next_seq: i64,
        now: i64,
    ) -> Self {
        let mut memory = Self { configs, next_seq, default_limit: 64, ..Self::default() };
        for (id, lane) in lanes {
            memory.lanes.insert(id, lane);
            memory.place(id, now);
        }
        memory
    }

    // -----------------------------------------------------------------------------------------------------
    // Transactions

    /// The lanes that this transaction's calls changed in what outlives a restart.
    pub(crate) fn to_be_written(&self) -> Vec<(LaneId, Durable)> {
        let changed = |(id, before): (&LaneId, &Option<Lane>)| {
            let now = &self.lanes.get(id)?.durable;
            let same = before.as_ref().is_some_and(|lane| lane.durable == *now);
            (!same).then(|| (*id, now.clone()))
        };
        self.at_begin.lanes.iter().filter_map(changed).collect()
    }

    /// The call is over, and the next one builds on what it did.
    pub(crate) fn keep_call(&mut self, now: i64) {
        let call = std::mem::take(&mut self.at_call);
        for id in call.lanes.keys() {
            self.woken |= self.place(*id, now);
        }
        self.at_begin.extend(call);
    }

    /// The call's part was rolled back.
    pub(crate) fn undo_call(&mut self, now: i64) {
        let call = std::mem::take(&mut self.at_call);
        self.restore_to(call, now);
    }

    /// The transaction is committed. Answers whether a lane became servable, now or at a time.
    pub(crate) fn keep(&mut self) -> bool {
        for claim in std::mem::take(&mut self.at_begin).claims {
            self.claims.truncate(CLAIMS - 1);
            self.claims.push_front(claim);
        }
        std::mem::take(&mut self.woken)
    }

    /// The transaction was rolled back.
    pub(crate) fn undo(&mut self, now: i64) {
        self.undo_call(now);
        let begin = std::mem::take(&mut self.at_begin);
        self.restore_to(begin, now);
        self.woken = false;
    }

    fn restore_to(&mut self, before: Before, now: i64) {
        for (id, lane) in before.lanes {
            // The indexes are no part of what is undone: they follow.
            let place = self.lanes.get(&id).map_or(Place::Nowhere, |lane| lane.place);
            if let Some(lane) = lane {
                self.lanes.insert(id, Lane { place, ..lane });
                self.place(id, now);
            } else {
                self.unindex(id, place);
                self.lanes.remove(&id);
            }
        }
        for (id, held) in before.leases.into_iter().rev() {
            match held {
                Some(held) => self.leases.insert(id, held),
                None => self.leases.remove(&id),
            };
        }
        for (tenant, version) in before.configs.into_iter().rev() {
            match version {
                Some(version) => self.configs.insert(tenant, version),
                None => self.configs.remove(&tenant),
            };
        }
        if let Some(seq) = before.next_seq {
            self.next_seq = seq;
        }
    }

    // -----------------------------------------------------------------------------------------------------
    // Lanes

    pub(crate) fn lane(&self, id: &LaneId) -> Option<&Lane> {
        self.lanes.get(id)
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values()
    }

    /// The lane to be changed, made when there is none.
    pub(crate) fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        let lane = self.lanes.entry(id);
        if let Entry::Vacant(slot) = self.at_call.lanes.entry(id) {
            slot.insert(match &lane {
                Entry::Occupied(lane) => Some(lane.get().clone()),
                Entry::Vacant(_) => None,
            });
        }
        lane.or_insert_with(Lane::new)
    }

    /// A job is pending from now on, due at `due`.
    pub(crate) fn pending(&mut self, lane: LaneId, due: i64) {
        let lane = self.lane_mut(lane);
        lane.next_due = lane.next_due.min(due);
    }

    /// The limit of lanes whose settings name none. It is the caller's, and the same for all calls but after
    /// a change of configuration.
    pub(crate) fn use_default(&mut self, limit: u32, now: i64) {
        if self.default_limit != limit {
            self.default_limit = limit;
            let ids: Vec<LaneId> = self.lanes.keys().copied().collect();
            for id in ids {
                self.place(id, now);
            }
        }
    }

    pub(crate) fn default_limit(&self) -> u32 {
        self.default_limit
    }

    /// The lanes that can be served now, in turn, `most` of each class.
    pub(crate) fn servable(&mut self, now: i64, most: usize) -> Vec<LaneId> {
        while let Some((_, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.place(id, now);
        }
        let mut found: Vec<(u64, LaneId)> =
            self.ready.iter().flat_map(|class| class.iter().take(most).copied()).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// A claim with this room, of lanes but these, would give nothing, and no lease has run out.
    pub(crate) fn is_idle(&self, now: i64, room: &Room, avoid: &[LaneId]) -> bool {
        let serves = |class: Class| {
            room.fits(class) > 0 && self.ready[class as usize].iter().any(|(_, id)| !avoid.contains(id))
        };
        self.next_moment() > now && ![Class::Good, Class::Doubtful, Class::Dead].into_iter().any(serves)
    }

    /// Whether lanes can be served that the last claim passed over.
    pub(crate) fn passes_over(&self) -> bool {
        self.ready.iter().any(|lanes| !lanes.is_empty())
    }

    /// The lane was served: all others come first.
    pub(crate) fn served(&mut self, id: LaneId) {
        self.turn += 1;
        let turn = self.turn;
        self.lane_mut(id).turn = turn;
    }

    /// When the next lane becomes servable or the next lease ends, by time alone.
    pub(crate) fn next_moment(&self) -> i64 {
        let lane = self.later.first().map_or(NEVER, |(at, _)| *at);
        lane.min(self.first_end.unwrap_or(NEVER))
    }

    /// Puts a lane where it belongs. Answers whether it can be served now, or earlier than it could.
    fn place(&mut self, id: LaneId, now: i64) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        if lane.turn == 0 {
            self.turn += 1;
            lane.turn = self.turn;
        }
        let place = match lane.ready_at(self.default_limit) {
            None => Place::Nowhere,
            Some(at) if at <= now => Place::Ready(lane.class(), lane.turn),
            Some(at) => Place::Later(at),
        };
        let before = std::mem::replace(&mut lane.place, place);
        if before == place {
            return matches!(place, Place::Ready(..));
        }
        self.unindex(id, before);
        match place {
            Place::Nowhere => false,
            Place::Ready(class, turn) => {
                self.ready[class as usize].insert((turn, id));
                true
            }
            Place::Later(at) => {
                self.later.insert((at, id));
                !matches!(before, Place::Later(earlier) if earlier <= at)
            }
        }
    }

    fn unindex(&mut self, id: LaneId, place: Place) {
        match place {
            Place::Nowhere => {}
            Place::Ready(class, turn) => {
                self.ready[class as usize].remove(&(turn, id));
            }
            Place::Later(at) => {
                self.later.remove(&(at, id));
            }
        }
    }

    // -----------------------------------------------------------------------------------------------------
    // Leases

    pub(crate) fn lease(&self, id: &DeliveryId) -> Option<&Held> {
        self.leases.get(id)
    }

    /// The lease that `token` has on a job, live or run out.
    pub(crate) fn lease_of(&self, id: &DeliveryId, token: Token) -> Option<Held> {
        self.leases.get(id).copied().filter(|held| held.token == token)
    }

    /// Gives a job to a worker. The lane's count was raised by [`Lane::give`].
    pub(crate) fn grant(&mut self, id: DeliveryId, held: Held) {
        self.first_end = Some(self.first_end.map_or(held.until, |first| first.min(held.until)));
        let before = self.leases.insert(id, held);
        self.at_call.leases.push((id, before));
    }

    /// Ends a lease, whoever holds it, and gives its lane's slot back if it was live.
    pub(crate) fn end(&mut self, id: &DeliveryId) -> Option<Held> {
        let held = self.leases.remove(id)?;
        self.at_call.leases.push((*id, Some(held)));
        if held.live {
            let lane = self.lane_mut(held.lane);
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        Some(held)
    }

    /// Lets a lease that is still `token`'s and live hold until `until`.
    pub(crate) fn extend(&mut self, id: &DeliveryId, token: Token, until: i64) -> bool {
        match self.leases.get_mut(id) {
            Some(held) if held.token == token && held.live => {
                held.until = until;
                true
            }
            _ => false,
        }
    }

    /// Whether the time of a lease is over that was not yet found to be. Never `false` when one is.
    pub(crate) fn may_have_run_out(&self, now: i64) -> bool {
        self.first_end.is_some_and(|first| first <= now)
    }

    /// The leases whose time is over and was not yet found to be.
    pub(crate) fn run_out(&mut self, now: i64) -> Vec<(DeliveryId, Held)> {
        if self.first_end.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let live = || self.leases.iter().filter(|(_, held)| held.live);
        let over = live().filter(|(_, held)| held.until <= now).map(|(id, held)| (*id, *held)).collect();
        self.first_end = live().map(|(_, held)| held.until).filter(|until| *until > now).min();
        over
    }

    /// A lease has run out: its job is pending again, its token good until another's claim.
    pub(crate) fn lapse(&mut self, id: DeliveryId, held: Held, now: i64) {
        self.leases.insert(id, Held { live: false, ..held });
        self.at_call.leases.push((id, Some(held)));
        // After a rollback it must be found again.
        self.first_end = Some(self.first_end.map_or(held.until, |first| first.min(held.until)));
        let lane = self.lane_mut(held.lane);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.next_due = lane.next_due.min(held.due);
        // The claim that finds it may give it.
        self.place(held.lane, now);
    }

    /// The jobs that `token` holds.
    pub(crate) fn held_by(&self, token: Token) -> Vec<(DeliveryId, Held)> {
        let mine = self.leases.iter().filter(|(_, held)| held.token == token && held.live);
        mine.map(|(id, held)| (*id, *held)).collect()
    }

    /// The live leases of a lane.
    pub(crate) fn leased_in(&self, lane: LaneId) -> Vec<DeliveryId> {
        self.leases.iter().filter(|(_, held)| held.lane == lane).map(|(id, _)| *id).collect()
    }

    pub(crate) fn knows_claim(&self, claim: Token) -> bool {
        [&self.at_call.claims, &self.at_begin.claims].iter().any(|claims| claims.contains(&claim))
            || self.claims.contains(&claim)
    }

    pub(crate) fn remember_claim(&mut self, claim: Token) {
        self.at_call.claims.push(claim);
    }

    // -----------------------------------------------------------------------------------------------------
    // Configurations and numbers

    pub(crate) fn config(&self, tenant: &Tenant) -> u64 {
        self.configs.get(tenant).copied().unwrap_or(0)
    }

    pub(crate) fn knows_tenant(&self, tenant: &Tenant) -> bool {
        self.configs.contains_key(tenant)
    }

    pub(crate) fn set_config(&mut self, tenant: &Tenant, version: u64) {
        let before = self.configs.insert(tenant.clone(), version);
        self.at_call.configs.push((tenant.clone(), before));
    }

    /// The last number that was given.
    pub(crate) fn last_seq(&self) -> i64 {
        self.next_seq - 1
    }

    /// Gives the next number: of an event, or of deliveries that are added to one.
    pub(crate) fn take_seq(&mut self) -> i64 {
        self.at_call.next_seq.get_or_insert(self.next_seq);
        self.next_seq += 1;
        self.next_seq - 1
    }
}
