//! `webhook-server listen`, with signatures made by the reference implementation of Standard Webhooks.

use axum::http::Method;
use rustix::process::Signal;
use standardwebhooks::Webhook;
use webhook_core::time::{Clock as _, SystemClock};

use crate::support::api::{Answer, Api};
use crate::support::process::Process;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn now() -> i64 {
    SystemClock.now().as_seconds()
}

/// Sends `body` with a signature over `signed`.
async fn send(url: &str, signed: &str, body: &str, timestamp: i64) -> Answer {
    let signature = Webhook::new(SECRET).unwrap().sign("msg_1", timestamp, signed.as_bytes()).unwrap();
    let timestamp = timestamp.to_string();
    let headers = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", timestamp.as_str()),
        ("webhook-signature", signature.as_str()),
        ("webhook-event-type", "order.paid"),
        ("webhook-attempt", "1"),
    ];
    Api::new(url).send(Method::POST, "/hooks?a=1", &headers, body.to_owned()).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_signature_is_taken_and_any_other_is_401() {
    let mut listen = Process::start(&["listen", "--port", "0", "--secret", SECRET]);
    let url = listen.url();
    let body = r#"{"id":1}"#;
    assert_eq!(send(&url, body, body, now()).await.status, 200);
    assert_eq!(send(&url, body, r#"{"id":2}"#, now()).await.status, 401);
    assert_eq!(send(&url, body, body, now() - 3600).await.status, 401, "an old request sent again");
    let bare = Api::new(&url).send(Method::POST, "/", &[], body).await.expect("an answer");
    assert_eq!(bare.status, 401, "no signature");

    let line = listen.line_with("signature ok");
    for part in ["200", "POST /hooks?a=1", "order.paid", "msg_1", "attempt=1", "8 bytes"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    listen.line_with(body);
    listen.line_with("REFUSED");
    assert!(!listen.stdout().concat().contains(SECRET));

    listen.signal(Signal::INT);
    assert!(listen.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_requests_fail_when_asked() {
    let mut listen =
        Process::start(&["listen", "--port=0", "--fail-first=2", "--status=202", "--delay-ms=20"]);
    let api = Api::new(listen.url());
    let mut statuses = Vec::new();
    for path in ["/a", "/b", "/a", "/b"] {
        statuses.push(api.send(Method::POST, path, &[], "{}").await.expect("an answer").status.as_u16());
    }
    assert_eq!(statuses, [500, 500, 202, 202], "the first two overall, whatever their path");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_cannot_drive_the_terminal() {
    let mut listen = Process::start(&["listen", "--port=0"]);
    let api = Api::new(listen.url());
    let body = "line one\n\x1b[2Jline two\u{202e}\r\x07";
    assert_eq!(api.send(Method::POST, "/", &[("webhook-id", "a\tb")], body).await.unwrap().status, 200);
    assert_eq!(listen.line_with("line two"), r"    \u{1b}[2Jline two\u{202e}\r\u{7}");
    let printed = listen.stdout().join("\n");
    assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_nobody_reads_its_output() {
    let command = format!("{} listen --port 0 | head -n 1", env!("CARGO_BIN_EXE_webhook-server"));
    let mut shell = Process::spawn(std::process::Command::new("sh").args(["-c", &command]));
    let api = Api::new(shell.url());
    // `head` has left once its line is here; from then on the next line has no reader.
    crate::support::eventually("the receiver is gone", async || {
        api.send(Method::POST, "/", &[], "{}").await.is_none().then_some(())
    })
    .await;
    assert!(shell.ended().success());
}
