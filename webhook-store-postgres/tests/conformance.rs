//! Every case of the public suites, each in a schema of its own.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::Case;
use webhook_conformance::{Fixture, Missing, QueueFixture, StoreFixture};
use webhook_core::model::NewEvent;
use webhook_core::queue::JobQueue;
use webhook_core::store::{History, Store};
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx::Connection as _;

/// A store that was opened for another queue.
struct Plain {
    case: Case,
    store: PgStore,
}

impl Plain {
    async fn open(own_queue: bool) -> Result<Self, Missing> {
        let case = Case::create().await?;
        let store = PgStore::open(case.options().own_queue(own_queue)).await.unwrap();
        case.stop_clock().await;
        Ok(Self { case, store })
    }

    async fn publish_later(&self, event: NewEvent) {
        let mut application = self.case.connect().await;
        let mut tx = application.begin().await.unwrap();
        PgStore::publish_in_schema(&mut tx, &self.case.schema, event).await.unwrap();
        tx.commit().await.unwrap();
        application.close().await.unwrap();
    }
}

impl Fixture for Plain {
    async fn create() -> Result<Self, Missing> {
        Self::open(false).await
    }

    async fn advance(&self, span: Duration) {
        self.case.advance(span).await;
    }

    async fn clean_up(self) {
        self.case.clean_up().await;
    }
}

impl StoreFixture for Plain {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::new(self.store.clone())
    }

    async fn publish_later(&self, event: NewEvent) {
        Self::publish_later(self, event).await;
    }
}

/// A store with its own queue.
struct Joined(Plain);

impl Fixture for Joined {
    async fn create() -> Result<Self, Missing> {
        Ok(Self(Plain::open(true).await?))
    }

    async fn advance(&self, span: Duration) {
        self.0.case.advance(span).await;
    }

    async fn clean_up(self) {
        self.0.case.clean_up().await;
    }
}

impl QueueFixture for Joined {
    fn queue(&self) -> Arc<dyn JobQueue> {
        self.0.store.own_queue().unwrap()
    }
}

impl StoreFixture for Joined {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.0.store.clone())
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::new(self.0.store.clone())
    }

    async fn publish_later(&self, event: NewEvent) {
        self.0.publish_later(event).await;
    }
}

mod plain {
    use super::Plain;

    webhook_conformance::store_tests!(Plain);
}

mod joined {
    use super::Joined;

    webhook_conformance::queue_tests!(Joined);
    webhook_conformance::store_tests!(Joined);
}
