//! How a database gets its tables, and how a binary sees that they are its own.
//!
//! Migrations are plain SQL files in `schema/`, numbered from 1, that name nothing by its schema: they are run
//! with `search_path` set to it. `migrations` in the same schema says which ran. All that are missing run in
//! one transaction under an advisory lock, so a process that starts meanwhile waits and then finds nothing to
//! do, and one that dies in the middle has done nothing.

use sqlx::{Executor as _, PgConnection, Row as _};
use webhook_core::error::BackendError;

use crate::connection::{Connector, Role, begin, commit};
use crate::error::Fault;
use crate::locks::Lock;
use crate::pooler;

/// One step of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// Its number, from 1.
    pub version: i32,
    /// What it is called.
    pub name: &'static str,
    /// Its statements. They name nothing by its schema: run them with `search_path` set to it.
    pub sql: &'static str,
}

/// The schema's steps in their order, for whoever runs migrations by another tool: run each that is missing in
/// one transaction, and insert its number and name into `migrations`, which the first one makes.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "store", sql: include_str!("../schema/0001_store.sql") },
    Migration { version: 2, name: "queue", sql: include_str!("../schema/0002_queue.sql") },
    Migration { version: 3, name: "queue_claim", sql: include_str!("../schema/0003_queue_claim.sql") },
    Migration { version: 4, name: "queue_settle", sql: include_str!("../schema/0004_queue_settle.sql") },
    Migration { version: 5, name: "statistics", sql: include_str!("../schema/0005_statistics.sql") },
    Migration { version: 6, name: "traceparent", sql: include_str!("../schema/0006_traceparent.sql") },
];

/// The oldest server that is served, as `server_version_num`.
const OLDEST_SERVER: i32 = 140_000;

/// Brings the schema up to date, or with `migrate` off refuses one that is not.
pub(crate) async fn bring_up_to_date(connector: &Connector, migrate: bool) -> Result<(), BackendError> {
    let done = async {
        pooler::refuse(connector).await?;
        let mut conn = connector.connect(Role::Engine).await?;
        connector.in_time(check_server(&mut conn)).await?;
        let schema = connector.schema();
        let version = connector.in_time(version(&mut conn, schema)).await?;
        check_newer(version, schema)?;
        if version == latest() {
            return Ok(());
        }
        if !migrate {
            return Err(Fault::Misconfigured(format!(
                "the schema \"{schema}\" has version {version}, this program needs {}: let it migrate, or run \
                 the files of its directory schema/",
                latest()
            )));
        }
        run(&mut conn, schema).await
    };
    done.await.map_err(|fault: Fault| fault.during("migrate"))
}

fn latest() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

async fn check_server(conn: &mut PgConnection) -> Result<(), Fault> {
    let found: i32 =
        sqlx::query_scalar("SELECT current_setting('server_version_num')::int4").fetch_one(conn).await?;
    if found < OLDEST_SERVER {
        return Err(Fault::Misconfigured(format!(
            "the server is PostgreSQL {}: version {} or later is needed",
            found / 10_000,
            OLDEST_SERVER / 10_000
        )));
    }
    Ok(())
}

/// The last migration that ran; 0 when none did.
async fn version(conn: &mut PgConnection, schema: &str) -> Result<i32, Fault> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("{schema}.migrations"))
        .fetch_one(&mut *conn)
        .await?;
    if !there {
        return Ok(0);
    }
    let row =
        sqlx::query("SELECT coalesce(max(version), 0) AS version FROM migrations").fetch_one(conn).await?;
    Ok(row.try_get("version")?)
}

fn check_newer(version: i32, schema: &str) -> Result<(), Fault> {
    if version > latest() {
        return Err(Fault::Misconfigured(format!(
            "the schema \"{schema}\" has version {version} and this program knows {} at most: it is older than \
             the one that migrated the database, update it",
            latest()
        )));
    }
    Ok(())
}

async fn run(conn: &mut PgConnection, schema: &str) -> Result<(), Fault> {
    begin(conn).await?;
    // Another process may be at it, and a large table takes its time.
    conn.execute(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL enable_seqscan = on",
    )
    .await?;
    Lock::Migration.take(conn, schema).await?;
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(schema)
        .fetch_one(&mut *conn)
        .await?;
    if !there {
        conn.execute(format!("CREATE SCHEMA \"{schema}\"").as_str()).await?;
    }
    let version = version(conn, schema).await?;
    check_newer(version, schema)?;
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > version) {
        conn.execute(migration.sql).await?;
        sqlx::query("INSERT INTO migrations (version, name) VALUES ($1, $2)")
            .bind(migration.version)
            .bind(migration.name)
            .execute(&mut *conn)
            .await?;
        tracing::info!(schema, version = migration.version, name = migration.name, "migrated");
    }
    commit(conn).await
}
