//! Whether something between the store and the server takes connections away between transactions.
//!
//! A pooler in transaction mode (PgBouncer's `pool_mode = transaction`) lends a server connection for one transaction
//! and gives it to the next client with whatever was set on it. The store's settings and prepared statements are of
//! the session, and its right to relay the inbox is a lock of the session, so it must not be opened there: what was
//! set would reach other clients' transactions, and all would seem to work until it does not.
//!
//! The check asks twice which server process serves a connection, and has another connection hold a process in
//! between. Directly, or through a pooler in session mode, the process stays the same and is nobody else's. Each
//! round catches a pooler that lends the process used last (PgBouncer does), that has one to lend, or that others
//! keep busy; several rounds with one connection more each catch one that lends in turn, as long as it has few
//! processes idle. What it cannot see is a quiet pooler that lends many in turn.
//!
//! It needs four connections at once, so it also finds a pool that has fewer to lend: such a pool lets a client in
//! and has its first statement wait. Every question therefore has the time that a statement has, and no more.

use sqlx::{Executor as _, PgConnection, Row as _};

use crate::connection::Connector;
use crate::error::Fault;

/// Connections that hold a process each, beside the one that is looked at.
const HOLDERS: usize = 3;

/// Refuses a database behind a pooler that shares server connections between clients.
///
/// # Errors
/// [`Fault::Misconfigured`] when there is one; others when the server cannot be asked.
pub(crate) async fn refuse(connector: &Connector) -> Result<(), Fault> {
    let mut asked = connector.connect_bare().await?;
    let first = connector.in_time(process(&mut asked)).await?;
    let mut holders = Vec::with_capacity(HOLDERS);
    let mut shared = false;
    while !shared && holders.len() < HOLDERS {
        let mut holder = connector.connect_bare().await?;
        shared = connector.in_time(hold(&mut holder)).await? == first
            || connector.in_time(process(&mut asked)).await? != first;
        holders.push(holder);
    }
    if !shared {
        return Ok(());
    }
    Err(Fault::Misconfigured(
        "a pooler between this program and the server takes connections away between transactions (PgBouncer's \
         pool_mode = transaction): connect to the server itself, or through a pool with pool_mode = session"
            .to_owned(),
    ))
}

/// The server process that serves this connection from now on.
async fn hold(conn: &mut PgConnection) -> Result<i32, Fault> {
    // In a transaction, so that it keeps the process it was lent.
    conn.execute("BEGIN").await?;
    process(conn).await
}

/// The server process that answers this statement. Not prepared: a pooler may not know prepared statements.
async fn process(conn: &mut PgConnection) -> Result<i32, Fault> {
    Ok(conn.fetch_one("SELECT pg_backend_pid()::int4").await?.try_get::<i32, _>(0)?)
}
