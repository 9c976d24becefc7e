//! The reference backends: a store and a queue in this process's memory.
//!
//! They are the contracts of [`store`](crate::store) and [`queue`](crate::queue), written as plainly as code
//! allows, and implementers of other backends may read them as such. One `std` mutex a backend guards plain
//! maps and is never held over an await, so every method is one atomic step and dropping its future is safe
//! at any point. Moments come from the [`Clock`](crate::time::Clock) that the constructor was given.
//!
//! - [`MemoryStore`] keeps subscriptions, events, deliveries and attempts. It has no queue of its own, so an
//!   engine over it takes the same two steps as one over a database with its queue elsewhere.
//! - [`MemoryQueue`] keeps jobs in lanes, by the arithmetic of [`lane`](crate::lane).
//!
//! # What they are for
//!
//! Tests, demonstrations, and small embedded use that may lose everything when the process ends: **nothing
//! here is durable**, so promise 1 holds only as long as the process does. Memory grows with what is stored.
//! It is bounded by pruning ([`DeliveryStore::prune`](crate::store::DeliveryStore::prune) with a short
//! retention) and by how much is published while targets are away; besides that, each subscription ever
//! created leaves one small record (a tombstone in the store, a lane in the queue).
//!
//! Lists and sweeps walk maps in order, and a claim looks at each lane that has jobs: with hundreds of
//! thousands of deliveries or tens of thousands of busy lanes, use a database.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use webhook_core::memory::{MemoryQueue, MemoryStore};
//! use webhook_core::model::Tenant;
//! use webhook_core::queue::JobQueue as _;
//! use webhook_core::store::{Store as _, SubscriptionStore as _};
//!
//! let (store, queue) = (MemoryStore::new(), MemoryQueue::new());
//! assert!(store.own_queue().is_none());
//! assert!(store.snapshot(&Tenant::default()).await?.subscriptions.is_empty());
//! assert_eq!(queue.depth().await?.due, 0);
//! # Ok::<(), webhook_core::error::BackendError>(())
//! # }).unwrap();
//! ```

mod deliveries;
mod history;
mod inbox;
mod insert;
mod jobs;
mod lanes;
mod ordering;
mod queue;
mod replays;
mod statistics;
mod store;
mod subscriptions;
mod sweeps;
#[cfg(test)]
mod tests;

pub use queue::MemoryQueue;
pub use store::MemoryStore;
