//! What an application decides about the API.

use std::sync::Arc;

use webhook_core::time::{Clock, SystemClock};

use crate::keys::Keys;

/// Settings of [`router`](crate::router).
///
/// ```
/// use webhook_http_axum::HttpOptions;
///
/// let options = HttpOptions::new().max_payload(256 * 1024).loopback_only(true);
/// ```
#[derive(Debug, Clone)]
pub struct HttpOptions {
    pub(crate) max_payload: usize,
    pub(crate) loopback_only: bool,
    pub(crate) keys: Option<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl HttpOptions {
    /// A payload of up to 1 MiB, callers from anywhere without keys, and the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self { max_payload: 1024 * 1024, loopback_only: false, keys: None, clock: Arc::new(SystemClock) }
    }

    /// The largest payload in bytes; give the engine's builder the same. Larger ones are answered with 413,
    /// and bodies that cannot hold a smaller one are not read to their end. A batch may be eight times as
    /// large in all.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Answers requests whose `Host` is not loopback, or whose `Origin` is another one than the server
    /// itself, with 403. For a server that listens on loopback without keys: it keeps web pages, which reach
    /// loopback from the user's browser, from driving it.
    #[must_use]
    pub fn loopback_only(mut self, on: bool) -> Self {
        self.loopback_only = on;
        self
    }

    /// Takes requests with one of these keys alone, and answers others with 401, on routes that do not exist
    /// too. `POST /ingest/{id}` of a subscription with `verify` needs none: its caller proves itself by a
    /// signature. A request with a [`Caller`](crate::Caller) in its extensions was authenticated by the
    /// application and needs none either.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// The clock that timestamps of ingested requests are held against, and that says what lies ahead where
    /// deliveries show why they wait.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self::new()
    }
}
