//! The whole engine on a real file: what the engine's own tests show in paused time on memory, and the store's
//! tests call by call, holds together here.
//!
//! The store's clock, which is the engine's wall clock too, stands still until a test moves it, so that a wait is
//! seen to the microsecond and nobody waits for it. Everything else is real: the file, its threads, tokio's time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod lanes;
mod order;
mod outages;
mod poison;
mod restart;
mod retries;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod target;
mod world;
