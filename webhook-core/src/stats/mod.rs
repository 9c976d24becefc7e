//! Statistics: what is counted, how counts are added up, and what is worked out of them. Pure.
//!
//! Nothing here is found by looking through events, deliveries or attempts. The engine counts what it commits,
//! in memory, and every moment writes what it has counted since as **roll-ups**: rows that are inserted once and
//! never changed, each with an id of its own, so that an insert that is repeated within [`PARTS_KEPT`] adds nothing
//! twice; the id is gone when the row is merged, so one that is repeated later counts again. A roll-up counts for
//! one [`Scope`]: everything, one tenant, or one subscription; each thing is counted in all three, so a question
//! about any of them reads its own rows only, and few of them.
//!
//! Stores stamp a roll-up with the minute at which it came ([`Span::Part`]). Later they merge the parts of a
//! minute, and when they are old the minutes of an hour, each by [`merge`]: the sums stay what they were.
//!
//! | | is kept as | for |
//! |---|---|---|
//! | fresh | [`Span::Part`], several a minute and process | [`PARTS_KEPT`] |
//! | then | [`Span::Minute`] | [`MINUTES_KEPT`] |
//! | then | [`Span::Hour`] | [`KEPT`] |
//!
//! So a window ends now, and begins at a full minute if it is not longer than [`MINUTES_KEPT`], else at a full
//! hour: it may be longer than was asked for, by less than that, and is never shorter.
//!
//! # What is counted
//!
//! - **events** that were stored, whether a subscription matched or not; of a subscription: deliveries that
//!   were made for it.
//! - **deliveries** that ended, by how. One that is reopened and ends again has ended twice.
//! - **attempts** by outcome, when they are recorded. A result that replaces its own `unknown` row takes that one
//!   back, so counts are signed until they are shown.
//! - **latency**: from publishing, or from `deliver_at` when that is later, to success, of each delivery that
//!   succeeded. One that a person reopened says nothing of how fast delivery is, and is left out.
//!
//! A crash loses what was not written yet, a second or so. What a store has committed without its answer coming
//! through is not counted: an event whose insert was not answered is a duplicate when it is published again, and no
//! event of the statistics. Statistics are for people; nothing is decided by them.

mod histogram;

use std::collections::BTreeMap;
use std::time::Duration;

pub use histogram::{Histogram, InvalidHistogram};

use crate::id::{RollupId, SubscriptionId};
use crate::model::{DeliveryStatus, Outcome, Tenant};

/// How long the parts of a minute are kept apart: longer than an insert is ever repeated.
pub const PARTS_KEPT: Duration = Duration::from_secs(10 * 60);
/// How long minutes are kept apart.
pub const MINUTES_KEPT: Duration = Duration::from_secs(3 * 3600);
/// How long roll-ups are kept at all.
pub const KEPT: Duration = Duration::from_secs(31 * 86_400);
/// The windows that can be asked for, from the shortest to the longest.
pub const WINDOWS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);

/// Whose statistics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everybody's.
    All,
    /// One tenant's.
    Tenant(Tenant),
    /// One subscription's.
    Subscription(Tenant, SubscriptionId),
}

impl Scope {
    /// The tenant, of what is one tenant's.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::All => None,
            Self::Tenant(tenant) | Self::Subscription(tenant, _) => Some(tenant),
        }
    }

    /// The subscription, of what is one subscription's.
    #[must_use]
    pub fn subscription(&self) -> Option<SubscriptionId> {
        match self {
            Self::All | Self::Tenant(_) => None,
            Self::Subscription(_, id) => Some(*id),
        }
    }

    /// Whether what is counted in `part` is counted in this scope too.
    #[must_use]
    pub fn includes(&self, part: &Self) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(tenant) => part.tenant() == Some(tenant),
            Self::Subscription(..) => part == self,
        }
    }
}

/// What was counted. Signed, because a late result takes back an unknown one that was counted before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were stored; of a subscription, deliveries that were made for it.
    pub events: i64,
    /// Deliveries that succeeded.
    pub succeeded: i64,
    /// Deliveries that were exhausted.
    pub exhausted: i64,
    /// Deliveries that were cancelled.
    pub cancelled: i64,
    /// Attempts that succeeded.
    pub attempts_succeeded: i64,
    /// Attempts that failed.
    pub attempts_failed: i64,
    /// Attempts of which nothing is known.
    pub attempts_unknown: i64,
    /// Publish to success, of the deliveries that succeeded in their first chain.
    pub latency: Histogram,
}

