//! Webhook delivery for Rust applications: model, decisions, traits and the engine.
//!
//! A producer publishes an **event**. It is matched against **subscriptions** and becomes one **delivery** for
//! each match. A delivery is tried in numbered **attempts**, signed, until it succeeds, is exhausted or is
//! cancelled.
//!
//! > An acknowledged event reaches every matching subscription at least once, or ends visibly as exhausted or
//! > cancelled, whatever crashes, as long as the store survives; every attempt carries the same `webhook-id`.
//!
//! This crate holds every decision and no I/O; adapters hold the I/O and no decisions. Choose a store
//! (`webhook-store-sqlite` keeps the queue in the same file) and a transport (`webhook-deliver-hyper`), or
//! bring your own through the traits:
//!
//! | trait | owes |
//! |---|---|
//! | [`store::Store`] | the authority on every delivery: durable, fenced by revisions |
//! | [`queue::JobQueue`] | who works on what next; may be lost and rebuilt at any time |
//! | [`deliver::Deliverer`] | exactly one HTTP exchange |
//! | [`retry::RetryPolicy`] | how long to wait after a failure; pure |
//!
//! # Example
//!
//! With the backends in memory and a deliverer that records instead of sending (feature `testing`), which is
//! also how an application tests what it publishes:
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```text")]
//! use std::sync::Arc;
//! use webhook_core::memory::{MemoryQueue, MemoryStore};
//! use webhook_core::model::{NewEvent, Tenant};
//! use webhook_core::testing::RecordingDeliverer;
//! use webhook_core::{SubscriptionDraft, Webhooks};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let target = RecordingDeliverer::new();
//! let webhooks = Webhooks::builder(Arc::new(MemoryStore::new()))
//!     .queue(Arc::new(MemoryQueue::new()))
//!     .deliverer(Arc::new(target.clone()))
//!     .build()?;
//!
//! let draft = SubscriptionDraft {
//!     event_types: vec!["order.*".to_owned()],
//!     ..SubscriptionDraft::to("https://example.com/hooks")
//! };
//! webhooks.subscriptions().create(&Tenant::default(), &draft).await?;
//!
//! let published = webhooks.publish(NewEvent::json("order.created", r#"{"id":42}"#)).await?;
//! assert_eq!(published.delivery_count, 1);
//!
//! webhooks.run_until_idle().await?;
//! assert_eq!(target.requests()[0].header("webhook-id"), Some(published.id.to_string().as_str()));
//! # Ok(())
//! # }
//! ```
//!
//! An application that delivers in the background calls [`Webhooks::spawn`] once and
//! [`Webhooks::shutdown`] before it ends.
//!
//! # What to read next
//!
//! [`engine`] shows the way of an event through the parts, [`lifecycle`] what becomes of a delivery, and
//! [`lane`] how a dead target is kept from stopping the others. Whoever writes a backend starts with the
//! contracts in [`store`] and [`queue`].

pub mod deliver;
pub mod engine;
pub mod error;
pub mod id;
pub mod lane;
pub mod lifecycle;
pub mod matching;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod queue;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod stats;
pub mod store;
pub mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod units;

pub use engine::{
    BuildError, Builder, FieldError, PublishError, Published, SubscriptionDraft, SubscriptionError,
    VerificationDraft, VerificationSecret, Webhooks, Workers,
};
