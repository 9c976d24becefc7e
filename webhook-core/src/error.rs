//! The one error of every backend.
//!
//! What kind of failure it is, and so whether the call may be repeated, is decided where the error is born:
//! in the adapter, which alone knows its driver's codes. The engine and the HTTP layer read
//! [`BackendError::kind`] and never the text.

use std::error::Error;
use std::fmt;

/// What a failed call to a backend means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// The backend cannot be reached, or refuses work for now. The call may have taken effect.
    Unavailable,
    /// No answer in time. The call may have taken effect.
    Timeout,
    /// The backend undid the call because of another one: a deadlock or a serialization failure.
    Conflict,
    /// There is no room: a full disk, a database at its size limit. Nothing was stored.
    Full,
    /// Something stored cannot be read, or is not what this version writes.
    Corrupt,
    /// The backend cannot serve as it is set up: wrong version, wrong kind of queue, missing rights.
    Misconfigured,
    /// A statement or a reply that should not be possible: a defect.
    Internal,
}

/// A call to a backend about which nothing is known but that it failed.
///
/// The whole call may be repeated: every method of the traits says what a repeat does. `Display` names the
/// backend, the operation and the detail; the driver's error is the [`source`](Error::source), never
/// repeated in the text.
#[derive(Debug)]
pub struct BackendError {
    kind: BackendErrorKind,
    backend: &'static str,
    operation: &'static str,
    detail: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl BackendError {
    /// An error of `backend` (such as `"sqlite"`) in `operation` (such as `"record"`).
    #[must_use]
    pub fn new(
        kind: BackendErrorKind,
        backend: &'static str,
        operation: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, backend, operation, detail: detail.into(), source: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            BackendErrorKind::Unavailable
            | BackendErrorKind::Timeout
            | BackendErrorKind::Conflict
            | BackendErrorKind::Full => true,
            BackendErrorKind::Corrupt | BackendErrorKind::Misconfigured | BackendErrorKind::Internal => false,
        }
    }

    /// The backend that failed.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.backend, self.operation, self.detail)
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_never_repeats_its_source() {
        let error =
            BackendError::new(BackendErrorKind::Unavailable, "sqlite", "record", "the file is locked")
                .with_source(std::io::Error::other("os error 5"));
        assert_eq!(error.to_string(), "sqlite record: the file is locked");
        assert_eq!(error.source().map(ToString::to_string), Some("os error 5".to_owned()));
    }

    #[test]
    fn a_defect_is_not_retried() {
        let error = |kind| BackendError::new(kind, "memory", "load", "");
        assert!(error(BackendErrorKind::Conflict).is_retryable());
        assert!(!error(BackendErrorKind::Corrupt).is_retryable());
        assert!(!error(BackendErrorKind::Internal).is_retryable());
    }
}
