//! How much a worker may have in flight, and what it has.
//!
//! Half of the concurrency are *slots*, shared out by class of lane ([`Room`]); the other half is a second
//! pool for attempts that have been in flight for more than a second. Those leave their slots, so that fifty
//! good targets that hang together stop nobody else; while the second pool is over half full, no lane with
//! an attempt in it is served (promise 13). The last eighth of the slots is for lanes that hold less than a
//! quarter of what is free, and no more than a quarter is given away at once: however many lanes hang together before
//! their first second is over, a slot is left for one that holds none. Bytes in flight are bounded with the slots: nothing
//! is claimed or handed off while they are used up (promise 16).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::lock;
use crate::id::{DeliveryId, LaneId, Token};
use crate::lane::{Class, FAST, Room};
use crate::queue::Lease;

/// This part of the slots is kept for lanes that hold few of them.
const LAST_PART: u32 = 8;
/// Few is less than this part of what is free. A quarter leaves room for as many newcomers again.
const FEW_PART: u32 = 4;
/// Payload bytes in flight, beyond which nothing more starts.
const BYTES: usize = 64 * 1024 * 1024;

/// The slots of one worker.
#[derive(Debug)]
pub(super) struct Slots {
    state: Mutex<State>,
    /// A slot came free, be it one that was only reserved.
    pub released: Notify,
    /// An attempt left its slot.
    pub left: Notify,
    /// A slot of a doubtful or dead lane came free.
    pub doubtful_released: Notify,
    /// Something is in flight again.
    pub started: Notify,
    /// Nothing is in flight any more.
    emptied: Notify,
}

#[derive(Debug)]
struct State {
    free: Room,
    /// When no more than these are free, they are not for every lane.
    last: u32,
    /// Places in the second pool, and how many are free.
    second: u32,
    second_free: u32,
    bytes: usize,
    in_flight: HashMap<DeliveryId, InFlight>,
    /// Slots taken by claims and inserts whose outcome is not known yet.
    reserved: u32,
}

/// One attempt in flight.
#[derive(Debug, Clone)]
struct InFlight {
    lane: LaneId,
    token: Token,
    mark: u64,
    class: Class,
    bytes: usize,
    since: Instant,
    renewed: Instant,
    overdue: bool,
}

/// What became of a lease that came to this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It is in flight from now on.
    Start,
    /// Its delivery is in flight already, and goes on under the new token.
    TakenOver,
}

/// Lanes that are not to be served to this worker now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Avoid {
    pub lanes: Vec<LaneId>,
    /// Some of them are served again as soon as slots come free.
    pub is_crowded: bool,
}

