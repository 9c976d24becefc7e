//! Webhook delivery.

pub mod retry;
pub mod units;
