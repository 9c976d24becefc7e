//! Webhook delivery.

pub mod secret;
pub mod signature;
