//! Loading deliveries, committing what becomes of them, and sweeping over them.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::store::{EventRow, MemoryStore, Tables};
use crate::error::BackendError;
use crate::id::{AttemptId, DeliveryId, EventId, LaneId, Token};
use crate::lifecycle::{Input, Next, step};
use crate::model::{Attempt, DeliveryState, Outcome, StatusReason};
use crate::queue::HandOff;
use crate::retry::RetryPolicy;
use crate::store::{DeliveryStore, Insert, Inserted, Load, Loaded, Owed, Record, Recorded};
use crate::time::Timestamp;

#[async_trait]
impl DeliveryStore for MemoryStore {
    async fn insert(
        &self,
        events: &[Insert],
        _hand_off: Option<&HandOff>,
    ) -> Result<Vec<Inserted>, BackendError> {
        let now = self.now();
        let mut tables = self.tables();
        Ok(events.iter().map(|event| tables.insert(event, now)).collect())
    }

    async fn load(&self, deliveries: &[Load]) -> Result<Vec<Option<Loaded>>, BackendError> {
        let now = self.now();
        let tables = self.tables();
        Ok(deliveries.iter().map(|load| tables.load(load, now)).collect())
    }

    async fn record(&self, results: &[Record]) -> Result<Vec<Recorded>, BackendError> {
        let now = self.now();
        let mut tables = self.tables();
        Ok(results.iter().map(|result| tables.record(result, now)).collect())
    }

    async fn cancel_deleted(&self, limit: u32) -> Result<u64, BackendError> {
        let now = self.now();
        Ok(self.tables().cancel_deleted(limit, now))
    }

    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Owed>, BackendError> {
        let now = self.now();
        let tables = self.tables();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let open = tables.open.range((start, Bound::Unbounded));
        Ok(open.filter_map(|id| tables.owed(*id, now)).take(limit as usize).collect())
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Result<u64, BackendError> {
        let now = self.now();
        Ok(self.tables().prune(retention, limit, now))
    }
}

impl Tables {
    fn load(&self, load: &Load, now: Timestamp) -> Option<Loaded> {
        let row = self.deliveries.get(&load.id)?;
        let event = self.events.get(&row.event_id)?;
        let recorded = |token: &Token| self.attempts_of(&row.attempts).any(|attempt| attempt.token == *token);
        Some(Loaded {
            state: row.state.clone(),
            event: Arc::clone(&event.event),
            subscription_id: row.subscription_id,
            subscription_version: self.subscription(row.subscription_id).map(|found| found.version),
            due_in: row.due(now).map_or(Duration::ZERO, |due| due.since(now)),
            waiting: self.is_waiting(load.id, row),
            unrecorded: load.unsettled.iter().filter(|token| !recorded(token)).copied().collect(),
        })
    }

    fn attempts_of(&self, ids: &[AttemptId]) -> impl Iterator<Item = &Attempt> {
        ids.iter().filter_map(|id| self.attempts.get(id))
    }

    /// The `unknown` row of a token.
    fn unknown(&self, attempts: &[AttemptId], token: Token) -> Option<&Attempt> {
        self.attempts_of(attempts)
            .find(|attempt| attempt.token == token && attempt.outcome == Outcome::Unknown)
    }

    /// Whether the result of a token has its row.
    fn is_recorded(&self, attempts: &[AttemptId], token: Token) -> bool {
        self.attempts_of(attempts)
            .any(|attempt| attempt.token == token && attempt.outcome != Outcome::Unknown)
    }

    // -----------------------------------------------------------------------------------------------------
    // Results

    fn record(&mut self, result: &Record, now: Timestamp) -> Recorded {
        let Some(row) = self.deliveries.get(&result.id) else { return Recorded::Gone };
        if row.state.revision != result.revision {
            let late = result.attempts.first();
            if late.is_some_and(|attempt| self.is_recorded(&row.attempts, attempt.token)) {
                return Recorded::Applied { released: Vec::new(), strikes: None };
            }
            let unknown = late.and_then(|attempt| self.unknown(&row.attempts, attempt.token));
            return Recorded::Stale {
                state: Box::new(row.state.clone()),
                unknown: unknown.map(|attempt| attempt.number),
            };
        }
        for attempt in &result.attempts {
            self.add_attempt(result.id, attempt);
        }
        let released = self.apply(result.id, &result.state, result.next, now);
        Recorded::Applied { released: released.into_iter().collect(), strikes: None }
    }

