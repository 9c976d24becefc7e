//! The reference backends pass every case.

use std::sync::Arc;
use std::time::Duration;

use webhook_conformance::{Fixture, Missing, QueueFixture, StoreFixture};
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::model::NewEvent;
use webhook_core::queue::JobQueue;
use webhook_core::store::{History, Store};
use webhook_core::testing::TokioClock;

struct Memory {
    store: Arc<MemoryStore>,
    queue: Arc<MemoryQueue>,
}

impl Fixture for Memory {
    async fn create() -> Result<Self, Missing> {
        tokio::time::pause();
        let clock = Arc::new(TokioClock::new());
        Ok(Self {
            store: Arc::new(MemoryStore::with_clock(clock.clone())),
            queue: Arc::new(MemoryQueue::with_clock(clock)),
        })
    }

    async fn advance(&self, span: Duration) {
        tokio::time::advance(span).await;
    }
}

impl QueueFixture for Memory {
    fn queue(&self) -> Arc<dyn JobQueue> {
        self.queue.clone()
    }
}

impl StoreFixture for Memory {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn history(&self) -> Arc<dyn History> {
        self.store.clone()
    }

    async fn publish_later(&self, event: NewEvent) {
        self.store.publish_later(event);
    }
}

webhook_conformance::queue_tests!(Memory);
webhook_conformance::store_tests!(Memory);
