//! What a trace shows of the engine's work, in the names of OpenTelemetry's semantic conventions.
//!
//! All spans are at `debug`: while nobody asks for that level, one costs the look at a static and its fields are not
//! even computed. What stands in a field may end in anybody's log: ids, sizes, names, codes. Never a payload, a
//! header's value, a secret; and of a URL neither its query nor its path, since both carry the keys of many services
//! (Slack's and Discord's hooks among them).
//!
//! `trace_id`, `span_id`, `parent_span_id` and `trace_flags` are what receivers see in `traceparent`, so that whoever
//! exports spans can give them these. A span without them begins a trace of its own.

use std::fmt;

use tracing::field::{Empty, display};
use tracing::{Span, debug_span};
use url::{Position, Url};

use super::worker::Ready;
use crate::deliver::Exchange;
use crate::model::{Event, TraceParent};
use crate::queue::Lease;

/// The publish of one event; `given` says that its trace was its publisher's and not begun here.
pub(super) fn publish(event: &Event, given: bool) -> Span {
    let trace = event.traceparent;
    debug_span!(
        "publish",
        "otel.kind" = "producer",
        "messaging.system" = "webhook",
        "messaging.operation.type" = "send",
        "messaging.operation.name" = "publish",
        "messaging.message.id" = %event.id,
        "messaging.message.body.size" = event.payload.len(),
        "webhook.event_type" = event.event_type.as_str(),
        "webhook.tenant" = event.tenant.as_str(),
        "webhook.deliveries" = Empty,
        "error.type" = Empty,
        trace_id = trace.map(|trace| display(Hex(trace.trace_id()))),
        span_id = trace.map(|trace| display(Hex(if given { trace.child() } else { trace }.parent_id()))),
        parent_span_id = trace.filter(|_| given).map(|trace| display(Hex(trace.parent_id()))),
        trace_flags = trace.map(flags),
    )
}

/// One commit of events.
pub(super) fn commit(events: usize) -> Span {
    debug_span!("commit", "messaging.batch.message_count" = events)
}

/// One claim of jobs.
pub(super) fn claim() -> Span {
    debug_span!(
        "claim",
        "messaging.system" = "webhook",
        "messaging.operation.type" = "receive",
        "messaging.operation.name" = "claim",
        "messaging.batch.message_count" = Empty,
    )
}

/// One commit of results.
pub(super) fn record(results: usize) -> Span {
    debug_span!("record", "messaging.batch.message_count" = results)
}

/// One attempt, as this step of the event's trace.
pub(super) fn attempt(lease: &Lease, ready: &Ready, step: Option<TraceParent>) -> Span {
    let Ready { state, event, endpoint } = ready;
    let url = &endpoint.subscription.target_url;
    debug_span!(
        "attempt",
        "otel.kind" = "client",
        "http.request.method" = "POST",
        "http.request.resend_count" = (state.attempts > 0).then_some(state.attempts),
        "http.request.body.size" = event.payload.len(),
        "http.response.status_code" = Empty,
        "url.full" = %Shown(url),
        "server.address" = url.host_str(),
        "server.port" = url.port_or_known_default(),
        "error.type" = Empty,
        "messaging.message.id" = %event.id,
        "webhook.event_type" = event.event_type.as_str(),
        "webhook.tenant" = event.tenant.as_str(),
        "webhook.delivery.id" = %lease.id,
        "webhook.subscription.id" = %lease.lane,
        trace_id = step.map(|step| display(Hex(step.trace_id()))),
        span_id = step.map(|step| display(Hex(step.parent_id()))),
        parent_span_id = event.traceparent.map(|given| display(Hex(given.parent_id()))),
        trace_flags = step.map(flags),
    )
}

/// How an attempt ended. `error.type` is the status of an answer that is none of success, or the kind of error.
pub(super) fn answered(span: &Span, exchange: &Exchange) {
    if span.is_disabled() {
        return;
    }
    match &exchange.result {
        Ok(answer) => {
            span.record("http.response.status_code", answer.status);
            if !(200..300).contains(&answer.status) {
                span.record("error.type", display(answer.status));
            }
        }
        Err(error) => {
            span.record("error.type", error.kind.as_str());
        }
    }
}

/// Whether the trace is recorded, as a log record has it.
fn flags(trace: TraceParent) -> &'static str {
    if trace.is_sampled() { "01" } else { "00" }
}

/// An id as it stands in `traceparent`.
struct Hex<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A target without what may be a secret: scheme, host and port.
struct Shown<'a>(&'a Url);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.0;
        write!(f, "{}://{}/", url.scheme(), &url[Position::BeforeHost..Position::BeforePath])?;
        if url.path() == "/" { Ok(()) } else { f.write_str("REDACTED") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://user:pass@example.com/hook?token=t#f", "https://example.com/REDACTED"),
            ("https://hooks.slack.com/services/T0/B0/secret", "https://hooks.slack.com/REDACTED"),
            ("http://[2001:db8::1]:8080/?key=k", "http://[2001:db8::1]:8080/"),
            ("http://example.com", "http://example.com/"),
        ] {
            assert_eq!(Shown(&Url::parse(url).unwrap()).to_string(), shown);
        }
    }

    #[test]
    fn ids_are_written_as_in_traceparent() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace: TraceParent = given.parse().unwrap();
        assert_eq!(format!("00-{}-{}-01", Hex(trace.trace_id()), Hex(trace.parent_id())), given);
    }
}
