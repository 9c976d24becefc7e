//! [`RedisOptions`]: where the server is and how long it may take.
//!
//! It owes the rest of the crate values that were checked: a key prefix that makes one hash tag, and a URL whose
//! scheme is known. It must never print the URL, which may hold a password.

use std::fmt;
use std::time::Duration;

use webhook_core::error::{BackendError, BackendErrorKind};

use crate::error::BACKEND;

/// The longest key prefix.
const PREFIX_MAX: usize = 128;

/// How to reach a Redis or Valkey server, and how to use it.
///
/// ```
/// use std::time::Duration;
/// use webhook_queue_redis::RedisOptions;
///
/// let options = RedisOptions::new("redis://127.0.0.1:6379/0")
///     .key_prefix("shop")
///     .command_timeout(Duration::from_secs(1));
/// assert!(format!("{options:?}").contains("shop"));
/// ```
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) timeout: Duration,
    pub(crate) connections: usize,
    pub(crate) roots: Option<Vec<Vec<u8>>>,
}

impl RedisOptions {
    /// Options for the server at this URL:
    ///
    /// | | |
    /// |---|---|
    /// | one server | `redis://[[user]:password@]host[:port][/database]` |
    /// | cluster | `redis-cluster://host[:port]?node=host2:port2&node=…` |
    /// | Sentinel | `redis-sentinel://host[:port]/?sentinelServiceName=name&node=host2:port2…` |
    ///
    /// `rediss` for `redis` in any of them means TLS, checked against the system's authorities or those of
    /// [`root_certificate`](Self::root_certificate). With Sentinel, `sentinelUsername` and `sentinelPassword`
    /// are the sentinels' own.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "webhooks".to_owned(),
            timeout: Duration::from_secs(2),
            connections: 2,
            roots: None,
        }
    }

    /// What all keys begin with, in braces: `{prefix}:…`. So all of them are in one slot of a cluster, and two
    /// installations on one server need two prefixes. `webhooks` if not set; 1 to 128 characters, no braces.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long one call may take in all, a repeat after a lost connection included; 2 seconds if not set, at
    /// least 10 milliseconds. A connection that does not answer for so long is given up.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(10));
        self
    }

    /// How many connections carry commands, 1 to 64; 2 if not set. There is always one more, which listens for
    /// wake-ups. The server works on one command at a time, so more connections do not make it faster.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 64);
        self
    }

    /// Trusts this authority (DER) instead of the system's; may be given several times.
    #[must_use]
    pub fn root_certificate(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.roots.get_or_insert_default().push(der.into());
        self
    }

    /// Whether these can be used, as far as that can be known without the server: the URL has one of the forms above,
    /// and the prefix fits.
    ///
    /// # Errors
    /// [`Misconfigured`](BackendErrorKind::Misconfigured); its text repeats nothing of the URL.
    pub fn check(&self) -> Result<(), BackendError> {
        crate::client::config(self).map_err(|fault| fault.without_source().during("connect"))?;
        let fits = (1..=PREFIX_MAX).contains(&self.prefix.len());
        if !fits || self.prefix.contains(['{', '}']) {
            let detail = format!("the key prefix must have 1 to {PREFIX_MAX} characters and no braces");
            return Err(BackendError::new(BackendErrorKind::Misconfigured, BACKEND, "connect", detail));
        }
        Ok(())
    }
}

/// Without the URL's credentials.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = url::Url::parse(&self.url)
            .map(|url| format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()))
            .unwrap_or_default();
        f.debug_struct("RedisOptions")
            .field("server", &server)
            .field("key_prefix", &self.prefix)
            .field("command_timeout", &self.timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_credentials() {
        let shown =
            format!("{:?}", RedisOptions::new("redis://me:secret@example.com/0?sentinelPassword=hush"));
        assert!(shown.contains("example.com"));
        assert!(!shown.contains("secret") && !shown.contains("hush") && !shown.contains("me:"), "{shown}");
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_the_server_and_not_repeated() {
        for url in [
            "redis://:hush@cache:99999",
            "redis://:hush@cache:hush",
            "redis://:hush@cache/hush",
            "redis://:hush@cache/256",
            "redis://:hush@",
            "redis-cluster://:hush@cache?node=hush",
            "redis-sentinel://:hush@cache:1",
            "http://:hush@cache",
            "cache:6379",
        ] {
            let error = RedisOptions::new(url).check().expect_err(url);
            assert_eq!(error.kind(), BackendErrorKind::Misconfigured, "{url}");
            assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        }
        for url in [
            "redis://cache",
            "redis://me:hush@cache:6379/15",
            "rediss://cache:6380",
            "redis-cluster://a:1?node=b:2",
            "rediss-sentinel://a:1?sentinelServiceName=m&node=b:2",
        ] {
            RedisOptions::new(url).check().expect(url);
        }
    }

    #[test]
    fn a_prefix_that_breaks_the_hash_tag_is_refused() {
        for prefix in ["", "a}b", "{a", &"x".repeat(129)] {
            assert!(RedisOptions::new("redis://localhost").key_prefix(prefix).check().is_err(), "{prefix}");
        }
        assert!(RedisOptions::new("redis://localhost").key_prefix("a:b").check().is_ok());
    }
}
