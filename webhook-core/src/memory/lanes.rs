//! One lane: what of it may be served, and from when.
//!
//! The arithmetic of strikes, limits and rates is [`lane`](crate::lane)'s; here it meets the lane's waiting
//! jobs, its count of attempts in flight and the moments until which it is held.

use std::collections::BTreeSet;

use crate::id::DeliveryId;
use crate::lane::{Class, Effect, Health, limit, next_permit};
use crate::model::RateLimit;
use crate::queue::{Hold, LaneSettings, LaneState};
use crate::time::Timestamp;

/// The part of the queue that belongs to one subscription.
#[derive(Debug)]
pub(super) struct Lane {
    settings: LaneSettings,
    health: Health,
    in_flight: u32,
    parked_until: Timestamp,
    permit_at: Timestamp,
    /// Jobs without a lease, by when they are due.
    pending: BTreeSet<(Timestamp, DeliveryId)>,
    /// Those of them that a person asked for.
    urgent: BTreeSet<(Timestamp, DeliveryId)>,
    /// The lane's place among those that have jobs pending.
    pub(super) turn: Option<u64>,
}

impl Lane {
    pub(super) fn new(settings: LaneSettings) -> Self {
        Self {
            settings,
            health: Health::default(),
            in_flight: 0,
            parked_until: Timestamp::EPOCH,
            permit_at: Timestamp::EPOCH,
            pending: BTreeSet::new(),
            urgent: BTreeSet::new(),
            turn: None,
        }
    }

    pub(super) const fn version(&self) -> u64 {
        self.settings.version
    }

    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    /// Takes new settings, unless they are older than its own.
    pub(super) fn set(&mut self, settings: &LaneSettings, now: Timestamp) {
        if settings.version < self.settings.version {
            return;
        }
        if let Some(rate) = settings.rate {
            // A lane that waited for a slower rate does not wait longer than the new one asks for.
            self.permit_at = self.permit_at.min(now.after(rate.gap()));
        }
        self.settings = settings.clone();
    }

    // -----------------------------------------------------------------------------------------------------
    // Jobs

    pub(super) fn add(&mut self, id: DeliveryId, due: Timestamp, urgent: bool) {
        if urgent { &mut self.urgent } else { &mut self.pending }.insert((due, id));
    }

    pub(super) fn remove(&mut self, id: DeliveryId, due: Timestamp, urgent: bool) {
        if urgent { &mut self.urgent } else { &mut self.pending }.remove(&(due, id));
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.urgent.is_empty()
    }

    /// The next job, if the lane may be served now: urgent ones first, the others unless it is parked, each
    /// kind by when it is due.
    pub(super) fn head(&self, default_limit: u32, now: Timestamp) -> Option<DeliveryId> {
        if self.held().is_some() || self.is_full(default_limit) || self.permit().is_some_and(|at| at > now) {
            return None;
        }
        let due = |jobs: &BTreeSet<(Timestamp, DeliveryId)>| {
            jobs.first().filter(|(due, _)| *due <= now).map(|(_, id)| *id)
        };
        due(&self.urgent).or_else(|| due(&self.pending).filter(|_| !self.is_parked(now)))
    }

    /// From when on [`head`](Self::head) gives something, if nothing else changes; `None`: never.
    pub(super) fn servable_at(&self, default_limit: u32) -> Option<Timestamp> {
        if self.held().is_some() || self.is_full(default_limit) {
            return None;
        }
        let urgent = self.urgent.first().map(|(due, _)| *due);
        let pending = self.pending.first().map(|(due, _)| (*due).max(self.parked_until));
        let due = urgent.into_iter().chain(pending).min()?;
        Some(self.permit().map_or(due, |at| at.max(due)))
    }

    // -----------------------------------------------------------------------------------------------------
    // Leases

    pub(super) fn class(&self) -> Class {
        self.health.class()
    }

    /// One more attempt in flight; it uses up a permit of the rate.
    pub(super) fn start(&mut self, now: Timestamp) {
        self.in_flight += 1;
        if let Some(rate) = self.rate() {
            let next = next_permit(self.permit_at.as_micros(), now.as_micros(), rate);
            self.permit_at = Timestamp::from_micros(next);
        }
    }

    /// One attempt in flight again whose lease had run out: it started long ago.
    pub(super) const fn resume(&mut self) {
        self.in_flight += 1;
    }

    /// One attempt less in flight.
    pub(super) const fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Takes in what an attempt did that was claimed at `mark`.
    pub(super) fn take(&mut self, effect: Effect, mark: u64, now: Timestamp) {
        if let Some(wait) = self.health.take(effect, mark) {
            self.parked_until = self.parked_until.max(now.after(wait));
        }
    }

    // -----------------------------------------------------------------------------------------------------
    // What holds it

    pub(super) const fn held(&self) -> Option<Hold> {
        self.settings.hold
    }

    pub(super) fn is_parked(&self, now: Timestamp) -> bool {
        self.parked_until > now
    }

    pub(super) fn is_rate_limited(&self, now: Timestamp) -> bool {
        self.permit().is_some_and(|at| at > now)
    }

    fn is_full(&self, default_limit: u32) -> bool {
        let most = self.settings.max_in_flight.unwrap_or(default_limit);
        self.in_flight >= limit(most, self.health.strikes)
    }

    const fn rate(&self) -> Option<RateLimit> {
        self.settings.rate
    }

    /// The next moment that its rate permits a job.
    fn permit(&self) -> Option<Timestamp> {
        self.rate().map(|_| self.permit_at)
    }

    pub(super) fn state(&self, now: Timestamp) -> LaneState {
        let left = |until: Timestamp| (until > now).then(|| until.since(now));
        LaneState {
            version: self.settings.version,
            health: self.health,
            in_flight: self.in_flight,
            parked_for: left(self.parked_until),
            rate_limited_for: self.permit().and_then(left),
            hold: self.settings.hold,
        }
    }

    /// How many of its jobs are due and how many are not yet, and since when the oldest is due.
    pub(super) fn count(&self, now: Timestamp) -> (u64, u64, Option<Timestamp>) {
        let due = self.due(now).count() as u64;
        let all = (self.pending.len() + self.urgent.len()) as u64;
        (due, all - due, self.due(now).min())
    }

    fn due(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let jobs = self.pending.iter().take_while(move |(due, _)| *due <= now);
        let urgent = self.urgent.iter().take_while(move |(due, _)| *due <= now);
        jobs.chain(urgent).map(|(due, _)| *due)
    }
}
