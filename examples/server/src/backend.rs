//! The storage that a database URL names.
//!
//! A URL may hold a password. It is read here and stays here: whatever is shown of a [`Database`], by `Display` or
//! `Debug`, has user, host and name of the database and nothing else.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::queue::JobQueue;
use webhook_core::store::{History, Store};
use webhook_queue_redis::{RedisOptions, RedisQueue};
use webhook_store_postgres::{PgOptions, PgStore};
use webhook_store_sqlite::{SqliteOptions, SqliteStore};

use crate::config::{QueueKind, Role};

/// Lists that people read at the same time, in a process that serves the API. With those of the engine, a node
/// has at most fourteen connections.
const READERS: usize = 4;

/// Where everything is kept.
#[derive(Clone)]
pub(crate) enum Database {
    /// One file, served by one process.
    Sqlite(SqliteOptions),
    /// A server, shared by any number of processes.
    Postgres {
        options: Box<PgOptions>,
        /// The URL without its password and settings.
        shown: String,
        /// Where the jobs are, when they are not in the database.
        redis: Option<RedisOptions>,
    },
    /// This process: gone when it ends.
    Memory,
}

impl Default for Database {
    fn default() -> Self {
        Self::Sqlite(SqliteOptions::new("webhooks.db"))
    }
}

impl FromStr for Database {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgOptions::from_url(url).map_err(|error| error.to_string())?;
            let shown = without_secrets(url);
            return Ok(Self::Postgres { options: Box::new(options), shown, redis: None });
        }
        if !url.starts_with("sqlite://") {
            return Err("expected sqlite://PATH, such as sqlite://webhooks.db, \
                        postgres://USER:PASSWORD@HOST/DATABASE, or memory:"
                .to_owned());
        }
        SqliteOptions::from_url(url).map(Self::Sqlite).map_err(|error| error.to_string())
    }
}

impl Database {
    /// Whether several processes can share it.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Postgres { .. } => true,
            Self::Sqlite(_) | Self::Memory => false,
        }
    }
}

impl Database {
    /// Puts the jobs into the Redis at this URL.
    ///
    /// # Errors
    /// When this database cannot have its jobs elsewhere, or the URL names no Redis.
    pub(crate) fn take_queue(&mut self, url: &str) -> Result<(), &'static str> {
        let Self::Postgres { redis, .. } = self else {
            return Err("SQLite and memory are their own queue; Redis needs --database-url postgres://…");
        };
        let options = RedisOptions::new(url);
        if options.check().is_err() {
            return Err(
                "expected redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], with what is special in a password \
                        written as %40 and a database from 0 to 255; or rediss://…, redis-cluster://… or \
                        redis-sentinel://HOST?sentinelServiceName=NAME",
            );
        }
        *redis = Some(options);
        Ok(())
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// When the database cannot be opened or brought up to date.
    pub(crate) async fn migrate(&self) -> Result<(), BackendError> {
        match self {
            Self::Postgres { options, .. } => PgStore::migrate(PgOptions::clone(options)).await,
            Self::Sqlite(options) => {
                SqliteStore::open(options.clone().migrate(true)).await?.close().await;
                Ok(())
            }
            Self::Memory => Ok(()),
        }
    }

    /// Makes this kind of queue the database's, every node stopped.
    ///
    /// # Errors
    /// When the database cannot be opened or is none that can be moved.
    pub(crate) async fn move_queue(&self, to: QueueKind) -> Result<(), BackendError> {
        match self {
            Self::Postgres { options, .. } => {
                let options = PgOptions::clone(options).own_queue(to == QueueKind::Database);
                PgStore::move_queue(options).await
            }
            Self::Sqlite(_) | Self::Memory => Ok(()),
        }
    }
}

