//! Transactions that the server undoes because of others: none by the store's own orders of locks, and what others
//! bring about is done again, so many times at most (promises 4, 7 and 15).

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use futures::future::join_all;
use support::Case;
use support::desk::{
    Desk, check, claim, event, insert_of, is_applied, policy, result, subscription, success,
};
use webhook_core::error::BackendErrorKind;
use webhook_core::id::{DeliveryId, Token};
use webhook_core::lane::Effect;
use webhook_core::lifecycle::{Input, step};
use webhook_core::model::StatusReason;
use webhook_core::queue::{JobQueue as _, Lease, Settle, Verdict};
use webhook_core::store::{
    DeliveryStore as _, Inserted, Load, Loaded, Record, RecordLease, SubscriptionStore as _,
};
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx::{self, Executor as _};

/// A result that leaves its lane slow, so that its row is locked for it.
fn slow(lease: &Lease, loaded: &Loaded) -> Record {
    let record = result(lease.id, loaded, Some(lease), &success());
    let lease = RecordLease { token: lease.token, mark: lease.mark, effect: Effect::Slow };
    Record { lease: Some(lease), ..record }
}

/// What a person's cancelling records, who has no lease.
fn cancelled(id: DeliveryId, loaded: &Loaded) -> Record {
    let step = step(&loaded.state, &Input::Cancel(StatusReason::CancelledByUser), &policy(), 0.5).unwrap();
    Record {
        id,
        revision: loaded.state.revision,
        lease: None,
        attempts: Vec::new(),
        state: step.state,
        next: step.next,
        new_chain: None,
    }
}

/// Settles these the wrong way round, so that only the server's order is one.
async fn release(store: &PgStore, leases: &[Lease]) {
    let settle = |(index, lease): (usize, &Lease)| Settle {
        id: lease.id,
        token: lease.token,
        verdict: if index % 2 == 0 { Verdict::Release } else { Verdict::RetryAfter(Duration::ZERO) },
        effect: Effect::Slow,
        mark: lease.mark,
    };
    let settles: Vec<Settle> = leases.iter().enumerate().rev().map(settle).collect();
    store.settle(&settles).await.unwrap();
}

async fn extend(store: &PgStore, leases: &[Lease]) {
    let leases: Vec<(DeliveryId, Token)> = leases.iter().rev().map(|lease| (lease.id, lease.token)).collect();
    store.extend(&leases, Duration::from_secs(30)).await.unwrap();
}

/// Deadlocks of this case's own database, when every session of the stores has told what it counted.
async fn deadlocks(case: &Case) -> i64 {
    let mut conn = case.connect().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND application_name = 'webhooks'";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut conn).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "sessions do not end");
    }
    let counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(counted).fetch_one(&mut conn).await.unwrap()
}

/// Results that end some leases and remove the jobs of others, beside others that settle and renew the same: in one
/// order of locks, jobs before lanes and each by their ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settling_and_removing_the_same_jobs_at_once_comes_to_no_deadlock() {
    let Some(case) = Case::create_or_skip("settling beside removing").await else { return };
    let Some(case) = case.in_a_database_of_its_own().await else { return };
    let (one, other) = (case.open().await, case.open().await);
    let mut to = Vec::new();
    for _ in 0..4 {
        to.push(one.create(&subscription()).await.unwrap());
    }
    let all: Vec<_> = to.iter().collect();
    let version = 4;
    for round in 0..120 {
        let inserts: Vec<_> = (0..4).map(|_| insert_of(event(), &all, version)).collect();
        let stored = one.insert(&inserts, None).await.unwrap();
        assert!(stored.iter().all(|answer| matches!(answer, Inserted::Stored { .. })), "{stored:?}");
        let leases = one.claim(&claim(64)).await.unwrap();
        let wanted: Vec<Load> =
            leases.iter().map(|lease| Load { id: lease.id, unsettled: lease.unsettled.clone() }).collect();
        let loaded = one.load(&wanted).await.unwrap();
        let (mut batches, mut contended) = ([Vec::new(), Vec::new()], Vec::new());
        for (index, (lease, loaded)) in leases.iter().zip(&loaded).enumerate() {
            let loaded = loaded.as_ref().unwrap();
            if loaded.state.status.is_finished() {
                continue;
            }
            let batch = &mut batches[(index + round) % 2];
            if (index / 2) % 2 == 0 {
                batch.push(slow(lease, loaded));
            } else {
                batch.push(cancelled(lease.id, loaded));
                contended.push(lease.clone());
            }
        }
        let [first, second] = &batches;
        let recording = join_all([one.record(first), other.record(second)]);
        let settling = join_all([release(&other, &contended[..contended.len() / 2])]);
        let extending = join_all([extend(&one, &contended)]);
        let (recorded, _, _) = futures::future::join3(recording, settling, extending).await;
        for answers in recorded {
            assert!(answers.unwrap().iter().all(is_applied));
        }
    }
    one.claim(&claim(0)).await.unwrap();
    check(&case).await;
    one.close().await;
    other.close().await;
    drop((one, other));
    assert_eq!(deadlocks(&case).await, 0);
    case.drop_database().await;
}

