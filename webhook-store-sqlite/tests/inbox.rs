//! Publishing in an application's own transaction, to the end: a row, its commit, the request that follows.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use support::*;
use webhook_core::engine::{Webhooks, Workers};
use webhook_core::error::BackendErrorKind;
use webhook_core::id::EventId;
use webhook_core::model::*;
use webhook_core::store::*;
use webhook_core::testing::RecordingDeliverer;
use webhook_store_sqlite::{SqliteOptions, SqliteStore, sqlx};

struct Application {
    f: Fixture,
    webhooks: Webhooks,
    deliverer: RecordingDeliverer,
}

impl Application {
    /// With an engine that looks at the inbox when it is told to, and for the rest of the test not by itself.
    async fn start() -> Self {
        let f = Fixture::new().await;
        f.subscribe().await;
        let deliverer = RecordingDeliverer::new();
        let webhooks = Webhooks::builder(Arc::new(f.store.clone()))
            .deliverer(Arc::new(deliverer.clone()))
            .clock(Arc::new(f.clock.clone()))
            .reconcile_period(Duration::from_secs(3600))
            .build()
            .unwrap();
        webhooks.spawn(Workers::default()).unwrap();
        Self { f, webhooks, deliverer }
    }

    /// Wakes the engine and waits until the inbox is empty and everything in it is sent.
    async fn relay(&self) {
        self.webhooks.wake();
        eventually(async || self.f.count("inbox").await == 0).await;
        eventually(async || self.f.count("jobs").await == 0).await;
    }

    async fn stop(self) {
        self.webhooks.shutdown(Duration::from_secs(5)).await;
        self.f.check().await;
    }
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(std::time::Instant::now() < patience, "it did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await; // verify: allow(sleep): a poll with a deadline
    }
}

async fn application(f: &Fixture) -> SqliteConnection {
    let mut conn = raw_writer(&f.path).await;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)")
        .execute(&mut conn)
        .await
        .unwrap();
    conn
}

#[tokio::test]
async fn what_a_transaction_published_is_sent_after_its_commit() {
    let app = Application::start().await;
    let mut conn = application(&app.f).await;
    let mut tx = conn.begin().await.unwrap();
    sqlx::query("INSERT INTO orders (id) VALUES (42)").execute(&mut *tx).await.unwrap();
    let event = NewEvent::json("order.created", r#"{"id": 42}"#);
    let id = SqliteStore::publish_in(&mut tx, event).await.unwrap();
    tx.commit().await.unwrap();
    app.relay().await;
    let sent = app.deliverer.requests();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].request.body, r#"{"id": 42}"#);
    let stored = app.f.store.event(None, id).await.unwrap().unwrap();
    assert_eq!((stored.id, stored.event_type.as_str()), (id, "order.created"));
    app.stop().await;
}

#[tokio::test]
async fn what_was_rolled_back_was_never_published() {
    let app = Application::start().await;
    let mut conn = application(&app.f).await;
    let mut tx = conn.begin().await.unwrap();
    let lost = SqliteStore::publish_in(&mut tx, NewEvent::json("order.created", "1")).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let kept = SqliteStore::publish_in(&mut tx, NewEvent::json("order.created", "2")).await.unwrap();
    tx.commit().await.unwrap();
    app.relay().await;
    assert_eq!(app.deliverer.requests().len(), 1);
    assert_eq!(app.f.store.event(None, lost).await.unwrap(), None);
    assert!(app.f.store.event(None, kept).await.unwrap().is_some());
    app.stop().await;
}

