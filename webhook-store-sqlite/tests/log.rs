//! The log beside the file: moved into it while calls go on, and never without end.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::*;
use webhook_core::store::DeliveryStore as _;

/// What the store says of its log: pages, from which a commit sees to it that the log ends.
const LOG: u64 = 8000 * (4096 + 24);

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

async fn publish(f: &Fixture, events: usize, bytes: usize) {
    let s = f.subscribe().await;
    let config = f.config().await;
    let inserts: Vec<_> = (0..events)
        .map(|_| {
            let mut event = event();
            event.payload = vec![b'1'; bytes].into();
            insert_of(event, &[&s], config)
        })
        .collect();
    assert_eq!(f.store.insert(&inserts, None).await.unwrap().len(), events);
}

#[tokio::test]
async fn what_is_committed_moves_into_the_file_before_the_log_is_long() {
    let f = Fixture::new().await;
    let log = f.path.with_extension("db-wal");
    let before = size(&f.path);
    let deadline = Instant::now() + Duration::from_secs(60);
    while size(&f.path) == before {
        assert!(Instant::now() < deadline, "nothing was moved from a log of {} bytes", size(&log));
        publish(&f, 4, 4096).await;
        assert!(size(&log) < LOG / 2, "nothing was moved while the log grew to {} bytes", size(&log));
    }
    f.check().await;
}

#[tokio::test]
async fn a_log_that_is_written_to_all_the_time_ends() {
    let f = Fixture::new().await;
    let log = f.path.with_extension("db-wal");
    let mut written = 0;
    while written < 4 * LOG {
        publish(&f, 256, 8192).await;
        written += 256 * 8192;
    }
    assert!(size(&log) < 2 * LOG, "{} bytes of log after {written} bytes of payloads", size(&log));
    f.check().await;
}
