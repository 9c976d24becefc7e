//! A transaction that stands still keeps the lane that it has, and no other (promise 13): a process that is
//! frozen between its statements holds its locks for up to ten seconds, and all others go on. Nor is any
//! statement of a claim as long as there are lanes.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use support::Case;
use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::Room;
use webhook_core::queue::{Claim, JobQueue as _, LaneSettings, Lease, NewJob};
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _, PgConnection};

const LONG: Duration = Duration::from_secs(3600);
/// A claim that waits for a lock takes five.
const SOON: Duration = Duration::from_secs(1);

async fn lanes(store: &PgStore, count: usize) -> Vec<LaneId> {
    let one =
        |_| LaneSettings { lane: LaneId::new(), version: 1, max_in_flight: None, rate: None, hold: None };
    let settings: Vec<LaneSettings> = (0..count).map(one).collect();
    store.lanes(&settings).await.unwrap();
    settings.into_iter().map(|one| one.lane).collect()
}

async fn add(store: &PgStore, lane: LaneId) -> DeliveryId {
    let id = DeliveryId::new();
    let job = NewJob { id, lane, wait: Duration::ZERO, lane_version: 1, urgent: false };
    store.enqueue(&[job], None).await.unwrap();
    id
}

async fn claim(store: &PgStore, lease: Duration) -> Vec<Lease> {
    let (id, worker) = (Token::new(), WorkerId::new());
    let room = Room { all: 50, doubtful: 50, dead: 50 };
    store.claim(&Claim { id, worker, lease, room, max_in_flight: 64, avoid: Vec::new() }).await.unwrap()
}

/// Claims until it is given this job, and nothing else.
async fn is_given(store: &PgStore, id: DeliveryId, lease: Duration) -> Lease {
    let started = Instant::now();
    loop {
        let mut leases = claim(store, lease).await;
        assert!(started.elapsed() < SOON, "a free lane waited for {:?}", started.elapsed());
        if let Some(given) = leases.pop() {
            assert_eq!((given.id, leases.len()), (id, 0));
            return given;
        }
        store.wait(Duration::from_millis(100)).await;
    }
}

/// Settles by hand, and stands still.
async fn stall(case: &Case, lease: &Lease) -> PgConnection {
    let mut conn = case.connect().await;
    conn.execute(format!("SET search_path = {}; BEGIN", case.schema).as_str()).await.unwrap();
    sqlx::query("SELECT queue_settle(ARRAY[$1], ARRAY[$2], '{0}', '{NULL}', '{1}', '{0}', ARRAY[$3], NULL)")
        .bind(lease.id.as_uuid())
        .bind(lease.token.as_uuid())
        .bind(lease.mark.cast_signed())
        .execute(&mut conn)
        .await
        .unwrap();
    conn
}

/// Promise 13, of jobs that have just come, however many came first for the lane that stands still.
#[tokio::test]
async fn a_stalled_settle_holds_up_no_other_lane() {
    let Some(case) = Case::create_or_skip("a stall").await else { return };
    let (here, there) = (case.open().await, case.open().await);
    let all = lanes(&here, 2).await;
    assert_eq!(claim(&there, LONG).await, []);
    let (first, second) = (add(&here, all[0]).await, add(&here, all[0]).await);
    let leases = claim(&here, LONG).await;
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [first, second]);
    let stalled = stall(&case, &leases[0]).await;

    let waiting = add(&here, all[0]).await;
    let lane = all[0];
    case.execute(&format!(
        "INSERT INTO wakes (lane, due) SELECT '{lane}', clock() FROM generate_series(1, 2500)"
    ))
    .await;
    let free = add(&here, all[1]).await;
    is_given(&there, free, LONG).await;

    // Nobody spins on the one that is locked.
    let (started, mut rounds) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_millis(500) {
        there.wait(Duration::from_secs(5)).await;
        assert_eq!(claim(&there, LONG).await, []);
        rounds += 1;
    }
    assert!(rounds <= 30, "{rounds} claims in half a second");

    // When it goes on, so does its lane: what was left is found without a look at everything.
    stalled.close().await.unwrap();
    is_given(&there, waiting, LONG).await;
    case.clean_up().await;
}

