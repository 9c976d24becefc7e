//! Cases for stores. [`store_tests!`](crate::store_tests) runs them all.

pub mod history;
pub mod model;
pub mod order;
pub mod own_queue;
pub mod publish;
pub mod races;
pub mod record;
pub mod subscriptions;
pub mod sweeps;
