//! A store of which one method is bent: everything else is the reference's.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use webhook_conformance::{Fixture, Missing, StoreFixture};
use webhook_core::error::BackendError;
use webhook_core::id::{AttemptId, DeliveryId, EventId, ReplayId, SubscriptionId};
use webhook_core::memory::MemoryStore;
use webhook_core::model::{Attempt, Delivery, NewEvent, Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::stats::{Rollup, Scope, Totals, Unfinished};
use webhook_core::store::{
    Added, AttemptFilter, Changed, Changes, ConfigVersion, DeliveryFilter, DeliveryStore, Ended, EventFilter,
    EventRecord, Expire, Expired, History, Inbox, InboxEvent, InboxId, InboxOutcome, Insert, Inserted, Load,
    Loaded, Matched, NewDelivery, NewReplay, OfEvent, Owed, Page, PageRequest, Purged, Record, Recorded,
    RejectedEvent, Replay, ReplayPage, ReplayRecorded, ReplayStore, Snapshot, StatisticsStore, Store,
    SubscriptionFilter, SubscriptionStore,
};
use webhook_core::testing::TokioClock;

pub(crate) type Answer<T> = Result<T, BackendError>;

/// One bent method of the store; the others are the reference's.
#[async_trait]
pub(crate) trait Defect: Debug + Default + Send + Sync + 'static {
    async fn create(&self, store: &MemoryStore, new: &Subscription) -> Answer<Arc<Subscription>> {
        store.create(new).await
    }
    async fn update(&self, store: &MemoryStore, new: &Subscription, expected: u64) -> Answer<Changed> {
        store.update(new, expected).await
    }
    async fn snapshot(&self, store: &MemoryStore, tenant: &Tenant) -> Answer<Snapshot> {
        store.snapshot(tenant).await
    }
    async fn changes_since(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        version: ConfigVersion,
    ) -> Answer<Option<Changes>> {
        store.changes_since(tenant, version).await
    }
    async fn insert(&self, store: &MemoryStore, events: &[Insert]) -> Answer<Vec<Inserted>> {
        store.insert(events, None).await
    }
    async fn load(&self, store: &MemoryStore, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        store.load(deliveries).await
    }
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        store.record(results).await
    }
    async fn cancel_deleted(&self, store: &MemoryStore, limit: u32) -> Answer<Vec<Ended>> {
        store.cancel_deleted(limit).await
    }
    async fn expire(&self, store: &MemoryStore, which: Expire, limit: u32) -> Answer<Expired> {
        store.expire(which, limit).await
    }
    async fn of_event(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        event: EventId,
    ) -> Answer<Option<OfEvent>> {
        store.of_event(tenant, event).await
    }
    async fn add_deliveries(
        &self,
        store: &MemoryStore,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Answer<Added> {
        store.add_deliveries(event, deliveries, config_version).await
    }
    async fn owed(&self, store: &MemoryStore, after: Option<DeliveryId>, limit: u32) -> Answer<Vec<Owed>> {
        store.owed(after, limit).await
    }
    async fn prune(&self, store: &MemoryStore, retention: Duration, limit: u32) -> Answer<u64> {
        store.prune(retention, limit).await
    }
    async fn purge(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        store.purge(tenant, older_than, after, limit).await
    }
    async fn replay_count(&self, store: &MemoryStore, filter: &DeliveryFilter) -> Answer<Matched> {
        store.replay_count(filter).await
    }
    async fn replay_start(&self, store: &MemoryStore, replay: &NewReplay) -> Answer<Replay> {
        store.replay_start(replay).await
    }
    async fn replay_next(&self, store: &MemoryStore, limit: u32) -> Answer<Option<ReplayPage>> {
        store.replay_next(limit).await
    }
    async fn replay_record(
        &self,
        store: &MemoryStore,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        store.replay_record(id, after, last, records).await
    }
    async fn inbox_take(&self, store: &MemoryStore, limit: u32) -> Answer<Vec<InboxEvent>> {
        store.inbox_take(limit).await
    }
    async fn inbox_settle(&self, store: &MemoryStore, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        store.inbox_settle(outcomes).await
    }
    async fn inbox_delete(&self, store: &MemoryStore, tenant: Option<&Tenant>, id: EventId) -> Answer<bool> {
        store.inbox_delete(tenant, id).await
    }
    async fn add_rollups(&self, store: &MemoryStore, rollups: &[Rollup]) -> Answer<()> {
        store.add_rollups(rollups).await
    }
    async fn totals(
        &self,
        store: &MemoryStore,
        scope: &Scope,
        window: Duration,
        worst: u32,
    ) -> Answer<Totals> {
        store.totals(scope, window, worst).await
    }
    async fn compact_rollups(&self, store: &MemoryStore, limit: u32) -> Answer<u64> {
        store.compact_rollups(limit).await
    }
    async fn unfinished(&self, store: &MemoryStore, scope: &Scope, most: u32) -> Answer<Unfinished> {
        store.unfinished(scope, most).await
    }
    async fn queue_epoch(&self, store: &MemoryStore) -> Answer<u64> {
        store.queue_epoch().await
    }
    async fn advance_epoch(&self, store: &MemoryStore, expected: u64, to: u64) -> Answer<bool> {
        store.advance_epoch(expected, to).await
    }
    async fn delivery(
        &self,
        store: &MemoryStore,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Answer<Option<Delivery>> {
        store.delivery(tenant, id).await
    }
    async fn events(
        &self,
        store: &MemoryStore,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Answer<Page<EventRecord, EventId>> {
        store.events(filter, page).await
    }
}

#[derive(Debug)]
pub(crate) struct Bent<D> {
    store: MemoryStore,
    defect: D,
}

#[async_trait]
impl<D: Defect> SubscriptionStore for Bent<D> {
    async fn create(&self, subscription: &Subscription) -> Answer<Arc<Subscription>> {
        self.defect.create(&self.store, subscription).await
    }
    async fn update(&self, subscription: &Subscription, expected: u64) -> Answer<Changed> {
        self.defect.update(&self.store, subscription, expected).await
    }
    async fn delete(&self, tenant: &Tenant, id: SubscriptionId, expected: Option<u64>) -> Answer<Changed> {
        self.store.delete(tenant, id, expected).await
    }
    async fn get(&self, ids: &[SubscriptionId]) -> Answer<Vec<Option<Arc<Subscription>>>> {
        self.store.get(ids).await
    }
    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Answer<Page<Arc<Subscription>, SubscriptionId>> {
        self.store.list(filter, page).await
    }
    async fn snapshot(&self, tenant: &Tenant) -> Answer<Snapshot> {
        self.defect.snapshot(&self.store, tenant).await
    }
    async fn changes_since(&self, tenant: &Tenant, version: ConfigVersion) -> Answer<Option<Changes>> {
        self.defect.changes_since(&self.store, tenant, version).await
    }
}

#[async_trait]
impl<D: Defect> DeliveryStore for Bent<D> {
    async fn insert(&self, events: &[Insert], _: Option<&HandOff>) -> Answer<Vec<Inserted>> {
        self.defect.insert(&self.store, events).await
    }
    async fn load(&self, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        self.defect.load(&self.store, deliveries).await
    }
    async fn record(&self, results: &[Record]) -> Answer<Vec<Recorded>> {
        self.defect.record(&self.store, results).await
    }
    async fn cancel_deleted(&self, limit: u32) -> Answer<Vec<Ended>> {
        self.defect.cancel_deleted(&self.store, limit).await
    }
    async fn expire(&self, which: Expire, limit: u32) -> Answer<Expired> {
        self.defect.expire(&self.store, which, limit).await
    }
    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Answer<Option<OfEvent>> {
        self.defect.of_event(&self.store, tenant, event).await
    }
    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Answer<Added> {
        self.defect.add_deliveries(&self.store, event, deliveries, config_version).await
    }
    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Answer<Vec<Owed>> {
        self.defect.owed(&self.store, after, limit).await
    }
    async fn prune(&self, retention: Duration, limit: u32) -> Answer<u64> {
        self.defect.prune(&self.store, retention, limit).await
    }
    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        self.defect.purge(&self.store, tenant, older_than, after, limit).await
    }
}

#[async_trait]
impl<D: Defect> ReplayStore for Bent<D> {
    async fn replay_count(&self, filter: &DeliveryFilter) -> Answer<Matched> {
        self.defect.replay_count(&self.store, filter).await
    }
    async fn replay_start(&self, replay: &NewReplay) -> Answer<Replay> {
        self.defect.replay_start(&self.store, replay).await
    }
    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Answer<Option<Replay>> {
        self.store.replay(tenant, id).await
    }
    async fn replay_next(&self, limit: u32) -> Answer<Option<ReplayPage>> {
        self.defect.replay_next(&self.store, limit).await
    }
    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        self.defect.replay_record(&self.store, id, after, last, records).await
    }
}

