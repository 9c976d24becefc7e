//! Opening a file, and the store that it gives.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _, Sqlite, SqliteConnection, SqlitePool};
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::id::LaneId;
use webhook_core::time::Clock;

use crate::checkpoint::{self, Checkpoints};
use crate::codec;
use crate::config::SqliteOptions;
use crate::error::{self, Fault};
use crate::lanes::{Lane, Memory, NEVER};
use crate::writer::Writer;
use crate::{lock, schema};

/// A store and its queue in one SQLite file. Cheap to clone; the file is let go when the last clone is gone.
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) writer: Writer,
    pub(crate) readers: SqlitePool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) epoch: u64,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the file, makes it when there is none, and brings its schema up to date.
    ///
    /// The file is this process's alone from then on. Leases that an earlier process left are ended at once,
    /// so what it was working on is claimable without waiting for them to run out.
    ///
    /// # Errors
    /// [`Misconfigured`](webhook_core::error::BackendErrorKind::Misconfigured) when another process serves
    /// the file, when it is not an SQLite database, cannot be made or written, or has the schema of a newer
    /// version; others when the disk or SQLite fails.
    pub async fn open(options: SqliteOptions) -> Result<Self, BackendError> {
        // On a thread where it may block, for the file system does. It also keeps sqlx's futures, which compilers
        // cannot prove to be `Send` in every caller's place, out of the caller's.
        let runtime = tokio::runtime::Handle::current();
        match tokio::task::spawn_blocking(move || runtime.block_on(Self::open_file(options))).await {
            Ok(opened) => opened,
            Err(stopped) => Err(BackendError::new(
                BackendErrorKind::Internal,
                error::BACKEND,
                "open",
                "the thread that opened the file stopped",
            )
            .with_source(stopped)),
        }
    }

    async fn open_file(options: SqliteOptions) -> Result<Self, BackendError> {
        let path = options.path.clone();
        if path.is_dir() {
            return Err(error::cannot_open(&path, "is a directory: name a file in it", None));
        }
        let lock = lock::acquire(&path).await?;
        let connect = connect_options(&options);
        let mut conn = connect.connect().await.map_err(|error| error::opening(&path, error))?;
        let now = options.clock.now().as_micros();
        schema::bring_up_to_date(&mut conn, options.migrate, now).await?;
        if let Some(pages) = options.max_page_count {
            sqlx::raw_sql(&format!("PRAGMA max_page_count = {pages}"))
                .execute(&mut conn)
                .await
                .map_err(|error| error::opening(&path, error))?;
        }
        let memory = restore(&mut conn, now).await.map_err(|fault| fault.during("open"))?;
        let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM webhooks_meta")
            .fetch_one(&mut conn)
            .await
            .map_err(|error| Fault::from(error).during("open"))?;
        let beside = connect.connect().await.map_err(|error| error::opening(&path, error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers)
            .test_before_acquire(false)
            .connect_lazy_with(connect.read_only(true).create_if_missing(false));
        let writer = Checkpoints::spawn(beside)
            .and_then(|checkpoints| {
                Writer::spawn(conn, memory, Arc::clone(&options.clock), lock, checkpoints)
            })
            .map_err(|error| {
                BackendError::new(
                    BackendErrorKind::Internal,
                    error::BACKEND,
                    "open",
                    "no thread for the writer",
                )
                .with_source(error)
            })?;
        Ok(Self { writer, readers, clock: options.clock, epoch: u64::try_from(epoch).unwrap_or(0) })
    }

    /// Closes the file, so that SQLite moves what is in `-wal` into it and removes `-wal` and `-shm`, and lets
    /// go of it. Calls that were made before are waited for; later ones, of all clones, answer
    /// [`Unavailable`](webhook_core::error::BackendErrorKind::Unavailable). A second call waits for the first
    /// one and changes nothing.
    ///
    /// Nothing that was acknowledged depends on it: a file that was not closed is whole, and is read together
    /// with its `-wal` at the next opening. While an application has a connection of its own to the file, the
    /// two stay until that one is closed.
    ///
    /// Stop the engine first (`Webhooks::shutdown`).
    ///
    /// # Cancel safety
    /// Once it was polled, closing goes on although this future is dropped.
    pub async fn close(&self) {
        let (writer, readers) = (self.writer.clone(), self.readers.clone());
        // The last connection to close is the one that tidies up, and one that reads cannot.
        let closing = tokio::spawn(async move {
            readers.close().await;
            // A connection that was on its way back when the pool began to close is idle only now: sqlx 0.8
            // waits for it and forgets to close it.
            readers.close().await;
            writer.close().await;
        });
        // It fails only when the runtime is being shut down, which closes everything too.
        let _ = closing.await;
    }

    /// A connection for reading. It sees everything that was committed before.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        Ok(self.readers.acquire().await?)
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_micros()
    }
}

fn connect_options(options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&options.path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(options.busy_timeout)
        .statement_cache_capacity(128)
        // A batch's rows cross to the caller without making SQLite's thread wait for it.
        .row_buffer_size(1024)
        .pragma("wal_autocheckpoint", checkpoint::LOG_PAGES)
        .pragma("cache_size", "-16384")
        .pragma("temp_store", "memory")
        // Without it, an update from a list of rows never scans its table to look each row up in the list:
        // 237 µs a row at 256 rows, measured, and growing with the table.
        .pragma("automatic_index", "OFF")
        .disable_statement_logging()
}

/// Ends the leases of the process before and reads what the queue must know.
async fn restore(conn: &mut SqliteConnection, now: i64) -> Result<Memory, Fault> {
    sqlx::query("UPDATE webhooks_jobs SET leased = 0 WHERE leased = 1").execute(&mut *conn).await?;
    let rows = sqlx::query(
        "SELECT *, (SELECT min(due) FROM webhooks_jobs j WHERE j.lane = l.lane AND j.leased = 0) AS next_due
         FROM webhooks_lanes l",
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut lanes: Vec<(LaneId, Lane)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let next_due: Option<i64> = row.try_get("next_due")?;
        lanes.push((
            codec::lane_id(row, "lane")?,
            Lane::restored(codec::durable(row)?, next_due.unwrap_or(NEVER)),
        ));
    }
    let mut configs = HashMap::new();
    for row in
        sqlx::query("SELECT tenant, config_version FROM webhooks_tenants").fetch_all(&mut *conn).await?
    {
        configs.insert(codec::tenant(&row, "tenant")?, codec::unsigned(&row, "config_version")?);
    }
    let last: i64 = sqlx::query_scalar(
        "SELECT max(last_number, coalesce((SELECT max(seq) FROM webhooks_events), 0)) FROM webhooks_meta",
    )
    .fetch_one(&mut *conn)
    .await?;
    Ok(Memory::restore(lanes, configs, last + 1, now))
}