    /// Adds a row, or lets it replace the `unknown` one of its token, whose id and number it takes over.
    fn add_attempt(&mut self, delivery: DeliveryId, attempt: &Attempt) {
        let Some(row) = self.deliveries.get(&delivery) else { return };
        match self.unknown(&row.attempts, attempt.token).map(|unknown| (unknown.id, unknown.number)) {
            Some((id, number)) => {
                self.attempts.insert(id, Attempt { id, number, ..attempt.clone() });
            }
            None => {
                self.attempts.insert(attempt.id, attempt.clone());
                if let Some(row) = self.deliveries.get_mut(&delivery) {
                    row.attempts.push(attempt.id);
                }
            }
        }
    }

    /// Commits what a delivery becomes. Returns the delivery that became the head of its ordering key by it.
    fn apply(
        &mut self,
        id: DeliveryId,
        state: &DeliveryState,
        next: Next,
        now: Timestamp,
    ) -> Option<(DeliveryId, LaneId)> {
        let row = self.deliveries.get_mut(&id)?;
        let revision = state.revision.max(row.state.revision + 1);
        row.state = DeliveryState { revision, ..state.clone() };
        match next {
            Next::Never => row.due = None,
            Next::After(wait) => row.due = Some(now.after(wait)),
            Next::AsBefore => {}
        }
        let finished = row.state.status.is_finished();
        row.finished_at = finished.then(|| row.finished_at.unwrap_or(now));
        let subscription = row.subscription_id;
        if finished && row.due.is_none() {
            self.open.remove(&id);
        } else {
            self.open.insert(id);
        }
        if !finished && self.subscription(subscription).is_none() {
            self.deleting.insert(subscription);
        }
        self.take_turns(id)
    }

    // -----------------------------------------------------------------------------------------------------
    // Sweeps

    fn cancel_deleted(&mut self, limit: u32, now: Timestamp) -> u64 {
        if self.deleting.is_empty() {
            return 0;
        }
        let unfinished = |id: &&DeliveryId| {
            self.deliveries.get(id).is_some_and(|row| {
                self.deleting.contains(&row.subscription_id) && !row.state.status.is_finished()
            })
        };
        let batch: Vec<DeliveryId> =
            self.open.iter().filter(unfinished).take(limit as usize).copied().collect();
        let mut cancelled = 0;
        for id in &batch {
            let Some(row) = self.deliveries.get(id) else { continue };
            let deleted = Input::Cancel(StatusReason::SubscriptionDeleted);
            if let Ok(step) = step(&row.state, &deleted, &NoRetries, 0.0) {
                self.apply(*id, &step.state, step.next, now);
                cancelled += 1;
            }
        }
        if batch.len() < limit as usize {
            self.deleting.clear();
        }
        cancelled
    }

    fn owed(&self, id: DeliveryId, now: Timestamp) -> Option<Owed> {
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

    fn prune(&mut self, retention: Duration, limit: u32, now: Timestamp) -> u64 {
        self.keys.retain(|_, key| key.is_live(now));
        let old = |row: &EventRow| self.finished_at(row).is_some_and(|end| end.after(retention) <= now);
        let events = self.events.iter().filter(|(_, row)| old(row)).map(|(id, _)| *id);
        let batch: Vec<EventId> = events.take(limit as usize).collect();
        for id in &batch {
            let Some(event) = self.events.remove(id) else { continue };
            for delivery in event.deliveries.iter().filter_map(|id| self.deliveries.remove(id)) {
                for attempt in delivery.attempts {
                    self.attempts.remove(&attempt);
                }
            }
        }
        batch.len() as u64
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

/// Cancelling asks for no policy.
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
