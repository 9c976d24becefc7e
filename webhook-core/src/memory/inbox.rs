//! The inbox: events that wait to be published, and those that cannot be.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;

use super::history::page;
use super::store::{MemoryStore, Tables};
use crate::error::BackendError;
use crate::id::EventId;
use crate::model::Tenant;
use crate::store::{Inbox, InboxEvent, InboxId, InboxOutcome, Page, PageRequest, RejectedEvent};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct InboxRow {
    event: InboxEvent,
    created_at: Timestamp,
    /// Why it cannot be published, once that was found out.
    problem: Option<String>,
}

impl InboxRow {
    fn rejected(&self, tenant: Option<&Tenant>) -> Option<RejectedEvent> {
        let InboxEvent { id, tenant: whose, event_type, .. } = &self.event;
        let problem =
            self.problem.clone().filter(|_| tenant.is_none_or(|tenant| tenant.as_str() == whose))?;
        let (tenant, event_type) = (whose.clone(), event_type.clone());
        Some(RejectedEvent { id: *id, tenant, event_type, problem, created_at: self.created_at })
    }
}

impl MemoryStore {
    /// Puts an event into the inbox, to be published by an engine's relay as if an application had inserted
    /// it in a transaction that has committed. For tests of what follows such a commit.
    ///
    /// Memory has no transactions: the row is there at once and cannot be taken back. Nothing is checked; an
    /// event that cannot be published is rejected by the relay, and stays with its problem. The row gets the
    /// inbox's next number, whatever the event says.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use webhook_core::memory::MemoryStore;
    /// use webhook_core::model::NewEvent;
    /// use webhook_core::store::Inbox as _;
    ///
    /// let store = MemoryStore::new();
    /// let id = store.publish_later(NewEvent::json("order.created", r#"{"id":42}"#));
    /// let rows = store.inbox_take(10).await?;
    /// assert_eq!(rows[0].id, id);
    /// # Ok::<(), webhook_core::error::BackendError>(())
    /// # }).unwrap();
    /// ```
    pub fn publish_later(&self, event: impl Into<InboxEvent>) -> EventId {
        let (now, event) = (self.now(), event.into());
        let id = event.id;
        let mut tables = self.tables();
        tables.last_row += 1;
        let row = tables.last_row;
        let event = InboxEvent { row, ..event };
        tables.inbox.insert(row, InboxRow { event, created_at: now, problem: None });
        id
    }
}

impl Tables {
    /// Rejected events by their ids. Rows of one id are one event.
    fn rejected(&self, tenant: Option<&Tenant>) -> BTreeMap<EventId, RejectedEvent> {
        let rejected = self.inbox.values().filter_map(|row| row.rejected(tenant));
        rejected.map(|event| (event.id, event)).collect()
    }
}

#[async_trait]
impl Inbox for MemoryStore {
    async fn inbox_take(&self, limit: u32) -> Result<Vec<InboxEvent>, BackendError> {
        let tables = self.tables();
        let rows = tables.inbox.values().filter(|row| row.problem.is_none());
        Ok(rows.take(limit as usize).map(|row| row.event.clone()).collect())
    }

    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Result<(), BackendError> {
        let mut tables = self.tables();
        for (id, outcome) in outcomes {
            match outcome {
                InboxOutcome::Published => {
                    tables.inbox.remove(id);
                }
                InboxOutcome::Rejected(problem) => {
                    if let Some(row) = tables.inbox.get_mut(id) {
                        row.problem = Some(problem.clone());
                    }
                }
            }
        }
        Ok(())
    }

    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        request: PageRequest<EventId>,
    ) -> Result<Page<RejectedEvent, EventId>, BackendError> {
        let rejected = self.tables().rejected(tenant);
        let end = request.before.map_or(Bound::Unbounded, Bound::Excluded);
        let newest_first = rejected.range((Bound::Unbounded, end)).rev();
        Ok(page(newest_first.map(|(id, event)| (*id, event.clone())), request.limit))
    }

    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Result<bool, BackendError> {
        let mut tables = self.tables();
        let before = tables.inbox.len();
        tables.inbox.retain(|_, row| row.event.id != id || row.rejected(tenant).is_none());
        Ok(tables.inbox.len() < before)
    }
}
