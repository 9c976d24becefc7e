//! A store that fails on command: before a call takes effect, or after, or because of what a call brings. As a
//! store with I/O does, it lets others run before each call, so that two engines on it meet in between, and keeps
//! copies of payloads, so that a test can count what the engine itself holds.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::id::{DeliveryId, EventId, ReplayId, SubscriptionId};
use webhook_core::memory::MemoryStore;
use webhook_core::model::{Event, Outcome, Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::stats::{Rollup, Scope, Totals, Unfinished};
use webhook_core::store::{
    Added, Changed, Changes, ConfigVersion, DeliveryFilter, DeliveryStore, Ended, Expire, Expired, Inbox,
    InboxEvent, InboxId, InboxOutcome, Insert, Inserted, Load, Loaded, Matched, NewDelivery, NewReplay,
    OfEvent, Owed, Page, PageRequest, Purged, Record, Recorded, RejectedEvent, Replay, ReplayPage,
    ReplayRecorded, ReplayStore, Snapshot, StatisticsStore, Store, SubscriptionFilter, SubscriptionStore,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails and has no effect.
    Before,
    /// The call takes effect and its reply is lost.
    After,
    /// The call takes effect and its reply takes so long.
    Slow(Duration),
}

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Insert,
    Load,
    Record,
    Expire,
    AddDeliveries,
    ReplayRecord,
    InboxSettle,
    AddRollups,
    Unfinished,
    AdvanceEpoch,
}

/// What no batch may hold: the call fails for good, and nobody can tell why.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Culprits {
    /// Events of this type cannot be inserted.
    pub event_type: Option<&'static str>,
    /// This delivery cannot be loaded.
    pub load: Option<DeliveryId>,
    /// The results of this delivery cannot be recorded.
    pub record: Option<DeliveryId>,
}

#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<MemoryStore>,
    away: Mutex<bool>,
    faults: Mutex<HashMap<Call, VecDeque<Fault>>>,
    culprits: Mutex<Culprits>,
    calls: AtomicUsize,
    inserts: Mutex<Vec<usize>>,
}

type Answer<T> = Result<T, BackendError>;

impl FaultyStore {
    pub(crate) fn new(inner: Arc<MemoryStore>) -> Self {
        Self {
            inner,
            away: Mutex::new(false),
            faults: Mutex::default(),
            culprits: Mutex::default(),
            calls: AtomicUsize::new(0),
            inserts: Mutex::default(),
        }
    }

    pub(crate) fn set_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// The next such call that is not to fail yet fails.
    pub(crate) fn fail(&self, call: Call, fault: Fault) {
        self.faults.lock().unwrap().entry(call).or_default().push_back(fault);
    }

    pub(crate) fn set_culprits(&self, culprits: Culprits) {
        *self.culprits.lock().unwrap() = culprits;
    }

    /// How many calls came since the last time somebody asked.
    pub(crate) fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    /// How many roll-ups each insert of them brought so far.
    pub(crate) fn inserts(&self) -> Vec<usize> {
        self.inserts.lock().unwrap().clone()
    }

    async fn check(&self) -> Answer<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.refuse_while_away()
    }

    fn refuse_while_away(&self) -> Answer<()> {
        if *self.away.lock().unwrap() { Err(error(BackendErrorKind::Unavailable)) } else { Ok(()) }
    }

    async fn make<T>(&self, call: Call, made: impl Future<Output = Answer<T>>) -> Answer<T> {
        self.check().await?;
        self.act(call, made).await
    }

    async fn act<T>(&self, call: Call, made: impl Future<Output = Answer<T>>) -> Answer<T> {
        let fault = self.faults.lock().unwrap().get_mut(&call).and_then(VecDeque::pop_front);
        if fault == Some(Fault::Before) {
            return Err(error(BackendErrorKind::Unavailable));
        }
        let done = made.await;
        match fault {
            Some(Fault::After) => Err(error(BackendErrorKind::Timeout)),
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await; // verify: allow(sleep): a store that is slow
                done
            }
            Some(Fault::Before) | None => done,
        }
    }

    /// Fails when this holds for one of a batch.
    fn refuse(&self, holds: impl FnOnce(&Culprits) -> bool) -> Answer<()> {
        let culprits = *self.culprits.lock().unwrap();
        if holds(&culprits) { Err(error(BackendErrorKind::Internal)) } else { Ok(()) }
    }
}

/// The same event with bytes of its own.
fn copy(event: &Event) -> Arc<Event> {
    Arc::new(Event { payload: Bytes::copy_from_slice(&event.payload), ..event.clone() })
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
        let is = |culprit: &Culprits, insert: &Insert| {
            Some(insert.event.event_type.as_str()) == culprit.event_type
        };
        self.refuse(|culprit| events.iter().any(|insert| is(culprit, insert)))?;
        let events: Vec<_> =
            events.iter().map(|insert| Insert { event: copy(&insert.event), ..insert.clone() }).collect();
        self.make(Call::Insert, self.inner.insert(&events, hand_off)).await
    }
    async fn load(&self, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        self.refuse(|culprit| deliveries.iter().any(|load| Some(load.id) == culprit.load))?;
        self.make(Call::Load, self.inner.load(deliveries)).await
    }
    async fn record(&self, results: &[Record]) -> Answer<Vec<Recorded>> {
        // That nothing is known of an attempt can be recorded: it is what was answered that cannot.
        let answered =
            |record: &Record| record.attempts.iter().any(|attempt| attempt.outcome != Outcome::Unknown);
        self.refuse(|culprit| {
            results.iter().any(|record| Some(record.id) == culprit.record && answered(record))
        })?;
        self.make(Call::Record, self.inner.record(results)).await
    }
    async fn cancel_deleted(&self, limit: u32) -> Answer<Vec<Ended>> {
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
    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        self.check().await?;
        self.inner.purge(tenant, older_than, after, limit).await
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

/// Without being counted as calls: when statistics are written is nobody's business.
#[async_trait]
impl StatisticsStore for FaultyStore {
    async fn add_rollups(&self, rollups: &[Rollup]) -> Answer<()> {
        self.refuse_while_away()?;
        self.inserts.lock().unwrap().push(rollups.len());
        self.act(Call::AddRollups, self.inner.add_rollups(rollups)).await
    }
    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Answer<Totals> {
        self.refuse_while_away()?;
        self.inner.totals(scope, window, worst).await
    }
    async fn compact_rollups(&self, limit: u32) -> Answer<u64> {
        self.refuse_while_away()?;
        self.inner.compact_rollups(limit).await
    }
    async fn unfinished(&self, scope: &Scope, most: u32) -> Answer<Unfinished> {
        self.refuse_while_away()?;
        self.act(Call::Unfinished, self.inner.unfinished(scope, most)).await
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
    async fn queue_epoch(&self) -> Answer<u64> {
        self.check().await?;
        self.inner.queue_epoch().await
    }
    async fn advance_epoch(&self, expected: u64, to: u64) -> Answer<bool> {
        self.make(Call::AdvanceEpoch, self.inner.advance_epoch(expected, to)).await
    }
}
