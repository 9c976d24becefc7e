//! A policy that lists its waits.

use std::time::Duration;

use super::{MAX_WAIT, MAX_WAITS, RetryError, RetryPolicy, check_jitter, jittered};

/// Waits written out one by one: n waits make n + 1 attempts, and none makes a single attempt.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::retry::{RetryPolicy, Schedule};
///
/// let schedule = Schedule::new([Duration::from_secs(10), Duration::from_secs(60)], 0.0)?;
/// assert_eq!(schedule.wait(1, 0.5), Some(Duration::from_secs(10)));
/// assert_eq!(schedule.wait(2, 0.5), Some(Duration::from_secs(60)));
/// assert_eq!(schedule.wait(3, 0.5), None);
/// assert_eq!(schedule.span(), Duration::from_secs(70));
/// # Ok::<(), webhook_core::retry::RetryError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    waits: Vec<Duration>,
    jitter: f64,
}

impl Schedule {
    /// A schedule of at most [`MAX_WAITS`] waits of up to [`MAX_WAIT`] each. `jitter` is a share of each
    /// wait from 0 (none) to 1.
    ///
    /// # Errors
    ///
    /// [`RetryError`] naming `retry.schedule`, `retry.schedule[i]` or `retry.jitter`.
    pub fn new(waits: impl IntoIterator<Item = Duration>, jitter: f64) -> Result<Self, RetryError> {
        let waits: Vec<Duration> = waits.into_iter().collect();
        if waits.len() > MAX_WAITS {
            return Err(too_many(waits.len()));
        }
        if let Some(i) = waits.iter().position(|wait| *wait > MAX_WAIT) {
            return Err(RetryError::new(format!("retry.schedule[{i}]"), "a wait may be at most 7d"));
        }
        check_jitter("retry.jitter", jitter)?;
        Ok(Self { waits, jitter })
    }

    /// A schedule from the crate's own constants, whose validity a test holds.
    pub(super) fn preset(waits_in_seconds: &[u64], jitter: f64) -> Self {
        Self { waits: waits_in_seconds.iter().copied().map(Duration::from_secs).collect(), jitter }
    }

    /// The waits, without jitter.
    #[must_use]
    pub fn waits(&self) -> &[Duration] {
        &self.waits
    }

    /// The share by which each wait varies, 0 to 1.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The scheduled attempts of one chain, the first included.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.waits.len() + 1
    }
}

pub(super) fn too_many(waits: usize) -> RetryError {
    RetryError::new(
        "retry.schedule",
        format!("a schedule has at most {MAX_WAITS} waits, this one has {waits}"),
    )
}

impl RetryPolicy for Schedule {
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        let Some(index) = failed.checked_sub(1) else {
            return Some(Duration::ZERO);
        };
        let wait = self.waits.get(usize::try_from(index).ok()?)?;
        Some(jittered(*wait, self.jitter, sample))
    }

    fn span(&self) -> Duration {
        self.waits.iter().map(|wait| jittered(*wait, self.jitter, 1.0)).sum()
    }

    fn longest(&self) -> Duration {
        jittered(self.waits.iter().copied().max().unwrap_or_default(), self.jitter, 1.0)
    }
}
