//! What the queue does when the server, its memory or the network fail. Promises 15 and 16.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::proxy::Proxy;
use support::resp::{Resp, Value};
use support::{eventually, own_server};
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::queue::{
    Claim, Enqueued, HandOff, JobQueue, LaneSettings, Lease, NewJob, Settle, Settled, Verdict,
};
use webhook_queue_redis::{RedisOptions, RedisQueue};

const TIMEOUT: Duration = Duration::from_millis(500);

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

async fn connect(port: u16) -> RedisQueue {
    RedisQueue::connect(options(port)).await.unwrap()
}

fn options(port: u16) -> RedisOptions {
    RedisOptions::new(url(port)).connections(1).command_timeout(TIMEOUT)
}

async fn lane(queue: &RedisQueue) -> LaneId {
    let lane = LaneId::new();
    let settings = LaneSettings { lane, version: 1, max_in_flight: Some(1 << 20), rate: None, hold: None };
    queue.lanes(&[settings]).await.unwrap();
    lane
}

fn job(lane: LaneId) -> NewJob {
    NewJob { id: DeliveryId::new(), lane, wait: Duration::ZERO, lane_version: 1, urgent: false }
}

fn jobs(lane: LaneId, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| job(lane)).collect()
}

fn wish(room: u32) -> Claim {
    Claim {
        id: Token::new(),
        worker: WorkerId::new(),
        lease: Duration::from_secs(600),
        room: Room { all: room, doubtful: room, dead: room },
        max_in_flight: 64,
        avoid: Vec::new(),
    }
}

fn done(lease: &Lease) -> Settle {
    Settle {
        id: lease.id,
        token: lease.token,
        verdict: Verdict::Done,
        effect: Effect::Fast,
        mark: lease.mark,
    }
}

/// Brings the scripts to the server, so that what is lost later is an answer of theirs.
async fn warm_up(queue: &RedisQueue) {
    let lane = lane(queue).await;
    queue.enqueue(&jobs(lane, 1), None).await.unwrap();
    let leases = queue.claim(&wish(1)).await.unwrap();
    assert_eq!(queue.settle(&[done(&leases[0])]).await.unwrap(), [Settled::Settled { strikes: 2 }]);
}

async fn in_flight(queue: &RedisQueue, lane: LaneId) -> u32 {
    queue.lane_states(&[lane]).await.unwrap()[0].as_ref().unwrap().in_flight
}

fn kind<T: std::fmt::Debug>(answer: Result<T, BackendError>) -> BackendErrorKind {
    answer.unwrap_err().kind()
}

/// The repeat finds what the first call did: one lease for each job, and nothing stuck.
#[tokio::test]
async fn a_claim_whose_answer_is_lost_gives_its_leases_once() {
    let Some(server) = own_server(&[]) else { return };
    let proxy = Proxy::before(server.port).await;
    let queue = connect(proxy.port).await;
    warm_up(&queue).await;
    let lane = lane(&queue).await;
    queue.enqueue(&jobs(lane, 10), None).await.unwrap();
    proxy.lose_the_next_answer();
    let leases = queue.claim(&wish(10)).await.unwrap();
    assert!(proxy.has_lost_it());
    let ids: BTreeSet<DeliveryId> = leases.iter().map(|lease| lease.id).collect();
    assert_eq!((leases.len(), ids.len()), (10, 10));
    assert_eq!(in_flight(&queue, lane).await, 10);
    assert_eq!(queue.claim(&wish(10)).await.unwrap(), []);
}

