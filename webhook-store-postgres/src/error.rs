//! Errors, classified where they are born.
//!
//! Inside the crate an operation fails with a [`Fault`]; at its edge [`Fault::during`] turns it into the one
//! [`BackendError`] that callers know, with the kind that PostgreSQL's SQLSTATE stands for. The text says what
//! it means for the operator; the driver's own error is the source.

use sqlx::postgres::PgDatabaseError;
use webhook_core::error::{BackendError, BackendErrorKind};

/// The name of this backend in errors.
pub(crate) const BACKEND: &str = "postgres";

/// Why an operation failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// PostgreSQL or its driver.
    Sql(sqlx::Error),
    /// A stored value that this version does not write.
    Corrupt(String),
    /// The database cannot serve as it is set up.
    Misconfigured(String),
    /// No answer in time.
    Timeout(&'static str),
    /// A defect of this crate.
    Defect(&'static str),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// A stored value that cannot be read.
    pub(crate) fn corrupt(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("the stored {what} cannot be read: {why}"))
    }

    /// The error that a caller of `operation` gets.
    pub(crate) fn during(self, operation: &'static str) -> BackendError {
        use BackendErrorKind as Kind;
        match self {
            Self::Sql(error) => {
                let (kind, detail) = classify(&error);
                BackendError::new(kind, BACKEND, operation, detail).with_source(error)
            }
            Self::Corrupt(detail) => BackendError::new(Kind::Corrupt, BACKEND, operation, detail),
            Self::Misconfigured(detail) => BackendError::new(Kind::Misconfigured, BACKEND, operation, detail),
            Self::Timeout(detail) => BackendError::new(Kind::Timeout, BACKEND, operation, detail),
            Self::Defect(detail) => BackendError::new(Kind::Internal, BACKEND, operation, detail),
        }
    }

    /// What the server said, when it was the server that refused. The connection is then as good as before.
    pub(crate) fn of_server(&self) -> Option<&PgDatabaseError> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error.try_downcast_ref::<PgDatabaseError>(),
            Self::Sql(_) | Self::Corrupt(_) | Self::Misconfigured(_) | Self::Timeout(_) | Self::Defect(_) => {
                None
            }
        }
    }

    /// The server has rolled the transaction back because of another one; the same again may succeed.
    pub(crate) fn is_conflict(&self) -> bool {
        self.of_server().is_some_and(|error| matches!(error.code(), SERIALIZATION_FAILURE | DEADLOCK))
    }

    /// A row is there already that this unique constraint, named without its schema, keeps unique.
    pub(crate) fn is_unique_violation(&self) -> bool {
        self.of_server().is_some_and(|error| error.code() == UNIQUE_VIOLATION)
    }
}

// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const UNIQUE_VIOLATION: &str = "23505";
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK: &str = "40P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const QUERY_CANCELED: &str = "57014";
const DISK_FULL: &str = "53100";
/// What PgBouncer says everything with.
const PROTOCOL_VIOLATION: &str = "08P01";
pub(crate) const READ_ONLY: &str = "25006";
pub(crate) const IDLE_IN_TRANSACTION: &str = "25P03";
/// Of a prepared statement: its answer has other columns than before.
pub(crate) const FEATURE_NOT_SUPPORTED: &str = "0A000";
pub(crate) const NO_SUCH_STATEMENT: &str = "26000";

/// Whether PgBouncer refuses a start-up parameter that it does not know, or a transaction in statement mode. It has one
/// code for these and for outages, so the words tell.
fn is_pooler(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    let said = error.message();
    error.code().is_some_and(|code| code == PROTOCOL_VIOLATION)
        && ["startup parameter", "pooling mode"].iter().any(|words| said.contains(words))
}

fn classify(error: &sqlx::Error) -> (BackendErrorKind, &'static str) {
    use BackendErrorKind as Kind;
    if is_pooler(error) {
        return (
            Kind::Misconfigured,
            "a pooler refuses what the store needs: PgBouncer takes pool_mode = session and \
             ignore_startup_parameters = extra_float_digits",
        );
    }
    let code = match error {
        sqlx::Error::Database(error) => error.code(),
        sqlx::Error::Io(_) => {
            return (Kind::Unavailable, "the server cannot be reached or closed the connection");
        }
        sqlx::Error::PoolClosed => return (Kind::Unavailable, "the store is closed"),
        sqlx::Error::Tls(_) => {
            return (Kind::Misconfigured, "no TLS session with the server: check sslmode and certificates");
        }
        sqlx::Error::Configuration(_) => return (Kind::Misconfigured, "the connection options are no good"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            return (Kind::Corrupt, "a stored value has another type than this version writes");
        }
        sqlx::Error::Protocol(_) => {
            return (Kind::Unavailable, "the server's answer makes no sense: is something else in between?");
        }
        _ => None,
    };
    let Some(code) = code else {
        return (Kind::Internal, "the statement failed");
    };
    match &*code {
        SERIALIZATION_FAILURE | DEADLOCK => {
            (Kind::Conflict, "other transactions kept undoing this one: it may be repeated")
        }
        LOCK_NOT_AVAILABLE => (
            Kind::Unavailable,
            "another transaction holds a lock for too long: keep foreign transactions short",
        ),
        QUERY_CANCELED => (Kind::Timeout, "the server did not finish the statement in time"),
        DISK_FULL => (Kind::Full, "the server's disk is full"),
        READ_ONLY => {
            (Kind::Unavailable, "the server is read-only: is it a standby, or is a failover under way?")
        }
        FEATURE_NOT_SUPPORTED | NO_SUCH_STATEMENT => (
            Kind::Unavailable,
            "a prepared statement is gone or out of date: was the schema changed, or does a pooler share \
             connections?",
        ),
        IDLE_IN_TRANSACTION => (Kind::Unavailable, "the server ended a transaction that stood still"),
        code if code.starts_with("08") || code.starts_with("57P") => {
            (Kind::Unavailable, "the server is shutting down, starting up or lost the connection")
        }
        code if code.starts_with("53") || code.starts_with("54") => {
            (Kind::Unavailable, "the server is out of connections, memory or locks")
        }
        code if code.starts_with("58") || code == "F0000" => {
            (Kind::Unavailable, "the server cannot read or write its files")
        }
        code if code.starts_with("28") => {
            (Kind::Misconfigured, "the server refuses this user: check name, password and pg_hba.conf")
        }
        "3D000" => (Kind::Misconfigured, "there is no such database"),
        "42501" => (Kind::Misconfigured, "the user lacks a right: see the grants in the README"),
        "42P01" | "3F000" | "42883" | "42703" => {
            (Kind::Misconfigured, "a table, function or column is missing: the schema is not this version's")
        }
        "42704" => {
            (Kind::Misconfigured, "a setting is unknown to the server: it is older than PostgreSQL 14")
        }
        code if code.starts_with("XX") => (Kind::Corrupt, "the server reports damaged data"),
        _ => (Kind::Internal, "the statement failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_an_outage_and_may_be_repeated() {
        let error = Fault::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())).during("load");
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        assert!(error.is_retryable());
        assert_eq!(error.to_string(), "postgres load: the server cannot be reached or closed the connection");
    }
}
