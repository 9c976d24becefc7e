//! What an engine measures, as plain data.
//!
//! The engine counts in atomics of its own and knows no library for metrics: an application has one already, or
//! none. [`Webhooks::metrics`](crate::Webhooks::metrics) reads all of them at once; whoever exports them goes
//! through the [`Family`]s, whose names, help and units follow Prometheus's conventions. `webhook-http-axum` writes
//! them as Prometheus's text (`metrics`). They are listed in `docs/metrics.md`.
//!
//! No label names a tenant, a subscription or a target: the number of series does not grow with what is stored.
//!
//! ```
//! use webhook_core::metrics::{Family, Value};
//!
//! /// How many attempts failed, for whatever reason.
//! fn failed(families: &[Family]) -> u64 {
//!     let attempts = families.iter().filter(|family| family.name == "webhook_attempts_total");
//!     let failed = attempts.flat_map(|family| &family.samples).filter(|sample| sample.has("outcome", "failed"));
//!     failed.map(|sample| if let Value::Counter(count) = sample.value { count } else { 0 }).sum()
//! }
//! ```

use std::borrow::Cow;

/// One metric with all its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name, with its unit: `webhook_attempts_total`.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// A value for each combination of labels; none when it could not be read.
    pub samples: Vec<Sample>,
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// The name that Prometheus's text has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One series of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What tells it from the metric's other series.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// What was measured.
    pub value: Value,
}

impl Sample {
    /// Whether the label has this value.
    #[must_use]
    pub fn has(&self, label: &str, value: &str) -> bool {
        self.labels.iter().any(|(name, found)| *name == label && found == value)
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram.
    Histogram(Distribution),
}

/// Observations by size.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// The buckets' upper bounds, included, in the metric's unit, rising.
    pub bounds: Vec<f64>,
    /// How many observations fell into each bucket and into none before it; the last one, beyond all bounds, makes
    /// it one more than `bounds`.
    pub counts: Vec<u64>,
    /// All observations together, in the metric's unit.
    pub sum: f64,
}

impl Distribution {
    /// How many observations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Family {
    /// A counter without labels.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, count: u64) -> Self {
        Self::new(name, help, Kind::Counter).with([], Value::Counter(count))
    }

    /// A gauge without labels.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self::new(name, help, Kind::Gauge).with([], Value::Gauge(value))
    }

    /// A metric without a series yet.
    #[must_use]
    pub fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    /// With one series more.
    #[must_use]
    pub fn with<const N: usize>(
        mut self,
        labels: [(&'static str, Cow<'static, str>); N],
        value: Value,
    ) -> Self {
        self.samples.push(Sample { labels: labels.into(), value });
        self
    }
}
