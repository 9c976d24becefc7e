//! Lists and look-ups for people.
//!
//! A list is ordered by id, newest first, and begins at the narrowest place that its filter names (see
//! [`deliveries`] and [`attempts`]). A tenant's deliveries and attempts have no index of their own, which
//! every publish would pay for: their lists are merged from the newest of each of its subscriptions. First one of
//! each is read, which says of which subscriptions there is any on the page.

mod attempts;
mod deliveries;
mod events;
mod query;
pub(super) mod replay;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use webhook_core::error::BackendError;
use webhook_core::id::{AttemptId, DeliveryId, EventId};
use webhook_core::model::{Attempt, Delivery, Tenant};
use webhook_core::store::{
    AttemptFilter, DeliveryFilter, EventFilter, EventRecord, History, Page, PageRequest,
};

pub(super) use self::query::page;
use crate::open::PgStore;

#[async_trait]
impl History for PgStore {
    async fn events(
        &self,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Result<Page<EventRecord, EventId>, BackendError> {
        let args = (filter, page);
        self.inner
            .people
            .run("events", &args, |conn, (filter, page)| events::list(conn, filter, *page).boxed())
            .await
    }

    async fn event(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<EventRecord>, BackendError> {
        let args = (tenant, id);
        self.inner
            .people
            .run("event", &args, |conn, (tenant, id)| events::get(conn, *tenant, *id).boxed())
            .await
    }

    async fn payload(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<Bytes>, BackendError> {
        let args = (tenant, id);
        self.inner
            .people
            .run("payload", &args, |conn, (tenant, id)| events::payload(conn, *tenant, *id).boxed())
            .await
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Result<Page<Delivery, DeliveryId>, BackendError> {
        let args = (filter, page);
        self.inner
            .people
            .run("deliveries", &args, |conn, (filter, page)| deliveries::list(conn, filter, *page).boxed())
            .await
    }

    async fn delivery(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, BackendError> {
        let args = (tenant, id);
        self.inner
            .people
            .run("delivery", &args, |conn, (tenant, id)| deliveries::get(conn, *tenant, *id).boxed())
            .await
    }

    async fn attempts(
        &self,
        filter: &AttemptFilter,
        page: PageRequest<AttemptId>,
    ) -> Result<Page<Attempt, AttemptId>, BackendError> {
        let args = (filter, page);
        self.inner
            .people
            .run("attempts", &args, |conn, (filter, page)| attempts::list(conn, filter, *page).boxed())
            .await
    }

    async fn attempts_of(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Vec<Attempt>, BackendError> {
        let args = (tenant, id);
        self.inner
            .people
            .run("attempts", &args, |conn, (tenant, id)| attempts::of(conn, *tenant, *id).boxed())
            .await
    }
}
