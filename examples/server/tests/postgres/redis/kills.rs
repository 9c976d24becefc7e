//! `kill -9` of the nodes under load: of workers, of the one that takes events, of both (promises 1, 2, 7 and 8).

use std::time::{Duration, Instant};

use serde_json::json;

use super::setup::{known_jobs, redis};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::publishers::{Publishers, finish};
use crate::support::receiver::Receiver;
use crate::{CONCURRENCY, database, node};

const LEASE: Duration = Duration::from_secs(2);
/// More than is published while a test lasts.
const ENDLESS: usize = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Worker,
    Api,
    Both,
}

/// Two nodes that take events, two that deliver them; one of each is killed, and replaced.
struct Cluster {
    flag: String,
    database: String,
    fronts: Vec<(Process, Api)>,
    backs: Vec<Process>,
}

impl Cluster {
    fn start(database: &str, redis_port: u16) -> Self {
        let flag = format!("--redis-url=redis://127.0.0.1:{redis_port}");
        let mut cluster = Self { flag, database: database.to_owned(), fronts: Vec::new(), backs: Vec::new() };
        for _ in 0..2 {
            cluster.fronts.push(cluster.front());
            cluster.backs.push(cluster.back());
        }
        cluster
    }

    fn front(&self) -> (Process, Api) {
        let mut process = node(&self.database, "api", &["--lease=2s", &self.flag]);
        let api = Api::new(process.url());
        (process, api)
    }

    fn back(&self) -> Process {
        let mut process = node(&self.database, "worker", &["--lease=2s", &self.flag]);
        process.url();
        process
    }

    /// Kills the older ones and starts others. Answers when it killed.
    fn kill(&mut self, victim: Victim) -> Instant {
        let killed = Instant::now();
        if victim != Victim::Worker {
            self.fronts.remove(0).0.kill();
        }
        if victim != Victim::Api {
            self.backs.remove(0).kill();
        }
        if victim != Victim::Worker {
            self.fronts.push(self.front());
        }
        if victim != Victim::Api {
            self.backs.push(self.back());
        }
        killed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_killed_lose_nothing() {
    lose_nothing("killed workers on redis", Victim::Worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_take_events_and_are_killed_lose_nothing_that_was_acknowledged() {
    lose_nothing("killed apis on redis", Victim::Api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_and_a_node_that_takes_events_killed_together_lose_nothing() {
    lose_nothing("killed both on redis", Victim::Both).await;
}

async fn lose_nothing(test: &str, victim: Victim) {
    const KILLS: usize = 4;
    const BETWEEN: usize = 150;
    let Some(url) = database(test).await else { return };
    let Some(redis) = redis(test, &[]) else { return };
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(&url, redis.port));
    let receiver = Receiver::start(Duration::from_millis(100)).await;
    let api = cluster.fronts[0].1.clone();
    api.subscribe(&receiver.url, &[]).await;
    let mut longest = Duration::ZERO;
    let mut published = Vec::new();
    for _ in 0..KILLS {
        // Producers that know the nodes which are there; one that is killed answers nothing, and they ask the other.
        let apis: Vec<Api> = cluster.fronts.iter().map(|(_, api)| api.clone()).collect();
        let publishers = Publishers::new(ENDLESS);
        let tasks = publishers.start_stubborn_with(&apis, &format!("{}-", published.len()));
        publishers.until_acknowledged(BETWEEN).await;
        let killed = tokio::task::block_in_place(|| cluster.kill(victim));
        let arrived = eventually("one arrives after the kill", async || {
            receiver.got().last().map(|got| got.at).filter(|at| *at > killed)
        });
        longest = longest.max(arrived.await.duration_since(killed));
        publishers.until_acknowledged(2 * BETWEEN).await;
        publishers.stop();
        finish(tasks).await;
        published.push(publishers);
    }
    let api = cluster.fronts[0].1.clone();
    api.all_finished().await;
    let times = receiver.times();
    let acknowledged: Vec<String> = published.iter().flat_map(Publishers::ids).collect();
    let lost = acknowledged.iter().filter(|id| !times.contains_key(*id)).count();
    assert_eq!(lost, 0, "acknowledged and lost");
    assert_eq!(times.len(), acknowledged.len(), "events that nobody published, or published twice");
    let again: usize = times.values().map(|times| times - 1).sum();
    let workers_killed = if victim == Victim::Api { 0 } else { KILLS };
    assert!(again <= workers_killed * CONCURRENCY, "{again} sent again");
    let dead = api.get("/api/v1/deliveries?status=exhausted,cancelled&limit=1").await.unwrap().json();
    assert_eq!(dead["data"], json!([]), "dead letters");
    eventually("nothing is left in Redis", async || (known_jobs(redis.port) == 0).then_some(())).await;
    println!(
        "kill -9 ({victim:?}) {KILLS} times under load ({} events), a lease of {LEASE:?}: 0 lost, {again} sent again; the \
         next delivery came {longest:?} after a kill at the latest",
        acknowledged.len()
    );
    assert!(longest < 5 * (LEASE + Duration::from_secs(1)), "{longest:?}");
}
