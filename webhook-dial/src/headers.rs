//! Headers that may be sent, and headers that are kept.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use webhook_core::deliver::HEADER_LIMIT;
use webhook_core::model::{AttemptError, ErrorKind};

/// Headers that frame a request and so belong to the connection: one of them in
/// [`Request::headers`](webhook_core::deliver::Request::headers) could make two requests of one.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A `retry-after` longer than this is not one.
const RETRY_AFTER_LIMIT: usize = 64;

/// The given headers as a map with room for `more`.
///
/// # Errors
///
/// `internal`, for a name or a value that HTTP cannot carry and for one that frames the request: core checks them
/// when a subscription is written, so it is a defect. The value may be a secret, so only the name is shown.
pub fn header_map(headers: Vec<(Cow<'static, str>, String)>, more: usize) -> Result<HeaderMap, AttemptError> {
    let mut map = HeaderMap::with_capacity(headers.len() + more);
    for (name, value) in headers {
        let defect = |what| AttemptError::new(ErrorKind::Internal, format!("header {name:?} {what}"));
        let header = match name {
            // Most names are literals of core's, of which no copy is needed.
            Cow::Borrowed(name) if is_plain(name) => HeaderName::from_static(name),
            _ => HeaderName::from_bytes(name.as_bytes()).map_err(|_| defect("has an invalid name"))?,
        };
        if FRAMING.contains(&header.as_str()) {
            return Err(defect("belongs to the connection and cannot be given"));
        }
        let value = HeaderValue::try_from(value).map_err(|_| defect("has an invalid value"))?;
        map.append(header, value);
    }
    Ok(map)
}

/// Short and of the usual characters, which [`HeaderName::from_static`] takes without a panic.
fn is_plain(name: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(usual)
}

/// An answer's headers as text, within [`HEADER_LIMIT`]. One that does not fit is left out, and `retry-after`, which
/// decides when the next attempt is made, always fits.
#[must_use]
pub fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let retry_after = headers.get(RETRY_AFTER).filter(|value| value.len() <= RETRY_AFTER_LIMIT);
    let mut kept = Vec::with_capacity(headers.len());
    let mut room = HEADER_LIMIT;
    if let Some(value) = retry_after {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        room -= RETRY_AFTER.as_str().len() + value.len();
        kept.push((RETRY_AFTER.as_str().to_owned(), value));
    }
    for (name, value) in headers {
        if name == RETRY_AFTER {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        let size = name.as_str().len() + value.len();
        if size <= room {
            room -= size;
            kept.push((name.as_str().to_owned(), value.into_owned()));
        }
    }
    kept
}
