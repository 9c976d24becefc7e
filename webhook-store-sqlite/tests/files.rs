//! Opening files, good and bad; full disks; foreign writers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;

use sqlx::Connection as _;
use support::*;
use webhook_core::error::BackendErrorKind;
use webhook_core::lane::Effect;
use webhook_core::queue::*;
use webhook_core::store::*;
use webhook_store_sqlite::{SqliteOptions, SqliteStore, sqlx};

async fn refused(options: SqliteOptions) -> (BackendErrorKind, String) {
    match SqliteStore::open(options).await {
        Ok(_) => panic!("opened"),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[tokio::test]
async fn a_second_opener_is_told_which_file_is_locked_and_what_to_do() {
    let f = Fixture::new().await;
    let (kind, text) = refused(SqliteOptions::new(&f.path)).await;
    assert_eq!(kind, BackendErrorKind::Misconfigured);
    assert!(text.contains("webhooks.db.lock") && text.contains("stop that process"), "{text}");
    // The first one goes on.
    f.subscribe().await;
    f.check().await;
}

#[tokio::test]
async fn files_that_are_no_database_are_refused_and_left_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let (kind, text) = refused(SqliteOptions::new(directory.path())).await;
    assert_eq!(kind, BackendErrorKind::Misconfigured);
    assert!(text.contains("is a directory"), "{text}");

    let letter = directory.path().join("letter.txt");
    let words = "Dear reader, this is a letter and no database. ".repeat(100);
    std::fs::write(&letter, &words).unwrap();
    let (kind, text) = refused(SqliteOptions::new(&letter)).await;
    assert_eq!(kind, BackendErrorKind::Misconfigured);
    assert!(text.contains("not an SQLite database") && text.contains("letter.txt"), "{text}");
    assert_eq!(std::fs::read_to_string(&letter).unwrap(), words);

    let (kind, text) = refused(SqliteOptions::new(directory.path().join("no/such/place.db"))).await;
    assert_eq!(kind, BackendErrorKind::Misconfigured);
    assert!(text.contains("directory exists"), "{text}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let path = f.path.clone();
    let Fixture { store, .. } = &f;
    store.ping().await.unwrap();
    let copy = path.with_file_name("copy.db");
    let mut conn = raw_writer(&path).await;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn).await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[200..half].fill(0x5a);
    std::fs::write(&copy, bytes).unwrap();
    let (kind, text) = refused(SqliteOptions::new(&copy)).await;
    assert_eq!(kind, BackendErrorKind::Corrupt, "{text}");
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    let f = Fixture::new().await;
    let mut conn = raw_writer(&f.path).await;
    sqlx::query("INSERT INTO webhooks_migrations VALUES (99, 0)").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let Fixture { store, path, .. } = &f;
    let path = path.clone();
    let copy = path.with_file_name("newer.db");
    store.ping().await.unwrap();
    let mut conn = raw_writer(&path).await;
    sqlx::query("VACUUM INTO ?").bind(copy.to_str().unwrap()).execute(&mut conn).await.unwrap();
    let (kind, text) = refused(SqliteOptions::new(&copy)).await;
    assert_eq!(kind, BackendErrorKind::Misconfigured);
    assert!(text.contains("version 99"), "{text}");
}

/// Version 2 knows when a replay finished; of one that had finished before, it takes its start for that.
#[tokio::test]
async fn a_file_of_version_1_is_brought_up_to_date_with_what_is_in_it() {
    let f = Fixture::new().await;
    let tenant = webhook_core::model::Tenant::default();
    let [over, running] = [webhook_core::id::ReplayId::new(), webhook_core::id::ReplayId::new()];
    for id in [over, running] {
        let new = NewReplay { id, tenant: tenant.clone(), filter: DeliveryFilter::default() };
        f.store.replay_start(&new).await.unwrap();
    }
    f.store.replay_record(over, None, None, &[]).await.unwrap();
    let mut conn = raw_writer(&f.path).await;
    for back in [
        "DROP INDEX webhooks_replays_finished",
        "ALTER TABLE webhooks_replays DROP COLUMN finished_at",
        "DROP TABLE webhooks_rollups",
        "DROP INDEX webhooks_deliveries_open",
        "CREATE INDEX webhooks_deliveries_give_up ON webhooks_deliveries (subscription, give_up_at)
         WHERE finished_at IS NULL",
        "ALTER TABLE webhooks_events DROP COLUMN traceparent",
        "ALTER TABLE webhooks_inbox DROP COLUMN traceparent",
        "DELETE FROM webhooks_migrations WHERE version >= 2",
    ] {
        sqlx::query(back).execute(&mut conn).await.unwrap();
    }
    conn.close().await.unwrap();
    let f = f.reopen().await;
    f.clock.advance(SECOND);
    f.store.prune(SECOND, 10).await.unwrap();
    assert_eq!(f.store.replay(&tenant, over).await.unwrap(), None);
    assert!(f.store.replay(&tenant, running).await.unwrap().is_some_and(|seen| !seen.finished));
    f.check().await;
}

#[tokio::test]
async fn a_file_without_the_schema_is_refused_when_migrating_is_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.db");
    let (kind, text) = refused(SqliteOptions::new(&path).migrate(false)).await;
    assert_eq!(kind, BackendErrorKind::Misconfigured);
    assert!(text.contains("migration"), "{text}");
    drop(SqliteStore::open(SqliteOptions::new(&path)).await.unwrap());
    SqliteStore::open(SqliteOptions::new(&path).migrate(false)).await.unwrap();
}

