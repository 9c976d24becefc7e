//! Errors, classified where they are born.
//!
//! Inside the crate an operation fails with a [`Fault`]; at its edge [`Fault::during`] turns it into the one
//! [`BackendError`] that callers know, with the kind that SQLite's result code stands for. The text says what
//! it means for the operator; the driver's own error is the source.

use std::path::Path;
use std::sync::Arc;

use webhook_core::error::{BackendError, BackendErrorKind};

/// The name of this backend in errors.
pub(crate) const BACKEND: &str = "sqlite";

/// Why an operation failed.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// SQLite or its driver. Calls that shared a transaction share its failure.
    Sql(Arc<sqlx::Error>),
    /// A stored value that this version does not write.
    Corrupt(String),
    /// A defect of this crate.
    Defect(&'static str),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(Arc::new(error))
    }
}

impl Fault {
    /// A stored value that cannot be read.
    pub(crate) fn corrupt(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("the stored {what} cannot be read: {why}"))
    }

    /// The error that a caller of `operation` gets.
    pub(crate) fn during(self, operation: &'static str) -> BackendError {
        match self {
            Self::Sql(error) => {
                let (kind, detail) = classify(&error);
                BackendError::new(kind, BACKEND, operation, detail).with_source(error)
            }
            Self::Corrupt(detail) => BackendError::new(BackendErrorKind::Corrupt, BACKEND, operation, detail),
            Self::Defect(detail) => BackendError::new(BackendErrorKind::Internal, BACKEND, operation, detail),
        }
    }
}

// Primary result codes, <https://sqlite.org/rescode.html>.
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const AUTH: i32 = 23;
const NOTADB: i32 = 26;
/// Out of space seen while writing a page or the WAL (`SQLITE_IOERR_WRITE`).
const IOERR_WRITE: i32 = 10 | (3 << 8);

fn classify(error: &sqlx::Error) -> (BackendErrorKind, &'static str) {
    use BackendErrorKind as Kind;
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<i32>().ok()),
        sqlx::Error::Io(_) => return (Kind::Unavailable, "the file cannot be read or written"),
        sqlx::Error::PoolTimedOut => return (Kind::Timeout, "no connection for reading became free in time"),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            return (Kind::Unavailable, "the store is closed");
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            return (Kind::Corrupt, "a stored value has another type than this version writes");
        }
        _ => None,
    };
    let Some(code) = code else {
        return (Kind::Internal, "the statement failed");
    };
    if code == IOERR_WRITE {
        return (Kind::Full, "a page cannot be written: is the disk full?");
    }
    match code & 0xff {
        BUSY | LOCKED => (
            Kind::Unavailable,
            "another connection holds the file's write lock for too long: keep foreign transactions short",
        ),
        FULL => (Kind::Full, "the disk is full or the database has reached its size limit"),
        IOERR => (Kind::Unavailable, "the file cannot be read or written"),
        READONLY | PERM | AUTH => {
            (Kind::Misconfigured, "the file cannot be written: check its rights and its directory's")
        }
        CANTOPEN => {
            (Kind::Misconfigured, "the file cannot be opened: check that its directory exists and its rights")
        }
        NOTADB => (Kind::Misconfigured, "the file is not an SQLite database, or an encrypted one"),
        CORRUPT => (Kind::Corrupt, "the database file is damaged: restore it from a backup"),
        _ => (Kind::Internal, "the statement failed"),
    }
}

/// Another process, or another store in this one, has the file.
pub(crate) fn in_use(lock: &Path) -> BackendError {
    BackendError::new(
        BackendErrorKind::Misconfigured,
        BACKEND,
        "open",
        format!(
            "the database is in use by another process, which holds {}: stop that process, or give this one \
             a database of its own (one process can serve an SQLite file; use Postgres for more)",
            lock.display()
        ),
    )
}

/// The file cannot be opened at all.
pub(crate) fn cannot_open(path: &Path, why: &str, source: Option<std::io::Error>) -> BackendError {
    let error = BackendError::new(
        BackendErrorKind::Misconfigured,
        BACKEND,
        "open",
        format!("{} {why}", path.display()),
    );
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}

/// Something about opening `path` failed in SQLite.
pub(crate) fn opening(path: &Path, error: sqlx::Error) -> BackendError {
    let (kind, detail) = classify(&error);
    BackendError::new(kind, BACKEND, "open", format!("{}: {detail}", path.display())).with_source(error)
}
