//! Webhook delivery.

pub mod secret;
pub mod signature;
pub mod target;
