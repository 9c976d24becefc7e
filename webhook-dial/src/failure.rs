//! Classes of failures, each with a sentence made here.
//!
//! Texts of libraries carry URLs and addresses, so none is passed on. What an error of an HTTP client means is that
//! client's own and stays in its crate; what the rules, the system and rustls say is the same for all.

use std::io;
use std::time::Duration;

use rustls::{CertificateError, InvalidMessage};
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_core::target::TargetError;

use crate::{DialError, LookupError};

/// The rules refuse the URL. Their messages name no address.
#[must_use]
pub fn refused(error: &TargetError) -> AttemptError {
    AttemptError::new(ErrorKind::Blocked, error.to_string())
}

/// The deadline passed before the head of an answer came.
#[must_use]
pub fn too_late(deadline: Duration) -> AttemptError {
    AttemptError::new(ErrorKind::Timeout, format!("no answer within {deadline:?}"))
}

/// No connection was made in the time for it.
#[must_use]
pub fn no_connection_within(timeout: Duration) -> AttemptError {
    AttemptError::new(ErrorKind::Connect, format!("no connection could be made within {timeout:?}"))
}

/// A status that no answer may have.
#[must_use]
pub fn unusable_status(status: u16) -> AttemptError {
    let detail = match status {
        101 => "the target switched to another protocol, for which it was not asked".to_owned(),
        _ => format!("the answer's status {status} is outside 200 to 599"),
    };
    AttemptError::new(ErrorKind::Protocol, detail)
}

/// Closed before any byte of an answer.
#[must_use]
pub fn reset() -> AttemptError {
    AttemptError::new(ErrorKind::Reset, "the connection was closed before an answer came")
}

/// Nothing may be dialled.
#[must_use]
pub fn dial(error: &DialError) -> AttemptError {
    let kind = match error {
        DialError::Blocked => ErrorKind::Blocked,
        DialError::NoAddress | DialError::Lookup(LookupError::Failed(_)) => ErrorKind::Dns,
        DialError::Lookup(LookupError::NotRun) => ErrorKind::Internal,
    };
    AttemptError::new(kind, error.to_string())
}

/// The system's error at making a connection, none when it is not known. `https`: whether the target speaks TLS.
#[must_use]
pub fn connect(system: Option<&io::Error>, https: bool) -> AttemptError {
    if let Some(error) = system.filter(|error| is_out_of_files(error)) {
        tracing::error!(%error, "no connection can be made");
        return AttemptError::new(ErrorKind::Internal, "this process has too many open files to connect");
    }
    let detail = match system.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "the target refused the connection",
        Some(io::ErrorKind::HostUnreachable) => "the target's host cannot be reached",
        Some(io::ErrorKind::NetworkUnreachable) => "the target's network cannot be reached",
        // Past TCP: connecting itself does not fail like this.
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe)
            if https =>
        {
            return AttemptError::new(
                ErrorKind::Tls,
                "the target closed the connection in the TLS handshake",
            );
        }
        _ => "no connection could be made",
    };
    AttemptError::new(ErrorKind::Connect, detail)
}

/// `EMFILE` and `ENFILE`: no fault of the target's.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// TLS failed, in the handshake or later.
#[must_use]
pub fn tls(error: &rustls::Error) -> AttemptError {
    let detail = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => "the target's certificate is not from a trusted authority",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the target's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the target's certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the target's certificate is for another name"
            }
            _ => "the target's certificate is not valid",
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the target does not speak TLS on this port"
        }
        rustls::Error::AlertReceived(_) => "the target refused the TLS handshake",
        rustls::Error::PeerIncompatible(_) => "the target has no TLS version or cipher in common with us",
        _ => "the TLS handshake failed",
    };
    AttemptError::new(ErrorKind::Tls, detail)
}
