//! Connections, and how an operation runs on one.
//!
//! Each task of the store has [`Connections`] of its own, most of them one: no check-out from a common pool, no
//! ping, and a task that is slow delays no other. An operation takes a connection out, works on it, and puts
//! it back only when it knows how the connection stands:
//!
//! - it succeeded, or the server refused and what was begun is rolled back: back it goes;
//! - no answer came in time, the connection broke, or the caller dropped the future: it is closed, and the
//!   server rolls back what was not committed. A connection on which an answer is overdue is never used again;
//! - the server refused because it has become read-only, or its prepared statements are not what they were:
//!   it is closed too, since it would refuse for ever.
//!
//! A connection that stood idle may be dead: the server was restarted, or a firewall forgot it. One that was idle for
//! [`FRESH`] or longer, or since another one of the store's broke, is asked for a sign of life before an operation
//! uses it. So a dead one is found before anything of the operation was sent, and the operation runs on a new one,
//! whatever it is. The others that stood idle beside a dead one are closed with it, unasked.
//!
//! The server undoes a transaction now and then because of another one (a deadlock, a serialization failure).
//! It has then certainly been rolled back, and the operation is repeated here, a bounded number of times. An
//! operation of which nothing is known is never repeated here.
//!
//! Plans are pinned on connections that write: a plan made while a table was empty would scan it for ever, so
//! scans and hash joins are priced out and every statement walks indexes from the rows it was given. That
//! price would make the server compile each plan by its JIT, so that is off.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, TransactionManager as _};
use tokio::sync::Semaphore;
use webhook_core::error::BackendError;
use webhook_core::store::PoolUse;

use crate::config::PgOptions;
use crate::error::{FEATURE_NOT_SUPPORTED, Fault, IDLE_IN_TRANSACTION, NO_SUCH_STATEMENT, READ_ONLY};

/// How often an operation is tried that the server undoes.
const TRIES: u32 = 8;

/// A connection that was used less than so long ago is taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Statements of the engine: few texts, prepared once, with pinned plans.
    Engine,
    /// Lists for people: their conditions differ, and so do their best plans.
    People,
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    options: PgConnectOptions,
    schema: Arc<str>,
    connect_timeout: Duration,
    statement_timeout: Duration,
    /// How many connections of this store have broken.
    broken: Arc<AtomicU64>,
}

impl fmt::Debug for Connector {
    /// Without what may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) fn new(options: &PgOptions) -> Self {
        Self {
            options: options
                .connect
                .clone()
                .application_name("webhooks")
                .statement_cache_capacity(256)
                .disable_statement_logging(),
            schema: options.schema.as_str().into(),
            connect_timeout: options.connect_timeout,
            statement_timeout: options.statement_timeout,
            broken: Arc::default(),
        }
    }

    /// The schema of all tables.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Opens a connection that is set up for `role`.
    pub(crate) fn connect(&self, role: Role) -> BoxFuture<'_, Result<PgConnection, Fault>> {
        let settings = self.settings(role);
        let connecting = async move {
            let mut conn = self.options.connect().await?;
            conn.execute(settings.as_str()).await?;
            Ok(conn)
        };
        Box::pin(self.within_connect_timeout(connecting))
    }

    /// Opens a connection as the server's administrator has set it up.
    pub(crate) fn connect_bare(&self) -> BoxFuture<'_, Result<PgConnection, Fault>> {
        Box::pin(self.within_connect_timeout(async { Ok(self.options.connect().await?) }))
    }

    async fn within_connect_timeout<T>(
        &self,
        connecting: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(Fault::Timeout("no connection to the server could be made in time")),
        }
    }

    /// Waits for an answer as long as it may take.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let answer = tokio::time::timeout(self.patience(), answer).await;
        answer.unwrap_or(Err(Fault::Timeout(
            "the server did not answer in time, and its connection was closed",
        )))
    }

    /// How long an answer may take before the connection is given up: the server's own limit comes first.
    fn patience(&self) -> Duration {
        self.statement_timeout.saturating_mul(2)
    }

    /// By statements rather than start-up options, which connection poolers refuse.
    fn settings(&self, role: Role) -> String {
        let statement = self.statement_timeout.as_millis();
        let (lock, schema) = (statement / 2, &self.schema);
        let common = format!(
            "SET search_path = \"{schema}\", pg_temp;
             SET jit = off;
             SET statement_timeout = {statement};
             SET lock_timeout = {lock};
             SET idle_in_transaction_session_timeout = {statement};
             SET idle_session_timeout = 0;
             DO $$ BEGIN
                 SET client_connection_check_interval = 2000;
             EXCEPTION WHEN invalid_parameter_value THEN
                 NULL; -- not every system can tell the server of it
             END $$;
             SET default_transaction_isolation = 'read committed';
             SET default_transaction_read_only = off;
             SET synchronous_commit = on;"
        );
        match role {
            Role::Engine => format!(
                "{common}
                 SET plan_cache_mode = force_generic_plan;
                 SET enable_seqscan = off;
                 SET enable_bitmapscan = off;
                 SET enable_hashjoin = off;
                 SET enable_mergejoin = off;"
            ),
            Role::People => format!("{common} SET plan_cache_mode = force_custom_plan;"),
        }
    }
}

