//! Loading deliveries, and committing what becomes of them.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::store::{Chain, DeliveryRow, MemoryStore, Tables};
use crate::error::BackendError;
use crate::id::{AttemptId, DeliveryId, EventId, LaneId, Token};
use crate::lifecycle::Next;
use crate::model::{Attempt, DeliveryState, Outcome, Tenant};
use crate::queue::HandOff;
use crate::store::{
    Added, ConfigVersion, DeliveryStore, Ended, EventDelivery, Expire, Expired, Insert, Inserted, Load,
    Loaded, NewDelivery, OfEvent, Owed, Purged, Record, Recorded,
};
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

    async fn cancel_deleted(&self, limit: u32) -> Result<Vec<Ended>, BackendError> {
        let now = self.now();
        Ok(self.tables().cancel_deleted(limit, now))
    }

    async fn expire(&self, which: Expire, limit: u32) -> Result<Expired, BackendError> {
        let now = self.now();
        Ok(self.tables().expire(which, limit, now))
    }

    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Result<Option<OfEvent>, BackendError> {
        Ok(self.tables().of_event(tenant, event))
    }

    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Result<Added, BackendError> {
        let now = self.now();
        Ok(self.tables().add_deliveries(event, deliveries, config_version, now))
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

    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Purged, BackendError> {
        let now = self.now();
        Ok(self.tables().purge(tenant, older_than, after, limit, now))
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

    fn of_event(&self, tenant: &Tenant, id: EventId) -> Option<OfEvent> {
        let row = self.events.get(&id).filter(|row| row.event.tenant == *tenant)?;
        let delivery = |id: &DeliveryId| {
            let DeliveryRow { subscription_id, state, .. } = self.deliveries.get(id)?;
            Some(EventDelivery { id: *id, subscription_id: *subscription_id, state: state.clone() })
        };
        let mut deliveries: Vec<EventDelivery> = row.deliveries.iter().filter_map(delivery).collect();
        deliveries.sort_unstable_by_key(|delivery| delivery.id);
        Some(OfEvent { event: Arc::clone(&row.event), deliveries })
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

    pub(super) fn record(&mut self, result: &Record, now: Timestamp) -> Recorded {
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
        if let Some(give_up_after) = result.new_chain {
            self.start_chain(result.id, give_up_after, now);
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

    /// A chain starts now, or when its event is to be delivered if that is later.
    fn start_chain(&mut self, id: DeliveryId, give_up_after: Duration, now: Timestamp) {
        let Some(row) = self.deliveries.get_mut(&id) else { return };
        let deliver_at = self.events.get(&row.event_id).and_then(|event| event.event.deliver_at);
        row.chain = Chain::starting(now, deliver_at, give_up_after);
    }

    /// Commits what a delivery becomes. Returns the delivery that became the head of its ordering key by it.
    pub(super) fn apply(
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
}
