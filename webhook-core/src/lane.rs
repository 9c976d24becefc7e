//! Lane arithmetic: how a target's behaviour limits what it may hold up (promise 13).
//!
//! A worker that takes the oldest due job first lets one dead target stop everybody: with thirty-second
//! time-outs and five hundred slots, seventeen dead deliveries a second are enough. So the queue serves lanes
//! in turn, and a lane pays for the slot time it wastes with *strikes*.
//!
//! This module is the reference. Queues implement the same arithmetic in their own language (SQL, Lua) and
//! are tested against it. It is pure: instants are the queue's own, waits are durations.

use std::time::Duration;

use crate::model::RateLimit;

/// The strikes of a lane nobody has heard from: it may prove itself with a few attempts at a time.
pub const FIRST_STRIKES: u8 = 4;
/// Strikes never exceed this.
pub const MAX_STRIKES: u8 = 16;
/// From so many strikes on a lane is *unproven*.
pub const UNPROVEN_STRIKES: u8 = 3;
/// From so many strikes on a lane is *dead*.
pub const DEAD_STRIKES: u8 = 5;
/// From so many strikes on an unanswered attempt parks its lane.
pub const PARKING_STRIKES: u8 = 8;
/// The longest parking that strikes lead to.
pub const PARKING_MAX: Duration = Duration::from_secs(30);
/// An answer within this is fast; a slot held this long without an answer is a strike.
pub const FAST: Duration = Duration::from_secs(1);

/// What an attempt did to its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Answered within a second, whatever the status: strikes are halved.
    Fast,
    /// Answered later: the lane is slow.
    Slow,
    /// Held its slot for a second or more without an answer: a strike, if it started after the last one.
    Unanswered,
    /// Failed fast, was interrupted or never sent: nothing is known.
    Neutral,
    /// Answered 429 or 503 with `Retry-After`: strikes are halved, and the lane is parked for this long.
    Asked(Duration),
}

impl Effect {
    /// What an exchange that took `held` did: whether the target `answered`, and the wait it asked for.
    #[must_use]
    pub fn of(answered: bool, held: Duration, asked: Option<Duration>) -> Self {
        match (answered, asked) {
            (true, Some(wait)) => Self::Asked(wait),
            (true, None) if held <= FAST => Self::Fast,
            (true, None) => Self::Slow,
            (false, _) if held >= FAST => Self::Unanswered,
            (false, _) => Self::Neutral,
        }
    }
}

/// What the queue remembers of a lane's behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// 0 to [`MAX_STRIKES`].
    pub strikes: u8,
    /// The last answer took more than a second.
    pub slow: bool,
    /// Counts the strikes ever given. A claim takes it along, and a strike counts only if it is unchanged
    /// when the attempt ends: one blip of sixty-four time-outs is one strike.
    pub mark: u64,
}

impl Default for Health {
    fn default() -> Self {
        Self { strikes: FIRST_STRIKES, slow: false, mark: 0 }
    }
}

impl Health {
    /// Takes in what an attempt did that was claimed at `mark`. Returns for how long the lane is parked by
    /// it, if it is.
    pub fn take(&mut self, effect: Effect, mark: u64) -> Option<Duration> {
        match effect {
            Effect::Fast => {
                self.strikes /= 2;
                self.slow = false;
                None
            }
            Effect::Slow => {
                self.slow = true;
                None
            }
            Effect::Neutral => None,
            Effect::Asked(wait) => {
                self.strikes /= 2;
                Some(wait)
            }
            Effect::Unanswered if mark != self.mark => None,
            Effect::Unanswered => {
                self.mark += 1;
                self.strikes = (self.strikes + 1).min(MAX_STRIKES);
                parking(self.strikes)
            }
        }
    }

    /// Which share of a worker's slots the lane draws on.
    #[must_use]
    pub const fn class(&self) -> Class {
        if self.strikes >= DEAD_STRIKES {
            Class::Dead
        } else if self.strikes >= UNPROVEN_STRIKES || self.slow {
            Class::Doubtful
        } else {
            Class::Good
        }
    }
}

/// How long a lane with this many strikes is parked after an unanswered attempt.
#[must_use]
pub fn parking(strikes: u8) -> Option<Duration> {
    let over = strikes.checked_sub(PARKING_STRIKES)?;
    Some(PARKING_MAX.min(Duration::from_secs(1 << over.min(5))))
}

/// How many attempts of a lane may be in flight, over all workers.
///
/// ```
/// use webhook_core::lane::limit;
///
/// assert_eq!(limit(64, 0), 64);
/// assert_eq!(limit(64, 4), 4);
/// assert_eq!(limit(64, 16), 1);
/// ```
#[must_use]
pub const fn limit(max_in_flight: u32, strikes: u8) -> u32 {
    let limit = if strikes >= 32 { 0 } else { max_in_flight >> strikes };
    if limit == 0 { 1 } else { limit }
}

/// Which share of a worker's slots a lane draws on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Answers, and fast: any slot.
    Good,
    /// Unproven or slow: at most half of the slots, together with the dead.
    Doubtful,
    /// Does not answer: at most a quarter of the slots.
    Dead,
}

/// How many more jobs a worker can start, in all and of each doubtful kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// In all.
    pub all: u32,
    /// Of doubtful and dead lanes together.
    pub doubtful: u32,
    /// Of dead lanes.
    pub dead: u32,
}