/// Promise 13, of leases that have ended.
#[tokio::test]
async fn a_stalled_settle_holds_up_no_other_lanes_lapsed_leases() {
    const SHORT: Duration = Duration::from_millis(1);
    let Some(case) = Case::create_or_skip("a stall, leases").await else { return };
    let (here, there) = (case.open().await, case.open().await);
    let all = lanes(&here, 2).await;
    assert_eq!(claim(&there, LONG).await, []);
    add(&here, all[0]).await;
    let kept = is_given_any(&here, LONG).await;
    let (lapsed, free) = (add(&here, all[0]).await, add(&here, all[1]).await);
    assert_eq!(claim(&here, SHORT).await.len(), 2);
    let stalled = stall(&case, &kept).await;

    is_given(&there, free, LONG).await;
    stalled.close().await.unwrap();
    is_given(&there, lapsed, LONG).await;
    case.clean_up().await;
}

/// A lane that is ready and locked is stood in line for when there is nothing else; not for long.
#[tokio::test]
async fn a_stalled_lane_that_is_ready_is_not_waited_for() {
    let Some(case) = Case::create_or_skip("a stall, ready").await else { return };
    let (here, there) = (case.open().await, case.open().await);
    let lane = lanes(&here, 1).await[0];
    assert_eq!(claim(&there, LONG).await, []);
    add(&here, lane).await;
    let kept = is_given_any(&here, LONG).await;
    let ready = add(&here, lane).await;
    case.execute(
        "UPDATE lanes SET next_due = (SELECT due FROM jobs WHERE until IS NULL), turn_at = clock();
         DELETE FROM wakes",
    )
    .await;
    let stalled = stall(&case, &kept).await;

    let started = Instant::now();
    assert_eq!(claim(&there, LONG).await, []);
    assert!(started.elapsed() < SOON, "a claim waited for {:?}", started.elapsed());
    stalled.close().await.unwrap();
    is_given(&there, ready, LONG).await;
    case.clean_up().await;
}

/// Promise 13: the first claim of a process tells all lanes the workers' limit, but for those that it cannot have.
#[tokio::test]
async fn a_first_claim_waits_for_no_stalled_lane() {
    let Some(case) = Case::create_or_skip("a stall, first claim").await else { return };
    let (here, there) = (case.open().await, case.open().await);
    let all = lanes(&here, 2).await;
    add(&here, all[0]).await;
    let kept = is_given_any(&here, LONG).await;
    case.execute("UPDATE lanes SET most = 63").await;
    let stalled = stall(&case, &kept).await;
    let free = add(&here, all[1]).await;

    is_given(&there, free, LONG).await;
    stalled.close().await.unwrap();
    case.clean_up().await;
}

/// The first claim does not depend on how many lanes must be told the workers' limit: none of its statements
/// does, and it is followed by others until all are told, those too that somebody else had meanwhile.
#[tokio::test]
async fn many_lanes_are_told_the_workers_limit_in_small_steps() {
    let Some(case) = Case::create_or_skip("many lanes").await else { return };
    let here = case.open().await;
    let lane = lanes(&here, 1).await[0];
    case.execute(
        "INSERT INTO lanes (id, version, most) SELECT gen_random_uuid(), 1, 5 FROM generate_series(1, 150000)",
    )
    .await;
    let mut other = case.connect().await;
    let lock = format!(
        "SET search_path = {}; BEGIN; SELECT FROM lanes WHERE most = 5 ORDER BY id LIMIT 3 FOR UPDATE",
        case.schema
    );
    other.execute(lock.as_str()).await.unwrap();
    let job = add(&here, lane).await;
    let store = PgStore::open(case.options().statement_timeout(Duration::from_millis(500))).await.unwrap();

    let (started, mut given) = (Instant::now(), Vec::new());
    let mut conn = case.connect().await;
    let behind = format!("SELECT count(*) FROM {}.lanes WHERE most <> 64", case.schema);
    let mut left: i64 = 150_000;
    while left > 0 {
        given.extend(claim(&store, LONG).await);
        left = sqlx::query_scalar(&behind).fetch_one(&mut conn).await.unwrap();
        if left == 3 {
            other.execute("ROLLBACK").await.unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{left} were not told");
        store.wait(Duration::from_millis(200)).await;
    }
    assert_eq!(given.iter().map(|lease| lease.id).collect::<Vec<_>>(), [job]);
    case.clean_up().await;
}

async fn is_given_any(store: &PgStore, lease: Duration) -> Lease {
    let mut leases = claim(store, lease).await;
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}
