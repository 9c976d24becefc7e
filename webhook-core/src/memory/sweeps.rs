//! Sweeping over deliveries: ending what is not to go on, and finding what the queue must hold and what may go.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::store::{DeliveryRow, EventRow, Tables};
use crate::id::{DeliveryId, EventId, LaneId, SubscriptionId};
use crate::lifecycle::{Input, step};
use crate::model::{StatusReason, Tenant};
use crate::retry::RetryPolicy;
use crate::store::{Ended, Expire, Expired, Owed, Purged};
use crate::time::Timestamp;

impl Tables {
    pub(super) fn cancel_deleted(&mut self, limit: u32, now: Timestamp) -> Vec<Ended> {
        if self.deleting.is_empty() {
            return Vec::new();
        }
        let unfinished = |id: &&DeliveryId| {
            self.deliveries.get(id).is_some_and(|row| {
                self.deleting.contains(&row.subscription_id) && !row.state.status.is_finished()
            })
        };
        let batch: Vec<DeliveryId> =
            self.open.iter().filter(unfinished).take(limit as usize).copied().collect();
        // All of a line end together, so whoever becomes its head by this is not to be told.
        self.end(&batch, &Input::Cancel(StatusReason::SubscriptionDeleted), now);
        if batch.len() < limit as usize {
            self.deleting.clear();
        }
        self.whose(&batch)
    }

    /// Ends what may be given up: those that are over their chain's time if their lane is hopeless, or over
    /// the age that nothing unfinished may reach.
    pub(super) fn expire(&mut self, which: Expire, limit: u32, now: Timestamp) -> Expired {
        let is_over = |row: &DeliveryRow| match which {
            Expire::Lane(lane) => row.subscription_id == lane && row.chain.give_up_at <= now,
            Expire::OlderThan(age) => row.chain.start.after(age) < now,
        };
        let unfinished = |id: &&DeliveryId| {
            self.deliveries.get(id).is_some_and(|row| !row.state.status.is_finished() && is_over(row))
        };
        let batch: Vec<DeliveryId> =
            self.open.iter().filter(unfinished).take(limit as usize).copied().collect();
        Expired { ended: self.whose(&batch), released: self.end(&batch, &Input::Expire, now) }
    }

    /// How many of these deliveries are of which subscription.
    fn whose(&self, batch: &[DeliveryId]) -> Vec<Ended> {
        let mut counts: BTreeMap<SubscriptionId, u64> = BTreeMap::new();
        for row in batch.iter().filter_map(|id| self.deliveries.get(id)) {
            *counts.entry(row.subscription_id).or_default() += 1;
        }
        let ended = counts.into_iter().filter_map(|(subscription_id, count)| {
            let tenant = self.subscriptions.get(&subscription_id)?.subscription.tenant.clone();
            Some(Ended { tenant, subscription_id, count })
        });
        ended.collect()
    }

    /// Ends unfinished deliveries. Returns those that became the heads of their ordering keys by it and have
    /// not ended themselves.
    fn end(&mut self, batch: &[DeliveryId], by: &Input<'_>, now: Timestamp) -> Vec<(DeliveryId, LaneId)> {
        let mut released = Vec::new();
        for id in batch {
            let Some(row) = self.deliveries.get(id) else { continue };
            if let Ok(step) = step(&row.state, by, &NoRetries, 0.0) {
                released.extend(self.apply(*id, &step.state, step.next, now));
            }
        }
        released.retain(|(id, _)| !batch.contains(id));
        released
    }

    pub(super) fn owed(&self, id: DeliveryId, now: Timestamp) -> Option<Owed> {
        let row = self.deliveries.get(&id).filter(|row| !self.is_waiting(id, row))?;
        let subscription = self.subscription(row.subscription_id)?;
        Some(Owed {
            id,
            lane: row.subscription_id,
            wait: row.due(now)?.since(now),
            lane_version: subscription.version,
            urgent: row.state.request.is_some(),
        })
    }

    pub(super) fn prune(&mut self, retention: Duration, limit: u32, now: Timestamp) -> u64 {
        self.keys.retain(|_, key| key.is_live(now));
        self.prune_replays(retention, limit, now);
        let old = |row: &EventRow| self.finished_at(row).is_some_and(|end| end.after(retention) <= now);
        let events = self.events.iter().filter(|(_, row)| old(row)).map(|(id, _)| *id);
        let batch: Vec<EventId> = events.take(limit as usize).collect();
        self.forget(&batch);
        batch.len() as u64
    }

    pub(super) fn purge(
        &mut self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
        now: Timestamp,
    ) -> Purged {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let events = self.events.range((start, Bound::Unbounded));
        let page: Vec<(EventId, bool)> = events
            .filter(|(_, row)| row.event.tenant == *tenant)
            .take(limit as usize)
            .map(|(id, row)| (*id, self.finished_at(row).is_some_and(|end| end.after(older_than) <= now)))
            .collect();
        let old: Vec<EventId> = page.iter().filter(|(_, old)| *old).map(|(id, _)| *id).collect();
        self.forget(&old);
        let full = page.len() == limit as usize;
        Purged { deleted: old.len() as u64, next: page.last().filter(|_| full).map(|(id, _)| *id) }
    }

    /// Deletes events with all that belongs to them.
    fn forget(&mut self, events: &[EventId]) {
        for id in events {
            let Some(event) = self.events.remove(id) else { continue };
            for delivery in event.deliveries.iter().filter_map(|id| self.deliveries.remove(id)) {
                for attempt in delivery.attempts {
                    self.attempts.remove(&attempt);
                }
            }
        }
    }

    /// When the last of an event's deliveries ended; `None` while one has not, or has an attempt to make.
    fn finished_at(&self, event: &EventRow) -> Option<Timestamp> {
        let mut rows = event.deliveries.iter().filter_map(|id| Some((id, self.deliveries.get(id)?)));
        rows.try_fold(event.created_at, |latest, (id, row)| {
            let forced = self.open.contains(id) && self.subscription(row.subscription_id).is_some();
            Some(latest.max(row.finished_at.filter(|_| !forced)?))
        })
    }
}

/// Cancelling and expiring ask for no policy.
#[derive(Debug)]
struct NoRetries;

impl RetryPolicy for NoRetries {
    fn wait(&self, _failed: u32, _sample: f64) -> Option<Duration> {
        None
    }

    fn span(&self) -> Duration {
        Duration::ZERO
    }

    fn longest(&self) -> Duration {
        Duration::ZERO
    }
}
