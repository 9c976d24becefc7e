//! Redis loses its memory, all of it or the last of it, under work (promises 2, 8, 12 and 13).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_servers::redis::Server;
use webhook_store_postgres::sqlx::{Connection as _, Executor as _, PgConnection};

use super::gate::Gate;
use super::setup::{Flood, Nodes, Target, ask, known_jobs, publish_many, redis, subscribe};
use crate::support::api::Api;
use crate::support::eventually;
use crate::{CONCURRENCY, database};

const RETRIES: usize = 10_000;
/// Everything that was lost is known again so soon.
const RESUME: Duration = Duration::from_secs(10);
/// A million jobs are rebuilt in so long.
const MILLION: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_with_ten_thousand_retries_pending_loses_nothing() {
    loses_nothing("flush", |redis| drop(ask(redis.port, &["FLUSHALL"]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_killed_and_started_empty_with_retries_pending_loses_nothing() {
    loses_nothing("empty", |redis| {
        let port = redis.port;
        redis.kill();
        *redis = Server::start_on(port, &["--maxmemory-policy", "noeviction"]).expect("its port is free");
    })
    .await;
}

/// Retries pending, and beside them lanes whose pause, rate, order and limit are to hold.
async fn loses_nothing(test: &str, lose: impl FnOnce(&mut Server)) {
    let Some(url) = database(test).await else { return };
    let Some(mut redis) = redis(test, &[]) else { return };
    let waits = "--retry=schedule:15s,15s,15s,15s,15s,15s,15s,15s";
    let nodes = Nodes::start(&url, redis.port, &[waits]);
    let api = &nodes.api;
    let retried = Target::start(Duration::ZERO).await;
    retried.fail(true);
    subscribe(api, &retried, "retried", json!({})).await;
    publish_many(api, "retried", RETRIES).await;
    eventually("each was tried", async || (retried.distinct() == RETRIES).then_some(())).await;
    let beside = Beside::start(api).await;
    let fresh = Target::forgetful(Duration::ZERO).await;
    subscribe(api, &fresh, "flood", json!({})).await;

    let flood = Flood::start(api, 4, &json!(1));
    eventually("fresh ones are delivered", async || (fresh.count() > 20).then_some(())).await;
    retried.fail(false);
    tokio::task::block_in_place(|| lose(&mut redis));
    let lost = Instant::now();
    let resumed = eventually("fresh ones are delivered again", async || {
        fresh.hits().last().map(|hit| hit.at).filter(|at| *at > lost)
    });
    let resumed = resumed.await.duration_since(lost);
    eventually("all retries are known again, or made", async || {
        (known_jobs(redis.port) + retried.taken() >= RETRIES).then_some(())
    })
    .await;
    let known = lost.elapsed();
    let gap = flood.longest_gap_since(lost);
    let published = flood.stop().await;

    eventually("all retries are delivered", async || (retried.taken() == RETRIES).then_some(())).await;
    eventually("all fresh ones too", async || (fresh.taken() == published.len()).then_some(())).await;
    let again = retried.sent_again() + fresh.sent_again();
    let most = beside.holds(api).await;
    api.all_finished().await;
    println!(
        "{test}: fresh events were delivered again after {resumed:?}, all {RETRIES} retries known after {known:?}; \
         publishing never paused for longer than {gap:?}; 0 lost, {again} sent again; at most {most} at once where 3 \
         are allowed"
    );
    assert!(resumed < 5 * RESUME && known < 5 * RESUME, "{resumed:?}, {known:?}");
    assert!(again <= CONCURRENCY, "{again} sent again: more than was on the wire");
}

/// Lanes that are not served as fast as it goes.
struct Beside {
    paused: (Target, String),
    limited: Target,
    ordered: Target,
    narrow: Target,
}

const WAITING: usize = 20;
const LIMITED: usize = 20;
const KEYS: usize = 3;
const IN_ORDER: usize = 15;
const NARROW: usize = 40;

impl Beside {
    async fn start(api: &Api) -> Self {
        let paused = Target::start(Duration::ZERO).await;
        let id = subscribe(api, &paused, "paused", json!({})).await;
        let pause = api.post(&format!("/api/v1/subscriptions/{id}/pause"), &json!({})).await;
        assert_eq!(pause.expect("an answer").status, 200);
        let limited = Target::start(Duration::ZERO).await;
        subscribe(api, &limited, "limited", json!({"rate_limit": {"requests": 5, "per": "1s"}})).await;
        let ordered = Target::start(Duration::from_millis(100)).await;
        subscribe(api, &ordered, "ordered", json!({"ordered": true})).await;
        let narrow = Target::start(Duration::from_millis(300)).await;
        subscribe(api, &narrow, "narrow", json!({"max_in_flight": 3})).await;
        for (event_type, events) in [("paused", WAITING), ("limited", LIMITED), ("narrow", NARROW)] {
            publish_many(api, event_type, events).await;
        }
        for number in 0..IN_ORDER {
            for key in 0..KEYS {
                let event = json!({"event_type": "ordered", "ordering_key": key.to_string(), "payload": [key, number]});
                let answer = api.post("/api/v1/events", &event).await.expect("an answer");
                assert_eq!(answer.status, 202, "{:?}", answer.body);
            }
        }
        Self { paused: (paused, id), limited, ordered, narrow }
    }

    /// Everything came, and nothing faster than allowed. Answers how many the narrow one had at once.
    async fn holds(&self, api: &Api) -> usize {
        let (paused, id) = &self.paused;
        let all = [(&self.limited, LIMITED), (&self.ordered, KEYS * IN_ORDER), (&self.narrow, NARROW)];
        for (target, events) in all {
            eventually("those beside are delivered", async || (target.taken() == events).then_some(())).await;
        }
        assert_eq!(paused.count(), 0, "it is paused");
        let resume = api.post(&format!("/api/v1/subscriptions/{id}/resume"), &json!({})).await;
        assert_eq!(resume.expect("an answer").status, 200);
        eventually("what waited is delivered", async || (paused.taken() == WAITING).then_some(())).await;

        let hits = self.limited.hits();
        let span = hits[hits.len() - 1].at.duration_since(hits[0].at);
        // The queue forgot when it had permitted the last one, once.
        let least = Duration::from_millis(200) * u32::try_from(hits.len() - 3).unwrap();
        assert!(span >= least, "{} in {span:?}, five a second are allowed", hits.len());

        let mut last: HashMap<u64, u64> = HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for hit in self.ordered.hits().into_iter().filter(|hit| seen.insert(hit.id.clone())) {
            let body: Value = serde_json::from_slice(&hit.body).expect("JSON");
            let (key, number) = (body[0].as_u64().unwrap(), body[1].as_u64().unwrap());
            let before = last.insert(key, number);
            assert_eq!(before.map_or(0, |before| before + 1), number, "the order of key {key}");
        }
        let most = self.narrow.most_at_once();
        assert!(most <= 3 + 3, "{most} at once: three, and three that were on the wire");
        most
    }
}

/// What the promoted replica still knows as unfinished was finished, and what it never knew is owed.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_with_older_data_loses_nothing_and_sends_nothing_finished_again() {
    const OLD: usize = 200;
    const NEW: usize = 50;
    let Some(url) = database("promoted").await else { return };
    let Some(mut primary) = redis("promoted", &[]) else { return };
    let of = ["--replicaof", "127.0.0.1", &primary.port.to_string()];
    let Some(replica) = redis("promoted", &of) else { return };
    let gate = Gate::before(primary.port).await;
    let nodes = Nodes::start(&url, gate.port, &["--retry=schedule:2s,2s,2s,2s,2s,2s,2s,2s,2s"]);
    let target = Target::start(Duration::ZERO).await;
    let lane = subscribe(&nodes.api, &target, "a", json!({})).await;
    target.fail(true);
    publish_many(&nodes.api, "a", OLD).await;
    eventually("each was tried", async || (target.distinct() == OLD).then_some(())).await;
    eventually("the replica knows them", async || (known_jobs(replica.port) == OLD).then_some(())).await;
    // From now on it gets nothing more: it is what a replica is that lags when its primary dies.
    ask(replica.port, &["REPLICAOF", "NO", "ONE"]);
    target.fail(false);
    eventually("all are delivered", async || (target.taken() == OLD).then_some(())).await;
    nodes.api.all_finished().await;
    eventually("and settled", async || (known_jobs(primary.port) == 0).then_some(())).await;
    target.fail(true);
    publish_many(&nodes.api, "a", NEW).await;
    eventually("each new one was tried", async || (target.distinct() == OLD + NEW).then_some(())).await;
    let finished = target.times(|hit| hit.is_answered_ok);
    let before = target.times(|hit| finished.contains_key(&hit.id));
    assert_eq!(known_jobs(replica.port), OLD, "it knows what is finished, and nothing new");

    primary.kill();
    gate.lead_to(replica.port);
    let promoted = Instant::now();
    target.fail(false);
    eventually("what it never knew is delivered", async || (target.taken() == OLD + NEW).then_some(())).await;
    let took = promoted.elapsed();
    nodes.api.all_finished().await;
    eventually("what it thought unfinished is gone", async || (known_jobs(replica.port) == 0).then_some(()))
        .await;
    assert_eq!(target.times(|hit| finished.contains_key(&hit.id)), before, "nothing finished was sent again");
    let stats = nodes.api.get(&format!("/api/v1/subscriptions/{lane}")).await.unwrap();
    assert_eq!(stats.json()["status"], "active");
    println!(
        "a promoted replica that knew {OLD} finished ones and none of {NEW} pending ones: 0 lost, all delivered within \
         {took:?}, no finished one sent again"
    );
    assert!(took < 5 * RESUME, "{took:?}");
}

/// A million within thirty seconds, by `webhook-bench --rebuild 1000000`; here fewer, without optimisation.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_takes_no_longer_than_its_share_of_thirty_seconds_a_million() {
    const JOBS: usize = 50_000;
    let Some(url) = database("rebuild").await else { return };
    let Some(redis) = redis("rebuild", &[]) else { return };
    let nodes = Nodes::start(&url, redis.port, &[]);
    let target = Target::start(Duration::ZERO).await;
    for _ in 0..20 {
        subscribe(&nodes.api, &target, "a", json!({})).await;
    }
    let script = include_str!("../../../../../bench/src/backlog.sql").replace("{COUNT}", &JOBS.to_string());
    let mut conn = PgConnection::connect(&url).await.expect("the tests' server answers");
    conn.execute(script.as_str()).await.expect("the schema is there");
    eventually("all are known", async || (known_jobs(redis.port) == JOBS).then_some(())).await;

    ask(redis.port, &["FLUSHALL"]);
    let lost = Instant::now();
    let first = eventually("it is noticed", async || (known_jobs(redis.port) > 0).then(Instant::now)).await;
    let last =
        eventually("all are known again", async || (known_jobs(redis.port) == JOBS).then(Instant::now));
    let (noticed, filled) = (first - lost, last.await - first);
    println!("{JOBS} jobs: the loss was noticed after {noticed:?}, they were known again {filled:?} later");
    let share = MILLION.mul_f64(JOBS as f64 / 1e6);
    assert!(noticed < 5 * RESUME && filled < 5 * share, "{noticed:?}, {filled:?}");
    assert_eq!(target.count(), 0, "none is due");
}
