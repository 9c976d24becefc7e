//! What people look at.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;

use super::store::{DeliveryRow, EventRow, MemoryStore, Tables};
use crate::error::BackendError;
use crate::id::{AttemptId, DeliveryId, EventId};
use crate::model::{Attempt, Delivery, DeliveryState, StatusReason, SubscriptionStatus, Tenant};
use crate::store::{AttemptFilter, DeliveryFilter, EventFilter, EventRecord, History, Page, PageRequest};
use crate::time::Timestamp;

/// The first `limit` rows, and where the next page starts if there are more.
pub(super) fn page<T, Id: Copy>(rows: impl Iterator<Item = (Id, T)>, limit: u32) -> Page<T, Id> {
    let limit = limit as usize;
    let mut rows: Vec<(Id, T)> = rows.take(limit.saturating_add(1)).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(id, _)| *id);
    Page { items: rows.into_iter().map(|(_, row)| row).collect(), next }
}

/// The rows of a page and all that follow it, newest first.
fn newest_first<Id: Copy + Ord, Row>(
    table: &BTreeMap<Id, Row>,
    request: PageRequest<Id>,
) -> impl Iterator<Item = (Id, &Row)> {
    let end = request.before.map_or(Bound::Unbounded, Bound::Excluded);
    table.range((Bound::Unbounded, end)).rev().map(|(id, row)| (*id, row))
}

fn wanted<T: PartialEq>(filter: Option<&T>, value: &T) -> bool {
    filter.is_none_or(|wanted| wanted == value)
}

fn within(since: Option<Timestamp>, until: Option<Timestamp>, moment: Timestamp) -> bool {
    since.is_none_or(|since| since <= moment) && until.is_none_or(|until| moment < until)
}

