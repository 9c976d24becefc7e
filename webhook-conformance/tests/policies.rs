//! The policies of core pass every case.
#![allow(clippy::unwrap_used, reason = "fixtures of tests are not marked as tests")]

use std::sync::Arc;
use std::time::Duration;

use webhook_conformance::RetryFixture;
use webhook_core::retry::{Exponential, RetryPolicy, Schedule};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

mod exponential {
    use super::*;

    struct Doubling;

    impl RetryFixture for Doubling {
        fn policy() -> Arc<dyn RetryPolicy> {
            Arc::new(Exponential::new(secs(10), 2.0, secs(3600), 12, 0.2).unwrap())
        }
        fn jitter() -> f64 {
            0.2
        }
    }

    webhook_conformance::retry_tests!(Doubling);
}

mod largest {
    use super::*;

    struct Largest;

    impl RetryFixture for Largest {
        fn policy() -> Arc<dyn RetryPolicy> {
            let week = secs(7 * 86_400);
            Arc::new(Exponential::new(week, 100.0, week, 101, 1.0).unwrap())
        }
        fn jitter() -> f64 {
            1.0
        }
    }

    webhook_conformance::retry_tests!(Largest);
}

mod schedule {
    use super::*;

    struct Listed;

    impl RetryFixture for Listed {
        fn policy() -> Arc<dyn RetryPolicy> {
            Arc::new(Schedule::new([secs(5), secs(300), secs(30), secs(7200)], 0.0).unwrap())
        }
    }

    webhook_conformance::retry_tests!(Listed);
}

mod empty {
    use super::*;

    struct Empty;

    impl RetryFixture for Empty {
        fn policy() -> Arc<dyn RetryPolicy> {
            Arc::new(Schedule::new([], 0.2).unwrap())
        }
        fn jitter() -> f64 {
            0.2
        }
    }

    webhook_conformance::retry_tests!(Empty);
}
