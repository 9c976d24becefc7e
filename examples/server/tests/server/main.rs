//! The server as its users meet it: real processes, sockets, signals and files.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, whose helpers clippy does not know as such"
)]

mod crash;
mod demo;
mod disk;
mod flags;
mod isolation;
mod listen;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod reasons;
mod serve;
mod start;
mod support;
mod traces;