impl Room {
    /// The shares of a worker with this many slots, none taken.
    #[must_use]
    pub const fn of(slots: u32) -> Self {
        let half = if slots < 2 { slots } else { slots / 2 };
        let quarter = if slots < 4 { half } else { slots / 4 };
        Self { all: slots, doubtful: half, dead: quarter }
    }

    /// How many jobs of a lane of this class fit.
    #[must_use]
    pub fn fits(&self, class: Class) -> u32 {
        match class {
            Class::Good => self.all,
            Class::Doubtful => self.all.min(self.doubtful),
            Class::Dead => self.all.min(self.doubtful).min(self.dead),
        }
    }

    /// Takes up `jobs` of this class.
    pub fn take(&mut self, class: Class, jobs: u32) {
        self.all = self.all.saturating_sub(jobs);
        if class >= Class::Doubtful {
            self.doubtful = self.doubtful.saturating_sub(jobs);
        }
        if class == Class::Dead {
            self.dead = self.dead.saturating_sub(jobs);
        }
    }

    /// Gives back `jobs` of this class.
    pub fn give_back(&mut self, class: Class, jobs: u32) {
        self.all += jobs;
        if class >= Class::Doubtful {
            self.doubtful += jobs;
        }
        if class == Class::Dead {
            self.dead += jobs;
        }
    }
}

/// A smooth rate: one permit every `gap`. Never more than the limit + 1 in any window.
///
/// Times are microseconds of the queue's own clock.
#[must_use]
pub fn next_permit(permit_at: i64, now: i64, rate: RateLimit) -> i64 {
    let gap = i64::try_from(rate.gap().as_micros()).unwrap_or(i64::MAX).max(1);
    permit_at.max(now).saturating_add(gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_table_of_effects() {
        let millis = Duration::from_millis;
        assert_eq!(Effect::of(true, millis(1000), None), Effect::Fast);
        assert_eq!(Effect::of(true, millis(1001), None), Effect::Slow);
        assert_eq!(Effect::of(false, millis(1000), None), Effect::Unanswered);
        assert_eq!(Effect::of(false, millis(999), None), Effect::Neutral);
        assert_eq!(Effect::of(true, millis(2000), Some(SECOND)), Effect::Asked(SECOND));
    }

    #[test]
    fn a_new_target_proves_itself_with_two_fast_answers() {
        let mut health = Health::default();
        assert_eq!((limit(64, health.strikes), health.class()), (4, Class::Doubtful));
        health.take(Effect::Fast, 0);
        assert_eq!((limit(64, health.strikes), health.class()), (16, Class::Good));
    }

    #[test]
    fn one_blip_of_many_time_outs_is_one_strike() {
        let mut health = Health { strikes: 0, ..Health::default() };
        for _ in 0..64 {
            health.take(Effect::Unanswered, 0);
        }
        assert_eq!((health.strikes, health.mark), (1, 1));
    }

    #[test]
    fn a_target_that_never_answers_ends_with_one_probe_every_thirty_seconds() {
        let mut health = Health::default();
        let mut parked = Vec::new();
        for mark in 0..14 {
            parked.extend(health.take(Effect::Unanswered, mark).map(|wait| wait.as_secs()));
        }
        assert_eq!(parked, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]);
        assert_eq!((health.strikes, limit(64, health.strikes)), (MAX_STRIKES, 1));
    }

    #[test]
    fn a_slow_lane_becomes_good_again_by_a_fast_answer() {
        let mut health = Health { strikes: 0, ..Health::default() };
        health.take(Effect::Slow, 0);
        assert_eq!(health.class(), Class::Doubtful);
        health.take(Effect::Fast, 0);
        assert_eq!(health.class(), Class::Good);
    }

    #[test]
    fn even_a_worker_with_one_slot_serves_every_class() {
        for slots in 1..10 {
            assert!(Room::of(slots).fits(Class::Dead) >= 1, "{slots}");
        }
        assert_eq!(Room::of(512), Room { all: 512, doubtful: 256, dead: 128 });
    }

    proptest! {
        #[test]
        fn a_window_never_holds_more_than_the_limit_and_one(
            requests in 1u32..50, per_ms in 1u64..5_000, idle in prop::collection::vec(0i64..2_000_000, 1..200)
        ) {
            let rate = RateLimit { requests, per: Duration::from_millis(per_ms) };
            let window = i64::try_from(rate.per.as_micros()).unwrap();
            let (mut now, mut permit) = (0i64, 0i64);
            let mut sent = Vec::new();
            for pause in idle {
                now += pause;
                while permit <= now && sent.len() < 5_000 {
                    sent.push(now.max(permit));
                    permit = next_permit(permit, now, rate);
                }
            }
            for (index, start) in sent.iter().enumerate() {
                let inside = sent[index..].iter().take_while(|at| **at < start + window).count();
                prop_assert!(inside <= requests as usize + 1, "{inside} in one window of {requests}");
            }
        }

        #[test]
        fn strikes_stay_in_range_and_the_limit_is_never_zero(
            effects in prop::collection::vec((0u8..5, 0u64..20), 0..100), max in 1u32..10_000
        ) {
            let mut health = Health::default();
            for (which, mark) in effects {
                let effect = match which {
                    0 => Effect::Fast,
                    1 => Effect::Slow,
                    2 => Effect::Unanswered,
                    3 => Effect::Neutral,
                    _ => Effect::Asked(SECOND),
                };
                health.take(effect, mark);
                prop_assert!(health.strikes <= MAX_STRIKES);
                prop_assert!((1..=max).contains(&limit(max, health.strikes)));
            }
        }
    }
}
