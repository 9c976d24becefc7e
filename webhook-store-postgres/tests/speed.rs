//! The two traps that undo batches (PERFORMANCE: "What matters"), and a look at rows that grew.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use support::Case;
use support::desk::{Desk, success};
use webhook_store_postgres::sqlx;

/// Without `TCP_NODELAY` a statement of more than about 8 KB waits 40 ms for an acknowledgement.
#[tokio::test]
async fn a_large_statement_does_not_wait_for_an_acknowledgement() {
    let Some(case) = Case::create_or_skip("TCP").await else { return };
    assert!(case.url.contains("127.0.0.1") || std::env::var("WEBHOOK_TEST_POSTGRES_URL").is_ok());
    let mut conn = case.connect().await;
    let bound = vec![b'x'; 64 * 1024];
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        let length: i32 =
            sqlx::query_scalar("SELECT length($1)").bind(&bound).fetch_one(&mut conn).await.unwrap();
        best = best.min(start.elapsed());
        assert_eq!(length, 64 * 1024);
    }
    assert!(best < Duration::from_millis(20), "64 KB took {best:?} at best");
}

/// An UPDATE that is planned while its table is empty must not read all of it for ever.
#[tokio::test]
async fn statements_prepared_on_empty_tables_stay_fast_when_they_grow() {
    let Some(case) = Case::create_or_skip("plans").await else { return };
    let desk = Desk::new(case.open().await).await;
    // Prepares everything while there is nothing.
    let first = desk.publish(1).await;
    desk.record(&first, &success()).await;

    let ids = desk.publish(64).await;
    let grow = format!(
        "INSERT INTO events SELECT gen_random_uuid(), 'default', 'a', 'text/plain', now(), 1, 0, NULL, NULL, NULL,
             NULL, '' FROM generate_series(1, 200000);
         INSERT INTO deliveries (id, event, subscription, number, created_at, added, ordered, chain_start,
                                 give_up_at, next_attempt_at)
         SELECT gen_random_uuid(), e.id, '{0}', 1, now(), false, false, now(), now(), now() FROM events e;
         INSERT INTO open SELECT id, subscription, chain_start, give_up_at FROM deliveries ON CONFLICT DO NOTHING",
        desk.subscription.id
    );
    case.execute(&grow).await;

    let mut best = Duration::MAX;
    for chunk in ids.chunks(8) {
        let loaded = desk.load(chunk).await;
        let start = Instant::now();
        desk.record_loaded(chunk, &loaded, &success()).await;
        best = best.min(start.elapsed());
    }
    // A scan of 200,000 rows takes some 40 ms on a fast machine.
    assert!(best < Duration::from_millis(20), "8 results took {best:?} at best");
    case.clean_up().await;
}
