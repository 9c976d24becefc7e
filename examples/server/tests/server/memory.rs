//! Promise 16, read off the process: what waits is on disk and nowhere else.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::api::Api;
use crate::support::process::Process;
use crate::support::receiver::Receiver;

const BATCH: usize = 500;
const PAYLOAD: usize = 2048;
/// Until caches and pools have grown to their size, which includes 16 MiB of the file's pages.
const WARM_UP: usize = 20;
const BATCHES: usize = 80;
/// A quarter of what the payloads alone would take.
const ROOM: usize = BATCH * PAYLOAD * BATCHES / 4;

/// Memory that the process holds, in bytes.
fn resident(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

async fn publish(api: &Api, batches: usize) {
    let payload = "x".repeat(PAYLOAD);
    let events = vec![json!({"event_type": "letter", "payload": payload}); BATCH];
    for _ in 0..batches {
        let answer = api.post("/api/v1/events/batch", &json!({"events": events})).await.expect("an answer");
        assert_eq!(answer.status, 202);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let mut server =
        Process::start(&["--listen=127.0.0.1:0", "--allow-cidr=127.0.0.1/32", "--database-url", &url]);
    let api = Api::new(server.url());
    let target = Receiver::start(Duration::ZERO).await;
    let (id, _) = api.subscribe(&target.url, &[]).await;
    let paused = api.post(&format!("/api/v1/subscriptions/{id}/pause"), &json!({})).await.expect("an answer");
    assert_eq!(paused.status, 200);

    publish(&api, WARM_UP).await;
    let before = resident(&server);
    publish(&api, BATCHES).await;
    let after = resident(&server);
    println!("{before} bytes, and {after} with {} more waiting deliveries", BATCH * BATCHES);
    assert!(after < before + ROOM, "it grew from {before} to {after} bytes");
    assert_eq!(target.count(), 0);
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
}