#[async_trait]
impl<D: Defect> Inbox for Bent<D> {
    async fn inbox_take(&self, limit: u32) -> Answer<Vec<InboxEvent>> {
        self.defect.inbox_take(&self.store, limit).await
    }
    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        self.defect.inbox_settle(&self.store, outcomes).await
    }
    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Answer<Page<RejectedEvent, EventId>> {
        self.store.inbox_rejected(tenant, page).await
    }
    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<bool> {
        self.defect.inbox_delete(&self.store, tenant, id).await
    }
}

#[async_trait]
impl<D: Defect> StatisticsStore for Bent<D> {
    async fn add_rollups(&self, rollups: &[Rollup]) -> Answer<()> {
        self.defect.add_rollups(&self.store, rollups).await
    }
    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Answer<Totals> {
        self.defect.totals(&self.store, scope, window, worst).await
    }
    async fn compact_rollups(&self, limit: u32) -> Answer<u64> {
        self.defect.compact_rollups(&self.store, limit).await
    }
    async fn unfinished(&self, scope: &Scope, most: u32) -> Answer<Unfinished> {
        self.defect.unfinished(&self.store, scope, most).await
    }
}

#[async_trait]
impl<D: Defect> Store for Bent<D> {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        None
    }
    async fn ping(&self) -> Answer<()> {
        self.store.ping().await
    }
    async fn queue_epoch(&self) -> Answer<u64> {
        self.defect.queue_epoch(&self.store).await
    }
    async fn advance_epoch(&self, expected: u64, to: u64) -> Answer<bool> {
        self.defect.advance_epoch(&self.store, expected, to).await
    }
}

