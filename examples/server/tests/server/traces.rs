//! W3C Trace Context from whoever publishes to whoever receives.

use std::time::Duration;

use axum::http::Method;
use axum::http::StatusCode;
use rustix::process::Signal;
use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::receiver::Receiver;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn serve(directory: &tempfile::TempDir, more: &[&str]) -> Process {
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let base = ["--listen", "127.0.0.1:0", "--allow-cidr", "127.0.0.1/32", "--database-url", &url];
    Process::start(&[&base, more].concat())
}

/// The trace and the step of a header.
fn read(traceparent: &str) -> (String, String) {
    let parts: Vec<_> = traceparent.split('-').collect();
    let ["00", trace, parent, "01"] = parts[..] else { panic!("{traceparent}") };
    assert!(parent.len() == 16 && parent.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{parent}");
    (trace.to_owned(), parent.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_publish_goes_on_over_retries_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let settings = ["--retry", "schedule:50ms,1s", "--lease", "1s"];
    let mut server = serve(&directory, &settings);
    let api = Api::new(server.url());
    let receiver = Receiver::answering(&[500, 500, 200]).await;
    api.subscribe(&receiver.url, &[]).await;
    let given = format!("00-{TRACE}-{PARENT}-01");
    let answer = api.try_publish(&[("traceparent", &given)], "a.b", &json!(1)).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    eventually("two attempts", async || (receiver.count() >= 2).then_some(())).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());

    let mut server = serve(&directory, &settings);
    server.url();
    eventually("the third attempt", async || (receiver.count() >= 3).then_some(())).await;
    let mut steps = vec![PARENT.to_owned()];
    for got in receiver.got() {
        let (trace, step) = read(got.header("traceparent"));
        assert_eq!(trace, TRACE);
        assert!(!steps.contains(&step), "{step} was there before");
        steps.push(step);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_is_taken_on_every_way_in_and_ignored_when_it_is_not_valid() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(&directory, &[]);
    let api = Api::new(server.url());
    let receiver = Receiver::start(Duration::ZERO).await;
    let (subscription, _) = api.subscribe(&receiver.url, &[]).await;
    let good = format!("00-{TRACE}-{PARENT}-01");
    let upper = good.to_uppercase();
    let zeros = format!("00-{}-{PARENT}-01", "0".repeat(32));
    let one = json!({"event_type": "a", "payload": 1});
    let ways = [
        ("/api/v1/events".to_owned(), one.to_string(), 1),
        ("/api/v1/events/batch".to_owned(), json!({"events": [one, one]}).to_string(), 2),
        (format!("/api/v1/ingest/{subscription}"), "{}".to_owned(), 1),
    ];
    let mut sent = 0;
    for (path, body, events) in ways {
        for (headers, is_traced) in [
            (vec![("traceparent", good.as_str())], true),
            (vec![("traceparent", "nonsense")], false),
            (vec![("traceparent", upper.as_str())], false),
            (vec![("traceparent", zeros.as_str())], false),
            (vec![("traceparent", good.as_str()), ("traceparent", good.as_str())], false),
            (vec![("tracestate", "vendor=1")], false),
        ] {
            let headers = [vec![("content-type", "application/json")], headers].concat();
            let answer = api.send(Method::POST, &path, &headers, body.clone()).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{path} {headers:?}: {:?}", answer.body);
            sent += events;
            eventually("they arrive", async || (receiver.count() == sent).then_some(())).await;
            for got in &receiver.got()[sent - events..] {
                let seen = got.headers.get("traceparent").map(|value| read(value.to_str().unwrap()).0);
                assert_eq!(seen.as_deref(), is_traced.then_some(TRACE), "{path} {headers:?}");
                assert!(!got.headers.contains_key("tracestate"), "it is not passed on");
            }
        }
    }
}
