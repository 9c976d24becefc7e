//! Lists and look-ups for people.
//!
//! A list is ordered by id, newest first, and begins at the narrowest index that its filter names (see
//! [`deliveries`] and [`attempts`]). A tenant's deliveries and attempts have no index of their own, which
//! every publish would pay for: their lists are merged from the newest of each of its subscriptions.

mod attempts;
mod deliveries;
mod events;
mod query;
pub(super) mod replay;

use async_trait::async_trait;
use bytes::Bytes;
use webhook_core::error::BackendError;
use webhook_core::id::{AttemptId, DeliveryId, EventId};
use webhook_core::model::{Attempt, Delivery, Tenant};
use webhook_core::store::{
    AttemptFilter, DeliveryFilter, EventFilter, EventRecord, History, Page, PageRequest,
};

use crate::open::SqliteStore;

#[async_trait]
impl History for SqliteStore {
    async fn events(
        &self,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Result<Page<EventRecord, EventId>, BackendError> {
        events::list(self, filter, page).await.map_err(|fault| fault.during("events"))
    }

    async fn event(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<EventRecord>, BackendError> {
        events::get(self, tenant, id).await.map_err(|fault| fault.during("event"))
    }

    async fn payload(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<Bytes>, BackendError> {
        events::payload(self, tenant, id).await.map_err(|fault| fault.during("payload"))
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Result<Page<Delivery, DeliveryId>, BackendError> {
        deliveries::list(self, filter, page).await.map_err(|fault| fault.during("deliveries"))
    }

    async fn delivery(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, BackendError> {
        deliveries::get(self, tenant, id).await.map_err(|fault| fault.during("delivery"))
    }

    async fn attempts(
        &self,
        filter: &AttemptFilter,
        page: PageRequest<AttemptId>,
    ) -> Result<Page<Attempt, AttemptId>, BackendError> {
        attempts::list(self, filter, page).await.map_err(|fault| fault.during("attempts"))
    }

    async fn attempts_of(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Vec<Attempt>, BackendError> {
        attempts::of(self, tenant, id).await.map_err(|fault| fault.during("attempts"))
    }
}
