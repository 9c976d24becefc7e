//! Broken retry policies.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use webhook_conformance::RetryFixture;
use webhook_core::retry::RetryPolicy;

/// What is bent; the rest is three waits of ten seconds with a jitter of a tenth.
trait Defect: Debug + Default + Send + Sync + 'static {
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        (failed <= 3).then(|| spread(sample, 0.1))
    }
    fn span(&self) -> Duration {
        Duration::from_secs(33)
    }
    fn longest(&self) -> Duration {
        Duration::from_secs(11)
    }
}

/// Ten seconds with this jitter.
fn spread(sample: f64, jitter: f64) -> Duration {
    let sample = if sample.is_nan() { 0.5 } else { sample.clamp(0.0, 1.0) };
    Duration::from_secs(10).mul_f64(1.0 + jitter * (2.0 * sample - 1.0))
}

#[derive(Debug, Default)]
struct Bent<D>(D);

impl<D: Defect> RetryPolicy for Bent<D> {
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        self.0.wait(failed, sample)
    }
    fn span(&self) -> Duration {
        self.0.span()
    }
    fn longest(&self) -> Duration {
        self.0.longest()
    }
}

struct Broken<D>(PhantomData<D>);

impl<D: Defect> RetryFixture for Broken<D> {
    fn policy() -> Arc<dyn RetryPolicy> {
        Arc::new(Bent::<D>::default())
    }
    fn jitter() -> f64 {
        0.1
    }
}

macro_rules! bend {
    ($name:ident: $($method:tt)*) => {
        #[derive(Debug, Default)]
        struct $name;

        impl Defect for $name {
            $($method)*
        }
    };
}

bend! { Sound: }

#[derive(Debug, Default)]
struct Counts(AtomicU32);

impl Defect for Counts {
    fn wait(&self, _failed: u32, sample: f64) -> Option<Duration> {
        (self.0.fetch_add(1, Ordering::Relaxed) < 3).then(|| spread(sample, 0.1))
    }
}

bend! { SpanWithoutJitter:
    fn span(&self) -> Duration {
        Duration::from_secs(30)
    }
}

bend! { LongestWithoutJitter:
    fn longest(&self) -> Duration {
        Duration::from_secs(10)
    }
}

bend! { BeginsAgain:
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        (!failed.is_multiple_of(4)).then(|| spread(sample, 0.1))
    }
}

bend! { ChanceDecidesTheEnd:
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        (failed <= if sample > 0.5 { 3 } else { 2 }).then(|| spread(sample, 0.1))
    }
}

bend! { WideJitter:
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        (failed <= 3).then(|| spread(sample, 0.3))
    }
    fn span(&self) -> Duration {
        Duration::from_secs(39)
    }
    fn longest(&self) -> Duration {
        Duration::from_secs(13)
    }
}

bend! { FallingJitter:
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        (failed <= 3).then(|| spread(1.0 - sample, 0.1))
    }
}

bend! { NoJitter:
    fn wait(&self, failed: u32, _sample: f64) -> Option<Duration> {
        (failed <= 3).then(|| spread(0.5, 0.1))
    }
}

bend! { Overflows:
    fn wait(&self, failed: u32, _sample: f64) -> Option<Duration> {
        let factor = 2_u32.checked_pow(failed).unwrap();
        (failed <= 3).then(|| Duration::from_secs(1) * factor)
    }
}

bend! { CountsDownFromNothing:
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        let before = failed.checked_sub(1).unwrap();
        (before < 3).then(|| spread(sample, 0.1))
    }
}

bend! { ComputesWithAnySample:
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        (failed <= 3).then(|| Duration::from_secs_f64(9.0 + 2.0 * sample))
    }
}

bend! { WaitsLongForNothing:
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        if failed == 0 {
            return Some(Duration::from_secs(3600));
        }
        (failed <= 3).then(|| spread(sample, 0.1))
    }
}

macro_rules! defects {
    ($($name:ident: $defect:ty => $case:ident;)*) => {
        $(#[test]
        fn $name() {
            let outcome = catch_unwind(webhook_conformance::retry::contract::$case::<Broken<$defect>>);
            assert!(outcome.is_err(), "{} did not catch it", stringify!($case));
        })*
    };
}

defects! {
    a_policy_that_counts_its_calls: Counts => the_same_arguments_give_the_same_wait;
    a_span_without_the_jitter: SpanWithoutJitter => no_chain_outlives_its_span;
    a_longest_wait_without_the_jitter: LongestWithoutJitter => no_wait_is_longer_than_the_longest;
    a_chain_that_begins_again: BeginsAgain => the_end_of_a_chain_is_its_end;
    a_chain_whose_end_is_left_to_chance: ChanceDecidesTheEnd => the_end_of_a_chain_is_its_end;
    a_jitter_wider_than_stated: WideJitter => jitter_stays_within_its_share;
    a_jitter_that_falls_with_the_sample: FallingJitter => jitter_stays_within_its_share;
    a_stated_jitter_that_is_none: NoJitter => jitter_stays_within_its_share;
    a_factor_that_overflows: Overflows => no_arguments_make_it_panic;
    a_count_below_nothing: CountsDownFromNothing => no_arguments_make_it_panic;
    a_sample_that_is_no_number: ComputesWithAnySample => no_arguments_make_it_panic;
    a_long_wait_before_anything_failed: WaitsLongForNothing => nothing_failed_is_no_end;
}

mod sound {
    use super::*;

    webhook_conformance::retry_tests!(Broken<Sound>);
}
