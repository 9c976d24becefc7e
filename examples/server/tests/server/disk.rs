//! Promise 15 with a disk that is full: a clear no, nothing of what was acknowledged lost, and life goes on when there
//! is room again.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::{Process, binary};
use crate::support::receiver::Receiver;

/// The binary with no file of its own growing past this many blocks of 512 bytes or, with some shells, 1,024. A
/// write past it fails as one on a full disk does.
const BLOCKS: u32 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_and_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let arguments =
        ["--listen=127.0.0.1:0", "--allow-cidr=127.0.0.1/32", "--log=off", "--database-url", &url];
    let receiver = Receiver::start(Duration::ZERO).await;

    let mut shell = Command::new("sh");
    // Ignored signals stay ignored in what is executed: the write then fails rather than the process.
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$0\" \"$@\"")]);
    let plain = binary(&arguments);
    shell.arg(plain.get_program()).args(plain.get_args());
    let mut server = Process::spawn(&mut shell);
    let api = Api::new(server.url());
    api.subscribe(&receiver.url, &[]).await;

    let payload = json!("x".repeat(10_000));
    let mut acknowledged = HashSet::new();
    let refused = loop {
        let body = json!({"event_type": "a", "payload": payload});
        let answer = api.post("/api/v1/events", &body).await.expect("an answer");
        if answer.status != 202 {
            break answer;
        }
        acknowledged.insert(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(acknowledged.len() < 10_000, "the disk is never full");
    };
    assert!(!acknowledged.is_empty());
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (503, &json!("unavailable")));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(api.get("/health").await.expect("an answer").status, 200, "it lives on");
    server.kill();

    let mut server = Process::start(&arguments);
    let api = Api::new(server.url());
    eventually("everything acknowledged has arrived", async || {
        let times = receiver.times();
        acknowledged.iter().all(|id| times.contains_key(id)).then_some(())
    })
    .await;
    assert!(api.publish("a", &payload).await.is_some(), "there is room again");
}
