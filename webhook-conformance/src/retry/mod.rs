//! Cases for retry policies. [`retry_tests!`](crate::retry_tests) runs them all.
//!
//! A policy is a pure function, so the cases call it with every number of failures of a chain and samples from the
//! whole range, the ends and what is no sample included.

pub mod contract;

use std::sync::Arc;
use std::time::Duration;

use webhook_core::retry::RetryPolicy;

/// How the cases come by a policy.
pub trait RetryFixture: 'static {
    /// The policy.
    fn policy() -> Arc<dyn RetryPolicy>;

    /// By which share of itself a wait may be longer or shorter by chance, from 0 to 1.
    #[must_use]
    fn jitter() -> f64 {
        0.0
    }

    /// Why this policy does not run a case.
    #[must_use]
    fn skip(case: &str) -> Option<&'static str> {
        let _ = case;
        None
    }
}

/// Runs one case, or prints why not. The macro calls it.
pub fn run<F: RetryFixture>(name: &str, case: impl FnOnce()) {
    match F::skip(name) {
        Some(reason) => eprintln!("skipped {name}: {reason}"),
        None => case(),
    }
}

/// So many failures are tried at the most; a chain that goes on past them is looked at up to there.
const MANY: u32 = 2_000;

/// Samples from the range, its ends among them.
const SAMPLES: [f64; 7] = [0.0, 0.001, 0.25, 0.5, 0.75, 0.999, 0.999_999_999_999];

/// The waits of one chain whose samples are all the same.
fn chain(policy: &dyn RetryPolicy, sample: f64) -> Vec<Duration> {
    (1..=MANY).map_while(|failed| policy.wait(failed, sample)).collect()
}
