//! Classes of failures, from the errors of four libraries.
//!
//! The client's error is a chain: reqwest's own, hyper-util's, then hyper's, rustls's, the system's or ours. The
//! innermost one that is known decides. Texts of libraries carry URLs and addresses, so none is passed on: every
//! detail is written here.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{CertificateError, InvalidMessage};
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_core::target::TargetError;

use crate::lookup::LookupError;
use crate::resolver::DialError;

/// The rules refuse the URL. Their messages name no address.
pub(crate) fn refused(error: &TargetError) -> AttemptError {
    AttemptError::new(ErrorKind::Blocked, error.to_string())
}

pub(crate) fn too_late(deadline: Duration) -> AttemptError {
    AttemptError::new(ErrorKind::Timeout, format!("no answer within {deadline:?}"))
}

pub(crate) fn unusable_status(status: u16) -> AttemptError {
    let detail = match status {
        101 => "the target switched to another protocol, for which it was not asked".to_owned(),
        _ => format!("the answer's status {status} is outside 200 to 599"),
    };
    AttemptError::new(ErrorKind::Protocol, detail)
}

/// What the client's error means. `https`: whether the target speaks TLS.
pub(crate) fn classify(error: &reqwest::Error, https: bool, connect_timeout: Duration) -> AttemptError {
    let chain: Vec<&(dyn Error + 'static)> = chain(error).collect();
    if let Some(error) = find::<DialError>(&chain) {
        return dial(error);
    }
    if let Some(error) = find::<rustls::Error>(&chain) {
        return AttemptError::new(ErrorKind::Tls, tls(error));
    }
    let system = find::<io::Error>(&chain);
    if error.is_connect() {
        return connect(error.is_timeout(), system, https, connect_timeout);
    }
    if let Some(error) = chain.iter().rev().find_map(|error| error.downcast_ref::<hyper::Error>())
        && let Some(found) = http(error)
    {
        return found;
    }
    match system.map(io::Error::kind) {
        Some(_) => AttemptError::new(ErrorKind::Reset, RESET),
        None => AttemptError::new(ErrorKind::Internal, "the HTTP client could not send the request"),
    }
}

const RESET: &str = "the connection was closed before an answer came";

fn dial(error: &DialError) -> AttemptError {
    let kind = match error {
        DialError::Blocked => ErrorKind::Blocked,
        DialError::NoAddress | DialError::Lookup(LookupError::Failed(_)) => ErrorKind::Dns,
        DialError::Lookup(LookupError::NotRun) => ErrorKind::Internal,
    };
    AttemptError::new(kind, error.to_string())
}

fn connect(
    timed_out: bool,
    system: Option<&io::Error>,
    https: bool,
    connect_timeout: Duration,
) -> AttemptError {
    if let Some(error) = system.filter(|error| is_out_of_files(error)) {
        tracing::error!(%error, "no connection can be made");
        return AttemptError::new(ErrorKind::Internal, "this process has too many open files to connect");
    }
    let detail = match system.map(io::Error::kind) {
        _ if timed_out => {
            return AttemptError::new(ErrorKind::Connect, no_connection_within(connect_timeout));
        }
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

fn no_connection_within(timeout: Duration) -> String {
    format!("no connection could be made within {timeout:?}")
}

/// `EMFILE` and `ENFILE`: no fault of the target's.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// The innermost of hyper's errors; none when it only wraps one of the system's.
fn http(error: &hyper::Error) -> Option<AttemptError> {
    let protocol = |detail| Some(AttemptError::new(ErrorKind::Protocol, detail));
    if error.is_parse_version_h2() {
        protocol("the target answered with HTTP/2, for which it was not asked")
    } else if error.is_parse() {
        protocol("the answer is not valid HTTP, or has too many or too large headers")
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() || error.is_shutdown()
    {
        Some(AttemptError::new(ErrorKind::Reset, RESET))
    } else if error.source().is_some() || error.is_user() || error.is_timeout() {
        None
    } else {
        // What is left is a message that came unasked, such as the greeting of a mail server.
        protocol("the target sent something before it was asked")
    }
}

fn tls(error: &rustls::Error) -> &'static str {
    match error {
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
    }
}

fn find<'a, E: Error + 'static>(chain: &[&'a (dyn Error + 'static)]) -> Option<&'a E> {
    chain.iter().rev().find_map(|error| error.downcast_ref())
}

/// The error and what caused it, outermost first. An [`io::Error`] that holds another error passes it over in
/// `source`, so it is opened.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