/// An application, or a person with psql, locks what we lock in another order.
#[tokio::test]
async fn a_deadlock_with_a_foreign_transaction_is_done_again_and_loses_nothing() {
    let Some(case) = Case::create_or_skip("a foreign deadlock").await else { return };
    let desk = Desk::new(case.open().await).await;
    let mut ids = desk.publish(2).await;
    ids.sort_unstable();
    let loaded = desk.load(&ids).await;
    let mut foreign = case.connect().await;
    // The store is the one that looks first, and is undone.
    let begin = format!("SET search_path = {}; SET deadlock_timeout = '20s'; BEGIN", case.schema);
    foreign.execute(begin.as_str()).await.unwrap();
    let lock = "SELECT 1 FROM deliveries WHERE id = $1 FOR UPDATE";
    sqlx::query(lock).bind(ids[1].as_uuid()).execute(&mut foreign).await.unwrap();

    let started = Instant::now();
    let recording = {
        let (store, ids) = (desk.store.clone(), ids.clone());
        let records: Vec<Record> =
            ids.iter().zip(&loaded).map(|(id, loaded)| result(*id, loaded, None, &success())).collect();
        tokio::spawn(async move { store.record(&records).await })
    };
    case.wait_until_blocked_by(&mut foreign).await;
    sqlx::query(lock).bind(ids[0].as_uuid()).execute(&mut foreign).await.unwrap();
    foreign.execute("COMMIT").await.unwrap();
    let recorded = recording.await.unwrap().unwrap();
    assert!(recorded.iter().all(is_applied), "{recorded:?}");
    println!("recorded {:?} after it began, one deadlock between", started.elapsed());
    check(&case).await;
    case.clean_up().await;
}

/// Lets so many commits of results fail as a conflict of serializable transactions does. A sequence counts, since it
/// is not rolled back.
async fn fail_results(case: &Case, times: u32) {
    case.execute(&format!(
        "CREATE SEQUENCE hiccups;
         CREATE FUNCTION hiccup() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('hiccups') <= {times} THEN
                 RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
             END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER hiccup AFTER INSERT ON attempts FOR EACH STATEMENT EXECUTE FUNCTION hiccup()"
    ))
    .await;
}

#[tokio::test]
async fn a_serialization_failure_is_done_again_eight_times_at_most() {
    let Some(case) = Case::create_or_skip("serialization failures").await else { return };
    let desk = Desk::new(case.open().await).await;
    let ids = desk.publish(2).await;
    fail_results(&case, 7).await;
    assert!(desk.record(&ids[..1], &success()).await.iter().all(is_applied));
    case.execute("DROP TRIGGER hiccup ON attempts; DROP FUNCTION hiccup; DROP SEQUENCE hiccups").await;

    fail_results(&case, 8).await;
    let loaded = desk.load(&ids[1..]).await.remove(0);
    let record = result(ids[1], &loaded, None, &success());
    let error = desk.store.record(std::slice::from_ref(&record)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (BackendErrorKind::Conflict, true), "{error}");
    let again = desk.store.record(std::slice::from_ref(&record)).await.unwrap();
    assert!(is_applied(&again[0]), "nothing of it was left behind");
    check(&case).await;
    case.clean_up().await;
}
