//! How a store is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::time::{Clock, SystemClock};

use crate::error::BACKEND;

/// Where the file is and how it is opened.
///
/// ```
/// use webhook_store_sqlite::SqliteOptions;
///
/// let options = SqliteOptions::from_url("sqlite://webhooks.db")?;
/// assert_eq!(options.path(), std::path::Path::new("webhooks.db"));
/// assert!(SqliteOptions::from_url("postgres://localhost/webhooks").is_err());
/// # Ok::<(), webhook_core::error::BackendError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) migrate: bool,
    pub(crate) busy_timeout: Duration,
    pub(crate) max_page_count: Option<u32>,
    pub(crate) readers: u32,
}

impl SqliteOptions {
    /// The file at `path`, made when there is none. Its directory must exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            clock: Arc::new(SystemClock),
            migrate: true,
            busy_timeout: Duration::from_secs(5),
            max_page_count: None,
            readers: 4,
        }
    }

    /// The file of a URL `sqlite://PATH`: relative as in `sqlite://webhooks.db`, absolute as in
    /// `sqlite:///var/lib/webhooks.db`. The path is taken as it is, without percent-decoding.
    ///
    /// # Errors
    /// [`Misconfigured`](BackendErrorKind::Misconfigured) when it is another scheme, has no path, asks for a
    /// database in memory, or has parameters, of which there are none.
    pub fn from_url(url: &str) -> Result<Self, BackendError> {
        let refuse = |why: &str| {
            let detail = format!("{why}: expected sqlite://PATH, such as sqlite://webhooks.db");
            BackendError::new(BackendErrorKind::Misconfigured, BACKEND, "open", detail)
        };
        let path = url.strip_prefix("sqlite://").ok_or_else(|| refuse("not an SQLite URL"))?;
        if path.is_empty() {
            return Err(refuse("the URL has no path"));
        }
        if path.contains('?') {
            return Err(refuse("the URL has parameters, and there are none"));
        }
        if path == ":memory:" {
            return Err(refuse("a database in memory would not be durable (use the memory store for tests)"));
        }
        Ok(Self::new(path))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the store what time it is; the machine's clock if not set.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Whether opening brings an older schema up to date (the default) or refuses it.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// How long to wait for a foreign connection that is writing to the file; 5 seconds if not set.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Lets the file grow to at most so many pages of 4 KiB. Beyond, writes fail with
    /// [`Full`](BackendErrorKind::Full) and store nothing.
    #[must_use]
    pub fn max_page_count(mut self, pages: u32) -> Self {
        self.max_page_count = Some(pages);
        self
    }

    /// How many connections read, at least one; 4 if not set. There is always one more, which writes.
    #[must_use]
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = readers.max(1);
        self
    }
}
