//! What the README and `docs/api.md` show of commands is run, command by command, and what they show of answers is held
//! against what is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod answers;
mod api;
mod page;
mod readme;
mod shell;
