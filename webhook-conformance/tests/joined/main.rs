//! A store with its own queue, put together from the two in memory, passes every case of stores.
//!
//! It is what the cases about own queues are tried on; bent in one place, it fails the case about that place. Its two halves have a lock each, so
//! a step of both is not atomic: it is no example to follow for anything that runs on more than one thread.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use webhook_conformance::{Fixture, Missing, StoreFixture};
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, EventId, ReplayId, SubscriptionId};
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::model::{DeliveryStatus, NewEvent, Subscription, SubscriptionStatus, Tenant};
use webhook_core::queue::{
    Enqueued, HandOff, Hold, JobQueue, LaneSettings, Lease, NewJob, Settle, Settled, Verdict,
};
use webhook_core::stats::{Rollup, Scope, Totals, Unfinished};
use webhook_core::store::{
    Added, Changed, Changes, ConfigVersion, DeliveryFilter, DeliveryStore, Ended, Expire, Expired, History,
    Inbox, InboxEvent, InboxId, InboxOutcome, Insert, Inserted, Load, Loaded, Matched, NewDelivery,
    NewReplay, OfEvent, Owed, Page, PageRequest, Purged, Record, Recorded, RejectedEvent, Replay, ReplayPage,
    ReplayRecorded, ReplayStore, Snapshot, StatisticsStore, Store, SubscriptionFilter, SubscriptionStore,
};
use webhook_core::testing::TokioClock;

type Answer<T> = Result<T, BackendError>;

#[derive(Debug)]
struct Joined {
    store: Arc<MemoryStore>,
    queue: Arc<MemoryQueue>,
    flaw: Option<Flaw>,
}

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    StoresWithoutJobs,
    ForgetsPauses,
    ForgetsDeletions,
    KeepsJobsOfTheCancelled,
    LeavesTheNextWithoutAJob,
    EndsNoLease,
    IgnoresStaleLeases,
    RetriesAtOnce,
    KeepsJobsOfTheExpired,
    AddsWithoutJobs,
    ReplaysWithoutJobs,
    LetsItsEpochBeChanged,
}

impl Joined {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    async fn push(&self, subscription: &Subscription, hold: Option<Hold>) -> Answer<()> {
        if self.is(Flaw::ForgetsDeletions) && hold == Some(Hold::Deleted) {
            return Ok(());
        }
        let settings = LaneSettings {
            lane: subscription.id,
            version: subscription.version,
            max_in_flight: subscription.max_in_flight,
            rate: subscription.rate_limit,
            hold: hold.or(match subscription.status {
                _ if self.is(Flaw::ForgetsPauses) => None,
                SubscriptionStatus::Active => None,
                SubscriptionStatus::Paused => Some(Hold::Paused),
                SubscriptionStatus::Disabled => Some(Hold::Disabled),
            }),
        };
        self.queue.lanes(&[settings]).await
    }

    async fn find(&self, id: DeliveryId) -> Answer<Option<Loaded>> {
        Ok(self.store.load(&[Load { id, unsettled: Vec::new() }]).await?.remove(0))
    }

    /// Gives a delivery the job that its state asks for.
    async fn arm(&self, id: DeliveryId, hand_off: Option<&HandOff>) -> Answer<Option<Lease>> {
        let Some(loaded) = self.find(id).await?.filter(|loaded| !loaded.waiting) else { return Ok(None) };
        let job = NewJob {
            id,
            lane: loaded.subscription_id,
            wait: loaded.due_in,
            lane_version: 0,
            urgent: loaded.state.request.is_some(),
        };
        Ok(match self.queue.enqueue(&[job], hand_off).await?.remove(0) {
            Enqueued::Leased(lease) => Some(lease),
            Enqueued::Queued | Enqueued::Present | Enqueued::LaneBehind => None,
        })
    }

    /// Removes the jobs of all deliveries that have ended so.
    async fn remove_jobs(&self, status: DeliveryStatus) -> Answer<()> {
        let filter = DeliveryFilter { statuses: vec![status], ..DeliveryFilter::default() };
        let page = self.store.deliveries(&filter, PageRequest { before: None, limit: u32::MAX }).await?;
        self.queue.remove(&page.items.iter().map(|delivery| delivery.id).collect::<Vec<_>>()).await
    }

    async fn record_one(&self, result: &Record) -> Answer<Recorded> {
        if let (Some(lease), Some(now)) = (result.lease, self.find(result.id).await?) {
            let token = [(result.id, lease.token)];
            let is_current = now.state.revision == result.revision;
            let fenced = is_current && !self.is(Flaw::IgnoresStaleLeases);
            if fenced && self.queue.extend(&token, Duration::from_secs(60)).await? != [true] {
                return Ok(Recorded::Stale { state: Box::new(now.state), unknown: None });
            }
        }
        let before = self.find(result.id).await?.map(|loaded| loaded.state.revision);
        let answer = self.store.record(std::slice::from_ref(result)).await?.remove(0);
        let Recorded::Applied { released, .. } = answer else { return Ok(answer) };
        if before != Some(result.revision) {
            return Ok(Recorded::Applied { released, strikes: None });
        }
        let strikes = self.follow(result).await?;
        for (id, _) in released.iter().filter(|_| !self.is(Flaw::LeavesTheNextWithoutAJob)) {
            self.arm(*id, None).await?;
        }
        Ok(Recorded::Applied { released, strikes })
    }