#[tokio::test]
async fn the_tables_stand_beside_an_applications_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("application.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut conn = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&mut conn).await.unwrap();
    let store = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap();
    store.create(&subscription()).await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)").execute(&mut conn).await.unwrap();
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'webhooks_%' AND name NOT LIKE 'sqlite_%'";
    let foreign: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
    assert_eq!(foreign, 1, "every table and index has the prefix");
}

#[tokio::test]
async fn a_full_disk_stores_nothing_of_the_batch_and_the_store_works_again_with_room() {
    let f = Fixture::with(|options| options.max_page_count(120)).await;
    let s = f.proven().await;
    let config = f.config().await;
    let big = |size: usize| {
        let mut event = event();
        event.payload = vec![b'x'; size].into();
        insert_of(event, &[&s], config)
    };
    let before = f.publish(&[&s], None).await;
    let lane = f.lane(s.id).await;
    let batch: Vec<Insert> = (0..20).map(|_| big(100_000)).collect();
    for _ in 0..2 {
        let error = f.store.insert(&batch, Some(&hand_off(100))).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Full, "{error}");
        assert!(error.is_retryable());
    }
    assert_eq!((f.count("events").await, f.count("jobs").await), (1, 1));
    assert_eq!(f.lane(s.id).await, lane, "the queue's memory was undone too");
    f.check().await;
    // What needs little room goes on.
    let leases = f.claim(8).await;
    assert_eq!(leases[0].id, before.ids[0]);
    f.succeed(&leases[0]).await;
    let path = f.path.clone();
    let Fixture { store, clock, .. } = &f;
    let _ = (store, clock);
    f.check().await;
    let f = f.reopen().await;
    assert_eq!(f.path, path);
    let answers = f.store.insert(&batch, Some(&hand_off(100))).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Inserted::Stored { .. })));
    f.check().await;
}

#[tokio::test]
async fn a_foreign_writer_that_holds_the_file_makes_writes_unavailable_and_reads_go_on() {
    let f = Fixture::with(|options| options.busy_timeout(std::time::Duration::from_millis(50))).await;
    let s = f.proven().await;
    f.publish(&[&s], None).await;
    let mut foreign = raw_writer(&f.path).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut foreign).await.unwrap();
    let insert = new_insert(&[&s], f.config().await);
    let error = f.store.insert(std::slice::from_ref(&insert), None).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
    assert!(error.is_retryable());
    assert!(f.store.ping().await.is_err());
    let error = f.store.claim(&claim(8)).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(f.store.deliveries(&DeliveryFilter::default(), page(8)).await.unwrap().items.len(), 1);
    assert_eq!(f.lane(s.id).await.in_flight, 0);
    sqlx::query("ROLLBACK").execute(&mut foreign).await.unwrap();
    f.store.ping().await.unwrap();
    f.publish_this(insert, None).await;
    assert_eq!(f.claim(8).await.len(), 2);
    f.check().await;
}

