//! Several processes, and several callers in one, on the same lanes.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use support::Case;
use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::queue::{
    Claim, Enqueued, HandOff, Hold, JobQueue as _, LaneSettings, Lease, NewJob, Settle, Settled, Verdict,
};
use webhook_store_postgres::PgStore;

const LONG: Duration = Duration::from_secs(3600);
const ROOM: Room = Room { all: 50, doubtful: 50, dead: 50 };
/// The workers' limit of lanes that have none of their own.
const LIMIT: u32 = 6;

fn settings(most: Option<u32>) -> LaneSettings {
    LaneSettings { lane: LaneId::new(), version: 1, max_in_flight: most, rate: None, hold: None }
}

/// A lane as if it had answered fast for long.
async fn good_lane(case: &Case, store: &PgStore, most: Option<u32>) -> LaneId {
    let settings = settings(most);
    store.lanes(std::slice::from_ref(&settings)).await.unwrap();
    case.execute("UPDATE lanes SET strikes = 0").await;
    settings.lane
}

fn job(lane: LaneId) -> NewJob {
    NewJob { id: DeliveryId::new(), lane, wait: Duration::ZERO, lane_version: 1, urgent: false }
}

async fn claim(store: &PgStore) -> Vec<Lease> {
    let (id, worker) = (Token::new(), WorkerId::new());
    let claim = Claim { id, worker, lease: LONG, room: ROOM, max_in_flight: LIMIT, avoid: Vec::new() };
    store.claim(&claim).await.unwrap()
}

async fn hand_off(store: &PgStore, lane: LaneId, count: usize) -> Vec<Lease> {
    let jobs: Vec<NewJob> = (0..count).map(|_| job(lane)).collect();
    let (token, worker) = (Token::new(), WorkerId::new());
    let to = HandOff { token, worker, lease: LONG, room: ROOM, max_in_flight: LIMIT, avoid: Vec::new() };
    let answers = store.enqueue(&jobs, Some(&to)).await.unwrap();
    let leases = answers.into_iter().filter_map(|answer| match answer {
        Enqueued::Leased(lease) => Some(lease),
        Enqueued::Queued | Enqueued::Present | Enqueued::LaneBehind => None,
    });
    leases.collect()
}

async fn settle(store: &PgStore, leases: &[Lease], verdict: Verdict) {
    let settle = |lease: &Lease| Settle {
        id: lease.id,
        token: lease.token,
        verdict,
        effect: Effect::Fast,
        mark: lease.mark,
    };
    let settles: Vec<Settle> = leases.iter().map(settle).collect();
    let settled = store.settle(&settles).await.unwrap();
    assert!(settled.iter().all(|one| matches!(one, Settled::Settled { .. })));
}

/// Claims and hand-offs at once, of every process. Answers what each process has in flight.
async fn rush(processes: &[PgStore], lane: LaneId) -> Vec<Vec<Lease>> {
    let one = async |store: &PgStore| {
        let claims = join_all((0..3).map(|_| claim(store)));
        let hand_offs = join_all((0..3).map(|_| hand_off(store, lane, 4)));
        let (claimed, handed) = join(claims, hand_offs).await;
        claimed.into_iter().chain(handed).flatten().collect::<Vec<Lease>>()
    };
    join_all(processes.iter().map(one)).await
}

/// A limit of the subscription's own holds over all processes, whoever takes its jobs.
#[tokio::test]
async fn an_own_limit_is_exact_over_all_processes() {
    let Some(case) = Case::create_or_skip("own limit").await else { return };
    let processes = [case.open().await, case.open().await, case.open().await];
    let lane = good_lane(&case, &processes[0], Some(5)).await;
    for _ in 0..10 {
        let taken = rush(&processes, lane).await;
        let count: usize = taken.iter().map(Vec::len).sum();
        assert!(count <= 5, "{count} in flight");
        let state = processes[1].lane_states(&[lane]).await.unwrap().remove(0).unwrap();
        assert_eq!(state.in_flight as usize, count);
        for (store, leases) in processes.iter().zip(&taken) {
            settle(store, leases, Verdict::Done).await;
        }
    }
    case.clean_up().await;
}

/// The workers' limit is exact in a process, whatever it does at once.
#[tokio::test]
async fn a_default_limit_is_exact_for_one_process() {
    let Some(case) = Case::create_or_skip("default limit").await else { return };
    let store = case.open().await;
    let lane = good_lane(&case, &store, None).await;
    let mut most = 0;
    for _ in 0..20 {
        let taken = rush(std::slice::from_ref(&store), lane).await.remove(0);
        assert!(taken.len() <= LIMIT as usize, "{} in flight", taken.len());
        most = most.max(taken.len());
        settle(&store, &taken, Verdict::Done).await;
    }
    assert_eq!(most, LIMIT as usize, "it is used");
    case.clean_up().await;
}

