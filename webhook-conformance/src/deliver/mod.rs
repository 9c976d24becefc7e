//! Cases for deliverers. [`deliverer_tests!`](crate::deliverer_tests) runs them all.
//!
//! Every case has real sockets on 127.0.0.1 with a [`Receiver`] that does what the case scripts, byte by byte. What a
//! deliverer does inside is its own matter; what it puts on the wire, when it gives up and what it says about it is not.

pub mod answers;
pub mod bodies;
pub mod connections;
pub mod deadlines;
pub mod failures;
mod receiver;
pub mod requests;
pub mod targets;
#[cfg(feature = "tls")]
pub mod tls;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use receiver::{Connection, OK, Received, Receiver, Stream};
use webhook_core::deliver::{Answer, Deliverer, Exchange, Request};
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_core::target::TargetRules;

use crate::Missing;

/// Resolves one name, blocking.
pub type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// How the cases come by a deliverer.
pub trait DelivererFixture: 'static {
    /// A fresh deliverer with these rules, its other settings as a user gets them.
    fn deliverer(rules: TargetRules) -> Arc<dyn Deliverer>;

    /// The same, but names are resolved by `lookup`.
    ///
    /// # Errors
    /// [`Missing`] when the deliverer has no such setting; the cases that need it are then skipped, with the reason.
    fn resolving(rules: TargetRules, lookup: Lookup) -> Result<Arc<dyn Deliverer>, Missing>;

    /// Why this deliverer does not run a case.
    #[must_use]
    fn skip(case: &str) -> Option<&'static str> {
        let _ = case;
        None
    }
}

/// Runs one case, or prints why not. The macro calls it.
pub async fn run<F: DelivererFixture>(name: &str, case: impl Future<Output = ()>) {
    match F::skip(name) {
        Some(reason) => eprintln!("skipped {name}: {reason}"),
        None => case.await,
    }
}

/// Rules that let loopback through.
#[must_use]
pub fn local_rules() -> TargetRules {
    let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    TargetRules { allow, ..TargetRules::default() }
}

/// A request to `url` with ten seconds' time.
#[must_use]
pub fn request(url: &str) -> Request {
    Request {
        url: url.parse().unwrap(),
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("user-agent".into(), "webhook-server/1".into()),
            ("webhook-id".into(), "evt_1".into()),
        ],
        body: r#"{"a" : 1.0}"#.into(),
        deadline: Duration::from_secs(10),
    }
}

/// One exchange with the defaults of [`request`].
pub async fn deliver(deliverer: &dyn Deliverer, url: &str) -> Exchange {
    deliverer.deliver(request(url)).await
}

/// The answer of one exchange with the defaults of [`request`].
pub async fn answer(deliverer: &dyn Deliverer, url: &str) -> Answer {
    deliver(deliverer, url).await.result.expect("an answer")
}

/// The failure of one exchange, after a look at its detail: it says something, and names neither the address nor the
/// URL.
pub async fn failure(deliverer: &dyn Deliverer, request: Request) -> AttemptError {
    let error = deliverer.deliver(request).await.result.expect_err("a failure");
    for secret in ["127.0.0.1", "::1", "s3cret", "/hooks"] {
        assert!(!error.detail.contains(secret), "{error:?} names {secret}");
    }
    assert!(!error.detail.is_empty(), "{error:?} says nothing");
    error
}

fn local<F: DelivererFixture>() -> Arc<dyn Deliverer> {
    F::deliverer(local_rules())
}

async fn failure_kind<F: DelivererFixture>(url: &str) -> ErrorKind {
    failure(&*local::<F>(), request(url)).await.kind
}
