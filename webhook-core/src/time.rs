//! Instants, and who may ask for them.
//!
//! A [`Timestamp`] is shown to people and compared inside one store. Nothing that decides safety compares
//! the clocks of two machines: waits travel as durations, and each backend adds its own clock (promise 18).
//! Code asks a [`Clock`] that it was given; only [`SystemClock`] reads the machine's.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in microseconds since the Unix epoch, UTC. Shown as RFC 3339.
///
/// ```
/// use webhook_core::time::Timestamp;
///
/// let moment: Timestamp = "2026-11-21T10:30:00+01:00".parse()?;
/// assert_eq!(moment.to_string(), "2026-11-21T09:30:00Z");
/// # Ok::<(), webhook_core::time::InvalidTimestamp>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time: expected RFC 3339 with an offset, such as 2026-11-21T09:30:00Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// A moment from microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down: what `webhook-timestamp` carries.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The moment `span` later; the latest possible one when there is none.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// The moment `span` earlier; the earliest possible one when there is none.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => moment.fmt(f),
            // Out of the calendar's range, which only saturated arithmetic reaches.
            Err(_) if self.0 > 0 => f.write_str("9999-12-31T23:59:59Z"),
            Err(_) => f.write_str("0001-01-01T00:00:00Z"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let moment: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self(moment.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a component asks what time it is.
///
/// A backend takes one in its constructor and no method takes "now", so a test can move time for all of a
/// backend at once.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment. May go backwards, as machines' clocks do.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(span) => Timestamp::EPOCH.after(span),
            Err(error) => Timestamp::EPOCH.before(error.duration()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_to_the_microsecond() {
        let moment = Timestamp::from_micros(1_763_720_000_123_456);
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!(moment.to_string(), "2025-11-21T10:13:20.123456Z");
    }

    #[test]
    fn a_time_without_an_offset_is_refused() {
        assert_eq!("2026-11-21T09:30:00".parse::<Timestamp>(), Err(InvalidTimestamp));
        assert_eq!("yesterday".parse::<Timestamp>(), Err(InvalidTimestamp));
    }

    #[test]
    fn arithmetic_saturates_and_still_prints() {
        let end = Timestamp::from_micros(i64::MAX).after(Duration::MAX);
        assert_eq!(end.as_micros(), i64::MAX);
        assert_eq!(end.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::EPOCH.since(end), Duration::ZERO);
    }

    #[test]
    fn seconds_round_down_before_the_epoch_too() {
        assert_eq!(Timestamp::from_micros(-1).as_seconds(), -1);
        assert_eq!(Timestamp::from_micros(1_999_999).as_seconds(), 1);
    }
}