impl Slots {
    pub(super) fn new(concurrency: u32) -> Self {
        let slots = concurrency.max(1).div_ceil(2);
        let second = concurrency.saturating_sub(slots);
        Self {
            state: Mutex::new(State {
                free: Room::of(slots),
                last: slots / LAST_PART,
                second,
                second_free: second,
                bytes: 0,
                in_flight: HashMap::new(),
                reserved: 0,
            }),
            released: Notify::new(),
            left: Notify::new(),
            doubtful_released: Notify::new(),
            started: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Takes up to `jobs` slots of every class. To be given back by [`cancel`](Self::cancel), or exchanged
    /// for what was leased by [`admit`](Self::admit).
    pub(super) fn reserve(&self, jobs: usize) -> Room {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        let mut state = lock(&self.state);
        if state.bytes >= BYTES {
            return Room::default();
        }
        let free = state.free.all;
        let all = jobs.min(free.saturating_sub(state.last).max(free.div_ceil(FEW_PART)));
        let room = Room { all, doubtful: state.free.doubtful.min(all), dead: state.free.dead.min(all) };
        state.free.all -= room.all;
        state.free.doubtful -= room.doubtful;
        state.free.dead -= room.dead;
        state.reserved += room.all;
        room
    }

    /// Gives back a reservation.
    pub(super) fn cancel(&self, room: Room) {
        give_back(&mut lock(&self.state), room);
        self.released.notify_one();
        if room.doubtful > 0 {
            self.doubtful_released.notify_one();
        }
    }

    /// Exchanges a reservation for what was leased by it; `since` is when the claim began.
    pub(super) fn admit<'a>(
        &self,
        room: Room,
        leases: impl Iterator<Item = (&'a Lease, usize)>,
        since: Instant,
    ) -> Vec<Admitted> {
        let mut state = lock(&self.state);
        give_back(&mut state, room);
        let admitted: Vec<_> = leases
            .map(|(lease, bytes)| {
                if let Some(running) = state.in_flight.get_mut(&lease.id) {
                    running.token = lease.token;
                    running.mark = lease.mark;
                    running.renewed = since;
                    return Admitted::TakenOver;
                }
                state.free.take(lease.class, 1);
                state.bytes += bytes;
                let (lane, token, mark, class) = (lease.lane, lease.token, lease.mark, lease.class);
                let running =
                    InFlight { lane, token, mark, class, bytes, since, renewed: since, overdue: false };
                state.in_flight.insert(lease.id, running);
                Admitted::Start
            })
            .collect();
        drop(state);
        // What was not used of the reservation is free for the other one who reserves.
        self.released.notify_one();
        self.started.notify_one();
        admitted
    }

    /// The lease under which a delivery is in flight now: its token and the lane's strike mark.
    pub(super) fn lease(&self, id: DeliveryId) -> Option<(Token, u64)> {
        lock(&self.state).in_flight.get(&id).map(|running| (running.token, running.mark))
    }

    /// These attempts are over.
    pub(super) fn release(&self, ids: impl IntoIterator<Item = DeliveryId>) {
        let mut doubtful = false;
        let empty;
        {
            let mut state = lock(&self.state);
            for id in ids {
                let Some(running) = state.in_flight.remove(&id) else { continue };
                state.bytes -= running.bytes;
                doubtful |= running.class >= Class::Doubtful;
                if running.overdue {
                    state.second_free += 1;
                } else {
                    state.free.give_back(running.class, 1);
                }
            }
            empty = state.in_flight.is_empty();
        }
        self.released.notify_one();
        self.left.notify_one();
        if doubtful {
            self.doubtful_released.notify_one();
        }
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Returns when nothing is in flight.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.in_flight() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Moves attempts that have been in flight for more than a second to the second pool, as far as it has
    /// places.
    pub(super) fn move_overdue(&self) {
        let mut freed = false;
        {
            let mut state = lock(&self.state);
            let State { free, second_free, in_flight, .. } = &mut *state;
            for running in in_flight.values_mut() {
                if *second_free == 0 {
                    break;
                }
                if !running.overdue && running.since.elapsed() > FAST {
                    running.overdue = true;
                    *second_free -= 1;
                    free.give_back(running.class, 1);
                    freed = true;
                }
            }
        }
        if freed {
            self.released.notify_one();
            self.left.notify_one();
            self.doubtful_released.notify_one();
        }
    }

    /// The lanes that are not to be served now.
    ///
    /// Those with an attempt over a second, while such attempts fill more than half of the second pool; those
    /// that found no place there and hold their slots count too. And those that hold a quarter of what is free,
    /// once that is little.
    pub(super) fn avoid(&self) -> Avoid {
        let state = lock(&self.state);
        let mut lanes = Vec::new();
        if state.second_free * 2 < state.second {
            let over = |running: &&InFlight| running.overdue || running.since.elapsed() > FAST;
            lanes.extend(state.in_flight.values().filter(over).map(|running| running.lane));
        }
        // What is reserved may come back at any moment.
        let free = state.free.all + state.reserved;
        let mut is_crowded = false;
        if free <= state.last {
            let mut held: HashMap<LaneId, u32> = HashMap::new();
            for running in state.in_flight.values().filter(|running| !running.overdue) {
                *held.entry(running.lane).or_default() += 1;
            }
            let before = lanes.len();
            lanes.extend(held.iter().filter(|(_, held)| **held * FEW_PART >= free).map(|(lane, _)| *lane));
            is_crowded = lanes.len() > before;
        }
        lanes.sort_unstable();
        lanes.dedup();
        Avoid { lanes, is_crowded }
    }

    /// Leases that were last renewed longer than `age` ago.
    pub(super) fn to_renew(&self, age: Duration) -> Vec<(DeliveryId, Token)> {
        lock(&self.state)
            .in_flight
            .iter()
            .filter(|(_, running)| running.renewed.elapsed() > age)
            .map(|(id, running)| (*id, running.token))
            .collect()
    }

    /// This lease was renewed by a call that began at `since`.
    pub(super) fn renewed(&self, id: DeliveryId, token: Token, since: Instant) {
        if let Some(running) = lock(&self.state).in_flight.get_mut(&id)
            && running.token == token
        {
            running.renewed = since;
        }
    }

    /// Whether nothing is in flight and no claim or insert may be about to start something.
    pub(super) fn idle(&self) -> bool {
        let state = lock(&self.state);
        state.in_flight.is_empty() && state.reserved == 0
    }

    /// How many attempts are in flight.
    pub(super) fn in_flight(&self) -> usize {
        lock(&self.state).in_flight.len()
    }
}

fn give_back(state: &mut State, room: Room) {
    state.reserved -= room.all;
    state.free.all += room.all;
    state.free.doubtful += room.doubtful;
    state.free.dead += room.dead;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(lane: LaneId, class: Class) -> Lease {
        let (id, token) = (DeliveryId::new(), Token::new());
        Lease { id, lane, token, class, mark: 0, lane_version: 1, unsettled: Vec::new() }
    }

    fn start(slots: &Slots, class: Class, jobs: usize) -> Vec<Lease> {
        start_in(slots, LaneId::new(), class, jobs)
    }

    /// By as many claims as it takes.
    fn start_in(slots: &Slots, lane: LaneId, class: Class, jobs: usize) -> Vec<Lease> {
        let leases: Vec<_> = (0..jobs).map(|_| lease(lane, class)).collect();
        let mut left = &leases[..];
        while !left.is_empty() {
            let room = slots.reserve(left.len());
            let fits = room.fits(class) as usize;
            assert!(fits > 0, "{left:?} found no slot");
            let (now, later) = left.split_at(fits);
            slots.admit(room, now.iter().map(|lease| (lease, 0)), Instant::now());
            left = later;
        }
        leases
    }

    #[tokio::test]
    async fn doubtful_lanes_hold_half_of_the_slots_and_dead_ones_a_quarter() {
        let slots = Slots::new(16);
        let room = slots.reserve(100);
        assert_eq!(room, Room { all: 7, doubtful: 4, dead: 2 });
        slots.cancel(room);
        assert!(slots.idle());
        start(&slots, Class::Dead, 2);
        assert_eq!(slots.reserve(5), Room { all: 5, doubtful: 2, dead: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_over_a_second_leave_their_slots_until_the_second_pool_is_full() {
        let slots = Slots::new(8);
        let hanging = start(&slots, Class::Good, 4);
        assert_eq!(slots.reserve(1).all, 0);
        tokio::time::advance(Duration::from_millis(1001)).await;
        slots.move_overdue();
        assert_eq!(slots.avoid().lanes, [hanging[0].lane]);
        start(&slots, Class::Good, 4);
        tokio::time::advance(Duration::from_millis(1001)).await;
        slots.move_overdue();
        assert_eq!((slots.reserve(1).all, slots.in_flight()), (0, 8));
        slots.release(hanging.iter().map(|lease| lease.id));
        slots.move_overdue();
        assert_eq!(slots.reserve(8).all, 4);
    }

    #[tokio::test]
    async fn however_many_lanes_take_all_they_get_a_slot_is_left_for_one_that_holds_none() {
        let slots = Slots::new(512);
        let lanes: Vec<_> = (0..50).map(|_| LaneId::new()).collect();
        loop {
            let room = slots.reserve(128);
            let avoid = slots.avoid().lanes;
            let greedy: Vec<_> = lanes.iter().filter(|lane| !avoid.contains(lane)).collect();
            let takes = greedy.iter().cycle().take(room.all as usize);
            let leases: Vec<_> = takes.map(|lane| lease(**lane, Class::Good)).collect();
            slots.admit(room, leases.iter().map(|lease| (lease, 0)), Instant::now());
            if leases.is_empty() {
                break;
            }
        }
        assert!(slots.in_flight() > 200, "{} of 256 slots are used", slots.in_flight());
        assert!(slots.avoid().is_crowded);
        // Eight more that take what they get, one at a time, leave some too.
        let more: Vec<_> = (0..8).map(|_| LaneId::new()).collect();
        for lane in more.iter().cycle().take(800) {
            if !slots.avoid().lanes.contains(lane) {
                start_in(&slots, *lane, Class::Good, 1);
            }
        }
        start(&slots, Class::Good, 1);
    }

    #[tokio::test]
    async fn a_lane_alone_may_hold_seven_eighths_of_the_slots() {
        let slots = Slots::new(512);
        let lane = LaneId::new();
        start_in(&slots, lane, Class::Good, 223);
        assert_eq!(slots.avoid(), Avoid { lanes: vec![], is_crowded: false });
        start_in(&slots, lane, Class::Good, 1);
        assert_eq!(slots.avoid(), Avoid { lanes: vec![lane], is_crowded: true });
    }

    #[tokio::test]
    async fn a_delivery_that_is_in_flight_only_takes_over_the_new_token() {
        let slots = Slots::new(8);
        let first = start(&slots, Class::Good, 1).remove(0);
        let again = Lease { token: Token::new(), ..first };
        let room = slots.reserve(1);
        let admitted = slots.admit(room, [(&again, 0)].into_iter(), Instant::now());
        assert_eq!(admitted, [Admitted::TakenOver]);
        assert_eq!(slots.lease(again.id), Some((again.token, 0)));
        slots.release([again.id]);
        assert_eq!((slots.in_flight(), slots.reserve(8).all), (0, 4));
    }

    #[tokio::test]
    async fn nothing_starts_while_the_bytes_in_flight_are_used_up() {
        let slots = Slots::new(8);
        let large = lease(LaneId::new(), Class::Good);
        let room = slots.reserve(1);
        slots.admit(room, [(&large, BYTES)].into_iter(), Instant::now());
        assert_eq!(slots.reserve(1), Room::default());
        slots.release([large.id]);
        assert_eq!(slots.reserve(1).all, 1);
    }
}