#[tokio::test]
async fn a_settle_whose_answer_is_lost_counts_once() {
    let Some(server) = own_server(&[]) else { return };
    let proxy = Proxy::before(server.port).await;
    let queue = connect(proxy.port).await;
    warm_up(&queue).await;
    let lane = lane(&queue).await;
    queue.enqueue(&jobs(lane, 1), None).await.unwrap();
    let leases = queue.claim(&wish(1)).await.unwrap();
    proxy.lose_the_next_answer();
    assert_eq!(queue.settle(&[done(&leases[0])]).await.unwrap(), [Settled::Stale]);
    assert!(proxy.has_lost_it());
    let state = queue.lane_states(&[lane]).await.unwrap().remove(0).unwrap();
    assert_eq!((state.in_flight, state.health.strikes), (0, 2), "strikes were halved once");
    assert_eq!(queue.claim(&wish(1)).await.unwrap(), []);
}

/// The call repeats itself and then knows its own leases; a later call of the caller's finds the job present.
#[tokio::test]
async fn a_hand_off_whose_answer_is_lost_keeps_its_leases() {
    let Some(server) = own_server(&[]) else { return };
    let proxy = Proxy::before(server.port).await;
    let queue = connect(proxy.port).await;
    warm_up(&queue).await;
    let lane = lane(&queue).await;
    let room = Room { all: 5, doubtful: 5, dead: 5 };
    let to = HandOff {
        token: Token::new(),
        worker: WorkerId::new(),
        lease: Duration::from_secs(600),
        room,
        max_in_flight: 64,
        avoid: Vec::new(),
    };
    let job = job(lane);
    proxy.lose_the_next_answer();
    let answers = queue.enqueue(std::slice::from_ref(&job), Some(&to)).await.unwrap();
    assert!(proxy.has_lost_it());
    assert!(matches!(&answers[0], Enqueued::Leased(lease) if lease.token == to.token), "{answers:?}");
    assert_eq!(queue.enqueue(&[job], Some(&to)).await.unwrap(), [Enqueued::Present]);
}

/// A frozen server costs a time-out a call, and nothing else.
#[tokio::test]
async fn a_frozen_server_is_a_time_out_and_no_hang() {
    let Some(server) = own_server(&[]) else { return };
    let queue = connect(server.port).await;
    let lane = lane(&queue).await;
    server.signal("STOP");
    let began = Instant::now();
    let error = queue.enqueue(&jobs(lane, 1), None).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(began.elapsed() < TIMEOUT * 3, "{:?}", began.elapsed());
    for _ in 0..3 {
        let began = Instant::now();
        assert!(queue.claim(&wish(1)).await.unwrap_err().is_retryable());
        assert!(queue.epoch().await.unwrap_err().is_retryable());
        assert!(began.elapsed() < TIMEOUT * 4, "{:?}", began.elapsed());
    }
    server.signal("CONT");
    eventually("the queue works again", async || queue.claim(&wish(1)).await.is_ok()).await;
    assert_eq!(queue.enqueue(&jobs(lane, 1), None).await.unwrap().len(), 1);
}

/// A network that drops every packet: the connection looks alive, and is given up after the time-out.
#[tokio::test]
async fn a_half_open_connection_is_given_up() {
    let Some(server) = own_server(&[]) else { return };
    let proxy = Proxy::before(server.port).await;
    let queue = connect(proxy.port).await;
    let lane = lane(&queue).await;
    proxy.freeze();
    assert!(queue.enqueue(&jobs(lane, 1), None).await.unwrap_err().is_retryable());
    proxy.thaw();
    let began = Instant::now();
    eventually("a new connection is made", async || queue.enqueue(&jobs(lane, 1), None).await.is_ok()).await;
    assert!(began.elapsed() < TIMEOUT * 6, "{:?}", began.elapsed());
}

/// Promise 16: what waits for a server that is away is bounded, and fails at once beyond that.
#[tokio::test]
async fn calls_to_a_frozen_server_do_not_pile_up() {
    let Some(server) = own_server(&[]) else { return };
    let queue = connect(server.port).await;
    let lane = lane(&queue).await;
    server.signal("STOP");
    let batch = jobs(lane, 1);
    let began = Instant::now();
    let answers = futures::future::join_all((0..5000).map(|_| queue.enqueue(&batch, None))).await;
    assert!(began.elapsed() < TIMEOUT * 6, "{:?}", began.elapsed());
    assert!(answers.into_iter().all(|answer| answer.is_err_and(|error| error.is_retryable())));
    server.signal("CONT");
    eventually("the queue works again", async || queue.enqueue(&batch, None).await.is_ok()).await;
}

