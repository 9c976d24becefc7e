//! What the client's error means.
//!
//! The client's error is a chain: reqwest's own, hyper-util's, then hyper's, rustls's, the system's or ours. The
//! innermost one that is known decides.

use std::error::Error;
use std::io;
use std::time::Duration;

use webhook_core::model::{AttemptError, ErrorKind};
use webhook_dial::{DialError, failure};

/// What the client's error means. `https`: whether the target speaks TLS.
pub(crate) fn classify(error: &reqwest::Error, https: bool, connect_timeout: Duration) -> AttemptError {
    let chain: Vec<&(dyn Error + 'static)> = chain(error).collect();
    if let Some(error) = find::<DialError>(&chain) {
        return failure::dial(error);
    }
    if let Some(error) = find::<rustls::Error>(&chain) {
        return failure::tls(error);
    }
    let system = find::<io::Error>(&chain);
    if error.is_connect() {
        if error.is_timeout() {
            return failure::no_connection_within(connect_timeout);
        }
        return failure::connect(system, https);
    }
    if let Some(error) = chain.iter().rev().find_map(|error| error.downcast_ref::<hyper::Error>())
        && let Some(found) = http(error)
    {
        return found;
    }
    match system.map(io::Error::kind) {
        Some(_) => failure::reset(),
        None => AttemptError::new(ErrorKind::Internal, "the HTTP client could not send the request"),
    }
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
        Some(failure::reset())
    } else if error.source().is_some() || error.is_user() || error.is_timeout() {
        None
    } else {
        // What is left is a message that came unasked, such as the greeting of a mail server.
        protocol("the target sent something before it was asked")
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
