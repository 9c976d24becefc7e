//! What [`RetryPolicy`](webhook_core::retry::RetryPolicy) promises.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{MANY, RetryFixture, SAMPLES, chain};

/// No clock, no randomness, no state: the same arguments give the same wait, in whatever order.
pub fn the_same_arguments_give_the_same_wait<F: RetryFixture>() {
    let policy = F::policy();
    let ask = |backwards: bool| {
        let mut asked: Vec<(u32, f64)> =
            (1..=200).flat_map(|failed| SAMPLES.map(|sample| (failed, sample))).collect();
        if backwards {
            asked.reverse();
        }
        let mut waits: Vec<_> =
            asked.into_iter().map(|(failed, sample)| (failed, sample, policy.wait(failed, sample))).collect();
        if backwards {
            waits.reverse();
        }
        waits
    };
    let first = ask(false);
    assert_eq!(ask(false), first);
    assert_eq!(ask(true), first);
    assert_eq!((policy.span(), policy.longest()), (policy.span(), policy.longest()));
    // Another one of the same settings.
    let other = F::policy();
    for (failed, sample, wait) in first {
        assert_eq!(other.wait(failed, sample), wait, "after {failed} failures with the sample {sample}");
    }
}

/// The waits of a chain add up to no more than its span, whatever the samples.
pub fn no_chain_outlives_its_span<F: RetryFixture>() {
    let policy = F::policy();
    for sample in SAMPLES {
        let sum = chain(&*policy, sample).iter().fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait));
        assert!(sum <= policy.span(), "with the sample {sample}: {sum:?} of {:?}", policy.span());
    }
    let worst = |failed| SAMPLES.iter().filter_map(|sample| policy.wait(failed, *sample)).max();
    let sum = (1..=MANY).map_while(worst).fold(Duration::ZERO, Duration::saturating_add);
    assert!(sum <= policy.span(), "with the worst samples: {sum:?} of {:?}", policy.span());
}

/// It bounds what `Retry-After` may ask for.
pub fn no_wait_is_longer_than_the_longest<F: RetryFixture>() {
    let policy = F::policy();
    for sample in SAMPLES {
        for wait in chain(&*policy, sample) {
            assert!(wait <= policy.longest(), "{wait:?} is longer than {:?}", policy.longest());
        }
    }
    assert!(policy.longest() <= policy.span(), "one wait alone is longer than the span");
}

/// Exhausted is exhausted, for every sample alike.
pub fn the_end_of_a_chain_is_its_end<F: RetryFixture>() {
    let policy = F::policy();
    let Some(end) = (1..=MANY).find(|failed| policy.wait(*failed, 0.5).is_none()) else {
        return;
    };
    for sample in SAMPLES {
        let length = chain(&*policy, sample).len();
        assert_eq!(length, end as usize - 1, "the sample {sample} moves the end");
        for failed in (end..end + 500).chain([1 << 20, u32::MAX - 1, u32::MAX]) {
            let wait = policy.wait(failed, sample);
            assert_eq!(wait, None, "after {failed} failures it goes on, though it ended at {end}");
        }
    }
}

/// Nothing has failed yet: if it is asked, the first attempt is owed within the bounds of any other.
pub fn nothing_failed_is_no_end<F: RetryFixture>() {
    let policy = F::policy();
    for sample in SAMPLES {
        if let Some(wait) = policy.wait(0, sample) {
            assert!(wait <= policy.longest(), "{wait:?} is longer than {:?}", policy.longest());
        }
    }
}

/// A wait is spread about the one of the middle sample, by no more than the jitter, and rises with the sample.
pub fn jitter_stays_within_its_share<F: RetryFixture>() {
    let (policy, jitter) = (F::policy(), F::jitter());
    // What rounding to nanoseconds may add.
    let rounding = Duration::from_nanos(2);
    for failed in 1..=MANY {
        let Some(middle) = policy.wait(failed, 0.5) else { break };
        let low = middle.mul_f64(1.0 - jitter).saturating_sub(rounding);
        let high = middle.mul_f64(1.0 + jitter).saturating_add(rounding);
        let mut last = Duration::ZERO;
        for sample in SAMPLES {
            let wait = policy.wait(failed, sample).unwrap_or_default();
            assert!(
                (low..=high).contains(&wait),
                "after {failed} failures: {wait:?} is not within {low:?} to {high:?}"
            );
            assert!(wait >= last, "after {failed} failures: a larger sample gives a shorter wait");
            last = wait;
        }
        let spread = policy.wait(failed, 0.0) != policy.wait(failed, 0.999);
        assert!(spread || jitter == 0.0 || middle.is_zero(), "after {failed} failures: there is no jitter");
    }
}

/// Promise 14: a panic is that attempt's failure and goes no further; a policy that needs it is a defect all the same.
pub fn no_arguments_make_it_panic<F: RetryFixture>() {
    let policy = F::policy();
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1.0, 2.0, f64::MAX, f64::MIN, -0.0];
    for failed in [0, 1, 2, 3, 10, 63, 64, 65, 100, 1000, 1 << 16, 1 << 31, u32::MAX] {
        for sample in SAMPLES.into_iter().chain(odd) {
            let asked = catch_unwind(AssertUnwindSafe(|| policy.wait(failed, sample)));
            let Ok(wait) = asked else { panic!("it panicked after {failed} failures with {sample}") };
            let bounded = wait.is_none_or(|wait| wait <= policy.longest());
            assert!(bounded, "after {failed} failures with {sample}: {wait:?} is longer than the longest");
        }
    }
}
