//! A store that fails on command: before a call takes effect, or after.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::memory::MemoryStore;
use webhook_core::model::{Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::store::{
    Changed, Changes, DeliveryStore, Insert, Inserted, Load, Loaded, Owed, Page, PageRequest, Record,
    Recorded, Snapshot, Store, SubscriptionFilter, SubscriptionStore,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails and has no effect.
    Before,
    /// The call takes effect and its reply is lost.
    After,
}

#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<MemoryStore>,
    away: Mutex<bool>,
    inserts: Mutex<VecDeque<Fault>>,
    records: Mutex<VecDeque<Fault>>,
    /// An event type that no batch may hold.
    culprit: Option<&'static str>,
}

impl FaultyStore {
    pub(crate) fn new(inner: Arc<MemoryStore>, culprit: Option<&'static str>) -> Self {
        let (inserts, records) = (Mutex::default(), Mutex::default());
        Self { inner, away: Mutex::new(false), inserts, records, culprit }
    }

    pub(crate) fn set_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    pub(crate) fn fail_insert(&self, fault: Fault) {
        self.inserts.lock().unwrap().push_back(fault);
    }

    pub(crate) fn fail_record(&self, fault: Fault) {
        self.records.lock().unwrap().push_back(fault);
    }

    fn check(&self) -> Result<(), BackendError> {
        if *self.away.lock().unwrap() { Err(error(BackendErrorKind::Unavailable)) } else { Ok(()) }
    }
}

fn error(kind: BackendErrorKind) -> BackendError {
    BackendError::new(kind, "faulty", "call", "on command")
}

#[async_trait]
impl SubscriptionStore for FaultyStore {
    async fn create(&self, subscription: &Subscription) -> Result<Arc<Subscription>, BackendError> {
        self.check()?;
        self.inner.create(subscription).await
    }
    async fn update(&self, subscription: &Subscription, expected: u64) -> Result<Changed, BackendError> {
        self.check()?;
        self.inner.update(subscription, expected).await
    }
    async fn delete(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<Changed, BackendError> {
        self.check()?;
        self.inner.delete(tenant, id, expected).await
    }
    async fn get(&self, ids: &[SubscriptionId]) -> Result<Vec<Option<Arc<Subscription>>>, BackendError> {
        self.check()?;
        self.inner.get(ids).await
    }
    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Result<Page<Arc<Subscription>, SubscriptionId>, BackendError> {
        self.check()?;
        self.inner.list(filter, page).await
    }
    async fn snapshot(&self, tenant: &Tenant) -> Result<Snapshot, BackendError> {
        self.check()?;
        self.inner.snapshot(tenant).await
    }
    async fn changes_since(&self, tenant: &Tenant, version: u64) -> Result<Option<Changes>, BackendError> {
        self.check()?;
        self.inner.changes_since(tenant, version).await
    }
}

#[async_trait]
impl DeliveryStore for FaultyStore {
    async fn insert(
        &self,
        events: &[Insert],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Inserted>, BackendError> {
        self.check()?;
        if events.iter().any(|insert| Some(insert.event.event_type.as_str()) == self.culprit) {
            return Err(error(BackendErrorKind::Internal));
        }
        let fault = self.inserts.lock().unwrap().pop_front();
        if fault == Some(Fault::Before) {
            return Err(error(BackendErrorKind::Unavailable));
        }
        let done = self.inner.insert(events, hand_off).await;
        if fault == Some(Fault::After) { Err(error(BackendErrorKind::Timeout)) } else { done }
    }
    async fn load(&self, deliveries: &[Load]) -> Result<Vec<Option<Loaded>>, BackendError> {
        self.check()?;
        self.inner.load(deliveries).await
    }
    async fn record(&self, results: &[Record]) -> Result<Vec<Recorded>, BackendError> {
        self.check()?;
        let fault = self.records.lock().unwrap().pop_front();
        if fault == Some(Fault::Before) {
            return Err(error(BackendErrorKind::Unavailable));
        }
        let done = self.inner.record(results).await;
        if fault == Some(Fault::After) { Err(error(BackendErrorKind::Timeout)) } else { done }
    }
    async fn cancel_deleted(&self, limit: u32) -> Result<u64, BackendError> {
        self.check()?;
        self.inner.cancel_deleted(limit).await
    }
    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Owed>, BackendError> {
        self.check()?;
        self.inner.owed(after, limit).await
    }
    async fn prune(&self, retention: Duration, limit: u32) -> Result<u64, BackendError> {
        self.check()?;
        self.inner.prune(retention, limit).await
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        None
    }
    async fn ping(&self) -> Result<(), BackendError> {
        self.check()
    }
}
