//! The storage that a database URL names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use webhook_core::error::BackendError;
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::queue::JobQueue;
use webhook_core::store::{History, Store};
use webhook_store_sqlite::{SqliteOptions, SqliteStore};

/// Where everything is kept.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// One file.
    Sqlite(SqliteOptions),
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
            return Err("PostgreSQL comes with a later release: use sqlite://PATH or memory:".to_owned());
        }
        if !url.starts_with("sqlite://") {
            return Err("expected sqlite://PATH, such as sqlite://webhooks.db, or memory:".to_owned());
        }
        SqliteOptions::from_url(url).map(Self::Sqlite).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "sqlite://{}", options.path().display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// A database that was opened.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) history: Arc<dyn History>,
    /// For a store without a queue of its own.
    pub(crate) queue: Option<Arc<dyn JobQueue>>,
    /// What is to be closed at the end, so that the file stands alone and can be copied.
    pub(crate) file: Option<SqliteStore>,
}

impl Backend {
    /// Opens the database, brought up to date if `migrate`.
    ///
    /// # Errors
    /// When it cannot be opened or, without `migrate`, is behind.
    pub(crate) async fn open(database: &Database, migrate: bool) -> Result<Self, BackendError> {
        match database {
            Database::Memory => {
                let store = Arc::new(MemoryStore::new());
                let queue: Option<Arc<dyn JobQueue>> = Some(Arc::new(MemoryQueue::new()));
                Ok(Self { history: store.clone(), store, queue, file: None })
            }
            Database::Sqlite(options) => {
                let file = SqliteStore::open(options.clone().migrate(migrate)).await?;
                let store = Arc::new(file.clone());
                Ok(Self { history: store.clone(), store, queue: None, file: Some(file) })
            }
        }
    }
}
