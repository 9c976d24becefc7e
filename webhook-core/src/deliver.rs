//! The transport: exactly one HTTP exchange.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

use crate::model::AttemptError;

/// A signed request, ready to be sent: a `POST` of `body` to `url`.
#[derive(Clone)]
pub struct Request {
    /// Where it goes.
    pub url: Url,
    /// Everything but what HTTP itself needs (`host`, `content-length`). Names are lower case.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The published bytes.
    pub body: Bytes,
    /// The whole exchange, from resolving the name to the last byte of the answer that is read, ends within
    /// this.
    pub deadline: Duration,
}

impl fmt::Debug for Request {
    // Headers may carry credentials, so only their names are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &self.url.as_str())
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("deadline", &self.deadline)
            .finish()
    }
}

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// From the start to the end of the answer or the failure, by a monotonic clock.
    pub duration: Duration,
    /// The answer, or why there is none.
    pub result: Result<Answer, AttemptError>,
}

/// A valid HTTP answer with a status of 200..599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Its headers, as text, the first 8 KiB of them.
    pub headers: Vec<(String, String)>,
    /// The first bytes of its body, at most [`BODY_LIMIT`]; as many as came before the deadline.
    pub body: Bytes,
}

/// So many bytes of an answer's body are kept; the rest is not read.
pub const BODY_LIMIT: usize = 16 * 1024;
/// So many bytes of an answer's headers, names and values together, are kept.
pub const HEADER_LIMIT: usize = 8 * 1024;

/// Sends requests.
///
/// # Contract
///
/// - One call makes **at most one** request on the wire: no redirect is followed, nothing is repeated after
///   a failure (promise 8).
/// - A failure is data: the method returns no `Err`. The kinds are those of
///   [`ErrorKind`](crate::model::ErrorKind); `status` is not used here, an answer of any status from 200 to
///   599 is an [`Answer`].
/// - The answer is decided on its status line: a body that breaks off or never ends does not undo it.
/// - The address that is dialled, not only the URL, is checked against the rules for targets, at every dial.
/// - Memory for one exchange is bounded whatever the target sends (promise 16).
#[async_trait]
pub trait Deliverer: fmt::Debug + Send + Sync + 'static {
    /// Makes one exchange and returns within the request's deadline.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; whether the target got the request is then unknown.
    async fn deliver(&self, request: Request) -> Exchange;
}
