//! An engine with everything that a test wants to look at.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::engine::Builder;
use webhook_core::id::DeliveryId;
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::model::{Attempt, Delivery, NewEvent, Subscription, Tenant};
use webhook_core::queue::JobQueue;
use webhook_core::retry::Schedule;
use webhook_core::store::{History as _, Store};
use webhook_core::testing::{RecordingDeliverer, TokioClock};
use webhook_core::{Published, SubscriptionDraft, Webhooks, Workers};

use crate::faulty::{Culprits, FaultyStore};
use crate::faulty_queue::FaultyQueue;

pub(crate) const TARGET: &str = "https://example.com/hook";

pub(crate) struct World {
    pub webhooks: Webhooks,
    pub store: Arc<MemoryStore>,
    pub queue: Arc<MemoryQueue>,
    pub target: RecordingDeliverer,
    /// The store as the engine sees it.
    seen: Arc<dyn Store>,
    /// The queue as the engine sees it.
    seen_queue: Arc<dyn JobQueue>,
    clock: Arc<TokioClock>,
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn engine(
    store: Arc<dyn Store>,
    queue: Arc<dyn JobQueue>,
    target: &RecordingDeliverer,
    clock: &Arc<TokioClock>,
    change: impl FnOnce(Builder) -> Builder,
) -> Webhooks {
    let builder = Webhooks::builder(store)
        .queue(queue)
        .deliverer(Arc::new(target.clone()))
        .clock(clock.clone())
        .retry(Schedule::new([seconds(10), seconds(60)], 0.0).unwrap());
    change(builder).build().unwrap()
}

pub(crate) fn tenant() -> Tenant {
    Tenant::default()
}

impl World {
    /// Retries after 10 and 60 seconds, and no workers yet.
    pub(crate) fn new(target: RecordingDeliverer) -> Self {
        Self::with(target, |builder| builder)
    }

    pub(crate) fn with(target: RecordingDeliverer, change: impl FnOnce(Builder) -> Builder) -> Self {
        let clock = Arc::new(TokioClock::new());
        let store = Arc::new(MemoryStore::with_clock(clock.clone()));
        let queue = Arc::new(MemoryQueue::with_clock(clock.clone()));
        let webhooks = engine(store.clone(), queue.clone(), &target, &clock, change);
        Self { webhooks, seen: store.clone(), seen_queue: queue.clone(), store, queue, target, clock }
    }

    /// An engine that reaches its store through one that fails on command.
    pub(crate) fn on_faulty_store(
        target: RecordingDeliverer,
        culprit: Option<&'static str>,
    ) -> (Self, Arc<FaultyStore>) {
        let (world, store, _) = Self::on_faulty_backends(target);
        store.set_culprits(Culprits { event_type: culprit, ..Culprits::default() });
        (world, store)
    }

    /// An engine that reaches both through others that fail on command.
    pub(crate) fn on_faulty_backends(
        target: RecordingDeliverer,
    ) -> (Self, Arc<FaultyStore>, Arc<FaultyQueue>) {
        let mut world = Self::new(target);
        let store = Arc::new(FaultyStore::new(world.store.clone()));
        let queue = Arc::new(FaultyQueue::new(world.queue.clone()));
        world.seen = store.clone();
        world.seen_queue = queue.clone();
        world.webhooks = world.another();
        (world, store, queue)
    }

    /// Another process on the same backends.
    pub(crate) fn another(&self) -> Webhooks {
        self.another_with(|builder| builder)
    }

    pub(crate) fn another_with(&self, change: impl FnOnce(Builder) -> Builder) -> Webhooks {
        engine(self.seen.clone(), self.seen_queue.clone(), &self.target, &self.clock, change)
    }

    pub(crate) fn running(target: RecordingDeliverer) -> Self {
        let world = Self::new(target);
        world.webhooks.spawn(Workers::default()).unwrap();
        world
    }

    pub(crate) async fn subscribe(&self, draft: SubscriptionDraft) -> Arc<Subscription> {
        self.webhooks.subscriptions().create(&Tenant::default(), &draft).await.unwrap()
    }

    pub(crate) async fn publish(&self, event_type: &str) -> Published {
        self.webhooks.publish(NewEvent::json(event_type, r#"{"id":42}"#)).await.unwrap()
    }

    pub(crate) async fn delivery(&self, id: DeliveryId) -> Delivery {
        self.store.delivery(None, id).await.unwrap().expect("the delivery is stored")
    }

    pub(crate) async fn attempts(&self, id: DeliveryId) -> Vec<Attempt> {
        self.store.attempts_of(None, id).await.unwrap()
    }

    /// Waits in paused time until the delivery has finished.
    pub(crate) async fn finished(&self, id: DeliveryId) -> Delivery {
        for _ in 0..1_000_000 {
            let delivery = self.delivery(id).await;
            if delivery.state.status.is_finished() {
                return delivery;
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        panic!("delivery {id} did not finish");
    }
}