    /// Lets the job follow what its delivery has become.
    async fn follow(&self, result: &Record) -> Answer<Option<u8>> {
        let Some(now) = self.find(result.id).await? else { return Ok(None) };
        let over = now.state.status.is_finished() && now.state.request.is_none();
        let mut strikes = None;
        if self.is(Flaw::EndsNoLease) && result.lease.is_some() {
            return Ok(None);
        }
        if let Some(lease) = result.lease {
            let verdict = if over {
                Verdict::Done
            } else {
                Verdict::RetryAfter(if self.is(Flaw::RetriesAtOnce) { Duration::ZERO } else { now.due_in })
            };
            let settle =
                Settle { id: result.id, token: lease.token, verdict, effect: lease.effect, mark: lease.mark };
            if let Settled::Settled { strikes: now } = self.queue.settle(&[settle]).await?.remove(0) {
                strikes = Some(now);
            }
        }
        if over && self.is(Flaw::KeepsJobsOfTheCancelled) {
            return Ok(strikes);
        }
        if over {
            self.queue.remove(&[result.id]).await?;
        } else {
            self.arm(result.id, None).await?;
        }
        Ok(strikes)
    }
}

#[async_trait]
impl SubscriptionStore for Joined {
    async fn create(&self, subscription: &Subscription) -> Answer<Arc<Subscription>> {
        let stored = self.store.create(subscription).await?;
        self.push(&stored, None).await?;
        Ok(stored)
    }

    async fn update(&self, subscription: &Subscription, expected: u64) -> Answer<Changed> {
        let changed = self.store.update(subscription, expected).await?;
        if let Changed::Done(stored) = &changed {
            self.push(stored, None).await?;
        }
        Ok(changed)
    }

    async fn delete(&self, tenant: &Tenant, id: SubscriptionId, expected: Option<u64>) -> Answer<Changed> {
        let changed = self.store.delete(tenant, id, expected).await?;
        if let Changed::Done(deleted) = &changed {
            self.push(deleted, Some(Hold::Deleted)).await?;
        }
        Ok(changed)
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
        self.store.snapshot(tenant).await
    }

    async fn changes_since(&self, tenant: &Tenant, version: ConfigVersion) -> Answer<Option<Changes>> {
        self.store.changes_since(tenant, version).await
    }
}

#[async_trait]
impl DeliveryStore for Joined {
    async fn insert(&self, events: &[Insert], hand_off: Option<&HandOff>) -> Answer<Vec<Inserted>> {
        let mut answers = self.store.insert(events, None).await?;
        for (event, answer) in events.iter().zip(&mut answers) {
            if let Inserted::Stored { leases, .. } = answer {
                for delivery in event.deliveries.iter().filter(|_| !self.is(Flaw::StoresWithoutJobs)) {
                    leases.extend(self.arm(delivery.id, hand_off).await?);
                }
            }
        }
        Ok(answers)
    }

    async fn load(&self, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        self.store.load(deliveries).await
    }

    async fn record(&self, results: &[Record]) -> Answer<Vec<Recorded>> {
        let mut answers = Vec::new();
        for result in results {
            answers.push(self.record_one(result).await?);
        }
        Ok(answers)
    }

    async fn cancel_deleted(&self, limit: u32) -> Answer<Vec<Ended>> {
        let cancelled = self.store.cancel_deleted(limit).await?;
        self.remove_jobs(DeliveryStatus::Cancelled).await?;
        Ok(cancelled)
    }

    async fn expire(&self, which: Expire, limit: u32) -> Answer<Expired> {
        let expired = self.store.expire(which, limit).await?;
        if !self.is(Flaw::KeepsJobsOfTheExpired) {
            self.remove_jobs(DeliveryStatus::Exhausted).await?;
        }
        for (id, _) in &expired.released {
            self.arm(*id, None).await?;
        }
        Ok(expired)
    }

    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Answer<Option<OfEvent>> {
        self.store.of_event(tenant, event).await
    }

    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Answer<Added> {
        let answer = self.store.add_deliveries(event, deliveries, config_version).await?;
        if let Added::Stored { added, .. } = &answer {
            for id in added.iter().filter(|_| !self.is(Flaw::AddsWithoutJobs)) {
                self.arm(*id, None).await?;
            }
        }
        Ok(answer)
    }

    async fn owed(&self, _: Option<DeliveryId>, _: u32) -> Answer<Vec<Owed>> {
        Ok(Vec::new())
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Answer<u64> {
        self.store.prune(retention, limit).await
    }

    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        self.store.purge(tenant, older_than, after, limit).await
    }
}

