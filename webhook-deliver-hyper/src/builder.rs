//! Settings of a deliverer, checked once.
//!
//! The names and defaults are those of `webhook-deliver-reqwest`, so that one can take the other's place.

use std::fmt;
use std::time::Duration;

use webhook_core::target::TargetRules;
use webhook_dial::{Lookup, Resolver, TlsError, tls_config};

use crate::connect::Connector;
use crate::deliverer::HyperDeliverer;
use crate::pool::{Limits, Pool};

/// So long a connection that nobody uses is kept for the next request.
///
/// A receiver that closes an idle connection while a request is under way to it causes a failed attempt (`reset`), as
/// nothing is repeated here. Receivers close idle connections after 5 s at the least (Node.js, uvicorn and Apache
/// httpd by default; most wait 60 s or longer), so this is shorter by a round trip's good measure.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long making a connection may take, unless set: resolving, connecting and the TLS handshake together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many unused connections to one host are kept, unless set.
pub const DEFAULT_IDLE_PER_HOST: usize = 512;

/// How many unused connections to all hosts together are kept, unless set.
pub const DEFAULT_IDLE: usize = 4096;

/// Builds a [`HyperDeliverer`].
#[must_use]
pub struct Builder {
    rules: TargetRules,
    connect_timeout: Duration,
    root_certificates: Vec<Vec<u8>>,
    idle_per_host: usize,
    idle: usize,
    lookup: Option<Lookup>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            rules: TargetRules::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            root_certificates: Vec::new(),
            idle_per_host: DEFAULT_IDLE_PER_HOST,
            idle: DEFAULT_IDLE,
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

    /// How many unused connections to one scheme, host and port are kept for [`IDLE_TIMEOUT`].
    /// [`DEFAULT_IDLE_PER_HOST`] unless set; fewer than requests run at once to a host means connecting anew for
    /// the rest. 0 keeps none.
    pub fn idle_connections_per_host(mut self, connections: usize) -> Self {
        self.idle_per_host = connections;
        self
    }

    /// How many unused connections are kept in all. [`DEFAULT_IDLE`] unless set. Each is an open file.
    pub fn idle_connections(mut self, connections: usize) -> Self {
        self.idle = connections;
        self
    }

    /// Resolves names with `lookup` in place of the system's lookup. It may block: it runs on a thread of its own,
    /// and what it returns is vetted all the same.
    pub fn lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = Some(lookup);
        self
    }

    /// Reads the certificate authorities. Connects to nothing and needs no runtime; the deliverer then belongs to
    /// the tokio runtime that first uses it, where its kept connections live.
    ///
    /// # Errors
    ///
    /// A certificate that cannot be read.
    pub fn build(self) -> Result<HyperDeliverer, BuildError> {
        let resolver = match self.lookup {
            Some(lookup) => Resolver::with_lookup(self.rules, lookup),
            None => Resolver::new(self.rules),
        };
        let connector = Connector::new(resolver, tls_config(&self.root_certificates)?, self.connect_timeout);
        let pool = Pool::new(Limits { each: self.idle_per_host, all: self.idle, time: IDLE_TIMEOUT });
        Ok(HyperDeliverer::new(connector, pool))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("rules", &self.rules)
            .field("connect_timeout", &self.connect_timeout)
            .field("root_certificates", &self.root_certificates.len())
            .field("idle_per_host", &self.idle_per_host)
            .field("idle", &self.idle)
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
}
