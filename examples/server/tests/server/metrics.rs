//! `GET /metrics`, read by a parser that forgives nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::receiver::{Receiver, Silent};

/// What a scrape says, by the rules of the text exposition format 0.0.4.
#[derive(Debug, Default)]
struct Scrape {
    /// Help and type of each metric.
    described: BTreeMap<String, (String, String)>,
    /// Each series as `name{labels}`, labels as they stand.
    series: BTreeMap<String, f64>,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl Scrape {
    /// # Panics
    /// When a line is not of the format, or stands where it may not.
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut current = String::new();
        assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'), "lines");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a help");
                let kind =
                    lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("its type follows");
                let (same, kind) = kind.split_once(' ').expect("a name and a type");
                assert_eq!(name, same);
                assert!(is_name(name) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
                current = name.to_owned();
                let earlier = scrape.described.insert(current.clone(), (help.to_owned(), kind.to_owned()));
                assert_eq!(earlier, None, "{name} is described once");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let name = series.split('{').next().unwrap();
            let kind = &scrape.described[&current].1;
            let is_its_own = match kind.as_str() {
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{current}{end}"))
                }
                _ => name == current,
            };
            assert!(is_its_own, "{line} stands under {current}");
            if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                let labels =
                    labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect("labels");
                for label in labels.split("\",") {
                    let (label, value) = label.split_once("=\"").expect("a label");
                    assert!(is_name(label) && !value.trim_end_matches('"').contains(['"', '\\']), "{line}");
                }
            }
            let value: f64 = value.parse().expect("a number");
            assert!(kind != "counter" || (value >= 0.0 && value.fract() == 0.0), "{line}");
            assert_eq!(scrape.series.insert(series.to_owned(), value), None, "{line} stands twice");
        }
        scrape.check_histograms();
        scrape
    }

    /// Buckets grow, and the last holds all.
    fn check_histograms(&self) {
        for (name, _) in self.described.iter().filter(|(_, (_, kind))| kind == "histogram") {
            let prefix = format!("{name}_bucket{{le=\"");
            let buckets = self.series.iter().filter_map(|(series, count)| {
                let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound") }, *count))
            });
            let mut buckets: Vec<(f64, f64)> = buckets.collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}");
            let last = buckets.last().expect("buckets");
            assert!(last.0.is_infinite());
            assert_eq!(last.1, self.value(&format!("{name}_count")), "{name}");
            assert!(self.value(&format!("{name}_sum")) >= 0.0);
        }
    }

    fn value(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.series))
    }
}

async fn scrape(api: &Api) -> Scrape {
    let answer = api.get("/metrics").await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Scrape::parse(std::str::from_utf8(&answer.body).unwrap())
}