/// Nothing is lost with the script cache, and nobody notices.
#[tokio::test]
async fn a_flushed_script_cache_is_filled_again() {
    let Some(server) = own_server(&[]) else { return };
    let queue = connect(server.port).await;
    let lane = lane(&queue).await;
    let mut admin = Resp::connect(server.port).await;
    for _ in 0..3 {
        admin.call(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(queue.enqueue(&jobs(lane, 1), None).await.unwrap(), [Enqueued::Queued]);
    }
    admin.call(&["SCRIPT", "FLUSH"]).await;
    let leases = queue.claim(&wish(3)).await.unwrap();
    admin.call(&["SCRIPT", "FLUSH"]).await;
    let settled = queue.settle(&leases.iter().map(done).collect::<Vec<_>>()).await.unwrap();
    assert!(settled.iter().all(|settled| matches!(settled, Settled::Settled { .. })));
}

#[tokio::test]
async fn killed_connections_are_made_again_within_the_call() {
    let Some(server) = own_server(&[]) else { return };
    let queue = connect(server.port).await;
    let lane = lane(&queue).await;
    let mut admin = Resp::connect(server.port).await;
    for _ in 0..5 {
        admin.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert_eq!(queue.enqueue(&jobs(lane, 1), None).await.unwrap(), [Enqueued::Queued]);
    }
    admin.call(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(queue.claim(&wish(5)).await.unwrap().len(), 5);
    // The bell is heard again, though its connection was killed too.
    eventually("the queue listens again", async || {
        let Value::List(channels) = admin.call(&["PUBSUB", "CHANNELS"]).await else { return false };
        !channels.is_empty()
    })
    .await;
    queue.claim(&wish(1)).await.unwrap();
    let adding = async {
        tokio::task::yield_now().await;
        queue.enqueue(&jobs(lane, 1), None).await.unwrap();
    };
    let began = Instant::now();
    tokio::join!(queue.wait(Duration::from_secs(60)), adding);
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// Another epoch, lanes unknown, and the same jobs and settings can be brought again.
#[tokio::test]
async fn a_flush_shows_in_the_epoch_and_the_queue_can_be_filled_again() {
    let Some(server) = own_server(&[]) else { return };
    let (queue, other) = (connect(server.port).await, connect(server.port).await);
    let before = queue.epoch().await.unwrap();
    assert_eq!(other.epoch().await.unwrap(), before);
    let lane = lane(&queue).await;
    let jobs = jobs(lane, 10);
    queue.enqueue(&jobs, None).await.unwrap();
    let leases = queue.claim(&wish(5)).await.unwrap();
    Resp::connect(server.port).await.call(&["FLUSHALL"]).await;
    assert_eq!(queue.enqueue(&jobs, None).await.unwrap(), vec![Enqueued::LaneBehind; 10]);
    assert_eq!(queue.settle(&[done(&leases[0])]).await.unwrap(), [Settled::Stale]);
    let after = queue.epoch().await.unwrap();
    assert_ne!(after, before);
    assert_eq!(other.epoch().await.unwrap(), after, "all processes see one new memory");
    assert_eq!(queue.epoch().await.unwrap(), after);
    let settings = LaneSettings { lane, version: 1, max_in_flight: None, rate: None, hold: None };
    queue.lanes(&[settings]).await.unwrap();
    assert_eq!(queue.enqueue(&jobs, None).await.unwrap(), vec![Enqueued::Queued; 10]);
}

/// A server that was killed and started without its data.
#[tokio::test]
async fn an_empty_restart_shows_in_the_epoch() {
    let Some(mut server) = own_server(&[]) else { return };
    let port = server.port;
    let queue = connect(port).await;
    let before = queue.epoch().await.unwrap();
    server.kill();
    assert!(queue.epoch().await.unwrap_err().is_retryable());
    let Ok(_again) = test_servers::redis::Server::start_on(port, &[]) else { panic!("it was there before") };
    eventually("the queue is there again", async || queue.epoch().await.is_ok()).await;
    assert_ne!(queue.epoch().await.unwrap(), before);
}

/// A replica that was promoted without the last writes: the counter has run backwards.
#[tokio::test]
async fn writes_that_were_undone_show_in_the_epoch() {
    let Some(mut server) = own_server(&[]) else { return };
    let Some(replica) = own_server(&["--replicaof", "127.0.0.1", &server.port.to_string()]) else { return };
    let queue = connect(server.port).await;
    let lane = lane(&queue).await;
    let before = queue.epoch().await.unwrap();
    let mut admin = Resp::connect(replica.port).await;
    eventually("the replica has followed", async || {
        admin.call(&["EXISTS", "{webhooks}:lanes"]).await == Value::Int(1)
    })
    .await;
    admin.call(&["REPLICAOF", "NO", "ONE"]).await;
    queue.enqueue(&jobs(lane, 3), None).await.unwrap();
    let port = server.port;
    server.kill();
    // What the lost writes did is not in the memory that goes on at the same address.
    let Ok(_next) =
        test_servers::redis::Server::start_on(port, &["--replicaof", "127.0.0.1", &replica.port.to_string()])
    else {
        panic!("it was there before")
    };
    let mut next = Resp::connect(port).await;
    eventually("the data is there", async || {
        next.call(&["EXISTS", "{webhooks}:lanes"]).await == Value::Int(1)
    })
    .await;
    assert!(queue.claim(&wish(1)).await.is_err_and(|error| error.is_retryable()), "it is read-only yet");
    next.call(&["REPLICAOF", "NO", "ONE"]).await;
    eventually("the queue is there again", async || queue.epoch().await.is_ok()).await;
    let after = queue.epoch().await.unwrap();
    assert!(after > before);
    let another = connect(port).await;
    assert_eq!(another.epoch().await.unwrap(), after, "for a process that has seen nothing too");
    assert_eq!(queue.epoch().await.unwrap(), after);
}

/// Though what was written since has made up for them before anybody asks.
#[tokio::test]
async fn writes_that_were_undone_show_in_the_epoch_however_much_is_written_since() {
    let Some(server) = own_server(&[]) else { return };
    let queue = RedisQueue::connect(options(server.port).connections(4)).await.unwrap();
    let before = queue.epoch().await.unwrap();
    let lane = lane(&queue).await;
    let batches: Vec<_> = (0..200).map(|_| jobs(lane, 2)).collect();
    let writes = async || {
        let answers = futures::future::join_all(batches.iter().map(|jobs| queue.enqueue(jobs, None))).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok()));
    };
    writes().await;
    assert_eq!(queue.epoch().await.unwrap(), before, "answers that cross each other undo nothing");
    // What a promoted replica that lacks the last ten writes looks like.
    Resp::connect(server.port).await.call(&["HINCRBY", "{webhooks}:meta", "n", "-10"]).await;
    queue.enqueue(&jobs(lane, 1), None).await.unwrap();
    writes().await;
    let after = queue.epoch().await.unwrap();
    assert_ne!(after, before);
    writes().await;
    assert_eq!(queue.epoch().await.unwrap(), after, "that is told once");
}

/// Promise 15: out of memory there is an outage of enqueueing; what is there drains, and makes room.
#[tokio::test]
async fn a_full_server_refuses_jobs_and_settles_on() {
    let Some(server) = own_server(&["--maxmemory", "12mb"]) else { return };
    let queue = connect(server.port).await;
    let lane = lane(&queue).await;
    let mut refused = None;
    let mut queued = 0;
    for _ in 0..2000 {
        match queue.enqueue(&jobs(lane, 500), None).await {
            Ok(answers) => queued += answers.len(),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(refused.map(|error| error.kind()), Some(BackendErrorKind::Full), "after {queued} jobs");
    let settings = LaneSettings { lane, version: 2, max_in_flight: Some(1 << 20), rate: None, hold: None };
    queue.lanes(&[settings]).await.unwrap();
    let mut drained = 0;
    while drained < queued {
        let leases = queue.claim(&wish(512)).await.unwrap();
        assert!(!leases.is_empty(), "after {drained} of {queued}");
        drained += leases.len();
        let settled = queue.settle(&leases.iter().map(done).collect::<Vec<_>>()).await.unwrap();
        assert!(settled.iter().all(|settled| matches!(settled, Settled::Settled { .. })));
    }
    assert_eq!(queue.enqueue(&jobs(lane, 500), None).await.unwrap().len(), 500, "there is room again");
    assert_eq!(in_flight(&queue, lane).await, 0);
}

#[tokio::test]
async fn a_server_that_may_evict_keys_is_refused() {
    let Some(server) = own_server(&["--maxmemory-policy", "allkeys-lru"]) else { return };
    let error = RedisQueue::connect(options(server.port)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured);
    assert!(error.to_string().contains("noeviction"), "{error}");
    let lazy = RedisQueue::open(options(server.port)).unwrap();
    assert_eq!(kind(lazy.claim(&wish(1)).await), BackendErrorKind::Misconfigured);
    let mut admin = Resp::connect(server.port).await;
    admin.call(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    lazy.claim(&wish(1)).await.unwrap();
    admin.call(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).await;
    assert_eq!(kind(lazy.epoch().await), BackendErrorKind::Misconfigured, "readiness shows the change");
}

#[tokio::test]
async fn a_server_that_is_away_is_an_outage_and_no_reason_to_fail_at_start() {
    let port = test_servers::free_port().unwrap();
    let queue = RedisQueue::open(options(port)).unwrap();
    let began = Instant::now();
    assert!(queue.claim(&wish(1)).await.unwrap_err().is_retryable());
    assert!(RedisQueue::connect(options(port)).await.unwrap_err().is_retryable());
    assert!(began.elapsed() < TIMEOUT * 4);
    queue.wait(Duration::from_millis(1)).await;
    let Ok(_server) = test_servers::redis::Server::start_on(port, &[]) else { return };
    eventually("the queue works", async || queue.claim(&wish(1)).await.is_ok()).await;
}

#[tokio::test]
async fn a_wrong_password_and_a_foreign_key_are_told_apart() {
    let Some(server) = own_server(&["--requirepass", "right"]) else { return };
    let wrong =
        RedisOptions::new(format!("redis://:wrong@127.0.0.1:{}", server.port)).command_timeout(TIMEOUT);
    let error = RedisQueue::connect(wrong).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured, "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wrong@"), "{error:?}");
    let right =
        RedisOptions::new(format!("redis://:right@127.0.0.1:{}", server.port)).command_timeout(TIMEOUT);
    let queue = RedisQueue::connect(right).await.unwrap();
    let mut admin = Resp::connect(server.port).await;
    admin.call(&["AUTH", "right"]).await;
    admin.call(&["SET", "{webhooks}:lanes", "somebody else's"]).await;
    let settings =
        LaneSettings { lane: LaneId::new(), version: 1, max_in_flight: None, rate: None, hold: None };
    assert_eq!(kind(queue.lanes(&[settings]).await), BackendErrorKind::Corrupt);
}

/// Nobody is left behind on the server when the queue is dropped.
#[tokio::test]
async fn a_dropped_queue_closes_its_connections() {
    let Some(server) = own_server(&[]) else { return };
    let queue = connect(server.port).await;
    let mut admin = Resp::connect(server.port).await;
    assert_ne!(admin.info("clients", "connected_clients").await, "1");
    drop(queue);
    eventually("no connection is left", async || admin.info("clients", "connected_clients").await == "1")
        .await;
}
