//! Reading what was counted, and what waits in the backends, without letting whoever asks cost anything.
//!
//! What is counted is read at once. What waits is asked of the backends, bounded by them, and what they said is good for
//! a second for everybody who asks: a hundred scrapes at once are one question. A backend that does not answer is
//! asked again a second later; until then its metrics have no series, since an old value would be a lie.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::handle::{Webhooks, in_time};
use super::meters::{Counter, float};
use crate::metrics::{Family, Kind, Value};
use crate::queue::Depth;
use crate::store::{PageRequest, PoolUse};

/// How long an answer of the backends is good.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// Rejected events are counted up to this.
const REJECTED: u32 = 1_000;

/// What the backends said last.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    last: Mutex<Option<(Instant, Waiting)>>,
    store_failures: Counter,
    queue_failures: Counter,
}

/// What waits; none of what could not be read.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    depth: Option<Depth>,
    rejected: Option<usize>,
}

impl Webhooks {
    /// Everything that this engine measures: what its process has counted since its start, and what waits in the
    /// backends, read at most once a second however often it is called.
    ///
    /// It takes at most two seconds, while a backend does not answer; the metrics of that backend have no series then.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn metrics(&self) -> Vec<Family> {
        let waiting = self.waiting().await;
        let mut families = self.inner.meters.read();
        families.extend(self.of_this_process());
        families.extend(of_the_queue(waiting.depth));
        let rejected = waiting.rejected.map(|count| Value::Gauge(float(count as u64)));
        families.push(series(
            Family::new(
                "webhook_inbox_rejected",
                "Events of the inbox that cannot be published and wait for a person, counted up to 1000.",
                Kind::Gauge,
            ),
            rejected.map(|value| ([], value)),
        ));
        let Gauges { store_failures, queue_failures, .. } = &self.inner.gauges;
        families.push(
            Family::new(
                "webhook_backlog_read_failures_total",
                "Reads for these metrics that failed; what they would have told is left out meanwhile.",
                Kind::Counter,
            )
            .with([("source", "store".into())], Value::Counter(store_failures.get()))
            .with([("source", "queue".into())], Value::Counter(queue_failures.get())),
        );
        families
    }

    async fn waiting(&self) -> Waiting {
        let gauges = &self.inner.gauges;
        let mut last = gauges.last.lock().await;
        if let Some((_, waiting)) = last.filter(|(read, _)| read.elapsed() < GOOD_FOR) {
            return waiting;
        }
        let first = PageRequest { before: None, limit: REJECTED };
        let (depth, rejected) = tokio::join!(
            in_time("depth", self.inner.queue.depth()),
            in_time("inbox_rejected", self.inner.store.inbox_rejected(None, first)),
        );
        let count = |failed: bool, failures: &Counter| failures.add(u64::from(failed));
        count(depth.is_err(), &gauges.queue_failures);
        count(rejected.is_err(), &gauges.store_failures);
        let waiting = Waiting { depth: depth.ok(), rejected: rejected.ok().map(|page| page.items.len()) };
        *last = Some((Instant::now(), waiting));
        waiting
    }

    fn of_this_process(&self) -> [Family; 5] {
        let worker = self.inner.worker();
        let limit = worker.as_ref().map_or(0, |worker| worker.concurrency);
        let gauge = Kind::Gauge;
        let mut used =
            Family::new("webhook_store_connections", "Open connections of the store's pools.", gauge);
        let mut most = Family::new(
            "webhook_store_connections_max",
            "Connections that a pool of the store may open.",
            gauge,
        );
        for PoolUse { name, max, open, in_use } in self.inner.store.pools() {
            let number = |count: u32| Value::Gauge(f64::from(count));
            let idle = open.saturating_sub(in_use);
            used = used
                .with([("pool", name.into()), ("state", "in_use".into())], number(in_use))
                .with([("pool", name.into()), ("state", "idle".into())], number(idle));
            most = most.with([("pool", name.into())], number(max));
        }
        [
            Family::gauge(
                "webhook_attempts_in_flight",
                "Attempts of this process that are on the wire or not yet recorded.",
                float(self.in_flight() as u64),
            ),
            Family::gauge(
                "webhook_attempts_in_flight_limit",
                "How many attempts this process may have in flight; 0 when it does not deliver.",
                f64::from(limit),
            ),
            used,
            most,
            Family::new("webhook_build_info", "Always 1; the label is the version of the engine.", gauge)
                .with([("version", env!("CARGO_PKG_VERSION").into())], Value::Gauge(1.0)),
        ]
    }
}

fn of_the_queue(depth: Option<Depth>) -> [Family; 4] {
    let one = |name, help, value: fn(&Depth) -> f64| {
        let value = depth.as_ref().map(|depth| Value::Gauge(value(depth)));
        series(Family::new(name, help, Kind::Gauge), value.map(|value| ([], value)))
    };
    let held = depth.iter().flat_map(|depth| {
        [
            ("paused", depth.paused),
            ("disabled", depth.disabled),
            ("parked", depth.parked),
            ("rate_limited", depth.rate_limited),
        ]
    });
    [
        one(
            "webhook_deliveries_due",
            "Deliveries that are due in lanes that are served, over all processes, counted up to the queue's bound.",
            |depth| float(depth.due),
        ),
        one(
            "webhook_deliveries_scheduled",
            "Deliveries whose next attempt has its time ahead, over all processes, counted up to the queue's bound.",
            |depth| float(depth.scheduled),
        ),
        one(
            "webhook_oldest_due_age_seconds",
            "How long the oldest due delivery has been due; 0 when none is.",
            |depth| depth.oldest_due.unwrap_or_default().as_secs_f64(),
        ),
        series(
            Family::new(
                "webhook_lanes_held",
                "Lanes, one a subscription, with deliveries that wait, by what holds them.",
                Kind::Gauge,
            ),
            held.map(|(reason, lanes)| ([("reason", reason.into())], Value::Gauge(float(lanes)))),
        ),
    ]
}

fn series<const N: usize>(
    family: Family,
    all: impl IntoIterator<Item = ([(&'static str, std::borrow::Cow<'static, str>); N], Value)>,
) -> Family {
    all.into_iter().fold(family, |family, (labels, value)| family.with(labels, value))
}
