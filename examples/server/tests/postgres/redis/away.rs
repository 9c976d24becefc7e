//! Redis does not answer, or not as it should (promises 15 and 16): publishing is acknowledged all the time, nothing
//! spins, grows, crashes or is lost, and everything resumes by itself.

use std::time::{Duration, Instant};

use serde_json::json;
use test_servers::redis::Server;

use super::gate::Gate;
use super::setup::{Flood, Nodes, Target, ask, known_jobs, publish_many, redis, subscribe};
use crate::support::api::Api;
use crate::support::eventually;
use crate::{CONCURRENCY, database};

/// Work goes on so soon after the fault.
const RESUME: Duration = Duration::from_secs(10);

/// Promise 16, too: 64 KiB an event, and what waits for the queue is bounded by its bytes.
#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_frozen_for_thirty_seconds_publishing_goes_on_and_memory_stays_flat() {
    const FROZEN: Duration = Duration::from_secs(30);
    const KIB: usize = 64;
    /// Payloads that wait for the queue, and as much again for what an allocator keeps.
    const FLAT_KIB: u64 = 2 * 32 * 1024;
    let Some(url) = database("frozen redis").await else { return };
    let Some(redis) = redis("frozen redis", &[]) else { return };
    let nodes = Nodes::start(&url, redis.port, &[]);
    let target = Target::forgetful(Duration::ZERO).await;
    subscribe(&nodes.api, &target, "flood", json!({})).await;
    let flood = Flood::start(&nodes.api, 8, &json!("a".repeat(KIB * 1024)));
    eventually("some are delivered", async || (target.taken() > 100).then_some(())).await;

    let memory = || [nodes.front.memory_kib(), nodes.back.memory_kib()];
    let (before, published) = (memory(), flood.count());
    let busy = nodes.back.cpu();
    redis.signal("STOP");
    let frozen = Instant::now();
    let mut most = before;
    while frozen.elapsed() < FROZEN {
        tokio::time::sleep(Duration::from_millis(500)).await; // verify: allow(sleep): the length of the fault
        most = [most[0].max(nodes.front.memory_kib()), most[1].max(nodes.back.memory_kib())];
    }
    let (gap, meanwhile) = (flood.longest_gap_since(frozen), flood.count() - published);
    let cpu = nodes.back.cpu().saturating_sub(busy);
    assert_eq!(nodes.ready().await, Some(json!("degraded")));
    redis.signal("CONT");
    let thawed = Instant::now();
    let resumed = eventually("events are delivered again", async || {
        target.hits().last().map(|hit| hit.at).filter(|at| *at > thawed)
    });
    let resumed = resumed.await.duration_since(thawed);
    let published = flood.stop().await;
    eventually("all are delivered", async || (target.taken() == published.len()).then_some(())).await;
    nodes.api.all_finished().await;
    let again = target.sent_again();
    let grown = [most[0].saturating_sub(before[0]), most[1].saturating_sub(before[1])];
    println!(
        "frozen for {FROZEN:?}: {meanwhile} events of {KIB} KiB acknowledged meanwhile ({} MiB), with {gap:?} between two at the \
         most; memory grew by {} KiB (api) and {} KiB (worker, which used {cpu:?} of CPU); deliveries resumed after \
         {resumed:?}; 0 lost, {again} sent again",
        meanwhile * KIB / 1024,
        grown[0],
        grown[1]
    );
    assert!(meanwhile * KIB > 3 * 32 * 1024, "{meanwhile} events are too few to show that memory is bounded");
    assert!(gap < Duration::from_secs(5), "{gap:?} without an acknowledgement");
    assert!(grown.iter().all(|grown| *grown < FLAT_KIB), "{grown:?} KiB more");
    assert!(cpu < FROZEN / 2, "{cpu:?} of CPU for nothing");
    assert!(resumed < 5 * RESUME && again <= CONCURRENCY, "{resumed:?}, {again}");
}

/// Promises 3 and 4, end to end: the repeat finds what the first call did.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_lead_to_nothing_lost_stuck_or_sent_twice() {
    let Some(url) = database("lost answers").await else { return };
    let Some(redis) = redis("lost answers", &[]) else { return };
    let gate = Gate::before(redis.port).await;
    let nodes = Nodes::start(&url, gate.port, &["--retry=schedule:1s,1s,1s"]);
    let target = Target::start(Duration::from_millis(20)).await;
    subscribe(&nodes.api, &target, "flood", json!({})).await;
    let flood = Flood::start(&nodes.api, 8, &json!(1));
    eventually("some are delivered", async || (target.taken() > 100).then_some(())).await;
    gate.lose_every(7);
    eventually("many answers are lost", async || (gate.lost() >= 60).then_some(())).await;
    gate.lose_every(0);
    let published = flood.stop().await;
    eventually("all are delivered", async || (target.taken() == published.len()).then_some(())).await;
    nodes.api.all_finished().await;
    eventually("nothing is left in Redis", async || (known_jobs(redis.port) == 0).then_some(())).await;
    let again = target.sent_again();
    println!(
        "{} answers of Redis lost under load ({} events): 0 lost, {again} sent again",
        gate.lost(),
        published.len()
    );
    assert_eq!(again, 0);
}

