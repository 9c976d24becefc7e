//! A store with its own queue, put together from the two in memory, passes every case of stores.
//!
//! It is what the cases about own queues are tried on; bent in one place, it fails the case about that place. Its two halves have a lock each, so a step of both is
//! not atomic: it is no example to follow for anything that runs on more than one thread.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use webhook_conformance::{Fixture, Missing, StoreFixture};
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::model::{DeliveryStatus, Subscription, SubscriptionStatus, Tenant};
use webhook_core::queue::{
    Enqueued, HandOff, Hold, JobQueue, LaneSettings, Lease, NewJob, Settle, Settled, Verdict,
};
use webhook_core::store::{
    Changed, Changes, ConfigVersion, DeliveryFilter, DeliveryStore, History, Insert, Inserted, Load, Loaded,
    Owed, Page, PageRequest, Record, Recorded, Snapshot, Store, SubscriptionFilter, SubscriptionStore,
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
            // A deletion is later than every version.
            version: if hold == Some(Hold::Deleted) { u64::MAX } else { subscription.version },
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

    async fn cancel_deleted(&self, limit: u32) -> Answer<u64> {
        let cancelled = self.store.cancel_deleted(limit).await?;
        let filter =
            DeliveryFilter { statuses: vec![DeliveryStatus::Cancelled], ..DeliveryFilter::default() };
        let page = self.store.deliveries(&filter, PageRequest { before: None, limit: u32::MAX }).await?;
        self.queue.remove(&page.items.iter().map(|delivery| delivery.id).collect::<Vec<_>>()).await?;
        Ok(cancelled)
    }

    async fn owed(&self, _: Option<DeliveryId>, _: u32) -> Answer<Vec<Owed>> {
        Ok(Vec::new())
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Answer<u64> {
        self.store.prune(retention, limit).await
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
    stores_without_jobs: StoresWithoutJobs => a_stored_delivery_is_claimable;
    forgets_pauses: ForgetsPauses => a_paused_subscription_holds_its_lane;
    forgets_deletions: ForgetsDeletions => a_deleted_subscription_holds_its_lane;
    keeps_jobs_of_the_cancelled: KeepsJobsOfTheCancelled => a_cancelled_delivery_has_no_job;
    leaves_the_next_without_a_job: LeavesTheNextWithoutAJob => the_next_of_an_order_gets_its_job_when_the_head_ends;
    ends_no_lease: EndsNoLease => a_result_ends_its_lease;
    ignores_stale_leases: IgnoresStaleLeases => a_result_under_a_stale_lease_changes_nothing;
    retries_at_once: RetriesAtOnce => a_retried_delivery_is_claimable_after_its_wait;
}