#[tokio::test]
async fn a_corrupt_row_fails_by_itself() {
    // Promise 14.
    let f = Fixture::new().await;
    let s = f.proven().await;
    let bad = f.publish(&[&s], None).await.ids[0];
    let good = f.publish(&[&s], None).await.ids[0];
    let mut conn = raw_writer(&f.path).await;
    let sql = "UPDATE webhooks_deliveries SET status = 'sideways' WHERE id = ?";
    sqlx::query(sql).bind(&bad.as_bytes()[..]).execute(&mut conn).await.unwrap();
    let load = |id| Load { id, unsettled: Vec::new() };
    let error = f.store.load(&[load(bad), load(good)]).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Corrupt);
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("status"), "{error}");
    assert!(f.store.load(&[load(good)]).await.unwrap()[0].is_some());
    // Its lease can still be ended.
    let leases = f.claim(8).await;
    let lease = leases.iter().find(|lease| lease.id == bad).unwrap();
    let verdict = Verdict::RetryAfter(60 * SECOND);
    let settled = f.store.settle(&[settle(lease, verdict, Effect::Neutral)]).await.unwrap();
    assert!(matches!(settled[0], Settled::Settled { .. }));
}

#[tokio::test]
async fn the_queue_is_the_stores_own_and_keeps_its_epoch() {
    let f = Fixture::new().await;
    let queue = f.store.own_queue().unwrap();
    let epoch = queue.epoch().await.unwrap();
    drop(queue);
    let f = f.reopen().await;
    assert_eq!(f.store.own_queue().unwrap().epoch().await.unwrap(), epoch);
    assert!(f.store.owed(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_outlives_its_first_handle_and_closes_with_its_last() {
    let f = Fixture::new().await;
    let (first, second) = (f.store.clone(), f.store.clone());
    drop(first);
    second.ping().await.unwrap();
    let f = f.reopen_after(second).await;
    f.subscribe().await;
}

impl Fixture {
    async fn reopen_after(self, other: SqliteStore) -> Self {
        let (kind, _) = refused(SqliteOptions::new(&self.path)).await;
        assert_eq!(kind, BackendErrorKind::Misconfigured);
        drop(other);
        self.reopen().await
    }
}

#[test]
fn urls_name_a_path_or_are_refused() {
    let path =
        |url: &str| SqliteOptions::from_url(url).map(|options| options.path().display().to_string()).ok();
    assert_eq!(path("sqlite://webhooks.db").as_deref(), Some("webhooks.db"));
    assert_eq!(path("sqlite:///var/lib/w.db").as_deref(), Some("/var/lib/w.db"));
    assert_eq!(path("sqlite://data/with space.db").as_deref(), Some("data/with space.db"));
    for bad in [
        "sqlite://",
        "sqlite:webhooks.db",
        "postgres://localhost/x",
        "sqlite://:memory:",
        "sqlite://a?mode=ro",
    ] {
        assert_eq!(path(bad), None, "{bad}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_read_only_file_is_refused_unless_the_user_may_write_it_anyway() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("read-only.db");
    drop(SqliteStore::open(SqliteOptions::new(&path)).await.unwrap());
    let reopened = Arc::new(SqliteStore::open(SqliteOptions::new(&path)).await.unwrap());
    drop(reopened);
    let mut rights = std::fs::metadata(&path).unwrap().permissions();
    rights.set_mode(0o444);
    std::fs::set_permissions(&path, rights).unwrap();
    // Rights do not bind the superuser, as whom tests may run: then it must simply work.
    if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
        SqliteStore::open(SqliteOptions::new(&path)).await.unwrap().ping().await.unwrap();
        return;
    }
    let (kind, text) = refused(SqliteOptions::new(&path)).await;
    assert_eq!(kind, BackendErrorKind::Misconfigured, "{text}");
}
