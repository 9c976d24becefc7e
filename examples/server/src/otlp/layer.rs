//! The engine's spans as OpenTelemetry's, with the ids that their fields name.
//!
//! The engine draws the ids of a trace, since it sends them to receivers whether or not anybody exports spans. A layer
//! that draws its own, as the usual bridge does, would export spans that no `traceparent` leads to.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use webhook_core::model::TraceParent;
use webhook_core::time::{Clock as _, SystemClock};

/// Passes spans on when they end.
#[derive(Debug)]
pub(super) struct SpanLayer {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
}

impl SpanLayer {
    pub(super) fn new(processor: Arc<BatchSpanProcessor>) -> Self {
        let scope =
            InstrumentationScope::builder("webhook-core").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { processor, scope }
    }
}

/// A span that has not ended.
#[derive(Debug)]
struct Open {
    trace: TraceId,
    span: SpanId,
    parent: SpanId,
    parent_is_remote: bool,
    start: SystemTime,
    fields: Fields,
}

/// What a span says of itself.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<SpanKind>,
    trace: Option<TraceId>,
    span: Option<SpanId>,
    parent: Option<SpanId>,
    unsampled: bool,
    error: Option<String>,
    attributes: Vec<KeyValue>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn text(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.kind" => {
                self.kind = match value {
                    "client" => Some(SpanKind::Client),
                    "producer" => Some(SpanKind::Producer),
                    _ => None,
                }
            }
            "trace_id" => self.trace = TraceId::from_hex(value).ok(),
            "span_id" => self.span = SpanId::from_hex(value).ok(),
            "parent_span_id" => self.parent = SpanId::from_hex(value).ok(),
            "trace_flags" => self.unsampled = value == "00",
            name => {
                if name == "error.type" {
                    self.error = Some(value.to_owned());
                }
                self.add(field, value.to_owned());
            }
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

fn now() -> SystemTime {
    let micros = u64::try_from(SystemClock.now().as_micros()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if fields.unsampled {
            return;
        }
        let around = span.parent().and_then(|around| {
            let around = around.extensions();
            around.get::<Open>().map(|open| (open.trace, open.span))
        });
        // A step of the trace that it names, else of the span around it, else of a trace of its own.
        let drawn = TraceParent::new();
        let (trace, parent, parent_is_remote) = match (fields.trace, around) {
            (Some(trace), _) => (trace, fields.parent.unwrap_or(SpanId::INVALID), fields.parent.is_some()),
            (None, Some((trace, span))) => (trace, span, false),
            (None, None) => (TraceId::from_bytes(drawn.trace_id()), SpanId::INVALID, false),
        };
        let own = fields.span.unwrap_or(SpanId::from_bytes(drawn.parent_id()));
        let open = Open { trace, span: own, parent, parent_is_remote, start: now(), fields };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            record.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(Open { trace, span: own, parent, parent_is_remote, start, fields }) =
            span.extensions_mut().remove::<Open>()
        else {
            return;
        };
        let data = SpanData {
            span_context: SpanContext::new(trace, own, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: parent,
            parent_span_is_remote: parent_is_remote,
            span_kind: fields.kind.unwrap_or(SpanKind::Internal),
            name: span.metadata().name().into(),
            start_time: start,
            end_time: now(),
            attributes: fields.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: fields.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        };
        self.processor.on_end(data);
    }
}
