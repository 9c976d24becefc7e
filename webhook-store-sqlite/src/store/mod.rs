//! The store's traits on [`SqliteStore`], each method in the module of its name.

mod chains;
mod deletion;
mod expire;
mod history;
mod inbox;
mod insert;
mod load;
mod prune;
mod record;
mod replays;
mod statistics;
mod subscriptions;
mod turns;
mod whole;

pub(crate) use insert::Desk;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, EventId, SubscriptionId};
use webhook_core::model::{Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::store::{
    Added, Changed, Changes, ConfigVersion, DeliveryStore, Ended, Expire, Expired, Insert, Inserted, Load,
    Loaded, NewDelivery, OfEvent, Owed, Page, PageRequest, PoolUse, Purged, Record, Recorded, Snapshot,
    Store, SubscriptionFilter, SubscriptionStore,
};

use crate::open::SqliteStore;

#[async_trait]
impl SubscriptionStore for SqliteStore {
    async fn create(&self, subscription: &Subscription) -> Result<Arc<Subscription>, BackendError> {
        let subscription = subscription.clone();
        self.writer.run("create", move |tx| subscriptions::create(tx, subscription).boxed()).await
    }

    async fn update(&self, subscription: &Subscription, expected: u64) -> Result<Changed, BackendError> {
        let subscription = subscription.clone();
        self.writer.run("update", move |tx| subscriptions::update(tx, subscription, expected).boxed()).await
    }

    async fn delete(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<Changed, BackendError> {
        let tenant = tenant.clone();
        self.writer.run("delete", move |tx| deletion::delete(tx, tenant, id, expected).boxed()).await
    }

    async fn get(&self, ids: &[SubscriptionId]) -> Result<Vec<Option<Arc<Subscription>>>, BackendError> {
        subscriptions::get(self, ids).await.map_err(|fault| fault.during("get"))
    }

    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Result<Page<Arc<Subscription>, SubscriptionId>, BackendError> {
        subscriptions::list(self, filter, page).await.map_err(|fault| fault.during("list"))
    }

    async fn snapshot(&self, tenant: &Tenant) -> Result<Snapshot, BackendError> {
        subscriptions::snapshot(self, tenant).await.map_err(|fault| fault.during("snapshot"))
    }

    async fn changes_since(
        &self,
        tenant: &Tenant,
        version: ConfigVersion,
    ) -> Result<Option<Changes>, BackendError> {
        subscriptions::changes_since(self, tenant, version)
            .await
            .map_err(|fault| fault.during("changes_since"))
    }
}

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn insert(
        &self,
        events: &[Insert],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Inserted>, BackendError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let (events, hand_off) = (events.to_vec(), hand_off.cloned());
        self.writer.run("insert", move |tx| insert::insert(tx, events, hand_off).boxed()).await
    }

    async fn load(&self, deliveries: &[Load]) -> Result<Vec<Option<Loaded>>, BackendError> {
        load::load(self, deliveries).await.map_err(|fault| fault.during("load"))
    }

    async fn record(&self, results: &[Record]) -> Result<Vec<Recorded>, BackendError> {
        if results.is_empty() {
            return Ok(Vec::new());
        }
        let results = results.to_vec();
        self.writer.run("record", move |tx| record::record(tx, results).boxed()).await
    }

    async fn cancel_deleted(&self, limit: u32) -> Result<Vec<Ended>, BackendError> {
        self.writer.run("cancel_deleted", move |tx| deletion::cancel_deleted(tx, limit).boxed()).await
    }

    async fn expire(&self, which: Expire, limit: u32) -> Result<Expired, BackendError> {
        expire::expire(self, which, limit).await
    }

    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Result<Option<OfEvent>, BackendError> {
        whole::of_event(self, tenant, event).await.map_err(|fault| fault.during("of_event"))
    }

    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Result<Added, BackendError> {
        let deliveries = deliveries.to_vec();
        self.writer
            .run("add_deliveries", move |tx| whole::add(tx, event, deliveries, config_version).boxed())
            .await
    }

    /// Nothing: the queue is in the same file and misses no job.
    async fn owed(&self, _after: Option<DeliveryId>, _limit: u32) -> Result<Vec<Owed>, BackendError> {
        Ok(Vec::new())
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Result<u64, BackendError> {
        prune::prune(self, retention, limit).await
    }

    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Purged, BackendError> {
        prune::purge(self, tenant, older_than, after, limit).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        Some(Arc::new(self.clone()))
    }

    async fn ping(&self) -> Result<(), BackendError> {
        self.writer.run("ping", |tx| subscriptions::touch(tx).boxed()).await
    }

    /// The readers'. The one connection that writes has no pool.
    fn pools(&self) -> Vec<PoolUse> {
        let open = self.readers.size();
        let idle = u32::try_from(self.readers.num_idle()).unwrap_or(open);
        let max = self.readers.options().get_max_connections();
        vec![PoolUse { name: "readers", max, open, in_use: open.saturating_sub(idle) }]
    }

    async fn queue_epoch(&self) -> Result<u64, BackendError> {
        JobQueue::epoch(self).await
    }

    /// Never: the queue is in the same file.
    async fn advance_epoch(&self, _expected: u64, _to: u64) -> Result<bool, BackendError> {
        Ok(false)
    }
}
