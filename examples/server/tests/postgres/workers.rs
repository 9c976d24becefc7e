//! `kill -9` of workers under load, again and again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::publishers::{Publishers, finish};
use crate::support::receiver::Receiver;
use crate::{CONCURRENCY, database, node};

const EVENTS: usize = 1_500;
const KILLS: usize = 5;
/// Less than two workers can have on the wire.
const UNDER_WAY: usize = 48;
const LEASE: Duration = Duration::from_secs(2);

/// Promises 2, 7 and 8: what a killed worker held is taken over when its lease ends, nothing is lost, and what arrives
/// twice was on the wire.
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_killed_again_and_again_lose_nothing() {
    let Some(url) = database("killed workers").await else { return };
    let mut api_node = node(&url, "api", &[]);
    let api = Api::new(api_node.url());
    // Slow enough that a worker is always in the middle of something.
    let receiver = Receiver::start(Duration::from_millis(100)).await;
    api.subscribe(&receiver.url, &[]).await;
    let worker = || node(&url, "worker", &["--lease=2s"]);
    let mut workers = vec![worker(), worker()];
    for worker in &mut workers {
        worker.url();
    }
    // No backlog, so that what a killed worker held waits for nothing but its lease.
    let publishers = Publishers::new(EVENTS).at_the_pace_of(&receiver, UNDER_WAY);
    let tasks = publishers.start(&api);

    let mut killed = Vec::new();
    for kill in 0..KILLS {
        let before = receiver.count();
        eventually("some more arrive", async || (receiver.count() >= before + EVENTS / 10).then_some(()))
            .await;
        let mut victim = workers.remove(0);
        victim.kill();
        killed.push(Instant::now());
        assert!(receiver.count() < EVENTS, "kill {kill}: too late to be in the middle");
        workers.push(worker());
    }
    finish(tasks).await;
    api.all_finished().await;

    let duplicates = publishers.against(&receiver);
    assert!(duplicates <= KILLS * CONCURRENCY, "{duplicates} sent again");
    assert!(duplicates > 0, "nobody was killed in the middle of anything");
    let takeover = longest_takeover(&receiver, &killed);
    println!(
        "kill -9 of {KILLS} workers under load: 0 of {EVENTS} lost, {duplicates} sent again (of {} at most), the last \
         of them {takeover:?} after its worker's end, with a lease of {LEASE:?}",
        KILLS * CONCURRENCY
    );
    assert!(takeover < 5 * (LEASE + Duration::from_secs(1)), "{takeover:?}");

    let failed = api.get("/api/v1/attempts?outcome=failed&limit=1").await.unwrap().json();
    assert_eq!(failed["data"], json!([]), "nothing failed, some may be unknown");
}

/// The longest time from a kill to the second request of what was on the wire. A third one, after two kills, also waits
/// out what promise 7 says.
fn longest_takeover(receiver: &Receiver, killed: &[Instant]) -> Duration {
    let mut arrivals: HashMap<String, Vec<Instant>> = HashMap::new();
    for got in receiver.got() {
        arrivals.entry(got.header("webhook-id").to_owned()).or_default().push(got.at);
    }
    let repeated = arrivals.values().filter_map(|at| Some((at.first()?, at.get(1)?)));
    let takeovers = repeated.map(|(first, second)| {
        let kill = killed.iter().find(|kill| *kill >= first).expect("no repeat without a kill");
        second.duration_since(*kill)
    });
    takeovers.max().unwrap_or_default()
}
