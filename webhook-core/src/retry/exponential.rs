//! A policy whose waits grow by a factor.

use std::time::Duration;

use super::{MAX_WAIT, MAX_WAITS, RetryError, RetryPolicy, check_jitter, jittered};

/// The largest factor of an [`Exponential`] policy; the smallest is 1.
pub const MAX_FACTOR: f64 = 100.0;

/// The shortest base wait: a shorter one would not survive being written in milliseconds.
const MIN_BASE: Duration = Duration::from_millis(1);

/// Exponential backoff: `base`, `base × factor`, `base × factor²`, … none longer than `max`, until
/// `attempts` attempts have been made in total.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::retry::{Exponential, RetryPolicy};
///
/// let secs = Duration::from_secs;
/// let policy = Exponential::new(secs(10), 2.0, secs(35), 5, 0.0)?;
/// let waits: Vec<_> = (1..=5).map(|failed| policy.wait(failed, 0.5)).collect();
/// assert_eq!(waits, [Some(secs(10)), Some(secs(20)), Some(secs(35)), Some(secs(35)), None]);
/// # Ok::<(), webhook_core::retry::RetryError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Exponential {
    base: Duration,
    factor: f64,
    max: Duration,
    attempts: u32,
    jitter: f64,
}

impl Exponential {
    /// A policy of `attempts` attempts in total (1 to [`MAX_WAITS`] + 1).
    ///
    /// `base` is the first wait, from 1 ms up; `factor` (1 to [`MAX_FACTOR`]) multiplies it after each
    /// failure; `max` (`base` to [`MAX_WAIT`]) caps it; `jitter` is a share of each wait from 0 to 1, applied
    /// after the cap.
    ///
    /// # Errors
    ///
    /// [`RetryError`] naming the field below `retry.exponential` and its range.
    pub fn new(
        base: Duration,
        factor: f64,
        max: Duration,
        attempts: u32,
        jitter: f64,
    ) -> Result<Self, RetryError> {
        let refuse =
            |field: &str, detail: String| Err(RetryError::new(format!("retry.exponential.{field}"), detail));
        if !(MIN_BASE..=MAX_WAIT).contains(&base) {
            return refuse("base", "the first wait must be from 1ms to 7d".to_owned());
        }
        if !(1.0..=MAX_FACTOR).contains(&factor) {
            return refuse("factor", format!("the factor must be from 1 to {MAX_FACTOR}"));
        }
        if !(base..=MAX_WAIT).contains(&max) {
            return refuse("max", "the longest wait must be from the base to 7d".to_owned());
        }
        if !(1..=MAX_WAITS + 1).contains(&usize::try_from(attempts).unwrap_or(usize::MAX)) {
            return refuse("attempts", format!("the attempts in total must be from 1 to {}", MAX_WAITS + 1));
        }
        check_jitter("retry.exponential.jitter", jitter)?;
        Ok(Self { base, factor, max, attempts, jitter })
    }

    /// The first wait.
    #[must_use]
    pub fn base(&self) -> Duration {
        self.base
    }

    /// What each wait is multiplied by to give the next.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// The cap of every wait, before jitter.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The scheduled attempts of one chain, the first included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The share by which each wait varies, 0 to 1.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The wait after the `failed`-th failure, capped, without jitter; `failed` is at least 1.
    fn plain_wait(&self, failed: u32) -> Duration {
        let power = self.factor.powf(f64::from(failed - 1));
        let seconds = self.base.as_secs_f64() * power;
        if seconds >= self.max.as_secs_f64() { self.max } else { Duration::from_secs_f64(seconds) }
    }
}

impl RetryPolicy for Exponential {
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        if failed == 0 {
            return Some(Duration::ZERO);
        }
        (failed < self.attempts).then(|| jittered(self.plain_wait(failed), self.jitter, sample))
    }

    fn span(&self) -> Duration {
        (1..self.attempts).map(|failed| jittered(self.plain_wait(failed), self.jitter, 1.0)).sum()
    }

    fn longest(&self) -> Duration {
        // Waits never shrink, so the last is the longest; a single attempt has none.
        if self.attempts < 2 {
            return Duration::ZERO;
        }
        jittered(self.plain_wait(self.attempts - 1), self.jitter, 1.0)
    }
}
