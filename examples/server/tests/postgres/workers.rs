//! `kill -9` of workers under load, again and again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::publishers::{Publishers, finish};
use crate::support::receiver::Receiver;
use crate::{CONCURRENCY, HELD, database, node};

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

/// Promises 2 and 3: another worker takes over when the lease has ended, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_held_is_taken_over_when_its_lease_ends() {
    let Some(url) = database("takeover").await else { return };
    let mut api_node = node(&url, "api", &[]);
    let api = Api::new(api_node.url());
    let slow = Receiver::start(Duration::from_millis(900)).await;
    // One for each of eight: a new subscription gets few at once, and all new ones a quarter of a worker's slots.
    for _ in 0..HELD {
        api.subscribe(&slow.url, &[]).await;
    }
    let mut longest = Duration::ZERO;
    let mut victim = node(&url, "worker", &["--lease=2s"]);
    victim.url();
    for round in 1..=3 {
        let before = slow.count();
        api.publish("a", &json!(round)).await.expect("acknowledged");
        eventually("all are on the wire", async || (slow.count() == before + HELD).then_some(())).await;
        let mut other = node(&url, "worker", &["--lease=2s"]);
        victim.kill();
        let kill = Instant::now();
        other.url();
        eventually("all are on the wire again", async || (slow.count() == before + 2 * HELD).then_some(()))
            .await;
        let repeats = slow.got().split_off(before + HELD);
        let times: Vec<_> = repeats.iter().map(|got| got.at.duration_since(kill)).collect();
        // A live worker renews its lease when half of it is left at the latest.
        assert!(
            times.iter().all(|time| *time > LEASE / 4),
            "round {round}: before the lease ended: {times:?}"
        );
        longest = longest.max(times.into_iter().max().unwrap_or_default());
        api.all_finished().await;
        victim = other;
    }
    println!("taken over at the latest {longest:?} after the kill, with a lease of {LEASE:?}");
    assert!(longest < 5 * (LEASE + Duration::from_secs(1)), "{longest:?}");
}

/// Promises 5 and 7: a worker that stood still for two leases comes back to deliveries that others have finished. What it
/// brings changes none of them, and has its row.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_undoes_nothing_and_its_results_have_their_rows() {
    let Some(url) = database("frozen worker").await else { return };
    let mut api_node = node(&url, "api", &[]);
    let api = Api::new(api_node.url());
    let slow = Receiver::start(Duration::from_millis(900)).await;
    for _ in 0..HELD {
        api.subscribe(&slow.url, &[]).await;
    }
    let mut frozen = node(&url, "worker", &["--lease=2s"]);
    frozen.url();
    api.publish("a", &json!(1)).await.expect("acknowledged");
    eventually("all are on the wire", async || (slow.count() == HELD).then_some(())).await;
    frozen.signal(Signal::STOP);
    let thaw = tokio::time::sleep(2 * LEASE); // verify: allow(sleep): the length of the fault
    let mut other = node(&url, "worker", &["--lease=2s"]);
    other.url();
    tokio::join!(api.all_finished(), thaw);
    assert_eq!(slow.count(), 2 * HELD, "each was sent again, once");
    let before = api.get("/api/v1/deliveries?status=succeeded").await.unwrap().json();
    assert_eq!(before["data"].as_array().unwrap().len(), HELD);
    let unknown = api.get("/api/v1/attempts?outcome=unknown").await.unwrap().json();
    assert_eq!(unknown["data"].as_array().unwrap().len(), HELD, "what became of the first is not known yet");

    frozen.signal(Signal::CONT);
    eventually("the late results have their rows", async || {
        let attempts = api.get("/api/v1/attempts?outcome=succeeded").await?.json();
        (attempts["data"].as_array()?.len() == 2 * HELD).then_some(())
    })
    .await;
    let all = api.get("/api/v1/attempts").await.unwrap().json();
    assert_eq!(all["data"].as_array().unwrap().len(), 2 * HELD, "in place of the unknown ones");
    let after = api.get("/api/v1/deliveries?status=succeeded").await.unwrap().json();
    assert_eq!(before, after, "no delivery was touched");
    frozen.signal(Signal::TERM);
    assert_eq!(frozen.ended().code(), Some(0), "{:#?}", frozen.stderr());
    assert_eq!(slow.count(), 2 * HELD, "and nothing was sent once more");
}

/// The longest time from a kill to the second request of what was on the wire. It may be more than one lease: who takes
/// over may be killed before it has sent anything.
fn longest_takeover(receiver: &Receiver, killed: &[Instant]) -> Duration {
    let mut arrivals: HashMap<String, Vec<Instant>> = HashMap::new();
    for got in receiver.got() {
        arrivals.entry(got.header("webhook-id").to_owned()).or_default().push(got.at);
    }
    let repeated = arrivals.values().filter_map(|at| Some((at.first()?, at.get(1)?)));
    // One without a kill in between is a lease that ran out on a worker that got no time: within the bound of repeats.
    let takeovers = repeated.filter_map(|(first, second)| {
        let kill = killed.iter().find(|kill| *kill >= first && *kill <= second)?;
        Some(second.duration_since(*kill))
    });
    takeovers.max().unwrap_or_default()
}
