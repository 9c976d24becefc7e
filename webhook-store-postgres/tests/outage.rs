//! Connections that break, servers that do not answer, and calls that nobody knows the end of (promise 15).

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use futures::future::join_all;
use support::Case;
use support::desk::{Desk, check, event, hand_off, insert_of, is_applied, result, success};
use webhook_core::error::BackendErrorKind;
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::queue::JobQueue as _;
use webhook_core::store::{
    DeliveryStore as _, Inbox as _, InboxOutcome, Inserted, PageRequest, Store as _, SubscriptionStore as _,
};
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _};
use webhook_store_postgres::{PgOptions, PgStore};

/// Ends every other session of the case's stores.
async fn end_sessions(case: &Case) {
    let mut conn = case.connect().await;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1")
        .bind(&case.schema)
        .execute(&mut conn)
        .await
        .unwrap();
}

/// Options by which the case's stores connect as a user of their own.
async fn options_of_own_user(case: &Case) -> PgOptions {
    let mut conn = case.connect().await;
    conn.execute(format!("CREATE ROLE {} LOGIN SUPERUSER", case.schema).as_str()).await.unwrap();
    let url = case.url.replace("postgres://postgres@", &format!("postgres://{}@", case.schema));
    PgOptions::from_url(&url).unwrap().schema(&case.schema).unwrap()
}

#[tokio::test]
async fn a_store_goes_on_when_its_connections_were_cut() {
    let Some(case) = Case::create_or_skip("cut connections").await else { return };
    if !case.url.contains("postgres://postgres@") {
        eprintln!("skipped: needs a superuser of the tests' own server");
        return;
    }
    let desk = Desk::new(PgStore::open(options_of_own_user(&case).await).await.unwrap()).await;
    let ids = desk.publish(3).await;
    for _ in 0..3 {
        end_sessions(&case).await;
        // What was idle is dead; a call may notice it, and the next one is on a new connection.
        if let Err(error) = desk.store.ping().await {
            assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
            assert!(error.is_retryable());
        }
        desk.store.ping().await.unwrap();
    }
    // Others that stood idle were warned.
    desk.load(&ids).await;
    desk.publish(1).await;
    case.clean_up().await;
}

/// Promise 15: what died while it stood idle is found out before anything is sent on it, reading and writing alike.
#[tokio::test]
async fn no_call_fails_on_a_connection_that_died_while_it_stood_idle() {
    let Some(case) = Case::create_or_skip("idle connections").await else { return };
    if !case.url.contains("postgres://postgres@") {
        eprintln!("skipped: needs a superuser of the tests' own server");
        return;
    }
    let desk = Desk::new(PgStore::open(options_of_own_user(&case).await).await.unwrap()).await;
    for _ in 0..2 {
        let ids = desk.publish(2).await;
        let leases = desk.claim(2).await;
        desk.load(&ids).await;
        assert!(desk.record(&ids[..1], &success()).await.iter().all(is_applied));
        desk.store.extend(&[(leases[0].id, leases[0].token)], Duration::from_secs(30)).await.unwrap();
        desk.store.depth().await.unwrap();
        desk.store.inbox_take(1).await.unwrap();
        desk.store.inbox_rejected(None, PageRequest { before: None, limit: 1 }).await.unwrap();
        desk.store.ping().await.unwrap();
        desk.store.wait(Duration::from_millis(1)).await;
        // verify: allow(sleep): how long a connection stood idle is what this is about
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        end_sessions(&case).await;
    }
    case.clean_up().await;
}

