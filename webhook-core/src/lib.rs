//! Webhook delivery.

pub mod matching;
pub mod retry;
pub mod units;
