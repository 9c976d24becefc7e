//! The whole HTTP surface over the bundled server, as a process, on every backend.
//!
//! What `webhook-http-axum/tests/api` holds over memory is held here over SQLite, PostgreSQL and PostgreSQL with Redis,
//! for what a handler promises is kept by a query or a script, and each backend has its own. Which routes there are is
//! read from the document that the server serves, so that a new route is walked over without a word here; one whose id
//! is of a new kind fails until [`things`] knows whose it is.
//!
//! | module | owes |
//! |---|---|
//! | [`world`] | a server on a backend, with keys, and what is stored there |
//! | [`operations`] | the routes, with a good body for each |
//! | [`things`] | one of everything, all of one tenant |
//! | [`walks`] | ids of others, of nothing and of another kind |
//! | [`refusals`] | requests that are wrong |

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, whose helpers clippy does not know as such"
)]

#[path = "../../../../webhook-http-axum/tests/api/bad_requests/table.rs"]
mod bad_requests;
mod operations;
mod refusals;
#[path = "../server/support/mod.rs"]
mod support;
mod things;
mod walks;
mod world;

/// Each case as a test on each backend.
macro_rules! on_every_backend {
    ($($backend:ident: $variant:ident;)*) => {$(
        mod $backend {
            use crate::world::Backend;

            const BACKEND: Backend = Backend::$variant;

            #[tokio::test(flavor = "multi_thread")]
            async fn what_is_anothers_is_404_on_every_route_and_is_not_changed() {
                crate::walks::foreign_ids(BACKEND).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn every_bad_request_has_its_status_and_leaves_no_row() {
                crate::refusals::table(BACKEND).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn every_route_refuses_what_it_does_not_take_and_changes_nothing() {
                crate::refusals::every_route(BACKEND).await;
            }
        }
    )*};
}

on_every_backend! {
    sqlite: Sqlite;
    postgres: Postgres;
    postgres_and_redis: PostgresAndRedis;
}
