//! What a network does to calls under way: answers that get lost, and connections that one side has forgotten
//! (promises 1, 3, 7, 8 and 15).

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use support::Case;
use support::desk::{Desk, check, claim, event, insert_of, is_applied, result, success};
use support::proxy::Proxy;
use webhook_core::error::BackendErrorKind;
use webhook_core::model::Event;
use webhook_core::queue::JobQueue as _;
use webhook_core::store::{DeliveryStore as _, Inserted, Store as _};
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx;

async fn count(case: &Case, what: &str) -> i64 {
    let mut conn = case.connect().await;
    let what = what.replace("SCHEMA", &case.schema);
    sqlx::query_scalar(&what).fetch_one(&mut conn).await.unwrap()
}

/// Promise 1: nobody knows whether it is stored, and whoever repeats it is told.
#[tokio::test]
async fn a_publish_whose_commit_was_not_answered_is_stored_once() {
    let Some(case) = Case::create_or_skip("a lost answer to a commit").await else { return };
    let proxy = Proxy::before(&case).await;
    let desk = Desk::new(PgStore::open(proxy.options(&case)).await.unwrap()).await;
    for round in 0..5 {
        let keyed = Event { idempotency_key: Some(format!("k{round}")), ..event() };
        let insert = insert_of(keyed, &[&desk.subscription], 1);
        proxy.lose_the_answer_to("COMMIT");
        let error = desk.store.insert(std::slice::from_ref(&insert), None).await.unwrap_err();
        assert!(proxy.has_lost_it());
        assert_eq!((error.kind(), error.is_retryable()), (BackendErrorKind::Unavailable, true), "{error}");
        let again = desk.store.insert(std::slice::from_ref(&insert), None).await.unwrap().remove(0);
        assert!(matches!(&again, Inserted::Duplicate(found) if found.delivery_count == 1), "{again:?}");
    }
    assert_eq!(count(&case, "SELECT count(*) FROM SCHEMA.events").await, 5);
    assert_eq!(count(&case, "SELECT count(*) FROM SCHEMA.jobs").await, 5);
    check(&case).await;
    case.clean_up().await;
}

/// Promise 7: the result has one row, and the repeat is harmless.
#[tokio::test]
async fn a_result_whose_commit_was_not_answered_has_one_row() {
    let Some(case) = Case::create_or_skip("a lost answer to a result").await else { return };
    let proxy = Proxy::before(&case).await;
    let desk = Desk::new(PgStore::open(proxy.options(&case)).await.unwrap()).await;
    let ids = desk.publish(1).await;
    let lease = desk.claim(1).await.remove(0);
    let loaded = desk.load(&ids).await.remove(0);
    let record = result(ids[0], &loaded, Some(&lease), &success());
    proxy.lose_the_answer_to("COMMIT");
    let error = desk.store.record(std::slice::from_ref(&record)).await.unwrap_err();
    assert!(proxy.has_lost_it() && error.is_retryable(), "{error}");
    assert!(is_applied(&desk.store.record(std::slice::from_ref(&record)).await.unwrap()[0]));
    assert_eq!(count(&case, "SELECT count(*) FROM SCHEMA.attempts").await, 1);
    check(&case).await;
    case.clean_up().await;
}

/// Promise 3: the repeat of the claim gives what it took, and nobody else gets it.
#[tokio::test]
async fn a_claim_that_was_not_answered_gives_the_same_leases_when_it_is_repeated() {
    let Some(case) = Case::create_or_skip("a lost answer to a claim").await else { return };
    let proxy = Proxy::before(&case).await;
    let desk = Desk::new(PgStore::open(proxy.options(&case)).await.unwrap()).await;
    let other = case.open().await;
    // The first claim tells lanes the limit; the one that loses its answer is the next.
    assert_eq!(desk.claim(10).await, []);
    let mut ids = desk.publish(3).await;
    let wish = claim(10);
    proxy.lose_the_answer_to("");
    let error = desk.store.claim(&wish).await.unwrap_err();
    assert!(proxy.has_lost_it() && error.is_retryable(), "{error}");
    assert_eq!(other.claim(&claim(10)).await.unwrap(), [], "they are leased");
    let leases = desk.store.claim(&wish).await.unwrap();
    let mut given: Vec<_> = leases.iter().map(|lease| lease.id).collect();
    given.sort_unstable();
    ids.sort_unstable();
    assert_eq!(given, ids);
    assert!(leases.iter().all(|lease| lease.token == wish.id && lease.unsettled.is_empty()), "{leases:?}");
    assert_eq!(count(&case, "SELECT count(*) FROM SCHEMA.jobs WHERE until IS NOT NULL").await, 3);
    check(&case).await;
    case.clean_up().await;
}

/// Promise 15: a connection of which only this side knows costs a call its patience, and the next one nothing.
#[tokio::test]
async fn a_half_open_connection_costs_one_call_its_patience() {
    let Some(case) = Case::create_or_skip("half-open connections").await else { return };
    let proxy = Proxy::before(&case).await;
    let options = proxy.options(&case).statement_timeout(Duration::from_millis(500));
    let desk =
        Desk::new(PgStore::open(options.connect_timeout(Duration::from_millis(500))).await.unwrap()).await;
    let ids = desk.publish(1).await;
    desk.load(&ids).await;

    proxy.forget_connections();
    let started = Instant::now();
    let error = desk.store.ping().await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    println!("a call on a half-open connection failed after {took:?}");
    desk.store.ping().await.unwrap();
    // Others were warned by the one that broke: they look before they use theirs.
    desk.load(&ids).await;
    case.clean_up().await;
}

/// Promise 15: what was forgotten while it stood idle is found out before anything is sent.
#[tokio::test]
async fn a_connection_that_was_forgotten_while_idle_fails_no_call() {
    let Some(case) = Case::create_or_skip("forgotten connections").await else { return };
    let proxy = Proxy::before(&case).await;
    let options = proxy.options(&case).connect_timeout(Duration::from_millis(500));
    let desk = Desk::new(PgStore::open(options).await.unwrap()).await;
    let ids = desk.publish(1).await;
    desk.load(&ids).await;
    proxy.forget_connections();
    // verify: allow(sleep): how long a connection stood idle is what this is about
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let started = Instant::now();
    desk.load(&ids).await;
    desk.store.ping().await.unwrap();
    desk.publish(1).await;
    println!("three calls on forgotten connections succeeded after {:?}", started.elapsed());
    check(&case).await;
    case.clean_up().await;
}
