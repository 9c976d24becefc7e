//! What survives: `kill -9` and SIGTERM in the middle of work.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::api::Api;
use crate::support::process::Process;
use crate::support::publishers::{Publishers, finish};
use crate::support::receiver::Receiver;

const EVENTS: usize = 2_000;
/// As `--concurrency`: no more than this is on the wire or not yet recorded.
const CONCURRENCY: usize = 32;

fn serve(directory: &tempfile::TempDir) -> Process {
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let concurrency = CONCURRENCY.to_string();
    Process::start(&[
        "--listen=127.0.0.1:0",
        "--allow-cidr=127.0.0.1/32",
        "--database-url",
        &url,
        "--concurrency",
        &concurrency,
        "--max-in-flight=64",
        "--lease=2s",
        "--log=warn",
    ])
}

/// Promises 1, 2, 8 and 11 over a real `kill -9`: what was acknowledged arrives, and what arrives twice was on the
/// wire or unrecorded when the process died.
async fn kill_round(round: usize) {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Duration::from_millis(5)).await;
    let publishers = Publishers::new(EVENTS);

    let mut server = serve(&directory);
    let api = Api::new(server.url());
    api.subscribe(&receiver.url, &[]).await;
    let tasks = publishers.start(&api);
    // Somewhere in the middle, somewhere else in every round.
    publishers.until_acknowledged(200 + round * 337 % 1_000).await;
    server.kill();
    finish(tasks).await;
    let (before, arrived) = (publishers.acknowledged(), receiver.count());
    assert!(before < EVENTS, "round {round}: it was not killed in the middle");

    let mut server = serve(&directory);
    let api = Api::new(server.url());
    finish(publishers.start(&api)).await;
    api.all_finished().await;
    let duplicates = publishers.against(&receiver);
    assert!(duplicates <= CONCURRENCY, "round {round}: {duplicates} sent again");

    let attempts = api.get("/api/v1/attempts?outcome=failed&limit=1").await.expect("an answer").json();
    assert_eq!(attempts["data"], json!([]), "round {round}: nothing failed, some may be unknown");
    println!(
        "round {round}: killed after {before} of {EVENTS} acknowledged and {arrived} arrived; none lost, \
         {duplicates} sent again"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
}

/// One round, or as many as `KILL_ROUNDS` says.
#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_every_acknowledged_event_arrives() {
    let rounds = std::env::var("KILL_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    for round in 1..=rounds {
        kill_round(round).await;
    }
}

/// Promise 17: a stop under load finishes what is in flight and hands the rest back, so nothing is lost, nothing is
/// sent twice, and nothing waits for a lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_nothing_and_sends_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Duration::from_millis(20)).await;
    let publishers = Publishers::new(EVENTS);

    let mut server = serve(&directory);
    let api = Api::new(server.url());
    api.subscribe(&receiver.url, &[]).await;
    let tasks = publishers.start(&api);
    publishers.until_acknowledged(500).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
    finish(tasks).await;
    assert!(publishers.acknowledged() < EVENTS, "it was not stopped in the middle");
    let beside: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name()).collect();
    let is_part = |name: &&std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.ends_with("-wal") || name.ends_with("-shm")
    };
    assert_eq!(beside.iter().find(is_part), None, "the file cannot be copied by itself");

    let mut server = serve(&directory);
    let api = Api::new(server.url());
    finish(publishers.start(&api)).await;
    api.all_finished().await;
    assert_eq!(publishers.against(&receiver), 0, "sent twice");
    let attempts =
        api.get("/api/v1/attempts?outcome=failed,unknown&limit=1").await.expect("an answer").json();
    assert_eq!(attempts["data"], json!([]), "every attempt was recorded as what it was");
}
