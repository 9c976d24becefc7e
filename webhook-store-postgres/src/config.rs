//! How a store is opened.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use webhook_core::error::{BackendError, BackendErrorKind};

use crate::error::{BACKEND, Fault};

/// Where the tables are unless something else is said.
pub(crate) const DEFAULT_SCHEMA: &str = "webhooks";

/// The longest name that PostgreSQL does not cut off.
const NAME_MAX: usize = 63;

/// Where the database is and how it is used.
///
/// ```
/// use webhook_store_postgres::PgOptions;
///
/// let options = PgOptions::from_url("postgres://app@db.example/shop")?.schema("hooks")?;
/// assert_eq!(options.schema_name(), "hooks");
/// assert!(PgOptions::from_url("sqlite://webhooks.db").is_err());
/// # Ok::<(), webhook_core::error::BackendError>(())
/// ```
#[derive(Clone)]
pub struct PgOptions {
    pub(crate) connect: PgConnectOptions,
    pub(crate) schema: String,
    pub(crate) migrate: bool,
    pub(crate) own_queue: bool,
    pub(crate) readers: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
}

/// Without where the database is: that has the password in it.
impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connect: _, schema, migrate, own_queue, readers, connect_timeout, statement_timeout } =
            self;
        f.debug_struct("PgOptions")
            .field("schema", schema)
            .field("migrate", migrate)
            .field("own_queue", own_queue)
            .field("readers", readers)
            .field("connect_timeout", connect_timeout)
            .field("statement_timeout", statement_timeout)
            .finish_non_exhaustive()
    }
}

impl PgOptions {
    /// The database that `connect` leads to.
    #[must_use]
    pub fn new(connect: PgConnectOptions) -> Self {
        Self {
            connect,
            schema: DEFAULT_SCHEMA.to_owned(),
            migrate: true,
            own_queue: true,
            readers: 4,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
        }
    }

    /// The database of a URL `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`. What it leaves out comes
    /// from the environment as of libpq (`PGHOST`, `PGUSER`, …).
    ///
    /// # Errors
    /// [`Misconfigured`](BackendErrorKind::Misconfigured) when it is another scheme or cannot be read. The
    /// error does not repeat the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, BackendError> {
        let refuse = |why: &str| {
            let detail = format!("{why}: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE");
            BackendError::new(BackendErrorKind::Misconfigured, BACKEND, "open", detail)
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refuse("not a PostgreSQL URL"));
        }
        let connect = PgConnectOptions::from_str(url)
            .map_err(|error| refuse("the URL cannot be read").with_source(error))?;
        Ok(Self::new(connect))
    }

    /// The schema that all tables are in; `webhooks` if not set. It is made when there is none.
    ///
    /// # Errors
    /// [`Misconfigured`](BackendErrorKind::Misconfigured) unless it is 1 to 63 lower-case letters, digits and
    /// underscores, not beginning with a digit or `pg_`: a name that reads the same quoted and unquoted.
    pub fn schema(mut self, name: impl Into<String>) -> Result<Self, BackendError> {
        let name = name.into();
        check_schema(&name).map_err(|fault| fault.during("open"))?;
        self.schema = name;
        Ok(self)
    }

    /// The schema that all tables are in.
    #[must_use]
    pub fn schema_name(&self) -> &str {
        &self.schema
    }

    /// Whether opening brings an older schema up to date (the default) or refuses it.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Whether the database is the queue too (the default), or jobs are kept elsewhere. The database remembers
    /// which of the two serves it, and a store opened for the other one refuses to open.
    #[must_use]
    pub fn own_queue(mut self, own: bool) -> Self {
        self.own_queue = own;
        self
    }

    /// How many connections read for people, at least one; 4 if not set. Apart from them a store has one
    /// connection for each of its tasks: storing events, recording results, loading, everything else, and
    /// those of its queue.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// How long to wait for a new connection; 5 seconds if not set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the server works on one statement before it gives up; 10 seconds if not set. It waits half as
    /// long for a lock. A call whose answer is overdue by more than that is given up here too, and its
    /// connection is closed.
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout.max(Duration::from_millis(100));
        self
    }
}

/// Lets only names through that read the same quoted and unquoted.
pub(crate) fn check_schema(name: &str) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let fits = (1..=NAME_MAX).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("pg_");
    if fits {
        return Ok(());
    }
    Err(Fault::Misconfigured(format!(
        "{name:?} is no name for the schema: expected 1 to {NAME_MAX} lower-case letters, digits and \
         underscores, not beginning with a digit or pg_"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Connections, Connector, Role};

    #[test]
    fn the_password_is_in_no_debug_output() {
        let options = PgOptions::from_url("postgres://app:sesame@db.example/shop").unwrap();
        let connector = Connector::new(&options);
        let connections = Connections::new(connector.clone(), Role::Engine, 1);
        let shown = format!("{options:?} {connector:?} {connections:?}");
        assert!(!shown.contains("sesame"), "{shown}");
        assert!(shown.contains("webhooks"), "{shown}");
    }
}
