//! The way to a collector: protobuf over HTTP, by a client on the workspace's one TLS stack.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanProcessor as _};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};

use super::layer::SpanLayer;
use crate::logging::Spans;
use crate::report::Failure;

/// Longest wait at a stop for the last spans to leave.
const LAST: Duration = Duration::from_secs(5);
/// Longest wait for one answer of a collector, as OpenTelemetry has it.
const ANSWER: Duration = Duration::from_secs(10);
/// Variables that say otherwise, in milliseconds; the first holds.
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// Sends spans to a collector, in batches, by a thread of its own. A queue that is full drops spans.
#[derive(Debug)]
pub(crate) struct Exporter {
    processor: Arc<BatchSpanProcessor>,
}

impl Exporter {
    /// The exporter that the environment asks for, if it does. To be called outside of a runtime, whose threads its
    /// client would block.
    ///
    /// # Errors
    /// When OpenTelemetry's variables say what cannot be done.
    pub(crate) fn from_environment() -> Result<Option<Self>, Failure> {
        if !super::is_configured() {
            return Ok(None);
        }
        let tls = webhook_dial::tls_config(&[]).map_err(Failure::start)?;
        let client = reqwest::blocking::Client::builder()
            .tls_backend_preconfigured(tls)
            // Set here, since the exporter leaves it to a client that it was given.
            .timeout(answer_time(|name| std::env::var(name).ok()))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::Start(format!("no client for OpenTelemetry: {error}")))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| Failure::Start(format!("OTEL_EXPORTER_OTLP_…: {error}")))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource());
        Ok(Some(Self { processor: Arc::new(processor) }))
    }

    /// What passes the engine's spans on to it, whatever the log shows.
    pub(crate) fn layer(&self) -> Spans {
        let is_the_engines = |target: &str| target == "webhook_core" || target.starts_with("webhook_core::");
        let wanted = filter_fn(move |meta| meta.is_span() && is_the_engines(meta.target()))
            .with_max_level_hint(LevelFilter::DEBUG);
        SpanLayer::new(Arc::clone(&self.processor)).with_filter(wanted).boxed()
    }

    /// Sends what is left. To be called outside of a runtime.
    pub(crate) fn stop(self) {
        if let Err(error) = self.processor.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans may not have reached the collector");
        }
    }
}

/// Longest wait for one answer. What is no number is left to the next variable, as OpenTelemetry has it; so is 0, by which
/// nothing could be sent.
fn answer_time(variable: impl Fn(&str) -> Option<String>) -> Duration {
    let given =
        TIMEOUTS.iter().find_map(|name| variable(name)?.trim().parse().ok().filter(|millis| *millis > 0));
    given.map_or(ANSWER, Duration::from_millis)
}

/// Who we are, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&"service.name".into()).map(|name| name.to_string());
    let is_named = name.is_some_and(|name| !name.starts_with("unknown_service"));
    let ours =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if is_named { ours.build() } else { ours.with_service_name("webhook-server").build() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_traces_wins_over_that_of_all_signals() {
        for (traces, all, expected) in [
            (None, None, ANSWER),
            (None, Some("300"), Duration::from_millis(300)),
            (Some("200"), Some("300"), Duration::from_millis(200)),
            (Some("soon"), Some("300"), Duration::from_millis(300)),
            (Some("0"), Some(""), ANSWER),
        ] {
            let variable = |name: &str| if name == TIMEOUTS[0] { traces } else { all }.map(str::to_owned);
            assert_eq!(answer_time(variable), expected, "{traces:?} {all:?}");
        }
    }
}
