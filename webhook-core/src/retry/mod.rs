//! When a failed delivery is tried again: a pure decision, apart from clocks, queues and attempts.
//!
//! A [`RetryPolicy`] answers one question: after so many failed scheduled attempts of a chain, how long is
//! the wait, or is the chain exhausted? The lifecycle asks it once for each failed attempt. What does not
//! come from a policy is not decided here: `Retry-After` lengthens a wait, manual and interrupted attempts do
//! not move the position, a 410 ends the delivery, all in the lifecycle.
//!
//! - [`Schedule`] lists its waits; [`Exponential`] multiplies from a base up to a maximum.
//! - [`RetrySpec`] is either of both as users write it: the `retry` object of a subscription
//!   ([`RetrySpec::from_json`], serde) and the `--retry` flag (`FromStr`, `Display`), with named
//!   [presets](RetrySpec::preset).
//!
//! Randomness stays outside. The engine draws one sample in `[0, 1)` for each wait and hands it in, so that
//! a policy given the same arguments answers the same, and a simulation can replay it.
//!
//! # Jitter
//!
//! A jitter of `0.2` spreads each wait evenly over 80 % to 120 % of itself, so that deliveries that failed
//! together do not come back together. It applies after the maximum of an exponential policy: clipped waits
//! would otherwise all be alike. [`span`](RetryPolicy::span) and [`longest`](RetryPolicy::longest) are upper
//! bounds that count the jitter in, so no chain outlives its span by bad luck.

mod error;
mod exponential;
mod schedule;
mod spec;
mod text;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::time::Duration;

pub use error::RetryError;
pub use exponential::{Exponential, MAX_FACTOR};
pub use schedule::Schedule;
pub use spec::RetrySpec;

/// The most waits a policy of this module has; it makes one attempt more.
pub const MAX_WAITS: usize = 100;

/// The longest single wait of a policy of this module, before jitter: 7 days.
pub const MAX_WAIT: Duration = Duration::from_secs(7 * 86_400);

/// Decides how long to wait after a failed attempt.
///
/// Implementations are pure: no clock, no randomness, no state. A panic in one is that attempt's failure
/// (promise 14) and goes no further.
///
/// # Contract
///
/// For every `failed` and every `sample`:
///
/// - no wait is longer than [`longest`](Self::longest);
/// - the waits for `failed` = 1, 2, … add up to at most [`span`](Self::span);
/// - after the first `None`, every larger `failed` gives `None` too.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::retry::RetryPolicy;
///
/// /// Three more attempts, a minute apart.
/// #[derive(Debug)]
/// struct EveryMinute;
///
/// impl RetryPolicy for EveryMinute {
///     fn wait(&self, failed: u32, _sample: f64) -> Option<Duration> {
///         (failed <= 3).then_some(Duration::from_secs(60))
///     }
///     fn span(&self) -> Duration {
///         Duration::from_secs(180)
///     }
///     fn longest(&self) -> Duration {
///         Duration::from_secs(60)
///     }
/// }
///
/// let policy: Box<dyn RetryPolicy> = Box::new(EveryMinute);
/// assert_eq!(policy.wait(4, 0.5), None);
/// ```
pub trait RetryPolicy: Debug + Send + Sync + 'static {
    /// The wait after the `failed`-th failed scheduled attempt of this chain, or `None` when the chain is
    /// exhausted.
    ///
    /// `failed` is 1 after the first failure. The policies of this module answer 0 with a wait of zero:
    /// nothing has failed yet, so the first attempt is owed at once. `sample` is the random sample that
    /// places the wait within its jitter, from `[0, 1)`; 0.5 is the wait without jitter.
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration>;

    /// The longest a chain can last by this policy: its waits added up, each with its jitter at the top,
    /// without the time that attempts take.
    ///
    /// A delivery may be given up once its chain is older than the larger of 1.1 times this and one hour.
    fn span(&self) -> Duration;

    /// The longest single wait, with its jitter at the top. It bounds what a receiver's `Retry-After` may
    /// ask for, together with one hour.
    fn longest(&self) -> Duration;
}

/// How long after its start a chain of attempts by this policy may be given up, if its target does not answer:
/// the larger of 1.1 times the policy's span and one hour.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::retry::{Schedule, give_up_after};
///
/// let days = Schedule::new([Duration::from_secs(10 * 3600)], 0.0)?;
/// assert_eq!(give_up_after(&days), Duration::from_secs(11 * 3600));
/// # Ok::<(), webhook_core::retry::RetryError>(())
/// ```
#[must_use]
pub fn give_up_after(policy: &dyn RetryPolicy) -> Duration {
    let span = policy.span();
    span.saturating_add(span / 10).max(Duration::from_secs(3600))
}

/// Spreads `wait` by `jitter`, a share of it, to the place that `sample` gives.
///
/// It rises with `sample`, which makes a sample of 1 the upper bound. A sample outside `[0, 1]` counts as the
/// nearer end and one that is no number as the middle, because a policy must not panic on a bad draw.
fn jittered(wait: Duration, jitter: f64, sample: f64) -> Duration {
    if jitter == 0.0 {
        return wait;
    }
    let sample = if sample.is_nan() { 0.5 } else { sample.clamp(0.0, 1.0) };
    wait.mul_f64(1.0 + jitter * (2.0 * sample - 1.0))
}

/// Checks a jitter that belongs to `field`.
fn check_jitter(field: &str, jitter: f64) -> Result<(), RetryError> {
    if (0.0..=1.0).contains(&jitter) {
        Ok(())
    } else {
        Err(RetryError::new(field, "the jitter must be a share of the wait from 0 to 1, such as 0.2"))
    }
}
