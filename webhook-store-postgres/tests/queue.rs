//! Every case of the public suite for queues, each in a schema of its own and with a clock that the case moves.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::Case;
use webhook_conformance::{Fixture, Missing, QueueFixture};
use webhook_core::queue::JobQueue;
use webhook_store_postgres::PgStore;

struct Schema {
    case: Case,
    store: PgStore,
}

impl Fixture for Schema {
    async fn create() -> Result<Self, Missing> {
        let case = Case::create().await?;
        let store = case.open().await;
        case.stop_clock().await;
        Ok(Self { case, store })
    }

    async fn advance(&self, span: Duration) {
        self.case.advance(span).await;
    }

    async fn clean_up(self) {
        self.case.clean_up().await;
    }
}

impl QueueFixture for Schema {
    fn queue(&self) -> Arc<dyn JobQueue> {
        Arc::new(self.store.clone())
    }
}

webhook_conformance::queue_tests!(Schema);
