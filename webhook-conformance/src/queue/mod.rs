//! Cases for queues. [`queue_tests!`](crate::queue_tests) runs them all.

pub mod cancellation;
pub mod contract;
pub mod fences;
pub mod hand_off;
pub mod lanes;
pub mod model;
pub mod races;
pub mod time;