fn serve(directory: &tempfile::TempDir, more: &[&str]) -> Process {
    let url = format!("sqlite://{}", directory.path().join("webhooks.db").display());
    let base = ["--listen", "127.0.0.1:0", "--allow-cidr", "127.0.0.1/32", "--database-url", &url];
    Process::start(&[&base, more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_of_a_server_are_what_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(&directory, &["--retry", "schedule:10ms", "--timeout", "200ms"]);
    let api = Api::new(server.url());
    let receiver = Receiver::start(Duration::from_millis(20)).await;
    let silent = Silent::start().await;
    api.subscribe(&receiver.url, &["good"]).await;
    api.subscribe(&silent.url, &["bad"]).await;
    let (paused, _) = api.subscribe(&receiver.url, &["later"]).await;
    api.send(Method::POST, &format!("/api/v1/subscriptions/{paused}/pause"), &[], "")
        .await
        .expect("an answer");
    for event in 0..20 {
        api.publish("good", &json!(event)).await.expect("acknowledged");
    }
    for key in ["first", "first", "second"] {
        api.publish_once(key, "bad", &json!(1)).await.expect("acknowledged");
    }
    api.publish("later", &json!(1)).await.expect("acknowledged");
    api.publish("nobody", &json!(1)).await.expect("acknowledged, though nobody wants it");
    let refused = api.post("/api/v1/events", &json!({"event_type": "no type", "payload": 1})).await;
    assert_eq!(refused.expect("an answer").status, 422);

    let done = eventually("all but the paused one have ended", async || {
        let seen = scrape(&api).await;
        let ended = |outcome| seen.value(&format!("webhook_deliveries_total{{outcome=\"{outcome}\"}}"));
        (ended("succeeded") == 20.0 && ended("exhausted") == 2.0).then_some(seen)
    })
    .await;
    let attempts = |outcome, kind| {
        done.value(&format!("webhook_attempts_total{{outcome=\"{outcome}\",kind=\"{kind}\"}}"))
    };
    assert_eq!((attempts("succeeded", "none"), attempts("failed", "timeout")), (20.0, 4.0));
    assert_eq!((attempts("failed", "connect"), attempts("unknown", "none")), (0.0, 0.0));
    for (series, value) in [
        ("webhook_events_published_total", 24.0),
        ("webhook_events_duplicate_total", 1.0),
        ("webhook_deliveries_created_total", 23.0),
        ("webhook_deliveries_total{outcome=\"cancelled\"}", 0.0),
        ("webhook_attempt_duration_seconds_count", 24.0),
        ("webhook_attempt_duration_seconds_bucket{le=\"0.01\"}", 0.0),
        ("webhook_delivery_latency_seconds_count", 20.0),
        ("webhook_attempts_in_flight_limit", 512.0),
    ] {
        assert_eq!(done.value(series), value, "{series}");
    }
    assert!(done.value("webhook_attempt_duration_seconds_sum") >= 20.0 * 0.02 + 4.0 * 0.2);
    assert!(done.value("webhook_store_connections_max{pool=\"readers\"}") >= 1.0);
    // Read from the queue, at most once a second, and of no process in particular.
    eventually("nothing is in flight, and one lane is held", async || {
        let seen = scrape(&api).await;
        let held = seen.value("webhook_lanes_held{reason=\"paused\"}");
        let (flying, due) = (seen.value("webhook_attempts_in_flight"), seen.value("webhook_deliveries_due"));
        (held == 1.0 && flying == 0.0 && due == 0.0).then_some(())
    })
    .await;
    let again = scrape(&api).await;
    for (series, before) in &done.series {
        if series.split('{').next().unwrap().ends_with("_total") {
            assert!(again.value(series) >= *before, "{series}");
        }
    }
    // No series for a subscription, a tenant or an event.
    let named = again.series.keys().find(|series| series.contains(&paused) || series.contains("default"));
    assert_eq!(named, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_open_without_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(&directory, &["--api-key", "a-key-of-sixteen-characters"]);
    let api = Api::new(server.url());
    assert_eq!(api.get("/api/v1/events").await.expect("an answer").status, 401);
    assert_eq!(scrape(&api).await.value("webhook_events_published_total"), 0.0);
    assert_eq!(api.get("/metrics/").await.expect("an answer").status, 200);
}

/// The rows of the page's tables, as name, type and meaning.
fn documented() -> BTreeMap<String, (String, String)> {
    let page = include_str!("../../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| `webhook_")?.split(" | ").collect();
        let [name, kind, _labels, meaning] = cells.as_slice() else { panic!("four cells in {line}") };
        let meaning = meaning.strip_suffix(" |").expect("the end of a row");
        Some((format!("webhook_{}", name.trim_end_matches('`')), (meaning.to_owned(), (*kind).to_owned())))
    });
    rows.collect()
}

/// The labels that the page has for each metric.
fn documented_labels(name: &str) -> BTreeSet<String> {
    let page = include_str!("../../../../docs/metrics.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).expect("a row");
    let labels = row.split(" | ").nth(2).expect("labels");
    labels.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_has_each_with_its_type_labels_and_meaning() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = serve(&directory, &[]);
    let seen = scrape(&Api::new(server.url())).await;
    assert_eq!(seen.described, documented());
    for (series, _) in seen.series.iter().filter(|(series, _)| series.contains('{')) {
        let (name, labels) = series.split_once('{').unwrap();
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        let labels = labels.split(',').map(|label| label.split('=').next().unwrap().to_owned());
        let labels: BTreeSet<String> = labels.filter(|label| label != "le").collect();
        assert_eq!(labels, documented_labels(name), "{name}");
    }
}