/// The answer to a call got lost: whoever repeats it must be told what happened, and nothing happens twice.
#[tokio::test]
async fn a_repeat_of_what_was_committed_changes_nothing() {
    let Some(case) = Case::create_or_skip("repeats").await else { return };
    let desk = Desk::new(case.open().await).await;
    let insert = insert_of(event(), &[&desk.subscription], 1);
    let to = hand_off(4);
    let first = desk.store.insert(std::slice::from_ref(&insert), Some(&to)).await.unwrap();
    let Inserted::Stored { leases, .. } = &first[0] else { panic!("{first:?}") };
    let again = desk.store.insert(std::slice::from_ref(&insert), Some(&hand_off(4))).await.unwrap();
    assert!(matches!(&again[0], Inserted::Duplicate(found) if found.delivery_count == 1), "{again:?}");

    let id = insert.deliveries[0].id;
    let loaded = desk.load(&[id]).await.remove(0);
    let record = result(id, &loaded, leases.first(), &success());
    for _ in 0..2 {
        assert!(is_applied(&desk.store.record(std::slice::from_ref(&record)).await.unwrap()[0]));
    }
    check(&case).await;
    case.clean_up().await;
}

/// Whenever a call is dropped, it has happened whole or not at all.
#[tokio::test]
async fn a_dropped_call_has_happened_or_has_not() {
    let Some(case) = Case::create_or_skip("dropped calls").await else { return };
    let desk = Desk::new(case.open().await).await;
    for wait in 0..40 {
        let insert = insert_of(event(), &[&desk.subscription], 1);
        let to = hand_off(64);
        let patience = Duration::from_micros(wait * 150);
        let first = desk.store.insert(std::slice::from_ref(&insert), Some(&to));
        let _ = tokio::time::timeout(patience, first).await;
        let answer = desk.store.insert(std::slice::from_ref(&insert), None).await.unwrap().remove(0);
        assert!(matches!(answer, Inserted::Stored { .. } | Inserted::Duplicate(_)), "{answer:?}");

        let id = insert.deliveries[0].id;
        let loaded = desk.load(&[id]).await.remove(0);
        let record = result(id, &loaded, None, &success());
        let _ = tokio::time::timeout(patience, desk.store.record(std::slice::from_ref(&record))).await;
        assert!(is_applied(&desk.store.record(std::slice::from_ref(&record)).await.unwrap()[0]));
    }
    // The server may still be at what was dropped last.
    desk.store.ping().await.unwrap();
    check(&case).await;
    case.clean_up().await;
}

/// A transaction of an application's that holds what a call needs does not hold the call for ever.
#[tokio::test]
async fn a_call_that_waits_for_a_lock_for_too_long_fails_and_leaves_nothing() {
    let Some(case) = Case::create_or_skip("locks").await else { return };
    let store = PgStore::open(case.options().statement_timeout(Duration::from_millis(400))).await.unwrap();
    let desk = Desk::new(store).await;
    let mut application = case.connect().await;
    let mut tx = application.begin().await.unwrap();
    let lock = format!("LOCK TABLE {}.events", case.schema);
    sqlx::query(&lock).execute(&mut *tx).await.unwrap();
    let insert = insert_of(event(), &[&desk.subscription], 1);
    let start = Instant::now();
    let error = desk.store.insert(std::slice::from_ref(&insert), None).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    tx.rollback().await.unwrap();
    let stored = desk.store.insert(std::slice::from_ref(&insert), None).await.unwrap();
    assert!(matches!(stored[0], Inserted::Stored { .. }));
    check(&case).await;
    case.clean_up().await;
}

/// The inbox: a slow transaction blocks nobody, and a row that commits late is not passed over.
#[tokio::test]
async fn a_row_of_the_inbox_that_commits_late_is_taken_then() {
    let Some(case) = Case::create_or_skip("the inbox").await else { return };
    let store = case.open().await;
    let (mut slow, mut quick) = (case.connect().await, case.connect().await);
    let mut early = slow.begin().await.unwrap();
    let first = PgStore::publish_in_schema(&mut early, &case.schema, NewEvent::json("a", "1")).await.unwrap();
    let late = PgStore::publish_in_schema(&mut quick, &case.schema, NewEvent::json("a", "2")).await.unwrap();
    let rows = store.inbox_take(10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [late]);
    store.inbox_settle(&[(rows[0].row, InboxOutcome::Published)]).await.unwrap();
    early.commit().await.unwrap();
    let rows = store.inbox_take(10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [first]);
    case.clean_up().await;
}

