//! A new connection: resolving, vetting, TCP and TLS, in a time of its own.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_dial::{Resolver, failure};

use crate::classify::tls_within;
use crate::connection::Connection;
use crate::stream::Stream;

/// A name with addresses of both families is tried by the other one too after this time (RFC 8305 recommends 250 ms for
/// each address; hyper-util's client takes 300 ms for a family).
const HEAD_START: Duration = Duration::from_millis(300);

pub(crate) struct Connector {
    pub(crate) resolver: Resolver,
    tls: TlsConnector,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(resolver: Resolver, tls: ClientConfig, timeout: Duration) -> Self {
        Self { resolver, tls: TlsConnector::from(Arc::new(tls)), timeout }
    }

    /// Connects to the origin of `url`, which the rules have passed.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Connection, AttemptError> {
        let connecting = timeout(self.timeout, self.establish(url));
        connecting.await.unwrap_or_else(|_elapsed| Err(failure::no_connection_within(self.timeout)))
    }

    async fn establish(&self, url: &Url) -> Result<Connection, AttemptError> {
        let https = url.scheme() == "https";
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(AttemptError::new(ErrorKind::Internal, "the URL has no host or port"));
        };
        let addrs = match host {
            Host::Ipv4(addr) => vec![SocketAddr::new(addr.into(), port)],
            Host::Ipv6(addr) => vec![SocketAddr::new(addr.into(), port)],
            Host::Domain(name) => {
                let vetted = self.resolver.resolve(name).await.map_err(|error| failure::dial(&error))?;
                vetted.into_iter().map(|addr| SocketAddr::new(addr, port)).collect()
            }
        };
        let failed = |error: io::Error| failure::connect(Some(&error), https);
        let tcp = dial(addrs, self.timeout).await.map_err(failed)?;
        // A request is written whole: waiting to fill a packet would only delay its end.
        tcp.set_nodelay(true).map_err(failed)?;
        let stream = if https { self.encrypt(host, tcp).await? } else { Stream::plain(tcp) };
        Connection::over(stream).await
    }

    async fn encrypt(&self, host: Host<&str>, tcp: TcpStream) -> Result<Stream, AttemptError> {
        let name = match host {
            Host::Ipv4(addr) => ServerName::from(std::net::IpAddr::from(addr)),
            Host::Ipv6(addr) => ServerName::from(std::net::IpAddr::from(addr)),
            Host::Domain(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| AttemptError::new(ErrorKind::Tls, "no certificate can be for this host name"))?,
        };
        let shaken = self.tls.connect(name, tcp).await;
        shaken.map(Stream::tls).map_err(|error| match tls_within(&error) {
            Some(error) => failure::tls(error),
            None => failure::connect(Some(&error), true),
        })
    }
}

/// Connects to the first address that answers: those of the first one's family in turn, and after [`HEAD_START`] or
/// their failure those of the other.
async fn dial(addrs: Vec<SocketAddr>, time: Duration) -> io::Result<TcpStream> {
    let preferred = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| addr.is_ipv6() == preferred);
    if second.is_empty() {
        return dial_in_turn(&first, time).await;
    }
    let mut first = pin!(dial_in_turn(&first, time));
    let second = pin!(dial_in_turn(&second, time));
    match timeout(HEAD_START, &mut first).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(_)) => return second.await,
        Err(_elapsed) => {}
    }
    match select(first, second).await {
        Either::Left((Ok(stream), _)) | Either::Right((Ok(stream), _)) => Ok(stream),
        Either::Left((Err(_), second)) => second.await,
        Either::Right((Err(_), first)) => first.await,
    }
}

/// Each has a share of the time, so that a dead one leaves some for the next.
async fn dial_in_turn(addrs: &[SocketAddr], time: Duration) -> io::Result<TcpStream> {
    let share = time / u32::try_from(addrs.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in addrs {
        match timeout(share, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
