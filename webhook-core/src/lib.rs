//! Webhook delivery.

pub mod units;
