//! Throwaway servers for tests and benchmarks.
//!
//! What it owes: to a test, a real server that is its own or its process's, and a plain sentence when there can be
//! none; to the machine, that nothing is left behind. Whatever happens to the process, its servers are stopped: a
//! shell waits at the other end of a pipe for each of them, and when that closes, which even SIGKILL does, it stops
//! the server and removes its directory. Nothing listens beyond 127.0.0.1.
//!
//! Tests are run by `cargo xtask test`, which starts one server for all of them and names it by a variable, or by
//! plain `cargo test`, where each process starts its own at the first need ([`postgres::shared`]). A test that
//! breaks its server starts one for itself ([`postgres::Postgres::start`]).
//!
//! | module | owes |
//! |---|---|
//! | [`postgres`] | PostgreSQL |
//! | [`pgbouncer`] | PgBouncer before one |
//! | [`redis`] | Redis or Valkey |
//! | `home` | a directory, and the user that a server runs as |
//! | `guard` | the shell that stops a server |
//!
//! Std only, so that `xtask` can use it. Each kind of server is a module of its own.

#![forbid(unsafe_code)]

mod guard;
mod home;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;

pub use home::free_port;

/// Whether a missing server is a failure and no reason to skip: `WEBHOOK_REQUIRE_BACKENDS=1`.
#[must_use]
pub fn are_required() -> bool {
    std::env::var("WEBHOOK_REQUIRE_BACKENDS").is_ok_and(|value| value == "1")
}

/// The value, or `None` after a line on stderr that says which test is skipped and why.
///
/// # Panics
/// When backends are required ([`are_required`]).
pub fn or_skip<T>(test: &str, server: Result<T, String>) -> Option<T> {
    match server {
        Ok(server) => Some(server),
        Err(reason) => {
            assert!(!are_required(), "WEBHOOK_REQUIRE_BACKENDS=1, but {test} has no server: {reason}");
            eprintln!("skipped {test}: {reason}");
            None
        }
    }
}
