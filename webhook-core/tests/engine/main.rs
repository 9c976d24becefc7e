//! The engine on the memory backends, in paused time: the tests are about the engine, so nothing else is real.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's way to fail")]

mod clocks;
mod expiry;
mod faults;
mod faulty;
mod faulty_queue;
mod fences;
mod inbox;
mod lanes;
mod lifecycle;
mod metrics;
mod order;
mod outages;
mod poison;
mod publishing;
mod rebuild;
mod replays;
mod requests;
mod statistics;
mod support;
mod traces;
