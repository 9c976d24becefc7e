//! Where the rows of the inbox begin.
//!
//! A row that is published is dead, but for as long as any transaction may still see it, it stays in the index in
//! front of those that wait. So the relay begins at the first row that it found at its last look: all before it
//! is most likely dead, and what is not was inserted by a transaction that was late to commit.
//!
//! For these it looks at everything now and then: each time that it finds nothing otherwise, and at least once
//! in [`PERIOD`]; less often only when a full look takes so long that the relay would do little else.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A row of which the transaction commits late waits for so long, behind an unbroken stream of others.
const PERIOD: Duration = Duration::from_secs(1);
/// At most this part of the time goes into full looks.
const SHARE: u32 = 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Mark(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    number: i64,
    /// When the next full look is due; at once, before the first.
    due: Option<Instant>,
}

impl Mark {
    /// The number to begin at; `None` when a full look is due.
    pub(super) fn begin(&self, now: Instant) -> Option<i64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.due.filter(|due| now < *due).map(|_| state.number)
    }

    /// This is the first row that waits.
    pub(super) fn found(&self, number: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).number = number;
    }

    /// A full look ended, and took so long.
    pub(super) fn looked(&self, now: Instant, took: Duration) {
        let pause = took.saturating_mul(SHARE).max(PERIOD);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).due = now.checked_add(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_look_comes_first_and_then_once_in_a_second_or_in_twenty_times_what_it_took() {
        let (mark, start) = (Mark::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(mark.begin(start), None);
        mark.looked(start, Duration::from_millis(1));
        mark.found(7);
        assert_eq!(mark.begin(after(999)), Some(7));
        assert_eq!(mark.begin(after(1000)), None);
        mark.looked(after(1000), Duration::from_millis(86));
        assert_eq!(mark.begin(after(2719)), Some(7));
        assert_eq!(mark.begin(after(2720)), None);
    }
}
