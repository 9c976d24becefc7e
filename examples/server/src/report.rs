//! How a command that cannot go on says so: one line on stderr, and an exit code.

use std::error::Error as _;
use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use webhook_core::error::BackendError;

use crate::backend::Database;
use crate::terminal::escaped;

/// Why a command ended without doing its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It was called wrongly: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something that it needs is not there: exit code 1.
    #[error("{0}")]
    Start(String),
}

impl Failure {
    /// A failure of the surroundings, with what caused it.
    pub(crate) fn start(error: impl Display) -> Self {
        Self::Start(error.to_string())
    }

    /// A database that cannot be used, with all that is known about why.
    pub(crate) fn cannot_open(database: &Database, error: &BackendError) -> Self {
        // Of the two that a database with its jobs elsewhere is made of, the one that failed.
        let mut text = match error.backend() {
            "redis" => format!("cannot use the Redis of --redis-url: {error}"),
            _ => format!("cannot open {database}: {error}"),
        };
        // The driver's own words tell a refused connection from a wrong password, and hold no password.
        if let Some(source) = error.source() {
            text.push_str(": ");
            text.push_str(&source.to_string());
        }
        Self::Start(text)
    }

    /// Writes the line and gives the exit code.
    pub(crate) fn print(&self) -> ExitCode {
        let text = self.to_string();
        // Escaped, as values come from outside: whatever they hold, it stays one line.
        // With stderr gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "webhook-server: {}", escaped(&text));
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Start(_) => ExitCode::FAILURE,
        }
    }
}