impl Counts {
    /// Counts what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in [
            (&mut self.events, other.events),
            (&mut self.succeeded, other.succeeded),
            (&mut self.exhausted, other.exhausted),
            (&mut self.cancelled, other.cancelled),
            (&mut self.attempts_succeeded, other.attempts_succeeded),
            (&mut self.attempts_failed, other.attempts_failed),
            (&mut self.attempts_unknown, other.attempts_unknown),
        ] {
            *sum = sum.saturating_add(count);
        }
        self.latency.merge(&other.latency);
    }

    /// Counts an attempt; `replaces` says that it was counted as unknown before.
    pub fn attempt(&mut self, outcome: Outcome, replaces: bool) {
        match outcome {
            Outcome::Succeeded => self.attempts_succeeded += 1,
            Outcome::Failed => self.attempts_failed += 1,
            Outcome::Unknown => self.attempts_unknown += 1,
        }
        if replaces {
            self.attempts_unknown -= 1;
        }
    }

    /// Counts deliveries that ended; one that has not ended counts nothing.
    pub fn ended(&mut self, status: DeliveryStatus, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let sum = match status {
            DeliveryStatus::Succeeded => &mut self.succeeded,
            DeliveryStatus::Exhausted => &mut self.exhausted,
            DeliveryStatus::Cancelled => &mut self.cancelled,
            DeliveryStatus::Pending | DeliveryStatus::Retrying => return,
        };
        *sum = sum.saturating_add(count);
    }

    /// The share of the deliveries that ended which succeeded; `None` when none ended.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    pub fn success_rate(&self) -> Option<f64> {
        let [succeeded, exhausted, cancelled] =
            [self.succeeded, self.exhausted, self.cancelled].map(|count| count.max(0));
        let ended = succeeded.saturating_add(exhausted).saturating_add(cancelled);
        (ended > 0).then(|| succeeded as f64 / ended as f64)
    }
}

/// What was counted for one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// Its id: inserting it again adds nothing.
    pub id: RollupId,
    /// Whose it is.
    pub scope: Scope,
    /// What was counted.
    pub counts: Counts,
}

impl Rollup {
    /// A roll-up under a new id.
    #[must_use]
    pub fn new(scope: Scope, counts: Counts) -> Self {
        Self { id: RollupId::new(), scope, counts }
    }
}

/// How much time a stored roll-up counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// A part of a minute.
    Part,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl Span {
    /// As stores keep it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Part => 0,
            Self::Minute => 1,
            Self::Hour => 2,
        }
    }

    /// The start of what a roll-up of this span is merged into, given its own, both in microseconds since the
    /// epoch. Those of one span and scope that have it in common become one.
    #[must_use]
    pub const fn merged_start(self, start: i64) -> i64 {
        match self {
            Self::Part => minute(start),
            Self::Minute => hour(start),
            Self::Hour => start,
        }
    }
}

/// The start of the minute of a moment, both in microseconds since the epoch.
#[must_use]
pub const fn minute(micros: i64) -> i64 {
    micros - micros.rem_euclid(60_000_000)
}

/// The start of the hour of a moment, both in microseconds since the epoch.
#[must_use]
pub const fn hour(micros: i64) -> i64 {
    micros - micros.rem_euclid(3_600_000_000)
}

/// Where a window that ends at `now` begins: from which start on minutes and their parts count, and from which
/// start on hours do. All in microseconds since the epoch.
#[must_use]
pub fn window_start(now: i64, window: Duration) -> (i64, i64) {
    let from = now.saturating_sub(i64::try_from(window.as_micros()).unwrap_or(i64::MAX));
    (minute(from), hour(from))
}

/// Which roll-ups a store is to merge or to delete, by their starts in microseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// Parts that start before this become minutes.
    pub parts_before: i64,
    /// Minutes that start before this become hours.
    pub minutes_before: i64,
    /// What starts before this is deleted.
    pub forget_before: i64,
}