/// What a claim leaves for hand-offs is not left idle when there are none.
#[tokio::test]
async fn a_backlog_uses_the_whole_limit_of_its_lane() {
    let Some(case) = Case::create_or_skip("a backlog").await else { return };
    let store = case.open().await;
    let lane = good_lane(&case, &store, None).await;
    let jobs: Vec<NewJob> = (0..30).map(|_| job(lane)).collect();
    store.enqueue(&jobs, None).await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.extend(claim(&store).await);
    }
    assert_eq!(taken.len(), LIMIT as usize);
    settle(&store, &taken, Verdict::Done).await;
    assert_eq!(claim(&store).await.len(), LIMIT as usize, "all of it by one claim");
    case.clean_up().await;
}

/// And holds for each of several.
#[tokio::test]
async fn a_default_limit_holds_for_each_process() {
    let Some(case) = Case::create_or_skip("default limit, several").await else { return };
    let processes = [case.open().await, case.open().await];
    let lane = good_lane(&case, &processes[0], None).await;
    for _ in 0..10 {
        let taken = rush(&processes, lane).await;
        for (store, leases) in processes.iter().zip(&taken) {
            assert!(leases.len() <= LIMIT as usize, "{} in flight in one process", leases.len());
            settle(store, leases, Verdict::Done).await;
        }
    }
    case.clean_up().await;
}

/// A lane that goes bad is counted from its first strike on.
#[tokio::test]
async fn a_lane_with_a_strike_is_counted_over_all_processes() {
    let Some(case) = Case::create_or_skip("a strike").await else { return };
    let processes = [case.open().await, case.open().await];
    let lane = good_lane(&case, &processes[0], None).await;
    let lease = hand_off(&processes[0], lane, 1).await.remove(0);
    let strike = Settle {
        id: lease.id,
        token: lease.token,
        verdict: Verdict::Done,
        effect: Effect::Unanswered,
        mark: lease.mark,
    };
    assert_eq!(processes[0].settle(&[strike]).await.unwrap(), [Settled::Settled { strikes: 1 }]);
    let count: usize = rush(&processes, lane).await.iter().map(Vec::len).sum();
    assert!(count <= 3, "{count} of {LIMIT} >> 1 in flight");
    case.clean_up().await;
}

/// Promise 2, without a message between processes.
#[tokio::test]
async fn a_wait_ends_when_another_process_adds_a_job() {
    let Some(case) = Case::create_or_skip("a wait").await else { return };
    let (here, there) = (case.open().await, case.open().await);
    let lane = good_lane(&case, &here, None).await;
    while !claim(&here).await.is_empty() {}
    here.wait(Duration::ZERO).await;
    let started = Instant::now();
    let (found, ()) = join(
        async {
            loop {
                here.wait(Duration::from_secs(30)).await;
                let leases = claim(&here).await;
                if !leases.is_empty() {
                    return leases;
                }
            }
        },
        async {
            there.enqueue(&[job(lane)], None).await.unwrap();
        },
    )
    .await;
    assert_eq!(found.len(), 1);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    case.clean_up().await;
}

/// A pause is in force everywhere when it returns.
#[tokio::test]
async fn a_pause_holds_a_lane_for_every_process() {
    let Some(case) = Case::create_or_skip("a pause").await else { return };
    let (here, there) = (case.open().await, case.open().await);
    let lane = good_lane(&case, &here, None).await;
    settle(&here, &hand_off(&here, lane, 2).await, Verdict::RetryAfter(Duration::ZERO)).await;
    let paused = LaneSettings { lane, version: 2, hold: Some(Hold::Paused), ..settings(None) };
    there.lanes(&[paused]).await.unwrap();
    assert_eq!(claim(&here).await, []);
    assert_eq!(hand_off(&here, lane, 2).await, []);
    case.clean_up().await;
}

/// What a settle makes due again of a lane that is not counted, another process finds.
#[tokio::test]
async fn a_retry_is_claimed_by_another_process() {
    let Some(case) = Case::create_or_skip("a retry").await else { return };
    let (here, there) = (case.open().await, case.open().await);
    let lane = good_lane(&case, &here, None).await;
    let leases = hand_off(&here, lane, 2).await;
    assert_eq!(leases.len(), 2);
    settle(&here, &leases, Verdict::RetryAfter(Duration::ZERO)).await;
    assert_eq!(claim(&there).await.len(), 2);
    case.clean_up().await;
}

/// Should a lane ever lose sight of a job, the reconciler's offer of it is enough.
#[tokio::test]
async fn offering_a_job_again_shows_it_to_its_lane() {
    let Some(case) = Case::create_or_skip("an offer").await else { return };
    let store = case.open().await;
    let lane = good_lane(&case, &store, None).await;
    let job = job(lane);
    store.enqueue(std::slice::from_ref(&job), None).await.unwrap();
    case.execute("DELETE FROM wakes").await;
    assert_eq!(claim(&store).await, [], "nobody knows of it");
    assert_eq!(store.enqueue(&[job], None).await.unwrap(), [Enqueued::Present]);
    assert_eq!(claim(&store).await.len(), 1);
    case.clean_up().await;
}
