//! Errors, classified where they are born.
//!
//! The server's codes are the first words of its error texts. What each means for a caller is decided here, by
//! [`of_server`]; the client's own failures (no connection, no answer) are classified in [`client`](crate::client).
//! Nothing of the server's text reaches a user except as the source of an error.

use std::error::Error;

use webhook_core::error::{BackendError, BackendErrorKind as Kind};

/// The name of this backend in errors.
pub(crate) const BACKEND: &str = "redis";

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) detail: &'static str,
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
    /// The connection was lost or could not be used, so the call may be repeated at once on a new one.
    pub(crate) disconnected: bool,
    /// The server does not know the script.
    pub(crate) no_script: bool,
}

impl Fault {
    pub(crate) fn new(kind: Kind, detail: &'static str) -> Self {
        Self { kind, detail, source: None, disconnected: false, no_script: false }
    }

    pub(crate) fn timeout() -> Self {
        Self::new(Kind::Timeout, "no answer in time")
    }

    /// An answer that no script of this version gives.
    pub(crate) fn reply() -> Self {
        Self::new(Kind::Internal, "the answer is not what this version's scripts give")
    }

    /// The same without the driver's words, which may repeat what it was given.
    pub(crate) fn without_source(self) -> Self {
        Self { source: None, ..self }
    }

    /// The error that a caller of `operation` gets.
    pub(crate) fn during(self, operation: &'static str) -> BackendError {
        let error = BackendError::new(self.kind, BACKEND, operation, self.detail);
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// What an error text of the server means.
pub(crate) fn of_server(text: &str) -> Fault {
    let code = text.split_whitespace().next().unwrap_or_default();
    let (kind, detail) = match code {
        "OOM" => (Kind::Full, "the server has reached its maxmemory"),
        "NOSCRIPT" => (Kind::Unavailable, "the server has forgotten the scripts"),
        "LOADING" => (Kind::Unavailable, "the server is loading its data"),
        "READONLY" => (Kind::Unavailable, "the server is a replica: a failover may be under way"),
        "MASTERDOWN" => (Kind::Unavailable, "the server has lost its primary"),
        "NOREPLICAS" => {
            (Kind::Unavailable, "the server lacks the replicas that min-replicas-to-write asks for")
        }
        "MISCONF" => (Kind::Unavailable, "the server refuses writes because it cannot persist: see its log"),
        "BUSY" => (Kind::Unavailable, "the server is busy with another script"),
        "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" => {
            (Kind::Unavailable, "the cluster is being rearranged")
        }
        "UNKILLABLE" | "NOTBUSY" => (Kind::Unavailable, "the server was told to stop the script"),
        "WRONGTYPE" => (
            Kind::Corrupt,
            "a key with this prefix holds something else: give this queue a prefix of its own",
        ),
        "NOAUTH" | "WRONGPASS" | "DENIED" => {
            (Kind::Misconfigured, "the server refuses the user or the password")
        }
        "NOPERM" => (Kind::Misconfigured, "the user may not run what the queue needs: see the README"),
        "CROSSSLOT" => (Kind::Misconfigured, "the keys are not in one slot"),
        _ => (Kind::Internal, "the script failed"),
    };
    Fault { no_script: code == "NOSCRIPT", ..Fault::new(kind, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_codes_are_told_apart() {
        let kind = |text: &str| of_server(text).kind;
        assert_eq!(kind("OOM command not allowed when used memory > 'maxmemory'."), Kind::Full);
        assert_eq!(kind("LOADING Redis is loading the dataset in memory"), Kind::Unavailable);
        assert_eq!(kind("READONLY You can't write against a read only replica."), Kind::Unavailable);
        assert_eq!(kind("WRONGTYPE Operation against a key holding the wrong kind of value"), Kind::Corrupt);
        assert_eq!(kind("WRONGPASS invalid username-password pair"), Kind::Misconfigured);
        assert_eq!(kind("NOPERM this user has no permissions"), Kind::Misconfigured);
        assert_eq!(kind("ERR user_script:12: attempt to index a nil value"), Kind::Internal);
        assert_eq!(kind(""), Kind::Internal);
        assert!(of_server("NOSCRIPT No matching script.").no_script);
    }

    #[test]
    fn what_passes_by_itself_is_retryable_and_a_defect_is_not() {
        for text in ["OOM", "LOADING", "READONLY", "NOSCRIPT", "CLUSTERDOWN", "BUSY", "MISCONF"] {
            assert!(of_server(text).during("claim").is_retryable(), "{text}");
        }
        for text in ["WRONGTYPE", "NOAUTH", "ERR"] {
            assert!(!of_server(text).during("claim").is_retryable(), "{text}");
        }
    }
}
