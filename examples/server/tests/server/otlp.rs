//! Spans on their way to a collector, which is a little receiver here that reads protobuf by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::{Process, binary};
use crate::support::receiver::{Got, Receiver};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A field of a protobuf message: its number and its bytes, or its number's own.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first().expect("a byte");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a varint ends");
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => varint(&mut bytes).to_be_bytes().to_vec(),
            kind => {
                let length = match kind {
                    1 => 8,
                    2 => usize::try_from(varint(&mut bytes)).unwrap(),
                    5 => 4,
                    other => panic!("wire type {other}"),
                };
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                value.to_vec()
            }
        };
        found.push((tag >> 3, value));
    }
    found
}

fn all(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|(found, _)| *found == number).map(|(_, value)| value).collect()
}

fn one(message: &[u8], number: u64) -> Vec<u8> {
    all(message, number).into_iter().next().unwrap_or_default()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keys with their values, numbers in decimal.
fn attributes(message: &[u8], number: u64) -> BTreeMap<String, String> {
    let value = |any: &[u8]| match fields(any).into_iter().next() {
        Some((1, value)) => text(value),
        Some((3, value)) => i64::from_be_bytes(value.try_into().unwrap()).to_string(),
        other => panic!("{other:?}"),
    };
    all(message, number).iter().map(|pair| (text(one(pair, 1)), value(&one(pair, 2)))).collect()
}

/// A span as `opentelemetry/proto/trace/v1/trace.proto` has it.
#[derive(Debug)]
struct Span {
    service: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u8,
    attributes: BTreeMap<String, String>,
}

fn spans(requests: &[Got]) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in requests {
        assert_eq!(request.path, "/v1/traces");
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        for resource in all(&request.body, 1) {
            let service = attributes(&one(&resource, 1), 1).remove("service.name").expect("a name");
            for scope in all(&resource, 2) {
                spans.extend(all(&scope, 2).iter().map(|span| Span {
                    service: service.clone(),
                    trace: hex(&one(span, 1)),
                    id: hex(&one(span, 2)),
                    parent: hex(&one(span, 4)),
                    name: text(one(span, 5)),
                    kind: one(span, 6).last().copied().unwrap_or(0),
                    attributes: attributes(span, 9),
                }));
            }
        }
    }
    spans
}

fn serve(directory: &tempfile::TempDir, collector: &str) -> Process {
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let mut command =
        binary(&["--listen", "127.0.0.1:0", "--allow-cidr", "127.0.0.1/32", "--database-url", &url]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    Process::spawn(&mut command)
}

/// What a receiver saw in `traceparent` is what the collector gets.
#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_under_the_ids_that_receivers_see() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Receiver::start(Duration::ZERO).await;
    let mut server = serve(&directory, collector.url.trim_end_matches("/hooks"));
    let api = Api::new(server.url());
    let receiver = Receiver::answering(&[503]).await;
    api.subscribe(&receiver.url, &[]).await;
    let given = format!("00-{TRACE}-{PARENT}-01");
    api.try_publish(&[("traceparent", &given)], "order.created", &json!("payload-secret"))
        .await
        .expect("an answer");
    // One without a trace begins its own.
    api.publish("order.paid", &json!("payload-secret")).await.expect("acknowledged");
    eventually("both arrive", async || (receiver.count() >= 2).then_some(())).await;
    let seen = eventually("their spans", async || {
        let seen = spans(&collector.got());
        let count = |name| seen.iter().filter(|span| span.name == name).count();
        (count("attempt") >= 2 && count("publish") >= 2 && count("record") >= 1).then_some(seen)
    })
    .await;

    assert!(seen.iter().all(|span| span.service == "webhook-server"), "{seen:#?}");
    let named =
        |name, trace: &str| seen.iter().find(|span| span.name == name && span.trace == trace).unwrap();
    let publish = named("publish", TRACE);
    assert_eq!(
        (publish.parent.as_str(), publish.kind),
        (PARENT, 4),
        "a producer, and a step of the caller's"
    );
    for got in receiver.got() {
        let header: Vec<_> = got.header("traceparent").split('-').collect();
        let attempt = named("attempt", header[1]);
        assert_eq!((attempt.id.as_str(), attempt.kind), (header[2], 3), "a client");
        assert_eq!(attempt.attributes["http.request.method"], "POST");
        assert_eq!(attempt.attributes["server.address"], "127.0.0.1");
        let status = attempt.attributes["http.response.status_code"].as_str();
        let error = attempt.attributes.get("error.type").map(String::as_str);
        assert!(matches!((status, error), ("200", None) | ("503", Some("503"))), "{attempt:?}");
    }
    let begun = seen.iter().find(|span| span.name == "publish" && span.trace != TRACE).unwrap();
    let attempt = named("attempt", &begun.trace);
    assert_eq!(
        (begun.parent.as_str(), attempt.parent.as_str()),
        ("", begun.id.as_str()),
        "the root and its step"
    );
    for request in collector.got() {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(!body.contains("payload-secret") && !body.contains("/hooks"), "{body}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_delays_nothing_and_the_server_stops() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing listens there any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = serve(&directory, &format!("http://127.0.0.1:{port}"));
    let api = Api::new(server.url());
    let receiver = Receiver::start(Duration::ZERO).await;
    api.subscribe(&receiver.url, &[]).await;
    for event in 0..50 {
        api.publish("a", &json!(event)).await.expect("acknowledged");
    }
    api.all_finished().await;
    assert_eq!(receiver.distinct(), 50);
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
}
