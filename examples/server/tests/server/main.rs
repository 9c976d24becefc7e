//! The server as its users meet it: real processes, sockets, signals and files.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, whose helpers clippy does not know as such"
)]

mod config;
mod crash;
mod demo;
mod disk;
mod flags;
mod healthcheck;
mod isolation;
mod listen;
mod logs;
mod memory;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod packaging;
mod reasons;
mod serve;
mod start;
mod support;
mod traces;