/// Up to so many connections of one role, each opened when it is first needed.
#[derive(Debug)]
pub(crate) struct Connections {
    connector: Connector,
    role: Role,
    permits: Semaphore,
    most: usize,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that stands idle.
#[derive(Debug)]
struct Idle {
    conn: PgConnection,
    since: Instant,
    /// How many of the store's connections had broken by then.
    broken: u64,
}

impl Connections {
    pub(crate) fn new(connector: Connector, role: Role, most: usize) -> Self {
        let most = most.max(1);
        Self { connector, role, permits: Semaphore::new(most), most, idle: Mutex::default() }
    }

    /// Runs `operation` on one of the connections: one statement, or a transaction that it begins by
    /// [`begin`] and ends by [`commit`]. What it began and did not commit is rolled back.
    ///
    /// `args` is handed through, so that the operation can borrow it for as long as it runs. It may run more
    /// than once.
    ///
    /// # Errors
    /// When it failed, or undoing it took too many tries.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection: the transaction is committed or it is not.
    pub(crate) fn run<'r, A, T, F>(
        &'r self,
        name: &'static str,
        args: &'r A,
        operation: F,
    ) -> BoxFuture<'r, Result<T, BackendError>>
    where
        A: Sync + ?Sized,
        F: for<'a> Fn(&'a mut PgConnection, &'a A) -> BoxFuture<'a, Result<T, Fault>> + Send + Sync + 'r,
        T: Send + 'r,
    {
        // Boxed here, because compilers cannot prove in every caller's place that it is `Send`.
        async move { self.try_run(args, operation).await.map_err(|fault| fault.during(name)) }.boxed()
    }

    async fn try_run<A, T, F>(&self, args: &A, operation: F) -> Result<T, Fault>
    where
        A: Sync + ?Sized,
        F: for<'a> Fn(&'a mut PgConnection, &'a A) -> BoxFuture<'a, Result<T, Fault>> + Sync,
        T: Send,
    {
        let waiting = self.permits.acquire();
        let Ok(permit) = tokio::time::timeout(self.connector.patience(), waiting).await else {
            return Err(Fault::Timeout("no connection became free in time"));
        };
        let _permit = permit.map_err(|_| closed())?;
        let mut tries = 1;
        loop {
            let mut conn = match self.take().await {
                Some(conn) => conn,
                None => self.connector.connect(self.role).await?,
            };
            let fault = match self.connector.in_time(operation(&mut conn, args)).await {
                Ok(done) => {
                    self.put(conn);
                    return Ok(done);
                }
                Err(fault) => fault,
            };
            if is_broken(&fault) {
                // So are, most likely, those that stood idle meanwhile, here and elsewhere.
                self.connector.broken.fetch_add(1, Ordering::Relaxed);
                return Err(fault);
            }
            if tokio::time::timeout(self.connector.patience(), rollback(&mut conn))
                .await
                .is_ok_and(|r| r.is_ok())
            {
                self.put(conn);
            }
            if !fault.is_conflict() || tries == TRIES {
                return Err(fault);
            }
            tries += 1;
        }
    }