/// Opens a queue on Redis. One that is away does not keep a node from starting, since publishing goes on without it; one
/// that may not be used does.
async fn redis(options: &RedisOptions) -> Result<RedisQueue, BackendError> {
    match RedisQueue::connect(options.clone()).await {
        Err(error) if error.kind() != BackendErrorKind::Misconfigured => {
            tracing::warn!(%error, "Redis is away: events are taken, deliveries wait for it");
            RedisQueue::open(options.clone())
        }
        other => other,
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "sqlite://{}", options.path().display()),
            Self::Postgres { shown, .. } => f.write_str(shown),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

/// User, host, port and name of a URL, which was found to be one. Its query may hold a password too.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", ""));
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest[..end].split_once('/').unwrap_or((&rest[..end], ""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = user.split(':').next().unwrap_or_default();
    // A password with an unescaped slash would go on in the path, one with another mark behind it.
    if path.contains('@') || rest[end..].contains('@') {
        return format!("{scheme}://…");
    }
    let at = if user.is_empty() { "" } else { "@" };
    format!("{scheme}://{user}{at}{host}/{path}")
}

/// A database that was opened.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) history: Arc<dyn History>,
    /// For a store without a queue of its own.
    pub(crate) queue: Option<Arc<dyn JobQueue>>,
    opened: Opened,
}

/// What is to be closed at the end.
#[derive(Debug)]
enum Opened {
    /// So that the file stands alone and can be copied.
    Sqlite(SqliteStore),
    /// So that the server has its connections back.
    Postgres(PgStore),
    Nothing,
}

impl Backend {
    /// Opens the database for a process of this role, brought up to date if `migrate`.
    ///
    /// # Errors
    /// When it cannot be opened or, without `migrate`, is behind.
    pub(crate) async fn open(database: &Database, role: Role, migrate: bool) -> Result<Self, BackendError> {
        match database {
            Database::Memory => {
                let store = Arc::new(MemoryStore::new());
                let queue: Option<Arc<dyn JobQueue>> = Some(Arc::new(MemoryQueue::new()));
                Ok(Self { history: store.clone(), store, queue, opened: Opened::Nothing })
            }
            Database::Sqlite(options) => {
                let file = SqliteStore::open(options.clone().migrate(migrate)).await?;
                let store = Arc::new(file.clone());
                Ok(Self { history: store.clone(), store, queue: None, opened: Opened::Sqlite(file) })
            }
            Database::Postgres { options, redis: jobs, .. } => {
                let readers = if role.serves_api() { READERS } else { 1 };
                let options = PgOptions::clone(options).migrate(migrate).readers(readers);
                let opened = PgStore::open(options.own_queue(jobs.is_none())).await?;
                let queue: Option<Arc<dyn JobQueue>> = match jobs {
                    Some(jobs) => Some(Arc::new(redis(jobs).await?)),
                    None => None,
                };
                let store = Arc::new(opened.clone());
                Ok(Self { history: store.clone(), store, queue, opened: Opened::Postgres(opened) })
            }
        }
    }

    /// Lets go of what an orderly end leaves in order.
    pub(crate) async fn close(self) {
        match self.opened {
            Opened::Sqlite(store) => store.close().await,
            Opened::Postgres(store) => store.close().await,
            Opened::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_shows_where_it_is_and_no_password() {
        let table = [
            ("postgres://app:hunter2@db.example:6432/shop", "postgres://app@db.example:6432/shop"),
            ("postgresql://app:hunter2@db/shop?sslmode=require&password=hunter2", "postgresql://app@db/shop"),
            ("postgres://app:p%40hunter2@db/shop", "postgres://app@db/shop"),
            ("postgres://db/shop", "postgres://db/shop"),
            ("postgres://:hunter2@db", "postgres://db/"),
            ("postgres:///shop?host=/run/postgresql&user=app&password=hunter2", "postgres:///shop"),
        ];
        for (url, shown) in table {
            let database: Database = url.parse().unwrap();
            assert_eq!(database.to_string(), shown);
            assert!(!format!("{database:?}").contains("hunter2"), "{database:?}");
        }
        for password in ["1/hunter2", "1?hunter2", "1#hunter2"] {
            assert_eq!(without_secrets(&format!("postgres://app:{password}@db/shop")), "postgres://…");
        }
    }
}
