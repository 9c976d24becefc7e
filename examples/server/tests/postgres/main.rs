//! The bundled server on PostgreSQL from outside: several real processes, one real database, and what breaks.
//!
//! Tests that only use a database get one of their own in the server that all tests share; tests that break the server
//! start one for themselves. What a test observes it prints, for `docs/failure-modes.md`; it asserts five times the
//! figure that is promised there, so that a loaded machine fails nothing.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, whose helpers clippy does not know as such"
)]

mod logs;
mod migrate;
mod nodes;
mod outage;
mod redis;
#[path = "../server/support/mod.rs"]
mod support;
mod workers;

use support::process::Process;
use webhook_store_postgres::sqlx::{Connection as _, Executor as _, PgConnection};

/// As `--concurrency` of every worker: no more than this is on the wire or not yet recorded in one process.
pub(crate) const CONCURRENCY: usize = 32;

/// What one worker can hold on the wire for subscriptions that are new.
pub(crate) const HELD: usize = CONCURRENCY / 4;

/// A database of its own in the shared server; `None`, with a word, when there is no server.
pub(crate) async fn database(test: &str) -> Option<String> {
    // Off the runtime's threads: the first one starts a server.
    let shared = tokio::task::spawn_blocking(test_servers::postgres::shared).await.unwrap();
    let url = test_servers::or_skip(test, shared)?;
    let name = format!("{}_{}", test.replace(' ', "_"), std::process::id());
    let mut conn = PgConnection::connect(url).await.expect("the tests' server answers");
    conn.execute(format!("DROP DATABASE IF EXISTS \"{name}\"").as_str()).await.unwrap();
    conn.execute(format!("CREATE DATABASE \"{name}\"").as_str()).await.expect("a database can be made");
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    Some(format!("{server}/{name}"))
}

/// A server of its own, to be broken; `None`, with a word, when there can be none.
pub(crate) async fn server(test: &str) -> Option<test_servers::postgres::Postgres> {
    let started = tokio::task::spawn_blocking(test_servers::postgres::Postgres::start).await.unwrap();
    test_servers::or_skip(test, started)
}

/// A process of this role on the database.
pub(crate) fn node(database: &str, role: &str, more: &[&str]) -> Process {
    let concurrency = CONCURRENCY.to_string();
    let base = [
        "--listen=127.0.0.1:0",
        "--allow-cidr=127.0.0.1/32",
        "--database-url",
        database,
        "--role",
        role,
        "--concurrency",
        &concurrency,
        "--log=warn",
    ];
    Process::start(&[&base, more].concat())
}
