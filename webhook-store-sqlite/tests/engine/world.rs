//! An engine on a file of its own, and what a test asks of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use webhook_core::deliver::Request;
use webhook_core::engine::Builder;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::model::{Attempt, Delivery, NewEvent, Subscription, SubscriptionStatus, Tenant};
use webhook_core::retry::Schedule;
use webhook_core::store::History as _;
use webhook_core::testing::ManualClock;
use webhook_core::time::{Clock as _, Timestamp};
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_store_sqlite::{SqliteOptions, SqliteStore};

use crate::support::check;
use crate::target::{Reply, Target};

pub(crate) const TARGET: &str = "https://example.com/hook";
/// A test that waits longer than this for anything fails.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) webhooks: Webhooks,
    pub(crate) store: SqliteStore,
    pub(crate) clock: ManualClock,
    pub(crate) target: Target,
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn tenant() -> Tenant {
    Tenant::default()
}

/// Looks again and again until there is something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await; // verify: allow(sleep): a poll with a deadline
    }
}

/// Retries after 10 and 60 seconds. It looks for what has become due every 20 ms of real time, because a clock
/// that a test moves wakes nobody.
pub(crate) fn engine(
    store: &SqliteStore,
    clock: &ManualClock,
    target: &Target,
    change: impl FnOnce(Builder) -> Builder,
) -> Webhooks {
    let builder = Webhooks::builder(Arc::new(store.clone()))
        .deliverer(Arc::new(target.clone()))
        .clock(Arc::new(clock.clone()))
        .reconcile_period(Duration::from_millis(20))
        .retry(Schedule::new([seconds(10), seconds(60)], 0.0).unwrap());
    change(builder).build().unwrap()
}

impl World {
    /// An engine without workers.
    pub(crate) async fn new(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(script, |builder| builder).await
    }

    pub(crate) async fn with(
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        change: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webhooks.db");
        let clock = ManualClock::new();
        let target = Target::new(&clock, script);
        // Where another program holds the file, nobody is to wait long for it.
        let options =
            SqliteOptions::new(&path).clock(Arc::new(clock.clone())).busy_timeout(Duration::from_millis(50));
        let store = SqliteStore::open(options).await.unwrap();
        let webhooks = engine(&store, &clock, &target, change);
        Self { webhooks, store, clock, target, path, _directory: directory }
    }

    pub(crate) fn spawn(&self) {
        self.webhooks.spawn(Workers::default()).unwrap();
    }

    /// With workers.
    pub(crate) async fn running(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let world = Self::new(script).await;
        world.spawn();
        world
    }

    pub(crate) async fn subscribe(&self, draft: SubscriptionDraft) -> Arc<Subscription> {
        self.webhooks.subscriptions().create(&tenant(), &draft).await.unwrap()
    }

    pub(crate) async fn publish(&self, event_type: &str) -> DeliveryId {
        self.publish_event(NewEvent::json(event_type, r#"{"id":42}"#)).await
    }

    /// The delivery of an event that matches one subscription.
    pub(crate) async fn publish_event(&self, event: NewEvent) -> DeliveryId {
        let published = self.webhooks.publish(event).await.unwrap();
        assert_eq!(published.deliveries.len(), 1);
        published.deliveries[0].0
    }

    pub(crate) async fn delivery(&self, id: DeliveryId) -> Delivery {
        self.store.delivery(None, id).await.unwrap().expect("the delivery is stored")
    }

    pub(crate) async fn attempts(&self, id: DeliveryId) -> Vec<Attempt> {
        self.store.attempts_of(None, id).await.unwrap()
    }

    pub(crate) async fn finished(&self, id: DeliveryId) -> Delivery {
        eventually("the delivery is finished", async || {
            Some(self.delivery(id).await).filter(|delivery| delivery.state.status.is_finished())
        })
        .await
    }

    /// Waits until so many attempts of it are recorded.
    pub(crate) async fn tried(&self, id: DeliveryId, attempts: u32) -> Delivery {
        eventually("the attempt is recorded", async || {
            Some(self.delivery(id).await).filter(|delivery| delivery.state.attempts == attempts)
        })
        .await
    }

    /// Waits until so many requests have come in all.
    pub(crate) async fn requested(&self, count: usize) {
        eventually("the request comes", async || (self.target.count() >= count).then_some(())).await;
    }

    /// The status that the subscription gets, once it is no longer `before`.
    pub(crate) async fn status_after(
        &self,
        id: SubscriptionId,
        before: SubscriptionStatus,
    ) -> Arc<Subscription> {
        eventually("the subscription's status changes", async || {
            let found = self.webhooks.subscriptions().get(&tenant(), id).await.unwrap();
            Some(found).filter(|found| found.status != before)
        })
        .await
    }

    /// Nothing may be claimed a microsecond before this moment, and one request comes at it.
    pub(crate) async fn comes_exactly_at(&self, moment: Timestamp) {
        let before = self.target.count();
        self.clock.set(Timestamp::from_micros(moment.as_micros() - 1));
        assert_eq!(self.webhooks.depth().await.unwrap().due, 0, "before its time");
        self.clock.set(moment);
        self.requested(before + 1).await;
        assert_eq!(self.target.got()[before].at, moment);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Stops the engine; what holds between the tables whatever happened holds now.
    pub(crate) async fn end(self) {
        self.webhooks.shutdown(seconds(1)).await;
        check(&self.store, &self.path).await;
    }
}
