//! A store in memory that leaves to the API what a store may leave to it: it does not say why deliveries
//! wait, unless behind another, and it yields in its look-ups, so that concurrent requests meet in between.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use webhook_core::error::BackendError;
use webhook_core::id::{AttemptId, DeliveryId, EventId, ReplayId, SubscriptionId};
use webhook_core::memory::MemoryStore;
use webhook_core::model::{Attempt, Delivery, StatusReason, Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::stats::{Rollup, Scope, Totals, Unfinished};
use webhook_core::store::{
    Added, AttemptFilter, Changed, Changes, ConfigVersion, DeliveryFilter, DeliveryStore, Ended, EventFilter,
    EventRecord, Expire, Expired, History, Inbox, InboxEvent, InboxId, InboxOutcome, Insert, Inserted, Load,
    Loaded, Matched, NewDelivery, NewReplay, OfEvent, Owed, Page, PageRequest, Purged, Record, Recorded,
    RejectedEvent, Replay, ReplayPage, ReplayRecorded, ReplayStore, Snapshot, StatisticsStore, Store,
    SubscriptionFilter, SubscriptionStore,
};

#[derive(Debug)]
pub(crate) struct PlainStore(pub(crate) MemoryStore);

type Answer<T> = Result<T, BackendError>;

fn without_reason(mut delivery: Delivery) -> Delivery {
    let only_the_store_knows = delivery.state.reason == Some(StatusReason::Ordered);
    if !delivery.state.status.is_finished() && !only_the_store_knows {
        delivery.state.reason = None;
    }
    delivery
}

#[async_trait]
impl SubscriptionStore for PlainStore {
    async fn create(&self, subscription: &Subscription) -> Answer<Arc<Subscription>> {
        self.0.create(subscription).await
    }
    async fn update(&self, subscription: &Subscription, expected: u64) -> Answer<Changed> {
        self.0.update(subscription, expected).await
    }
    async fn delete(&self, tenant: &Tenant, id: SubscriptionId, expected: Option<u64>) -> Answer<Changed> {
        self.0.delete(tenant, id, expected).await
    }
    async fn get(&self, ids: &[SubscriptionId]) -> Answer<Vec<Option<Arc<Subscription>>>> {
        let found = self.0.get(ids).await;
        tokio::task::yield_now().await;
        found
    }
    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Answer<Page<Arc<Subscription>, SubscriptionId>> {
        self.0.list(filter, page).await
    }
    async fn snapshot(&self, tenant: &Tenant) -> Answer<Snapshot> {
        self.0.snapshot(tenant).await
    }
    async fn changes_since(&self, tenant: &Tenant, version: ConfigVersion) -> Answer<Option<Changes>> {
        self.0.changes_since(tenant, version).await
    }
}

#[async_trait]
impl DeliveryStore for PlainStore {
    async fn insert(&self, events: &[Insert], hand_off: Option<&HandOff>) -> Answer<Vec<Inserted>> {
        self.0.insert(events, hand_off).await
    }
    async fn load(&self, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        self.0.load(deliveries).await
    }
    async fn record(&self, results: &[Record]) -> Answer<Vec<Recorded>> {
        self.0.record(results).await
    }
    async fn cancel_deleted(&self, limit: u32) -> Answer<Vec<Ended>> {
        self.0.cancel_deleted(limit).await
    }
    async fn expire(&self, which: Expire, limit: u32) -> Answer<Expired> {
        self.0.expire(which, limit).await
    }
    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Answer<Option<OfEvent>> {
        self.0.of_event(tenant, event).await
    }
    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config: ConfigVersion,
    ) -> Answer<Added> {
        self.0.add_deliveries(event, deliveries, config).await
    }
    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Answer<Vec<Owed>> {
        self.0.owed(after, limit).await
    }
    async fn prune(&self, retention: Duration, limit: u32) -> Answer<u64> {
        self.0.prune(retention, limit).await
    }
    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        self.0.purge(tenant, older_than, after, limit).await
    }
}

#[async_trait]
impl ReplayStore for PlainStore {
    async fn replay_count(&self, filter: &DeliveryFilter) -> Answer<Matched> {
        self.0.replay_count(filter).await
    }
    async fn replay_start(&self, replay: &NewReplay) -> Answer<Replay> {
        self.0.replay_start(replay).await
    }
    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Answer<Option<Replay>> {
        self.0.replay(tenant, id).await
    }
    async fn replay_next(&self, limit: u32) -> Answer<Option<ReplayPage>> {
        self.0.replay_next(limit).await
    }
    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        self.0.replay_record(id, after, last, records).await
    }
}

#[async_trait]
impl Inbox for PlainStore {
    async fn inbox_take(&self, limit: u32) -> Answer<Vec<InboxEvent>> {
        self.0.inbox_take(limit).await
    }
    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        self.0.inbox_settle(outcomes).await
    }
    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Answer<Page<RejectedEvent, EventId>> {
        self.0.inbox_rejected(tenant, page).await
    }
    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<bool> {
        self.0.inbox_delete(tenant, id).await
    }
}

#[async_trait]
impl StatisticsStore for PlainStore {
    async fn add_rollups(&self, rollups: &[Rollup]) -> Answer<()> {
        self.0.add_rollups(rollups).await
    }
    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Answer<Totals> {
        self.0.totals(scope, window, worst).await
    }
    async fn compact_rollups(&self, limit: u32) -> Answer<u64> {
        self.0.compact_rollups(limit).await
    }
    async fn unfinished(&self, scope: &Scope, most: u32) -> Answer<Unfinished> {
        self.0.unfinished(scope, most).await
    }
}

#[async_trait]
impl Store for PlainStore {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        self.0.own_queue()
    }
    async fn ping(&self) -> Answer<()> {
        self.0.ping().await
    }
    async fn queue_epoch(&self) -> Answer<u64> {
        self.0.queue_epoch().await
    }
    async fn advance_epoch(&self, expected: u64, to: u64) -> Answer<bool> {
        self.0.advance_epoch(expected, to).await
    }
}

#[async_trait]
impl History for PlainStore {
    async fn events(
        &self,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Answer<Page<EventRecord, EventId>> {
        self.0.events(filter, page).await
    }
    async fn event(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<Option<EventRecord>> {
        self.0.event(tenant, id).await
    }
    async fn payload(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<Option<Bytes>> {
        self.0.payload(tenant, id).await
    }
    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Answer<Page<Delivery, DeliveryId>> {
        let Page { items, next } = self.0.deliveries(filter, page).await?;
        Ok(Page { items: items.into_iter().map(without_reason).collect(), next })
    }
    async fn delivery(&self, tenant: Option<&Tenant>, id: DeliveryId) -> Answer<Option<Delivery>> {
        Ok(self.0.delivery(tenant, id).await?.map(without_reason))
    }
    async fn attempts(
        &self,
        filter: &AttemptFilter,
        page: PageRequest<AttemptId>,
    ) -> Answer<Page<Attempt, AttemptId>> {
        self.0.attempts(filter, page).await
    }
    async fn attempts_of(&self, tenant: Option<&Tenant>, id: DeliveryId) -> Answer<Vec<Attempt>> {
        self.0.attempts_of(tenant, id).await
    }
}
