//! The suite is tested too: backends that break one promise each, and the case that catches each.
//!
//! A broken backend is the reference with one method bent. A case catches it by panicking on it; that the
//! same case passes on the reference itself is what `tests/memory.rs` shows.

#![allow(clippy::unwrap_used)] // locks of tests

mod bent;
mod deliver;
mod queue;
mod retry;
mod statistics;
mod store;
mod whole;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use webhook_conformance::Fixture;

/// Panics unless the case fails on this backend.
async fn caught<F: Fixture>(name: &str, case: impl for<'a> FnOnce(&'a F) -> BoxFuture<'a, ()>) {
    let Ok(fixture) = F::create().await else { panic!("a backend in memory is never missing") };
    // A broken backend may also make a case wait for ever; three months of paused time are enough for any.
    let case = tokio::time::timeout(Duration::from_secs(90 * 24 * 3600), case(&fixture));
    let outcome = AssertUnwindSafe(case).catch_unwind().await;
    assert!(outcome.is_err(), "{name} did not catch it");
}

/// A test for each broken backend, named after what it breaks.
macro_rules! defects {
    ($fixture:ident, $suite:ident; $($name:ident: $defect:ty => $family:ident::$case:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let name = concat!(stringify!($family), "::", stringify!($case));
            crate::caught::<$fixture<$defect>>(name, |fixture| {
                Box::pin(webhook_conformance::$suite::$family::$case(fixture))
            })
            .await;
        })*
    };
}
use defects;
