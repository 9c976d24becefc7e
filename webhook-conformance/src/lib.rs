//! Suites for whoever implements [`JobQueue`](webhook_core::queue::JobQueue),
//! [`Store`](webhook_core::store::Store), [`Deliverer`](webhook_core::deliver::Deliverer) or
//! [`RetryPolicy`](webhook_core::retry::RetryPolicy).
//!
//! The docs of those traits are the contract; the cases here hold a backend to it, one named test for each.
//! Every backend of the project runs them, the reference in memory included, and so can yours:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use webhook_conformance::{Fixture, Missing, QueueFixture};
//! use webhook_core::memory::MemoryQueue;
//! use webhook_core::queue::JobQueue;
//! use webhook_core::testing::TokioClock;
//!
//! struct Mine(Arc<MemoryQueue>);
//!
//! impl Fixture for Mine {
//!     async fn create() -> Result<Self, Missing> {
//!         tokio::time::pause();
//!         Ok(Self(Arc::new(MemoryQueue::with_clock(Arc::new(TokioClock::new())))))
//!     }
//!     async fn advance(&self, span: Duration) {
//!         tokio::time::advance(span).await;
//!     }
//! }
//!
//! impl QueueFixture for Mine {
//!     fn queue(&self) -> Arc<dyn JobQueue> {
//!         self.0.clone()
//!     }
//! }
//!
//! // In a file of your `tests` folder, with tokio's `macros` and `rt` among the dev-dependencies:
//! webhook_conformance::queue_tests!(Mine);
//! ```
//!
//! # What a case may assume
//!
//! Each case has a fresh backend of its own, made by [`Fixture::create`] and given back to
//! [`Fixture::clean_up`] whether it passed or not. A queue must take jobs and lanes that no store has heard
//! of, as the trait says: they are ids. Waits are small multiples of [`Fixture::UNIT`], so that a backend
//! whose clock cannot be moved really waits and is still done in seconds; what is not due yet is looked at
//! when at most half of its wait has passed.
//!
//! Deliverers have real sockets and real time, and policies nothing at all, so their fixtures only make one:
//! [`DelivererFixture`], [`RetryFixture`].
//!
//! # Skips
//!
//! A case that a backend cannot pass is named in its fixture's `skip` with a reason, which is printed. When the
//! server that a backend needs is not there, `create` says so, and each case prints it and passes; with
//! `WEBHOOK_REQUIRE_BACKENDS=1` in the environment it fails instead, which is what CI sets.

// Cases are tests in a library: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

mod bench;
pub mod deliver;
mod fixture;
mod list;
pub mod queue;
pub mod retry;
mod sample;
pub mod store;

pub use deliver::DelivererFixture;
#[cfg(feature = "tls")]
pub use deliver::tls::TlsFixture;
pub use fixture::{Fixture, Missing, QueueFixture, StoreFixture, run};
pub use retry::RetryFixture;
