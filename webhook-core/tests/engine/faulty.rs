//! A store that fails on command: before a call takes effect, or after. As a store with I/O does, it lets others
//! run before each call, so that two engines on it meet in between.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::id::{DeliveryId, EventId, ReplayId, SubscriptionId};
use webhook_core::memory::MemoryStore;
use webhook_core::model::{Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::store::{
    Added, Changed, Changes, ConfigVersion, DeliveryFilter, DeliveryStore, Expire, Expired, Inbox,
    InboxEvent, InboxId, InboxOutcome, Insert, Inserted, Load, Loaded, Matched, NewDelivery, NewReplay,
    OfEvent, Owed, Page, PageRequest, Record, Recorded, RejectedEvent, Replay, ReplayPage, ReplayRecorded,
    ReplayStore, Snapshot, Store, SubscriptionFilter, SubscriptionStore,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails and has no effect.
    Before,
    /// The call takes effect and its reply is lost.
    After,
}

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Insert,
    Record,
    Expire,
    AddDeliveries,
    ReplayRecord,
    InboxSettle,
}

#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<MemoryStore>,
    away: Mutex<bool>,
    faults: Mutex<HashMap<Call, VecDeque<Fault>>>,
    /// An event type that no batch may hold.
    culprit: Option<&'static str>,
}

type Answer<T> = Result<T, BackendError>;

impl FaultyStore {
    pub(crate) fn new(inner: Arc<MemoryStore>, culprit: Option<&'static str>) -> Self {
        Self { inner, away: Mutex::new(false), faults: Mutex::default(), culprit }
    }

    pub(crate) fn set_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// The next such call that is not to fail yet fails.
    pub(crate) fn fail(&self, call: Call, fault: Fault) {
        self.faults.lock().unwrap().entry(call).or_default().push_back(fault);
    }

    async fn check(&self) -> Answer<()> {
        tokio::task::yield_now().await;
        if *self.away.lock().unwrap() { Err(error(BackendErrorKind::Unavailable)) } else { Ok(()) }
    }

    async fn make<T>(&self, call: Call, made: impl Future<Output = Answer<T>>) -> Answer<T> {
        self.check().await?;
        let fault = self.faults.lock().unwrap().get_mut(&call).and_then(VecDeque::pop_front);
        if fault == Some(Fault::Before) {
            return Err(error(BackendErrorKind::Unavailable));
        }
        let done = made.await;
        if fault == Some(Fault::After) { Err(error(BackendErrorKind::Timeout)) } else { done }
    }
}

fn error(kind: BackendErrorKind) -> BackendError {
    BackendError::new(kind, "faulty", "call", "on command")
}

#[async_trait]
impl SubscriptionStore for FaultyStore {
    async fn create(&self, subscription: &Subscription) -> Answer<Arc<Subscription>> {
        self.check().await?;
        self.inner.create(subscription).await
    }
    async fn update(&self, subscription: &Subscription, expected: u64) -> Answer<Changed> {
        self.check().await?;
        self.inner.update(subscription, expected).await
    }
    async fn delete(&self, tenant: &Tenant, id: SubscriptionId, expected: Option<u64>) -> Answer<Changed> {
        self.check().await?;
        self.inner.delete(tenant, id, expected).await
    }
    async fn get(&self, ids: &[SubscriptionId]) -> Answer<Vec<Option<Arc<Subscription>>>> {
        self.check().await?;
        self.inner.get(ids).await
    }
    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Answer<Page<Arc<Subscription>, SubscriptionId>> {
        self.check().await?;
        self.inner.list(filter, page).await
    }
    async fn snapshot(&self, tenant: &Tenant) -> Answer<Snapshot> {
        self.check().await?;
        self.inner.snapshot(tenant).await
    }
    async fn changes_since(&self, tenant: &Tenant, version: u64) -> Answer<Option<Changes>> {
        self.check().await?;
        self.inner.changes_since(tenant, version).await
    }
}

#[async_trait]
impl DeliveryStore for FaultyStore {
    async fn insert(&self, events: &[Insert], hand_off: Option<&HandOff>) -> Answer<Vec<Inserted>> {
        if events.iter().any(|insert| Some(insert.event.event_type.as_str()) == self.culprit) {
            return Err(error(BackendErrorKind::Internal));
        }
        self.make(Call::Insert, self.inner.insert(events, hand_off)).await
    }
    async fn load(&self, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        self.check().await?;
        self.inner.load(deliveries).await
    }
    async fn record(&self, results: &[Record]) -> Answer<Vec<Recorded>> {
        self.make(Call::Record, self.inner.record(results)).await
    }
    async fn cancel_deleted(&self, limit: u32) -> Answer<u64> {
        self.check().await?;
        self.inner.cancel_deleted(limit).await
    }
    async fn expire(&self, which: Expire, limit: u32) -> Answer<Expired> {
        self.make(Call::Expire, self.inner.expire(which, limit)).await
    }
    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Answer<Option<OfEvent>> {
        self.check().await?;
        self.inner.of_event(tenant, event).await
    }
    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Answer<Added> {
        let added = self.inner.add_deliveries(event, deliveries, config_version);
        self.make(Call::AddDeliveries, added).await
    }
    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Answer<Vec<Owed>> {
        self.check().await?;
        self.inner.owed(after, limit).await
    }
    async fn prune(&self, retention: Duration, limit: u32) -> Answer<u64> {
        self.check().await?;
        self.inner.prune(retention, limit).await
    }
}

#[async_trait]
impl ReplayStore for FaultyStore {
    async fn replay_count(&self, filter: &DeliveryFilter) -> Answer<Matched> {
        self.check().await?;
        self.inner.replay_count(filter).await
    }
    async fn replay_start(&self, replay: &NewReplay) -> Answer<Replay> {
        self.check().await?;
        self.inner.replay_start(replay).await
    }
    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Answer<Option<Replay>> {
        self.check().await?;
        self.inner.replay(tenant, id).await
    }
    async fn replay_next(&self, limit: u32) -> Answer<Option<ReplayPage>> {
        self.check().await?;
        self.inner.replay_next(limit).await
    }
    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        self.make(Call::ReplayRecord, self.inner.replay_record(id, after, last, records)).await
    }
}

#[async_trait]
impl Inbox for FaultyStore {
    async fn inbox_take(&self, limit: u32) -> Answer<Vec<InboxEvent>> {
        self.check().await?;
        self.inner.inbox_take(limit).await
    }
    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        self.make(Call::InboxSettle, self.inner.inbox_settle(outcomes)).await
    }
    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Answer<Page<RejectedEvent, EventId>> {
        self.check().await?;
        self.inner.inbox_rejected(tenant, page).await
    }
    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<bool> {
        self.check().await?;
        self.inner.inbox_delete(tenant, id).await
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        None
    }
    async fn ping(&self) -> Answer<()> {
        self.check().await
    }
}
