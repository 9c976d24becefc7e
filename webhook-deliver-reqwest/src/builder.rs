//! Settings of a deliverer, checked once, and the one client made from them.
//!
//! Everything that can be decided once for a client is decided here, so that a request costs nothing for it. Every
//! feature of reqwest that could send more than the caller gave is turned off by name, also those this crate does
//! not build in: cargo joins the features of all users of reqwest in an application, and one of them may.

use std::fmt;
use std::time::Duration;

use reqwest::redirect;
use webhook_core::target::TargetRules;
use webhook_dial::{Lookup, Resolver, TlsError, tls_config};

use crate::deliverer::ReqwestDeliverer;
use crate::vetted::Vetted;

/// So long a connection that nobody uses is kept for the next request.
///
/// A receiver that closes an idle connection at the very moment a request is written to it causes a failed attempt
/// (`reset`), as nothing is repeated here. Receivers close idle connections after 5 s at the least (Node.js,
/// uvicorn and Apache httpd by default; most wait 60 s or longer), so this is shorter by a round trip's good
/// measure.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long making a connection may take, unless set: resolving, connecting and the TLS handshake together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many unused connections to one host are kept, unless set.
pub const DEFAULT_IDLE_PER_HOST: usize = 512;

/// Builds a [`ReqwestDeliverer`].
#[must_use]
pub struct Builder {
    rules: TargetRules,
    connect_timeout: Duration,
    root_certificates: Vec<Vec<u8>>,
    idle_per_host: usize,
    lookup: Option<Lookup>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            rules: TargetRules::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            root_certificates: Vec::new(),
            idle_per_host: DEFAULT_IDLE_PER_HOST,
            lookup: None,
        }
    }

    /// Which targets are let through. The default refuses everything but the public internet.
    pub fn target_rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// How long making a connection may take: resolving, connecting and the TLS handshake together.
    /// [`DEFAULT_CONNECT_TIMEOUT`] unless set; the deadline of a request ends it earlier. Several addresses of a
    /// name share it, so that a dead one leaves time for the next.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Further certificate authorities, beside those of the system: one certificate or several, in PEM. May be
    /// called more than once. They are read by [`build`](Self::build).
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// How many unused connections to one host are kept for [`IDLE_TIMEOUT`]. [`DEFAULT_IDLE_PER_HOST`] unless
    /// set; fewer than requests run at once to a host means connecting anew for the rest. 0 keeps none.
    pub fn idle_connections_per_host(mut self, connections: usize) -> Self {
        self.idle_per_host = connections;
        self
    }

    /// Resolves names with `lookup` in place of the system's lookup. It may block: it runs on a thread of its own,
    /// and what it returns is vetted all the same.
    pub fn lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = Some(lookup);
        self
    }

    /// Reads the certificate authorities and makes the client. Connects to nothing and needs no runtime; the
    /// deliverer then belongs to the tokio runtime that first uses it, where its kept connections live.
    ///
    /// # Errors
    ///
    /// A certificate that cannot be read, or a client that cannot be made from these settings.
    pub fn build(self) -> Result<ReqwestDeliverer, BuildError> {
        let resolver = match self.lookup {
            Some(lookup) => Resolver::with_lookup(self.rules, lookup),
            None => Resolver::new(self.rules),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(&self.root_certificates)?)
            .dns_resolver(Vetted(resolver.clone()))
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            // With 0 it does not even keep a copy of the request.
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .no_hickory_dns()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(self.idle_per_host)
            // The deadline watches a connection in use and the idle timeout any other.
            .tcp_keepalive(None)
            .build()
            .map_err(|error| BuildError::Client(Box::new(error)))?;
        Ok(ReqwestDeliverer::new(client, resolver, self.connect_timeout))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("rules", &self.rules)
            .field("connect_timeout", &self.connect_timeout)
            .field("root_certificates", &self.root_certificates.len())
            .field("idle_per_host", &self.idle_per_host)
            .finish_non_exhaustive()
    }
}

/// Why a deliverer could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// TLS could not be set up; most often a root certificate that cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be made")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}
