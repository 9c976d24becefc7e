//! `webhook-server demo`: what somebody sees who has nothing but the binary.

use rustix::process::Signal;

use crate::support::api::Api;
use crate::support::process::{Process, binary};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_deliveries_failures_and_retries_and_ends_at_ctrl_c() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Process::spawn(binary(&["demo"]).env("TMPDIR", temporary.path()));
    let api = Api::new(demo.url());

    demo.line_with("failed, retry in");
    demo.line_with("delivered on retry");
    demo.line_with("timeout");
    demo.line_with("search goes away");
    demo.line_with("connect");
    demo.line_with("exhausted: a dead letter");
    demo.line_with("── after");
    assert_eq!(api.get("/ready").await.expect("an answer").status, 200);
    let recorded = api.get("/api/v1/attempts?outcome=failed&limit=1").await.expect("an answer");
    assert_eq!(recorded.json()["data"].as_array().unwrap().len(), 1, "the API shows the same history");

    demo.signal(Signal::INT);
    let status = demo.ended();
    assert_eq!(status.code(), Some(0), "stderr: {:#?}", demo.stderr());
    let printed = demo.stdout();
    let totals = printed.iter().find(|line| line.starts_with("totals")).expect("totals");
    assert!(!totals.contains("wrong"), "every signature is right: {totals}");
    assert!(!printed.concat().contains('\x1b'), "no colours without a terminal");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_demos_find_ports_of_their_own_and_end_by_themselves() {
    let mut demos = [0, 1].map(|_| Process::start(&["demo", "--seconds", "3"]));
    let urls = demos.each_mut().map(Process::url);
    assert_ne!(urls[0], urls[1]);
    for demo in &mut demos {
        assert!(demo.ended().success(), "{:#?}", demo.stderr());
        assert!(
            demo.stdout().iter().any(|line| line.starts_with("totals after 3 s")),
            "{:#?}",
            demo.stdout()
        );
    }
}