/// Promise 15: enqueueing pauses, settling goes on, deliveries drain, enqueueing resumes.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_full_takes_what_fits_and_the_rest_when_there_is_room() {
    const EVENTS: usize = 6_000;
    let Some(url) = database("full redis").await else { return };
    let Some(redis) = redis("full redis", &[]) else { return };
    let nodes = Nodes::start(&url, redis.port, &[]);
    let target = Target::forgetful(Duration::ZERO).await;
    let id = subscribe(&nodes.api, &target, "a", json!({})).await;
    // The lane is known and proven before there is no room for anything.
    publish_many(&nodes.api, "a", 100).await;
    eventually("they are delivered", async || (target.taken() == 100).then_some(())).await;
    nodes.api.all_finished().await;
    let pause = nodes.api.post(&format!("/api/v1/subscriptions/{id}/pause"), &json!({})).await;
    assert_eq!(pause.expect("an answer").status, 200);
    let used: usize = used_memory(redis.port);
    ask(redis.port, &["CONFIG", "SET", "maxmemory", &(used + 600_000).to_string()]);

    publish_many(&nodes.api, "a", EVENTS).await;
    eventually("a node says that Redis is full", async || {
        let lines =
            [nodes.front.stdout(), nodes.front.stderr(), nodes.back.stdout(), nodes.back.stderr()].concat();
        lines.iter().any(|line| line.contains("not enqueued") || line.contains("memory")).then_some(())
    })
    .await;
    let fits = known_jobs(redis.port);
    assert!(fits < EVENTS, "all {fits} fit: nothing was shown");
    publish_many(&nodes.api, "a", 10).await;
    let resume = nodes.api.post(&format!("/api/v1/subscriptions/{id}/resume"), &json!({})).await;
    assert_eq!(resume.expect("an answer").status, 200);
    let resumed = Instant::now();
    let all = 100 + EVENTS + 10;
    eventually("all are delivered", async || (target.taken() == all).then_some(())).await;
    let took = resumed.elapsed();
    nodes.api.all_finished().await;
    eventually("nothing is left in Redis", async || (known_jobs(redis.port) == 0).then_some(())).await;
    let again = target.sent_again();
    println!(
        "maxmemory reached with {fits} of {EVENTS} jobs in Redis: every event acknowledged; all delivered {took:?} after the \
         lane was resumed, 0 lost, {again} sent again"
    );
    assert!(again <= CONCURRENCY, "{again} sent again");
}

fn used_memory(port: u16) -> usize {
    let info = ask(port, &["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a line");
    line.trim().parse().expect("a number")
}

/// A clear error, no spin, and deliveries resume when it is put right.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_policy_that_is_changed_stops_the_queue_until_it_is_put_right() {
    let Some(url) = database("policy").await else { return };
    let Some(redis) = redis("policy", &[]) else { return };
    let broken =
        |redis: &Server| drop(ask(redis.port, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]));
    let mended = |redis: &Server| drop(ask(redis.port, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]));
    let nodes = Nodes::start(&url, redis.port, &[]);
    is_a_pause("an eviction policy that was changed", &nodes, &redis, broken, mended).await;
    let said = nodes.back.stdout().concat() + &nodes.back.stderr().concat();
    assert!(said.contains("noeviction"), "what to do is said: {said}");
}

/// A replica that is written to, as during a failover.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_read_only_is_a_pause() {
    let Some(url) = database("read only").await else { return };
    let Some(redis) = redis("read only", &[]) else { return };
    let nobody = test_servers::free_port().unwrap().to_string();
    let broken = |redis: &Server| drop(ask(redis.port, &["REPLICAOF", "127.0.0.1", &nobody]));
    let mended = |redis: &Server| drop(ask(redis.port, &["REPLICAOF", "NO", "ONE"]));
    let nodes = Nodes::start(&url, redis.port, &[]);
    is_a_pause("READONLY", &nodes, &redis, broken, mended).await;
}

