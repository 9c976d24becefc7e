//! Statistics as they are read.

use std::time::Duration;

use serde::Serialize;
use webhook_core::engine::Statistics;
use webhook_core::id::SubscriptionId;
use webhook_core::stats::{Backlog, Histogram, Worst};

/// The statistics of a tenant, of a subscription or of all.
#[derive(Debug, Serialize)]
pub(crate) struct StatsJson<'a> {
    window: &'a str,
    events: u64,
    deliveries: DeliveriesJson,
    attempts: AttemptsJson,
    success_rate: Option<f64>,
    latency_ms: LatencyJson,
    backlog: BacklogJson,
    worst_subscriptions: Vec<WorstJson>,
}

#[derive(Debug, Serialize)]
struct DeliveriesJson {
    pending: u64,
    retrying: u64,
    succeeded: u64,
    exhausted: u64,
    cancelled: u64,
}

#[derive(Debug, Serialize)]
struct AttemptsJson {
    succeeded: u64,
    failed: u64,
    unknown: u64,
}

#[derive(Debug, Serialize)]
struct LatencyJson {
    p50: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
}

#[derive(Debug, Serialize)]
struct BacklogJson {
    due: u64,
    scheduled: u64,
    waiting: u64,
    oldest_due_age_ms: u64,
    more: bool,
}

#[derive(Debug, Serialize)]
struct WorstJson {
    subscription_id: SubscriptionId,
    succeeded: u64,
    failed: u64,
}

/// A window may hold what took something back and not what it took back.
fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Rounded up: nothing takes no time.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn percentile(latency: &Histogram, share: f64) -> Option<u64> {
    latency.percentile(share).map(millis)
}

impl<'a> StatsJson<'a> {
    pub(crate) fn of(window: &'a str, statistics: &Statistics) -> Self {
        let Statistics { counts, worst, backlog } = statistics;
        Self {
            window,
            events: count(counts.events),
            deliveries: DeliveriesJson {
                pending: backlog.pending,
                retrying: backlog.retrying,
                succeeded: count(counts.succeeded),
                exhausted: count(counts.exhausted),
                cancelled: count(counts.cancelled),
            },
            attempts: AttemptsJson {
                succeeded: count(counts.attempts_succeeded),
                failed: count(counts.attempts_failed),
                unknown: count(counts.attempts_unknown),
            },
            success_rate: counts.success_rate(),
            latency_ms: LatencyJson {
                p50: percentile(&counts.latency, 0.5),
                p95: percentile(&counts.latency, 0.95),
                p99: percentile(&counts.latency, 0.99),
            },
            backlog: BacklogJson::of(backlog),
            worst_subscriptions: worst.iter().map(WorstJson::of).collect(),
        }
    }
}

impl BacklogJson {
    fn of(backlog: &Backlog) -> Self {
        Self {
            due: backlog.due,
            scheduled: backlog.scheduled,
            waiting: backlog.waiting,
            oldest_due_age_ms: backlog.oldest_due.map_or(0, millis),
            more: backlog.more,
        }
    }
}

impl WorstJson {
    fn of(worst: &Worst) -> Self {
        Self {
            subscription_id: worst.subscription_id,
            succeeded: count(worst.succeeded),
            failed: count(worst.failed),
        }
    }
}
