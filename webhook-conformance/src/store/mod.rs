//! Cases for stores. [`store_tests!`](crate::store_tests) runs them all.

pub mod epoch;
pub mod events;
pub mod expire;
pub mod history;
pub mod inbox;
pub mod model;
pub mod order;
pub mod own_queue;
pub mod publish;
pub mod purge;
pub mod races;
pub mod record;
pub mod replay;
pub mod statistics;
pub mod subscriptions;
pub mod sweeps;
