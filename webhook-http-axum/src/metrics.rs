//! `GET /metrics`: what the engine measures, in Prometheus's text.
//!
//! The format is version 0.0.4 of the text exposition format, which every scraper reads: three kinds of lines, so it
//! is written here and not by a library (`docs/decisions/metrics.md`). The engine owes the names and the values, and
//! that whoever asks often does not cost anything.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use webhook_core::Webhooks;
use webhook_core::metrics::{Distribution, Family, Sample, Value};

/// The media type of the text exposition format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// `GET /metrics` for Prometheus and what reads its text. It needs no key and tells nothing about tenants,
/// subscriptions or targets but how many there are and how they fare; do not put it where the world can read it.
///
/// Merge it into the application's root, beside [`probes`](crate::probes). An application with metrics of its own
/// exports [`Webhooks::metrics`] in its own way instead.
pub fn metrics(webhooks: Webhooks) -> Router {
    let route = routing::get(answer);
    Router::new()
        .route("/metrics", route.clone())
        .route("/metrics/", route)
        .method_not_allowed_fallback(crate::routes::other_method)
        .with_state(webhooks)
}

async fn answer(State(webhooks): State<Webhooks>) -> Response {
    let mut response = text(&webhooks.metrics().await).into_response();
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// All families in the text exposition format. Those without a series keep their description.
fn text(families: &[Family]) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for Family { name, help, kind, samples } in families {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a text cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
        for Sample { labels, value } in samples {
            let labels: Vec<_> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = labels.join(",");
            match value {
                Value::Counter(count) => line(&mut text, name, &labels, count),
                Value::Gauge(value) => line(&mut text, name, &labels, value),
                Value::Histogram(seen) => histogram(&mut text, name, &labels, seen),
            }
        }
    }
    text
}

/// Each bucket holds those below it too.
fn histogram(text: &mut String, name: &str, labels: &str, seen: &Distribution) {
    let separator = if labels.is_empty() { "" } else { "," };
    let bounds = seen.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
    let mut below = 0;
    for (bound, count) in bounds.zip(&seen.counts) {
        below += count;
        line(text, &format!("{name}_bucket"), &format!("{labels}{separator}le=\"{bound}\""), below);
    }
    line(text, &format!("{name}_sum"), labels, seen.sum);
    line(text, &format!("{name}_count"), labels, below);
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use webhook_core::metrics::Kind;

    use super::*;

    #[test]
    fn families_are_written_as_the_format_has_them() {
        let seen = Distribution { bounds: vec![0.005, 2.5], counts: vec![2, 1, 4], sum: 41.5 };
        let families = [
            Family::counter("a_total", "Counts.", 3),
            Family::new("b", "Says \"\\\" and\nmore.", Kind::Gauge)
                .with([("x", "\"\\\n".into()), ("y", "z".into())], Value::Gauge(0.5)),
            Family::new("c_seconds", "Times.", Kind::Histogram).with([], Value::Histogram(seen.clone())),
            Family::new("d_seconds", "Times.", Kind::Histogram).with(
                [("of", "e".into())],
                Value::Histogram(Distribution { bounds: vec![], counts: vec![1], sum: 1.0 }),
            ),
            Family::new("e", "Not known now.", Kind::Gauge),
        ];
        let expected = r#"# HELP a_total Counts.
# TYPE a_total counter
a_total 3
# HELP b Says "\\" and\nmore.
# TYPE b gauge
b{x="\"\\\n",y="z"} 0.5
# HELP c_seconds Times.
# TYPE c_seconds histogram
c_seconds_bucket{le="0.005"} 2
c_seconds_bucket{le="2.5"} 3
c_seconds_bucket{le="+Inf"} 7
c_seconds_sum 41.5
c_seconds_count 7
# HELP d_seconds Times.
# TYPE d_seconds histogram
d_seconds_bucket{of="e",le="+Inf"} 1
d_seconds_sum{of="e"} 1
d_seconds_count{of="e"} 1
# HELP e Not known now.
# TYPE e gauge
"#;
        assert_eq!(text(&families), expected);
    }
}