#[async_trait]
impl ReplayStore for Joined {
    async fn replay_count(&self, filter: &DeliveryFilter) -> Answer<Matched> {
        self.store.replay_count(filter).await
    }
    async fn replay_start(&self, replay: &NewReplay) -> Answer<Replay> {
        self.store.replay_start(replay).await
    }
    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Answer<Option<Replay>> {
        self.store.replay(tenant, id).await
    }
    async fn replay_next(&self, limit: u32) -> Answer<Option<ReplayPage>> {
        self.store.replay_next(limit).await
    }
    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        let recorded = self.store.replay_record(id, after, last, records).await?;
        if let ReplayRecorded::Applied { reopened } = &recorded {
            for (id, _) in reopened.iter().filter(|_| !self.is(Flaw::ReplaysWithoutJobs)) {
                self.arm(*id, None).await?;
            }
        }
        Ok(recorded)
    }
}

#[async_trait]
impl Inbox for Joined {
    async fn inbox_take(&self, limit: u32) -> Answer<Vec<InboxEvent>> {
        self.store.inbox_take(limit).await
    }
    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        self.store.inbox_settle(outcomes).await
    }
    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Answer<Page<RejectedEvent, EventId>> {
        self.store.inbox_rejected(tenant, page).await
    }
    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Answer<bool> {
        self.store.inbox_delete(tenant, id).await
    }
}

#[async_trait]
impl StatisticsStore for Joined {
    async fn add_rollups(&self, rollups: &[Rollup]) -> Answer<()> {
        self.store.add_rollups(rollups).await
    }
    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Answer<Totals> {
        self.store.totals(scope, window, worst).await
    }
    async fn compact_rollups(&self, limit: u32) -> Answer<u64> {
        self.store.compact_rollups(limit).await
    }
    async fn unfinished(&self, scope: &Scope, most: u32) -> Answer<Unfinished> {
        self.store.unfinished(scope, most).await
    }
}

#[async_trait]
impl Store for Joined {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        Some(self.queue.clone())
    }

    async fn ping(&self) -> Answer<()> {
        self.store.ping().await
    }

    async fn queue_epoch(&self) -> Answer<u64> {
        self.queue.epoch().await
    }

    async fn advance_epoch(&self, _: u64, _: u64) -> Answer<bool> {
        Ok(self.is(Flaw::LetsItsEpochBeChanged))
    }
}

struct Memory(Arc<Joined>);

impl Memory {
    fn with(flaw: Option<Flaw>) -> Self {
        tokio::time::pause();
        let clock = Arc::new(TokioClock::new());
        let store = Arc::new(MemoryStore::with_clock(clock.clone()));
        Self(Arc::new(Joined { store, queue: Arc::new(MemoryQueue::with_clock(clock)), flaw }))
    }
}

impl Fixture for Memory {
    async fn create() -> Result<Self, Missing> {
        Ok(Self::with(None))
    }

    async fn advance(&self, span: Duration) {
        tokio::time::advance(span).await;
    }
}

impl StoreFixture for Memory {
    fn store(&self) -> Arc<dyn Store> {
        self.0.clone()
    }

    fn history(&self) -> Arc<dyn History> {
        self.0.store.clone()
    }

    async fn publish_later(&self, event: NewEvent) {
        self.0.store.publish_later(event);
    }
}

webhook_conformance::store_tests!(Memory);

/// A test for each flaw, and the case that catches it.
macro_rules! flaws {
    ($($name:ident: $flaw:ident => $case:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let memory = Memory::with(Some(Flaw::$flaw));
            let case = AssertUnwindSafe(webhook_conformance::store::own_queue::$case(&memory));
            assert!(case.catch_unwind().await.is_err(), concat!(stringify!($case), " did not catch it"));
        })*
    };
}

flaws! {
    lets_its_epoch_be_changed: LetsItsEpochBeChanged => its_epoch_is_nobody_elses_to_change;
    stores_without_jobs: StoresWithoutJobs => a_stored_delivery_is_claimable;
    forgets_pauses: ForgetsPauses => a_paused_subscription_holds_its_lane;
    forgets_deletions: ForgetsDeletions => a_deleted_subscription_holds_its_lane;
    keeps_jobs_of_the_cancelled: KeepsJobsOfTheCancelled => a_cancelled_delivery_has_no_job;
    leaves_the_next_without_a_job: LeavesTheNextWithoutAJob => the_next_of_an_order_gets_its_job_when_the_head_ends;
    ends_no_lease: EndsNoLease => a_result_ends_its_lease;
    ignores_stale_leases: IgnoresStaleLeases => a_result_under_a_stale_lease_changes_nothing;
    keeps_jobs_of_the_expired: KeepsJobsOfTheExpired => an_expired_delivery_has_no_job;
    adds_without_jobs: AddsWithoutJobs => an_added_delivery_is_claimable;
    replays_without_jobs: ReplaysWithoutJobs => replayed_deliveries_are_claimable;
    retries_at_once: RetriesAtOnce => a_retried_delivery_is_claimable_after_its_wait;
}
