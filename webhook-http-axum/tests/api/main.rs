//! The API as a client sees it, over the memory backends, through the router and through real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod bad_requests;
mod contract;
mod documentation;
mod harness;
mod history;
mod inbox;
mod ingest;
mod keys;
mod nesting;
mod outage;
mod patch;
mod plain;
mod publish;
mod purge;
mod reasons;
mod refusals;
mod replays;
mod requests;
mod stats;
mod subscription_requests;
mod subscriptions;