/// One relay at a time for each database, and the next as soon as it has nothing left or is gone.
#[tokio::test]
async fn one_process_relays_the_inbox_at_a_time() {
    let Some(case) = Case::create_or_skip("relays").await else { return };
    let (one, other) = (case.open().await, case.open().await);
    let mut conn = case.connect().await;
    for _ in 0..2 {
        PgStore::publish_in_schema(&mut conn, &case.schema, NewEvent::json("a", "1")).await.unwrap();
    }
    let taken = one.inbox_take(1).await.unwrap();
    assert_eq!((taken.len(), other.inbox_take(1).await.unwrap().len()), (1, 0));
    one.close().await;
    // The server ends the session a moment after its connection.
    let deadline = Instant::now() + Duration::from_secs(10);
    while other.inbox_take(1).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the right to relay was never let go");
    }
    let left = [(taken[0].row, InboxOutcome::Published), (taken[0].row + 1, InboxOutcome::Published)];
    other.inbox_settle(&left).await.unwrap();
    assert_eq!(other.inbox_take(1).await.unwrap().len(), 0);
    case.clean_up().await;
}

#[tokio::test]
async fn the_sql_of_the_readme_publishes() {
    let Some(case) = Case::create_or_skip("the documented insert").await else { return };
    let store = case.open().await;
    let readme = include_str!("../README.md");
    let start = readme.find("INSERT INTO webhooks.inbox").unwrap();
    let statement = &readme[start..start + readme[start..].find(';').unwrap()];
    case.execute(&statement.replace("webhooks.inbox", &format!("{}.inbox", case.schema))).await;
    let rows = store.inbox_take(10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].id.as_uuid().get_version_num(), 7);
    assert_eq!(rows[0].tenant, "default");
    case.clean_up().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let Some(case) = Case::create_or_skip("closing").await else { return };
    let store = case.open().await;
    store.close().await;
    let calls =
        [store.ping().await.unwrap_err(), store.snapshot(&Tenant::default()).await.map(|_| ()).unwrap_err()];
    assert!(calls.iter().all(|error| error.kind() == BackendErrorKind::Unavailable), "{calls:?}");
    assert!(store.epoch().await.is_err());
    let again = join_all([store.close(), store.close()]).await;
    assert_eq!(again.len(), 2);
    case.clean_up().await;
}

#[tokio::test]
async fn a_database_that_another_queue_serves_is_refused() {
    let Some(case) = Case::create_or_skip("queues").await else { return };
    case.open().await;
    let error = PgStore::open(case.options().own_queue(false)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured);
    assert!(error.to_string().contains("its own queue"), "{error}");
    case.clean_up().await;
}

/// Nothing is carried over but what the store says is unfinished.
#[tokio::test]
async fn a_database_is_moved_from_one_kind_of_queue_to_the_other() {
    let Some(case) = Case::create_or_skip("moving").await else { return };
    let other = || case.options().own_queue(false);
    let desk = Desk::new(PgStore::open(other()).await.unwrap()).await;
    let ids = desk.publish(5).await;
    desk.record(&ids[..2], &success()).await;
    let epoch = desk.store.epoch().await.unwrap();
    desk.store.close().await;

    PgStore::move_queue(case.options()).await.unwrap();
    assert!(PgStore::open(other()).await.is_err());
    let own = PgStore::open(case.options()).await.unwrap();
    assert_eq!(own.epoch().await.unwrap(), epoch + 1);
    check(&case).await;
    let mut claimed = Vec::new();
    while claimed.len() < 3 {
        let leases = own.claim(&support::desk::claim(10)).await.unwrap();
        claimed.extend(leases.into_iter().map(|lease| lease.id));
    }
    claimed.sort_unstable();
    assert_eq!(claimed, ids[2..]);
    own.close().await;

    PgStore::move_queue(other()).await.unwrap();
    let store = PgStore::open(other()).await.unwrap();
    let owed = store.owed(None, 10).await.unwrap();
    assert_eq!(owed.iter().map(|owed| owed.id).collect::<Vec<_>>(), ids[2..]);
    case.clean_up().await;
}
