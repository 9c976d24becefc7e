//! Waits of the engine's own, between tries of a backend that is away (promise 15).

use std::time::Duration;

/// Doubles from 50 ms to 5 s, with jitter, so that workers do not come back all at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    /// How long to wait after one more failure.
    pub(super) fn after_failure(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(0.5 + sample() / 2.0)
    }

    /// It works again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random number in `[0, 1)`.
#[allow(clippy::disallowed_methods, reason = "the one place that draws jitter")]
pub(super) fn sample() -> f64 {
    rand::random()
}

/// `period`, a tenth shorter or longer, so that nodes do not act in step.
pub(super) fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.9 + sample() / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_start_again() {
        let mut backoff = Backoff::default();
        let first = backoff.after_failure();
        assert!((FIRST / 2..=FIRST).contains(&first));
        let mut last = first;
        for _ in 0..40 {
            last = backoff.after_failure();
        }
        assert!((LONGEST / 2..=LONGEST).contains(&last));
        backoff.reset();
        assert!(backoff.after_failure() <= FIRST);
    }
}
