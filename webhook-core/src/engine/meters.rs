//! What the parts of the engine count, and how it is read.
//!
//! Counting is a relaxed addition to an atomic and takes no lock, allocates nothing and looks up nothing, so that the
//! hot path does not feel it. Nothing is decided by what is counted. Names and help of the metrics stand in
//! [`read`](Meters::read) and nowhere else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::{Distribution, Family, Kind, Value};
use crate::model::{DeliveryStatus, ErrorKind, Outcome};

/// Only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters for the values of a label.
#[derive(Debug)]
pub(super) struct Counters<const N: usize> {
    names: [&'static str; N],
    counts: [Counter; N],
}

impl<const N: usize> Counters<N> {
    fn new(names: [&'static str; N]) -> Self {
        Self { names, counts: std::array::from_fn(|_| Counter::default()) }
    }

    /// Counts under one of the names that it was made with; under no other. For what happens rarely.
    fn add_by_name(&self, name: &str, more: u64) {
        if let Some(place) = self.names.iter().position(|known| *known == name) {
            self.counts[place].add(more);
        }
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.iter().copied().zip(self.counts.iter().map(Counter::get))
    }

    fn family(&self, name: &'static str, help: &'static str, label: &'static str) -> Family {
        self.each().fold(Family::new(name, help, Kind::Counter), |family, (value, count)| {
            family.with([(label, value.into())], Value::Counter(count))
        })
    }
}

/// Counts whole numbers by size: microseconds, or things in a batch.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    /// One a bound, and one for what is beyond.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// How many of these make one of the metric's unit.
    unit: f64,
}

impl Histogram {
    /// Of durations, by bounds in microseconds; in seconds to whoever reads it.
    fn of_time(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1e6)
    }

    fn of_sizes(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1.0)
    }

    fn new(bounds: &'static [u64], unit: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0), unit }
    }

    pub(super) fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn took(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn size(&self, things: usize) {
        self.observe(things as u64);
    }

    fn family(&self, name: &'static str, help: &'static str) -> Family {
        let bounds = self.bounds.iter().map(|bound| float(*bound) / self.unit).collect();
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = float(self.sum.load(Ordering::Relaxed)) / self.unit;
        let value = Value::Histogram(Distribution { bounds, counts, sum });
        Family::new(name, help, Kind::Histogram).with([], value)
    }
}

/// Metrics are floats; beyond 2⁵³ the last digits do not matter.
#[allow(clippy::cast_precision_loss, reason = "see above")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * SECOND;

/// Of one exchange: a second is where a lane becomes slow, 15 s the default deadline, 300 s the longest.
const EXCHANGE: &[u64] = &[
    MS,
    5 * MS / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    5 * SECOND / 2,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    300 * SECOND,
];
/// From publish to success: the first attempt at once, the last after days.
const LATENCY: &[u64] = &[
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    5 * SECOND / 2,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    300 * SECOND,
    HOUR / 2,
    2 * HOUR,
    6 * HOUR,
    24 * HOUR,
    72 * HOUR,
];
/// Of one commit.
const COMMIT: &[u64] = &[
    MS / 2,
    MS,
    5 * MS / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    5 * SECOND / 2,
    5 * SECOND,
];
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// In the order of [`Meters::ended`].
const ENDS: [&str; 3] = [
    DeliveryStatus::Succeeded.as_str(),
    DeliveryStatus::Exhausted.as_str(),
    DeliveryStatus::Cancelled.as_str(),
];

/// In the order of [`ErrorKind`].
const KINDS: [&str; 10] = [
    ErrorKind::Dns.as_str(),
    ErrorKind::Connect.as_str(),
    ErrorKind::Tls.as_str(),
    ErrorKind::Timeout.as_str(),
    ErrorKind::Reset.as_str(),
    ErrorKind::Protocol.as_str(),
    ErrorKind::Blocked.as_str(),
    ErrorKind::Status.as_str(),
    ErrorKind::Interrupted.as_str(),
    ErrorKind::Internal.as_str(),
];

/// A call of a backend that the engine makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Insert,
    Enqueue,
    Claim,
    Load,
    Record,
    Settle,
    Extend,
    Sweep,
    Inbox,
}

const CALLS: [&str; 9] =
    ["insert", "enqueue", "claim", "load", "record", "settle", "extend", "sweep", "inbox"];

