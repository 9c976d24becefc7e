//! The queue keeps the whole contract: one named test for each thing that it promises.

use std::sync::Arc;
use std::time::Duration;

use webhook_conformance::{Fixture, Missing, QueueFixture};
use webhook_core::queue::JobQueue;
use webhook_core::testing::TokioClock;
use webhook_example_custom_backend::SmallQueue;

struct Small(Arc<SmallQueue>);

impl Fixture for Small {
    async fn create() -> Result<Self, Missing> {
        tokio::time::pause();
        Ok(Self(Arc::new(SmallQueue::with_clock(Arc::new(TokioClock::new())))))
    }

    async fn advance(&self, span: Duration) {
        tokio::time::advance(span).await;
    }
}

impl QueueFixture for Small {
    fn queue(&self) -> Arc<dyn JobQueue> {
        self.0.clone()
    }
}

webhook_conformance::queue_tests!(Small);
