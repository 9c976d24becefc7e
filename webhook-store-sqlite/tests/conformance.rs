//! Every case of the public suites, each on a file of its own.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use webhook_conformance::{Fixture, Missing, QueueFixture, StoreFixture};
use webhook_core::model::NewEvent;
use webhook_core::queue::JobQueue;
use webhook_core::store::{History, Store};
use webhook_core::testing::ManualClock;
use webhook_core::time::Clock as _;
use webhook_store_sqlite::{SqliteOptions, SqliteStore, sqlx};

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
        let mut application = options.connect().await.unwrap();
        let mut tx = application.begin().await.unwrap();
        let id = SqliteStore::publish_in(&mut tx, event).await.unwrap();
        // SQLite stamps the row by the machine's clock, which is not the one that these tests move.
        sqlx::query("UPDATE webhooks_inbox SET created_at = ? WHERE id = ?")
            .bind(self.clock.now().as_micros())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        application.close().await.unwrap();
    }
}

webhook_conformance::queue_tests!(File);
webhook_conformance::store_tests!(File);
