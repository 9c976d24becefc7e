//! Spans to an OpenTelemetry collector, when the binary is built with the feature `otlp` and the environment names one
//! by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and what belongs to it).
//!
//! What it owes the service: nothing waits for a collector, memory is bounded while there is none, and what is left is
//! sent once more at a stop, within a bounded time. Without the feature, or without the variables, there is no exporter
//! and spans cost nothing.

#[cfg(feature = "otlp")]
mod exporter;
#[cfg(feature = "otlp")]
mod layer;

#[cfg(feature = "otlp")]
pub(crate) use exporter::Exporter;

/// Whether spans are exported by this process.
pub(crate) fn is_configured() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_disabled =
        std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let is_named = is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    cfg!(feature = "otlp") && is_named && !is_disabled
}

/// There is none in this build.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
pub(crate) enum Exporter {}

#[cfg(not(feature = "otlp"))]
impl Exporter {
    /// # Errors
    /// None here.
    pub(crate) fn from_environment() -> Result<Option<Self>, crate::report::Failure> {
        Ok(None)
    }

    pub(crate) fn layer(&self) -> crate::logging::Spans {
        match *self {}
    }

    pub(crate) fn stop(self) {
        match self {}
    }
}
