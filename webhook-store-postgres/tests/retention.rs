//! What pruning locks, and how much it deletes at once.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::Duration;

use support::Case;
use support::desk::{Desk, check, event, insert_of, is_applied, success};
use webhook_core::model::Tenant;
use webhook_core::store::DeliveryStore as _;
use webhook_store_postgres::sqlx::{Connection as _, Executor as _};

/// Lets no statement delete more deliveries than this.
const NO_MORE: &str = "
    CREATE FUNCTION no_more() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT count(*) FROM gone) > 2000 THEN RAISE EXCEPTION 'too many at once'; END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER no_more AFTER DELETE ON deliveries REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION no_more()";

/// Adds a finished event with so many deliveries, each with an attempt.
async fn add_finished(case: &Case, desk: &Desk, fan_out: u32) {
    let subscription = desk.subscription.id.as_uuid();
    case.execute(&format!(
        "WITH e AS (
             INSERT INTO events (id, tenant, event_type, content_type, created_at, delivery_count, payload_size, payload)
             VALUES (new_id(), 'default', 'order.created', 'application/json', clock(), {fan_out}, 2, '{{}}')
             RETURNING id),
         d AS (
             INSERT INTO deliveries (id, event, subscription, number, created_at, added, ordered, chain_start,
                                     give_up_at, attempts, finished_at, status)
             SELECT new_id(), e.id, '{subscription}', n, clock(), false, false, clock(), clock(), 1, clock(),
                    'succeeded'
             FROM e, generate_series(1, {fan_out}) n RETURNING id, event, finished_at),
         a AS (
             INSERT INTO attempts (id, delivery, subscription, token, started_at, duration, number, trigger,
                                   outcome, target_url, response_headers, response_body)
             SELECT new_id(), id, '{subscription}', new_id(), clock(), 1, 1, 'schedule', 'succeeded', '', '[]', ''
             FROM d)
         INSERT INTO finished (at, event) SELECT finished_at, event FROM d"
    ))
    .await;
}

#[tokio::test]
async fn pruning_deletes_some_two_thousand_deliveries_a_transaction_and_the_event_last() {
    let Some(case) = Case::create_or_skip("bounded pruning").await else { return };
    let desk = Desk::new(case.open().await).await;
    for fan_out in [5_000, 700, 900, 800, 0, 1] {
        add_finished(&case, &desk, fan_out).await;
    }
    case.execute("INSERT INTO finished (at, event) SELECT clock(), id FROM events WHERE delivery_count = 0")
        .await;
    case.execute(NO_MORE).await;
    assert_eq!(desk.store.prune(Duration::ZERO, 2).await.unwrap(), 2);
    assert_eq!(desk.store.prune(Duration::ZERO, 100).await.unwrap(), 4);
    assert_eq!(desk.store.prune(Duration::ZERO, 100).await.unwrap(), 0);
    check(&case).await;
    for table in ["events", "deliveries", "attempts", "finished"] {
        let none = format!("DO $$ BEGIN ASSERT NOT EXISTS (SELECT 1 FROM {table}), '{table}'; END $$");
        case.execute(&none).await;
    }
    case.clean_up().await;
}

#[tokio::test]
async fn a_purge_deletes_some_two_thousand_deliveries_a_transaction_and_leaves_no_entry() {
    let Some(case) = Case::create_or_skip("bounded purging").await else { return };
    let desk = Desk::new(case.open().await).await;
    for fan_out in [5_000, 700, 900, 800, 0, 1, 2_500] {
        add_finished(&case, &desk, fan_out).await;
    }
    case.execute(
        "INSERT INTO finished (at, event) SELECT created_at, id FROM events WHERE delivery_count = 0",
    )
    .await;
    case.execute(NO_MORE).await;
    let (mut deleted, mut after, mut calls) = (0, None, 0);
    loop {
        let page = desk.store.purge(&Tenant::default(), Duration::ZERO, after, 100).await.unwrap();
        (deleted, calls) = (deleted + page.deleted, calls + 1);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(deleted, 7);
    assert!((5..=10).contains(&calls), "{calls} calls for 9,901 deliveries");
    check(&case).await;
    for table in ["events", "deliveries", "attempts", "finished"] {
        let none = format!("DO $$ BEGIN ASSERT NOT EXISTS (SELECT 1 FROM {table}), '{table}'; END $$");
        case.execute(&none).await;
    }
    case.clean_up().await;
}

/// Somebody works on the deliveries of an event that is not over yet.
#[tokio::test]
async fn pruning_locks_nothing_of_an_event_that_stays() {
    let Some(case) = Case::create_or_skip("pruning beside work").await else { return };
    let desk = Desk::new(case.open().await).await;
    let insert = insert_of(event(), &[&desk.subscription, &desk.subscription], 1);
    desk.store.insert(std::slice::from_ref(&insert), None).await.unwrap();
    let ids: Vec<_> = insert.deliveries.iter().map(|delivery| delivery.id).collect();
    assert!(desk.record(&ids[..1], &success()).await.iter().all(is_applied));

    let mut worker = case.connect().await;
    let lock = format!(
        "SET search_path = {}; BEGIN; SELECT 1 FROM deliveries FOR UPDATE; SELECT 1 FROM events FOR UPDATE",
        case.schema
    );
    worker.execute(lock.as_str()).await.unwrap();
    assert_eq!(desk.store.prune(Duration::ZERO, 10).await.unwrap(), 0);
    worker.execute("ROLLBACK").await.unwrap();
    worker.close().await.unwrap();

    assert!(desk.record(&ids[1..], &success()).await.iter().all(is_applied));
    assert_eq!(desk.store.prune(Duration::ZERO, 10).await.unwrap(), 1);
    check(&case).await;
    case.clean_up().await;
}
