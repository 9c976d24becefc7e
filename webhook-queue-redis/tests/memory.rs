//! Promise 16: the server holds a known number of bytes a job, and nothing of one that is finished.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::Duration;

use support::own_server;
use support::resp::{Resp, Value};
use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::queue::{Claim, Enqueued, JobQueue, LaneSettings, NewJob, Settle, Verdict};
use webhook_queue_redis::RedisQueue;

/// What the README says of a waiting job, in lanes with more than a hundred of them.
const BYTES_A_JOB: i64 = 256;
/// And of a lane.
const BYTES_A_LANE: i64 = 320;
const JOBS: usize = 40_000;

async fn used(server: &mut Resp) -> i64 {
    server.call(&["MEMORY", "PURGE"]).await;
    server.info("memory", "used_memory_dataset").await.parse().unwrap()
}

async fn lanes(queue: &RedisQueue, count: usize) -> Vec<LaneId> {
    let ids: Vec<LaneId> = (0..count).map(|_| LaneId::new()).collect();
    let settings = |lane: &LaneId| LaneSettings {
        lane: *lane,
        version: 1,
        max_in_flight: Some(1 << 24),
        rate: None,
        hold: None,
    };
    queue.lanes(&ids.iter().map(settings).collect::<Vec<_>>()).await.unwrap();
    ids
}

fn jobs(lanes: &[LaneId], count: usize) -> Vec<NewJob> {
    let job = |number: usize| NewJob {
        id: DeliveryId::new(),
        lane: lanes[number % lanes.len()],
        wait: Duration::ZERO,
        lane_version: 1,
        urgent: false,
    };
    (0..count).map(job).collect()
}

#[tokio::test]
async fn a_waiting_job_and_a_lane_hold_a_known_number_of_bytes() {
    let Some(server) = own_server(&[]) else { return };
    let mut admin = Resp::connect(server.port).await;
    let queue = support::queue(&server.url(), "bytes").await;
    let few = lanes(&queue, 1).await;
    queue.enqueue(&jobs(&few, 1), None).await.unwrap();

    let empty = used(&mut admin).await;
    let many = lanes(&queue, 10_000).await;
    let each = (used(&mut admin).await - empty) / 10_000;
    eprintln!("{each} bytes a lane");
    assert!((1..=BYTES_A_LANE).contains(&each), "{each} bytes a lane");

    let before = used(&mut admin).await;
    let added = queue.enqueue(&jobs(&many[..100], JOBS), None).await.unwrap();
    assert!(added.iter().all(|answer| *answer == Enqueued::Queued));
    let each = (used(&mut admin).await - before) / i64::try_from(JOBS).unwrap();
    eprintln!("{each} bytes a waiting job");
    assert!((1..=BYTES_A_JOB).contains(&each), "{each} bytes a waiting job");
}

/// Whatever way it went through the queue.
#[tokio::test]
async fn a_finished_job_leaves_nothing_behind() {
    let Some(server) = own_server(&[]) else { return };
    let mut admin = Resp::connect(server.port).await;
    let queue = support::queue(&server.url(), "bytes").await;
    let lanes = lanes(&queue, 3).await;
    let mut jobs = jobs(&lanes, 900);
    for job in jobs.iter_mut().step_by(3) {
        job.urgent = true;
    }
    queue.enqueue(&jobs, None).await.unwrap();
    let verdicts = [Verdict::Done, Verdict::RetryAfter(Duration::ZERO), Verdict::Release];
    let mut turn = 0;
    let mut finished = 0;
    while finished < jobs.len() {
        let room = Room { all: 64, doubtful: 64, dead: 64 };
        let claim = Claim {
            id: Token::new(),
            worker: WorkerId::new(),
            lease: Duration::from_secs(1),
            room,
            max_in_flight: 64,
            avoid: Vec::new(),
        };
        let leases = queue.claim(&claim).await.unwrap();
        assert!(!leases.is_empty());
        let settles: Vec<Settle> = leases
            .iter()
            .map(|lease| {
                turn += 1;
                let verdict = verdicts[turn % 3];
                finished += usize::from(verdict == Verdict::Done);
                Settle { id: lease.id, token: lease.token, verdict, effect: Effect::Fast, mark: lease.mark }
            })
            .collect();
        queue.settle(&settles).await.unwrap();
    }
    // What a claim gave is kept for a repeat of it, as long as its leases.
    support::eventually("what the claims gave is forgotten", async || {
        let Value::List(keys) = admin.call(&["KEYS", "*"]).await else { panic!("a list") };
        let mut names: Vec<String> = keys.into_iter().map(Value::text).collect();
        names.sort();
        names == ["{bytes}:lanes", "{bytes}:meta"]
    })
    .await;
}
