//! Every case of the public suites, each on a file of its own.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use webhook_conformance::{Fixture, Missing, QueueFixture, StoreFixture};
use webhook_core::model::NewEvent;
use webhook_core::queue::JobQueue;
use webhook_core::store::{History, Store};
use webhook_core::testing::ManualClock;
use webhook_store_sqlite::sqlx::sqlite::SqliteConnectOptions;
use webhook_store_sqlite::sqlx::{ConnectOptions as _, Connection as _};
use webhook_store_sqlite::{SqliteOptions, SqliteStore};

struct File {
    store: SqliteStore,
    clock: ManualClock,
    directory: TempDir,
}

impl Fixture for File {
    async fn create() -> Result<Self, Missing> {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::new();
        let options = SqliteOptions::new(directory.path().join("webhooks.db")).clock(Arc::new(clock.clone()));
        let store = SqliteStore::open(options).await.unwrap();
        Ok(Self { store, clock, directory })
    }

    async fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }
}

impl QueueFixture for File {
    fn queue(&self) -> Arc<dyn JobQueue> {
        self.store.own_queue().unwrap()
    }
}

impl StoreFixture for File {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::new(self.store.clone())
    }

    async fn publish_later(&self, event: NewEvent) {
        let options = SqliteConnectOptions::new().filename(self.directory.path().join("webhooks.db"));
        let runtime = tokio::runtime::Handle::current();
        let insert = move || {
            runtime.block_on(async {
                let mut application = options.connect().await.unwrap();
                SqliteStore::publish_in(&mut application, event).await.unwrap();
                application.close().await.unwrap();
            });
        };
        tokio::task::spawn_blocking(insert).await.unwrap();
    }
}

webhook_conformance::queue_tests!(File);
webhook_conformance::store_tests!(File);