impl Tables {
    fn delivery(&self, id: DeliveryId, row: &DeliveryRow, now: Timestamp) -> Option<Delivery> {
        let event = &self.events.get(&row.event_id)?.event;
        let finished = row.state.status.is_finished();
        let reason = row.state.reason.or_else(|| self.why_it_waits(id, row, now));
        Some(Delivery {
            id,
            event_id: row.event_id,
            subscription_id: row.subscription_id,
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            state: DeliveryState { reason, ..row.state.clone() },
            next_attempt_at: row.due(now).filter(|_| !finished && !self.is_waiting(id, row)),
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }

    /// As far as the store can tell: parking and rates are the queue's.
    fn why_it_waits(&self, id: DeliveryId, row: &DeliveryRow, now: Timestamp) -> Option<StatusReason> {
        if row.state.status.is_finished() {
            return None;
        }
        match self.subscription(row.subscription_id).map(|found| found.status) {
            Some(SubscriptionStatus::Paused) => return Some(StatusReason::Paused),
            Some(SubscriptionStatus::Disabled) => return Some(StatusReason::Disabled),
            Some(SubscriptionStatus::Active) | None => {}
        }
        if self.is_waiting(id, row) {
            return Some(StatusReason::Ordered);
        }
        let deliver_at = self.events.get(&row.event_id)?.event.deliver_at?;
        (row.state.attempts == 0 && row.due(now)? > now && deliver_at > now)
            .then_some(StatusReason::Scheduled)
    }

    pub(super) fn is_wanted(&self, row: &DeliveryRow, filter: &DeliveryFilter) -> bool {
        self.events.get(&row.event_id).is_some_and(|event| {
            wanted(filter.tenant.as_ref(), &event.event.tenant)
                && wanted(filter.event_type.as_ref(), &event.event.event_type)
        }) && (filter.statuses.is_empty() || filter.statuses.contains(&row.state.status))
            && wanted(filter.subscription_id.as_ref(), &row.subscription_id)
            && wanted(filter.event_id.as_ref(), &row.event_id)
            && within(filter.since, filter.until, row.created_at)
    }

    fn event_of(&self, tenant: Option<&Tenant>, id: EventId) -> Option<&EventRow> {
        self.events.get(&id).filter(|row| wanted(tenant, &row.event.tenant))
    }

    fn delivery_of(&self, tenant: Option<&Tenant>, id: DeliveryId) -> Option<&DeliveryRow> {
        self.deliveries.get(&id).filter(|row| self.event_of(tenant, row.event_id).is_some())
    }
}

fn event_record(row: &EventRow) -> EventRecord {
    let event = &row.event;
    EventRecord {
        id: event.id,
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        content_type: event.content_type.clone(),
        payload_size: event.payload.len() as u64,
        ordering_key: event.ordering_key.clone(),
        deliver_at: event.deliver_at,
        idempotency_key: event.idempotency_key.clone(),
        only: event.only,
        created_at: row.created_at,
    }
}

fn is_wanted_event(row: &EventRow, filter: &EventFilter) -> bool {
    wanted(filter.tenant.as_ref(), &row.event.tenant)
        && wanted(filter.event_type.as_ref(), &row.event.event_type)
        && within(filter.since, filter.until, row.created_at)
}

fn is_wanted_attempt(attempt: &Attempt, filter: &AttemptFilter) -> bool {
    wanted(filter.tenant.as_ref(), &attempt.tenant)
        && wanted(filter.subscription_id.as_ref(), &attempt.subscription_id)
        && wanted(filter.delivery_id.as_ref(), &attempt.delivery_id)
        && wanted(filter.event_id.as_ref(), &attempt.event_id)
        && (filter.outcomes.is_empty() || filter.outcomes.contains(&attempt.outcome))
        && within(filter.since, filter.until, attempt.started_at)
}

#[async_trait]
impl History for MemoryStore {
    async fn events(
        &self,
        filter: &EventFilter,
        request: PageRequest<EventId>,
    ) -> Result<Page<EventRecord, EventId>, BackendError> {
        let tables = self.tables();
        let rows = newest_first(&tables.events, request).filter(|(_, row)| is_wanted_event(row, filter));
        Ok(page(rows.map(|(id, row)| (id, event_record(row))), request.limit))
    }

    async fn event(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<EventRecord>, BackendError> {
        Ok(self.tables().event_of(tenant, id).map(event_record))
    }

    async fn payload(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<Bytes>, BackendError> {
        Ok(self.tables().event_of(tenant, id).map(|row| row.event.payload.clone()))
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        request: PageRequest<DeliveryId>,
    ) -> Result<Page<Delivery, DeliveryId>, BackendError> {
        let now = self.now();
        let tables = self.tables();
        let rows = newest_first(&tables.deliveries, request).filter(|(_, row)| tables.is_wanted(row, filter));
        Ok(page(rows.filter_map(|(id, row)| Some((id, tables.delivery(id, row, now)?))), request.limit))
    }

    async fn delivery(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, BackendError> {
        let now = self.now();
        let tables = self.tables();
        Ok(tables.delivery_of(tenant, id).and_then(|row| tables.delivery(id, row, now)))
    }

    async fn attempts(
        &self,
        filter: &AttemptFilter,
        request: PageRequest<AttemptId>,
    ) -> Result<Page<Attempt, AttemptId>, BackendError> {
        let tables = self.tables();
        let rows =
            newest_first(&tables.attempts, request).filter(|(_, attempt)| is_wanted_attempt(attempt, filter));
        let bare = rows.map(|(id, attempt)| {
            let bare =
                Attempt { response_headers: Vec::new(), response_body: Bytes::new(), ..attempt.clone() };
            (id, bare)
        });
        Ok(page(bare, request.limit))
    }

    async fn attempts_of(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Vec<Attempt>, BackendError> {
        let tables = self.tables();
        let Some(row) = tables.delivery_of(tenant, id) else { return Ok(Vec::new()) };
        Ok(row.attempts.iter().filter_map(|id| tables.attempts.get(id).cloned()).collect())
    }
}