/// While it stays so: every publish is acknowledged, nothing spins, and `/ready` says so. Afterwards all is delivered once.
async fn is_a_pause(
    fault: &str,
    nodes: &Nodes,
    redis: &Server,
    broken: impl Fn(&Server),
    mended: impl Fn(&Server),
) {
    const WATCHED: Duration = Duration::from_secs(4);
    let target = Target::start(Duration::ZERO).await;
    subscribe(&nodes.api, &target, "flood", json!({})).await;
    let flood = Flood::start(&nodes.api, 2, &json!(1));
    eventually("some are delivered", async || (target.taken() > 20).then_some(())).await;
    broken(redis);
    for node in [&nodes.api, &nodes.worker] {
        eventually("the nodes say so", async || {
            let ready = node.get("/ready").await?;
            (ready.status == 200 && ready.json()["status"] == "degraded").then_some(())
        })
        .await;
    }
    let (start, busy, published) = (Instant::now(), nodes.back.cpu(), flood.count());
    tokio::time::sleep(WATCHED).await; // verify: allow(sleep): the length of the fault
    let cpu = nodes.back.cpu().saturating_sub(busy);
    let (gap, meanwhile) = (flood.longest_gap_since(start), flood.count() - published);
    mended(redis);
    let end = Instant::now();
    let resumed = eventually("events are delivered again", async || {
        target.hits().last().map(|hit| hit.at).filter(|at| *at > end)
    });
    let resumed = resumed.await.duration_since(end);
    let published = flood.stop().await;
    eventually("all are delivered", async || (target.taken() == published.len()).then_some(())).await;
    nodes.api.all_finished().await;
    let again = target.sent_again();
    println!(
        "{fault}: {meanwhile} events acknowledged in {WATCHED:?}, {gap:?} between two at the most, {cpu:?} of CPU in the \
         worker meanwhile; deliveries resumed after {resumed:?}; 0 lost, {again} sent again"
    );
    assert!(cpu < WATCHED / 2, "{cpu:?} of CPU: it spins");
    assert!(resumed < 5 * RESUME && again <= CONCURRENCY, "{resumed:?}, {again}");
}

/// It has all its data and does not serve it yet, as after a restart with much of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_loading_is_a_pause_and_keeps_what_it_knew() {
    let Some(url) = database("loading").await else { return };
    let slow = ["--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"];
    let Some(redis) = redis("loading", &slow) else { return };
    let nodes =
        Nodes::start(&url, redis.port, &["--retry=schedule:1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"]);
    let target = Target::start(Duration::ZERO).await;
    target.fail(true);
    subscribe(&nodes.api, &target, "a", json!({})).await;
    publish_many(&nodes.api, "a", 100).await;
    eventually("each was tried", async || (target.distinct() == 100).then_some(())).await;
    let epoch = || ask(redis.port, &["HGET", "{webhooks}:meta", "epoch"]);
    let before =
        eventually("it has an epoch", async || Some(epoch()).filter(|epoch| !epoch.is_empty())).await;
    ask(redis.port, &["DEBUG", "POPULATE", "10000"]);
    ask(redis.port, &["CONFIG", "SET", "key-load-delay", "300"]);
    let port = redis.port;
    let reload = tokio::task::spawn_blocking(move || test_servers::redis::ask(port, &["DEBUG", "RELOAD"]));
    eventually("it is loading", async || {
        let answer = tokio::task::block_in_place(|| test_servers::redis::ask(port, &["GET", "a"]));
        answer.is_err_and(|error| error.starts_with("LOADING")).then_some(())
    })
    .await;
    let start = Instant::now();
    publish_many(&nodes.api, "a", 50).await;
    let took = start.elapsed();
    target.fail(false);
    let loaded = tokio::time::timeout(Duration::from_secs(60), reload).await.unwrap().unwrap();
    // It takes as long as it takes, and the connection that asked may have been given up.
    drop(loaded);
    eventually("all are delivered", async || (target.taken() == 150).then_some(())).await;
    nodes.api.all_finished().await;
    assert_eq!(epoch(), before, "nothing was lost, so nothing is rebuilt");
    println!(
        "LOADING: 50 events acknowledged in {took:?} meanwhile; all 150 delivered, {} sent again",
        target.sent_again()
    );
    assert_eq!(target.sent_again(), 0);
}

/// What an operator may do at any time, again and again, under load.
#[tokio::test(flavor = "multi_thread")]
async fn flushed_scripts_and_killed_clients_under_load_lose_nothing() {
    const ROUNDS: usize = 20;
    let Some(url) = database("operator").await else { return };
    let Some(redis) = redis("operator", &[]) else { return };
    let nodes = Nodes::start(&url, redis.port, &["--retry=schedule:1s,1s,1s"]);
    let target = Target::start(Duration::from_millis(20)).await;
    subscribe(&nodes.api, &target, "flood", json!({})).await;
    let flood = Flood::start(&nodes.api, 8, &json!(1));
    for round in 0..ROUNDS {
        let before = target.taken();
        match round % 3 {
            0 => ask(redis.port, &["SCRIPT", "FLUSH"]),
            1 => ask(redis.port, &["CLIENT", "KILL", "TYPE", "normal"]),
            _ => ask(redis.port, &["CLIENT", "KILL", "TYPE", "pubsub"]),
        };
        eventually("more are delivered", async || (target.taken() > before + 30).then_some(())).await;
    }
    let published = flood.stop().await;
    all_arrive(&nodes.api, &target, published.len()).await;
    eventually("nothing is left in Redis", async || (known_jobs(redis.port) == 0).then_some(())).await;
    println!(
        "scripts flushed and clients killed {ROUNDS} times under load ({} events): 0 lost, {} sent again",
        published.len(),
        target.sent_again()
    );
    assert_eq!(target.sent_again(), 0);
}

async fn all_arrive(api: &Api, target: &Target, events: usize) {
    eventually("all are delivered", async || (target.taken() == events).then_some(())).await;
    api.all_finished().await;
}
