//! What hyper's errors mean.

use std::error::Error;
use std::io;

use webhook_core::model::{AttemptError, ErrorKind};
use webhook_dial::failure;

/// A request was or may have been sent, and this came instead of an answer. `read`: whether any byte came.
pub(crate) fn classify(error: &hyper::Error, read: bool) -> AttemptError {
    if let Some(error) = tls(error) {
        return failure::tls(error);
    }
    if error.is_parse_version_h2() {
        protocol("the target answered with HTTP/2, for which it was not asked")
    } else if error.is_parse() {
        protocol("the answer is not valid HTTP, or has too many or too large headers")
    } else if error.is_user() {
        AttemptError::new(ErrorKind::Internal, "the HTTP client could not send the request")
    } else if read {
        protocol("the connection was closed in the middle of the answer's head")
    } else {
        failure::reset()
    }
}

/// Something came on a connection before a request was sent on it, such as the greeting of a mail server.
pub(crate) fn unasked() -> AttemptError {
    protocol("the target sent something before it was asked")
}

fn protocol(detail: &str) -> AttemptError {
    AttemptError::new(ErrorKind::Protocol, detail)
}

/// An alert after the handshake, such as one that asks for a client's certificate.
fn tls(error: &hyper::Error) -> Option<&rustls::Error> {
    tls_within(error.source()?.downcast_ref()?)
}

/// An [`io::Error`] of tokio-rustls holds the one of rustls.
pub(crate) fn tls_within(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