/// Everything that an engine counts.
#[derive(Debug)]
pub(super) struct Meters {
    published: Counter,
    created: Counter,
    duplicates: Counter,
    refused: Counters<7>,
    ended: Counters<3>,
    succeeded: Counter,
    unknown: Counter,
    failed: Counters<10>,
    exchange: Histogram,
    latency: Histogram,
    pub(super) commit_size: Histogram,
    pub(super) commit_time: Histogram,
    pub(super) record_size: Histogram,
    pub(super) record_time: Histogram,
    pub(super) claim_size: Histogram,
    failures: Counters<9>,
    pub(super) sweeps: Counter,
    pub(super) offered: Counter,
    pub(super) recovered: Counter,
    pub(super) pruned: Counter,
    relayed: Counters<2>,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            published: Counter::default(),
            created: Counter::default(),
            duplicates: Counter::default(),
            refused: Counters::new([
                "invalid",
                "too_large",
                "key_reused",
                "subscription_not_found",
                "unavailable",
                "rejected",
                "stopped",
            ]),
            ended: Counters::new(ENDS),
            succeeded: Counter::default(),
            unknown: Counter::default(),
            failed: Counters::new(KINDS),
            exchange: Histogram::of_time(EXCHANGE),
            latency: Histogram::of_time(LATENCY),
            commit_size: Histogram::of_sizes(SIZES),
            commit_time: Histogram::of_time(COMMIT),
            record_size: Histogram::of_sizes(SIZES),
            record_time: Histogram::of_time(COMMIT),
            claim_size: Histogram::of_sizes(SIZES),
            failures: Counters::new(CALLS),
            sweeps: Counter::default(),
            offered: Counter::default(),
            recovered: Counter::default(),
            pruned: Counter::default(),
            relayed: Counters::new(["published", "rejected"]),
        }
    }

    /// An event was stored with so many deliveries.
    pub(super) fn published(&self, deliveries: usize) {
        self.published.one();
        self.created.add(deliveries as u64);
    }

    /// A publish repeated what is stored.
    pub(super) fn duplicate(&self) {
        self.duplicates.one();
    }

    /// A publish was refused.
    pub(super) fn refused(&self, why: &'static str) {
        self.refused.add_by_name(why, 1);
    }

    /// An exchange is over.
    pub(super) fn attempt(&self, outcome: Outcome, kind: Option<ErrorKind>, duration: Duration) {
        match outcome {
            Outcome::Succeeded => self.succeeded.one(),
            Outcome::Failed => self.failed.counts[kind.unwrap_or(ErrorKind::Internal) as usize].one(),
            Outcome::Unknown => return self.unknown.one(),
        }
        self.exchange.took(duration);
    }

    /// So many deliveries that had not ended became this; nothing when that is no end.
    pub(super) fn ended(&self, status: DeliveryStatus, deliveries: u64) {
        let place = match status {
            DeliveryStatus::Succeeded => 0,
            DeliveryStatus::Exhausted => 1,
            DeliveryStatus::Cancelled => 2,
            DeliveryStatus::Pending | DeliveryStatus::Retrying => return,
        };
        self.ended.counts[place].add(deliveries);
    }

    /// A delivery succeeded so long after it was published.
    pub(super) fn latency(&self, since: Duration) {
        self.latency.took(since);
    }

    /// A backend failed, or did not answer.
    pub(super) fn failure(&self, call: Call) {
        self.failures.counts[call as usize].one();
    }

    /// An event of the inbox was settled.
    pub(super) fn relayed(&self, is_published: bool) {
        self.relayed.counts[usize::from(!is_published)].one();
    }

    /// Everything that was counted.
    pub(super) fn read(&self) -> Vec<Family> {
        let count = |name, help, counter: &Counter| Family::counter(name, help, counter.get());
        vec![
            count("webhook_events_published_total", "Events that this process stored; duplicates left out.", &self.published),
            count("webhook_events_duplicate_total", "Publishes that repeated a stored event.", &self.duplicates),
            self.refused.family("webhook_events_refused_total", "Publishes that were refused or not acknowledged.", "reason"),
            count("webhook_deliveries_created_total", "Deliveries that were stored with their events.", &self.created),
            self.ended.family(
                "webhook_deliveries_total",
                "Deliveries that ended, by how; one that was reopened ends again.",
                "outcome",
            ),
            self.attempts(),
            self.exchange.family(
                "webhook_attempt_duration_seconds",
                "Time of one exchange, from dialling to the end of the answer or the failure.",
            ),
            self.latency.family(
                "webhook_delivery_latency_seconds",
                "Time from the publish, or the moment it was scheduled for, to the success; reopened ones left out.",
            ),
            self.commit_size.family("webhook_commit_batch_events", "Events in one commit."),
            self.commit_time.family("webhook_commit_duration_seconds", "Time of one commit of events."),
            self.record_size.family("webhook_record_batch_attempts", "Results of attempts in one commit."),
            self.record_time.family("webhook_record_duration_seconds", "Time of one commit of results."),
            self.claim_size.family("webhook_claim_batch_jobs", "Jobs that one claim gave, empty claims left out."),
            self.failures.family(
                "webhook_backend_failures_total",
                "Calls of the store or the queue that failed or were not answered.",
                "call",
            ),
            count("webhook_reconciler_sweeps_total", "Sweeps over what the store owes that came to their end.", &self.sweeps),
            count("webhook_reconciler_offered_total", "Jobs that sweeps offered to a queue apart from the store.", &self.offered),
            count("webhook_reconciler_recovered_total", "Offered jobs that the queue did not have.", &self.recovered),
            count("webhook_events_pruned_total", "Finished events that were deleted after the retention.", &self.pruned),
            self.relayed.family("webhook_inbox_relayed_total", "Events of the inbox that were settled, by how.", "outcome"),
        ]
    }

    fn attempts(&self) -> Family {
        let family = Family::new(
            "webhook_attempts_total",
            "Attempts that ended, by outcome and kind of error; unknown ones when they are found out.",
            Kind::Counter,
        );
        let labels =
            |outcome: &'static str, kind: &'static str| [("outcome", outcome.into()), ("kind", kind.into())];
        let family = family
            .with(labels("succeeded", "none"), Value::Counter(self.succeeded.get()))
            .with(labels("unknown", "none"), Value::Counter(self.unknown.get()));
        self.failed
            .each()
            .fold(family, |family, (kind, count)| family.with(labels("failed", kind), Value::Counter(count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(histogram: &Histogram) -> Distribution {
        match histogram.family("h", "h").samples.remove(0).value {
            Value::Histogram(distribution) => distribution,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_beyond_all_is_counted_too() {
        let sizes = Histogram::of_sizes(&[1, 4]);
        for size in [0, 1, 2, 4, 5, 1000] {
            sizes.observe(size);
        }
        let seen = distribution(&sizes);
        assert_eq!((seen.counts.as_slice(), seen.sum, seen.count()), (&[2, 2, 2][..], 1012.0, 6));
    }

    #[test]
    fn times_are_read_in_seconds() {
        let times = Histogram::of_time(&[MS, SECOND]);
        times.took(Duration::from_millis(250));
        times.took(Duration::from_millis(1));
        let seen = distribution(&times);
        assert_eq!((seen.bounds, seen.counts, seen.sum), (vec![0.001, 1.0], vec![1, 1, 0], 0.251));
    }

    #[test]
    fn every_kind_of_error_and_every_call_has_its_series() {
        let meters = Meters::new();
        for (place, name) in KINDS.into_iter().enumerate() {
            let kind = ErrorKind::from_name(name).unwrap();
            assert_eq!(kind as usize, place, "{name}");
            meters.attempt(Outcome::Failed, Some(kind), Duration::ZERO);
        }
        for call in [
            Call::Insert,
            Call::Enqueue,
            Call::Claim,
            Call::Load,
            Call::Record,
            Call::Settle,
            Call::Extend,
            Call::Sweep,
            Call::Inbox,
        ] {
            meters.failure(call);
        }
        let families = meters.read();
        for (place, name) in (1..).zip(ENDS) {
            meters.ended(DeliveryStatus::from_name(name).unwrap(), place);
            assert!(meters.ended.each().any(|counted| counted == (name, place)), "{name}");
        }
        for name in ["webhook_attempts_total", "webhook_backend_failures_total"] {
            let family = families.iter().find(|family| family.name == name).unwrap();
            let silent = |sample: &&crate::metrics::Sample| {
                sample.value == Value::Counter(0) && !sample.has("kind", "none")
            };
            assert_eq!(family.samples.iter().find(silent), None);
        }
    }

    #[test]
    fn metrics_are_named_once_and_have_their_units() {
        let families = Meters::new().read();
        let mut names: Vec<_> = families.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), families.len());
        for family in families {
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}", family.help);
        }
    }
}