impl Ages {
    /// As of this moment, in microseconds since the epoch.
    #[must_use]
    pub fn at(now: i64) -> Self {
        let before = |age| window_start(now, age);
        Self {
            parts_before: before(PARTS_KEPT).0,
            minutes_before: before(MINUTES_KEPT).1,
            forget_before: before(KEPT).1,
        }
    }
}

/// Merges roll-ups, given with the start that they are to have, into one for each start and scope, under new ids.
#[must_use]
pub fn merge(rows: impl IntoIterator<Item = (i64, Scope, Counts)>) -> Vec<(i64, Rollup)> {
    let mut merged: BTreeMap<(i64, Scope), Counts> = BTreeMap::new();
    for (start, scope, counts) in rows {
        merged.entry((start, scope)).or_default().merge(&counts);
    }
    merged.into_iter().map(|((start, scope), counts)| (start, Rollup::new(scope, counts))).collect()
}

/// A subscription with failed attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worst {
    /// Which.
    pub subscription_id: SubscriptionId,
    /// Attempts of it that succeeded.
    pub succeeded: i64,
    /// Attempts of it that failed, one or more.
    pub failed: i64,
}

impl Worst {
    /// A subscription by its own counts, if any attempt of it failed.
    #[must_use]
    pub fn of(subscription_id: SubscriptionId, counts: &Counts) -> Option<Self> {
        let Counts { attempts_succeeded: succeeded, attempts_failed: failed, .. } = *counts;
        (failed > 0).then_some(Self { subscription_id, succeeded, failed })
    }

    /// Sorts: most failed first, then fewest succeeded, then the oldest.
    pub fn sort(list: &mut [Self]) {
        list.sort_by_key(|worst| (std::cmp::Reverse(worst.failed), worst.succeeded, worst.subscription_id));
    }
}

/// What was counted in a window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// The sums.
    pub counts: Counts,
    /// The subscriptions with the most failed attempts, the worst first; those without any are left out.
    pub worst: Vec<Worst>,
}

/// What a subscription has to be done, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneLoad {
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// It is paused or disabled.
    pub held: bool,
    /// Deliveries that were not tried yet.
    pub pending: u64,
    /// Deliveries that were tried and have not ended.
    pub retrying: u64,
    /// Those of both that are due; those that a worker holds are left out as far as the store knows of it.
    pub due: u64,
    /// Those of both whose time has not come.
    pub scheduled: u64,
    /// Those of both that wait behind another one of their ordering key.
    pub behind: u64,
    /// How long the oldest due one has been due; `None` when none is, but for what a person asked for.
    pub oldest_due: Option<Duration>,
}

/// What has to be done, now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Subscriptions with unfinished deliveries.
    pub lanes: Vec<LaneLoad>,
    /// There is more than was counted.
    pub more: bool,
}

/// What has to be done, as people see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries that were not tried yet.
    pub pending: u64,
    /// Deliveries that were tried and have not ended.
    pub retrying: u64,
    /// Deliveries that are due and that only a free slot, or their subscription's limits, keep waiting.
    pub due: u64,
    /// Deliveries whose time has not come, of subscriptions that are neither paused nor disabled.
    pub scheduled: u64,
    /// Deliveries of paused and disabled subscriptions, and due ones of parked subscriptions.
    pub waiting: u64,
    /// How long the oldest due one has been due; `None` when none is.
    pub oldest_due: Option<Duration>,
    /// There are more: each number is at least so large.
    pub more: bool,
}

/// What a queue says of a lane, as far as it matters here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneNow {
    /// Attempts in flight that the store does not know of.
    pub in_flight: u64,
    /// It is paused, disabled or deleted.
    pub held: bool,
    /// It is parked.
    pub parked: bool,
}

impl Backlog {
    /// Counts a lane's load. What is in flight was due, or a person asked for it.
    pub fn add(&mut self, load: &LaneLoad, now: LaneNow) {
        let due = load.due.saturating_sub(now.in_flight);
        self.pending += load.pending;
        self.retrying += load.retrying;
        if load.held || now.held {
            self.waiting += due + load.scheduled + load.behind;
            return;
        }
        self.scheduled += load.scheduled;
        if now.parked {
            self.waiting += due;
            return;
        }
        self.due += due;
        if due > 0 {
            self.oldest_due = self.oldest_due.max(load.oldest_due).or(Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests;