    /// How many are open now. One that is being opened counts as one that is used.
    pub(crate) fn usage(&self, name: &'static str) -> PoolUse {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let used = self.most.saturating_sub(self.permits.available_permits());
        let idle = self.idle().len();
        PoolUse { name, max: number(self.most), open: number(used + idle), in_use: number(used) }
    }

    /// Closes the idle connections and lets nobody in any more.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    /// An idle connection that is alive, if one is at hand.
    ///
    /// One that gives no sign of life takes along all that have stood idle since before that was known: most likely
    /// they died with it, and asking each would cost its time-out. So a call waits for one dead connection at most,
    /// for as long as opening one may take.
    async fn take(&self) -> Option<PgConnection> {
        let Idle { mut conn, since, broken } = self.idle().pop()?;
        if since.elapsed() < FRESH && broken == self.connector.broken.load(Ordering::Relaxed) {
            return Some(conn);
        }
        let asking = tokio::time::timeout(self.connector.connect_timeout, conn.ping());
        if asking.await.is_ok_and(|answer| answer.is_ok()) {
            return Some(conn);
        }
        let broken = self.connector.broken.fetch_add(1, Ordering::Relaxed) + 1;
        self.idle().retain(|idle| idle.broken >= broken);
        None
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, conn: PgConnection) {
        if !self.permits.is_closed() {
            let broken = self.connector.broken.load(Ordering::Relaxed);
            let idle = Idle { conn, since: Instant::now(), broken };
            self.idle().push(idle);
        }
    }
}

fn closed() -> Fault {
    Fault::Sql(sqlx::Error::PoolClosed)
}

/// Whether nothing more can be said over the connection, or nothing that would be answered as it should be.
pub(crate) fn is_broken(fault: &Fault) -> bool {
    match fault {
        Fault::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)) => true,
        Fault::Sql(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
            // The server says its last word and closes; or it is the primary no longer, and another one is; or
            // statements that were prepared here are gone, or of a schema that was changed since.
            code.starts_with("57P")
                || code.starts_with("08")
                || [IDLE_IN_TRANSACTION, READ_ONLY, FEATURE_NOT_SUPPORTED, NO_SUCH_STATEMENT]
                    .contains(&&*code)
        }),
        Fault::Timeout(_) => true,
        Fault::Sql(_) | Fault::Corrupt(_) | Fault::Misconfigured(_) | Fault::Defect(_) => false,
    }
}

/// What keeps account of whether a connection is in a transaction, so that nothing is taken back that was not begun:
/// the server warns of it, here and in its own log.
type Transactions = <sqlx::Postgres as sqlx::Database>::TransactionManager;

/// Begins a transaction.
pub(crate) async fn begin(conn: &mut PgConnection) -> Result<(), Fault> {
    Ok(Transactions::begin(conn, None).await?)
}

/// Begins a transaction by a text that begins with `BEGIN` and goes on.
pub(crate) async fn begin_by(conn: &mut PgConnection, text: String) -> Result<(), Fault> {
    let begun = Transactions::begin(conn, Some(text.into())).await.map_err(Fault::from);
    if let Err(fault) = &begun
        && !is_broken(fault)
    {
        // What came behind the first word failed, and nobody keeps account of that.
        conn.execute("ROLLBACK").await?;
    }
    begun
}

/// Commits the transaction. After an error nobody knows whether it is.
pub(crate) async fn commit(conn: &mut PgConnection) -> Result<(), Fault> {
    Ok(Transactions::commit(conn).await?)
}

/// Takes back what was begun, if anything was.
pub(crate) async fn rollback(conn: &mut PgConnection) -> Result<(), Fault> {
    Ok(Transactions::rollback(conn).await?)
}

#[cfg(test)]
mod tests;