#[async_trait]
impl<D: Defect> History for Bent<D> {
    async fn events(
        &self,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Answer<Page<EventRecord, EventId>> {
        self.defect.events(&self.store, filter, page).await
    }
    async fn event(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<Option<EventRecord>> {
        self.store.event(tenant, id).await
    }
    async fn payload(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<Option<Bytes>> {
        self.store.payload(tenant, id).await
    }
    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Answer<Page<Delivery, DeliveryId>> {
        self.store.deliveries(filter, page).await
    }
    async fn delivery(&self, tenant: Option<&Tenant>, id: DeliveryId) -> Answer<Option<Delivery>> {
        self.defect.delivery(&self.store, tenant, id).await
    }
    async fn attempts(
        &self,
        filter: &AttemptFilter,
        page: PageRequest<AttemptId>,
    ) -> Answer<Page<Attempt, AttemptId>> {
        self.store.attempts(filter, page).await
    }
    async fn attempts_of(&self, tenant: Option<&Tenant>, id: DeliveryId) -> Answer<Vec<Attempt>> {
        self.store.attempts_of(tenant, id).await
    }
}

/// A fixture of such a store.
pub(crate) struct Broken<D>(Arc<Bent<D>>);

impl<D: Defect> Fixture for Broken<D> {
    async fn create() -> Result<Self, Missing> {
        tokio::time::pause();
        let store = MemoryStore::with_clock(Arc::new(TokioClock::new()));
        Ok(Self(Arc::new(Bent { store, defect: D::default() })))
    }
    async fn advance(&self, span: Duration) {
        tokio::time::advance(span).await;
    }
}

impl<D: Defect> StoreFixture for Broken<D> {
    fn store(&self) -> Arc<dyn Store> {
        self.0.clone()
    }
    fn history(&self) -> Arc<dyn History> {
        self.0.clone()
    }

    async fn publish_later(&self, event: NewEvent) {
        self.0.store.publish_later(event);
    }
}

/// A store with these methods bent.
macro_rules! bend {
    ($name:ident: $($method:tt)*) => {
        #[derive(Debug, Default)]
        struct $name;

        #[async_trait]
        impl Defect for $name {
            $($method)*
        }
    };
}
pub(crate) use bend;

/// A delivery as it stands.
pub(crate) async fn revision(store: &MemoryStore, id: DeliveryId) -> Answer<Option<Loaded>> {
    Ok(store.load(&[Load { id, unsettled: Vec::new() }]).await?.remove(0))
}
