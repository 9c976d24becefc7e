//! Real processes, a client for the API, producers of events, and receivers. Shared by the test programs of this folder.

#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod api;
pub(crate) mod process;
pub(crate) mod publishers;
pub(crate) mod receiver;

use std::time::{Duration, Instant};

/// Long enough for a loaded machine; nothing waits for it unless something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until `check` gives a value.
///
/// # Panics
/// When there is none within [`DEADLINE`].
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        // A poll with a deadline: there is nothing else that tells.
        tokio::time::sleep(Duration::from_millis(10)).await; // verify: allow(sleep): a poll with a deadline
    }
}
