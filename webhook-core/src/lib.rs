//! Webhook delivery.

pub mod deliver;
pub mod engine;
pub mod error;
pub mod id;
pub mod lane;
pub mod lifecycle;
pub mod matching;
pub mod memory;
pub mod model;
pub mod queue;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod store;
pub mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod units;

pub use engine::{
    BuildError, Builder, FieldError, PublishError, Published, SubscriptionDraft, SubscriptionError,
    VerificationDraft, Webhooks, Workers,
};