/// As from any language: two columns, or all of them, with ids in each spelling.
#[tokio::test]
async fn a_plain_insert_publishes() {
    let app = Application::start().await;
    let mut conn = application(&app.f).await;
    let (hyphenated, digits, bytes) = (EventId::new(), EventId::new(), EventId::new());
    let script = format!(
        "BEGIN;
         INSERT INTO orders (id) VALUES (1);
         INSERT INTO webhooks_inbox (event_type, payload) VALUES ('order.created', '{{\"id\":1}}');
         INSERT INTO webhooks_inbox (id, event_type, payload) VALUES ('{}', 'order.created', '2');
         INSERT INTO webhooks_inbox (id, event_type, payload) VALUES ('{}', 'order.created', '3');
         INSERT INTO webhooks_inbox (id, tenant, event_type, payload, content_type, ordering_key, deliver_at,
             idempotency_key)
         VALUES (x'{}', 'default', 'order.created', x'00ff', 'application/octet-stream', 'customer-7', 1, 'k');
         COMMIT;",
        hyphenated.to_string().to_uppercase(),
        digits.as_uuid().simple(),
        bytes.as_uuid().simple(),
    );
    sqlx::raw_sql(&script).execute(&mut conn).await.unwrap();
    let rows = app.f.store.inbox_take(10).await.unwrap();
    assert_eq!(rows[0].id.as_uuid().get_version_num(), 7, "an id that was not given is one of version 7");
    assert_eq!((rows[0].tenant.as_str(), &*rows[0].content_type), ("default", "application/json"));
    assert_eq!(rows[1..].iter().map(|row| row.id).collect::<Vec<_>>(), [hyphenated, digits, bytes]);
    app.relay().await;
    let mut sent: Vec<Vec<u8>> =
        app.deliverer.requests().iter().map(|sent| sent.request.body.to_vec()).collect();
    sent.sort_unstable();
    assert_eq!(sent, [&b"\x00\xff"[..], b"2", b"3", br#"{"id":1}"#]);
    let last = app.f.store.event(None, bytes).await.unwrap().unwrap();
    assert_eq!(
        (last.ordering_key.as_deref(), last.idempotency_key.as_deref()),
        (Some("customer-7"), Some("k"))
    );
    app.stop().await;
}

/// So that nothing in the table cannot be read.
#[tokio::test]
async fn a_row_that_could_not_be_read_cannot_be_inserted() {
    let f = Fixture::new().await;
    let mut conn = raw_writer(&f.path).await;
    for values in [
        "'x', 'a.b', '1'",
        "x'00', 'a.b', '1'",
        "7, 'a.b', '1'",
        "NULL, 'a.b', '1'",
        "'0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1g', 'a.b', '1'",
        "hex(randomblob(16)), NULL, '1'",
        "hex(randomblob(16)), 'a.b', 1",
    ] {
        let insert = format!("INSERT INTO webhooks_inbox (id, event_type, payload) VALUES ({values})");
        assert!(sqlx::query(&insert).execute(&mut conn).await.is_err(), "{values}");
    }
    assert_eq!(f.store.inbox_take(10).await.unwrap(), []);
}

#[tokio::test]
async fn what_cannot_be_published_stays_with_its_problem() {
    let app = Application::start().await;
    let mut conn = application(&app.f).await;
    let id = SqliteStore::publish_in(&mut conn, NewEvent::json("no such type!", "1")).await.unwrap();
    SqliteStore::publish_in(&mut conn, NewEvent::json("order.created", "2")).await.unwrap();
    app.webhooks.wake();
    eventually(async || app.f.store.inbox_take(1).await.unwrap().is_empty()).await;
    let rejected = app.f.store.inbox_rejected(None, page(10)).await.unwrap().items;
    assert_eq!(rejected.iter().map(|event| event.id).collect::<Vec<_>>(), [id]);
    assert!(!rejected[0].problem.is_empty());
    assert!(app.f.store.inbox_delete(None, id).await.unwrap());
    eventually(async || app.deliverer.requests().len() == 1).await;
    eventually(async || app.f.count("jobs").await == 0).await;
    app.stop().await;
}

/// An open transaction that has written holds the file's one write lock, and nothing else: reading goes on,
/// and a call that must write says so after its time and is repeated with success.
#[tokio::test]
async fn an_open_transaction_delays_writers_alone_and_no_longer_than_it_is_open() {
    let f = Fixture::with(|options| options.busy_timeout(Duration::from_millis(50))).await;
    let s = f.subscribe().await;
    let before = f.publish(&[&s], None).await;
    let mut conn = raw_writer(&f.path).await;
    let mut tx = conn.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM webhooks_inbox").execute(&mut *tx).await.unwrap();
    f.publish(&[&s], None).await; // it only reads so far
    tx.rollback().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    SqliteStore::publish_in(&mut tx, NewEvent::json("order.created", "1")).await.unwrap();
    assert_eq!(f.delivery(before.ids[0]).await.state.status, DeliveryStatus::Pending);
    assert_eq!(f.store.inbox_take(10).await.unwrap(), [], "it is not committed");
    let insert = new_insert(&[&s], f.config().await);
    let refused = f.store.insert(std::slice::from_ref(&insert), None).await.unwrap_err();
    assert_eq!((refused.kind(), refused.is_retryable()), (BackendErrorKind::Unavailable, true));
    tx.commit().await.unwrap();
    f.publish_this(insert, None).await;
    assert_eq!(f.store.inbox_take(10).await.unwrap().len(), 1);
    f.check().await;
}

/// Settling a row again must not mean a later one.
#[tokio::test]
async fn a_number_is_never_given_twice() {
    let f = Fixture::new().await;
    let mut conn = raw_writer(&f.path).await;
    SqliteStore::publish_in(&mut conn, NewEvent::json("a.b", "1")).await.unwrap();
    let first = f.store.inbox_take(1).await.unwrap()[0].row;
    f.store.inbox_settle(&[(first, InboxOutcome::Published)]).await.unwrap();
    SqliteStore::publish_in(&mut conn, NewEvent::json("a.b", "2")).await.unwrap();
    f.store.inbox_settle(&[(first, InboxOutcome::Published)]).await.unwrap();
    assert_eq!(f.store.inbox_take(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_closed_store_leaves_one_file_and_answers_unavailable() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let clone = f.store.clone();
    let under_way: Vec<_> = (0..20)
        .map(|_| {
            let (store, insert) = (f.store.clone(), new_insert(&[&s], 1));
            tokio::spawn(async move { store.insert(&[insert], None).await })
        })
        .collect();
    f.config().await;
    f.store.close().await;
    let mut stored = 0;
    for call in under_way {
        match call.await.unwrap() {
            Ok(answers) => stored += i64::from(matches!(answers[0], Inserted::Stored { .. })),
            Err(closed) => assert_eq!(closed.kind(), BackendErrorKind::Unavailable),
        }
    }
    for rest in ["-wal", "-shm"] {
        let mut name = f.path.clone().into_os_string();
        name.push(rest);
        assert!(!std::path::Path::new(&name).exists(), "{rest} is there");
    }
    let read = clone.snapshot(&Tenant::default()).await.unwrap_err();
    let written = clone.ping().await.unwrap_err();
    for error in [read, written] {
        assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    }
    clone.close().await;
    let again = SqliteStore::open(SqliteOptions::new(&f.path)).await.unwrap();
    assert_eq!(f.count("deliveries").await, stored, "what was acknowledged is there");
    again.close().await;
}
