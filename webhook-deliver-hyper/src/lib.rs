//! Sends webhooks with [hyper] alone: [`webhook_core::deliver::Deliverer`] over HTTP/1.1.
//!
//! One call is one exchange: a `POST`, its answer's status, and the first 16 KiB of its body. What this crate owes
//! the engine, beyond the contract of the trait:
//!
//! - **No way inside.** The URL is checked against the [`TargetRules`](webhook_core::target::TargetRules) before
//!   each request, and a connection goes only to addresses that the rules passed at this very dial: a name is
//!   resolved by [`webhook_dial::Resolver`], all of its addresses pass or none is dialled, and what passed is what is
//!   dialled. A connection that is used again was vetted when it was made. There is no code here that follows a
//!   redirect, asks a proxy or decompresses a body.
//! - **At most one request.** Nothing is repeated (promise 8). The only second try is one that no target can see:
//!   when a kept connection turns out to be closed before the first byte of the request was written to it,
//!   another one is taken. The system is asked at that moment, so what is left of the race is what is under way.
//! - **One deadline** over resolving, connecting, TLS, sending and reading. With an answer's head in hand, the
//!   deadline ends the body and not the answer.
//! - **Bounded memory** (promise 16): 16 KiB of body, 8 KiB of headers. While a head is read, at most 100 headers in
//!   128 KiB; a longer one is no valid answer.
//! - **Dead name servers hold up their own names**, by the resolver's bounds.
//! - **`reset` or `protocol`**: closed before any byte of an answer is `reset`, in the middle of its head `protocol`.
//!
//! Beside the given headers a request carries `host` and `content-length`. Details of failures are sentences made
//! here: no text of a library, no address, no URL.
//!
//! An exchange polls its connection itself, so it needs no second task and no hop between threads; connections that
//! nobody uses are polled by nobody. That makes it about half the instructions of `webhook-deliver-reqwest`:
//! `docs/decisions/http-client.md` has the figures.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use webhook_core::deliver::{Deliverer, Request};
//! use webhook_core::model::ErrorKind;
//! use webhook_deliver_hyper::HyperDeliverer;
//!
//! let deliverer = HyperDeliverer::builder().build()?;
//! let exchange = deliverer
//!     .deliver(Request {
//!         url: "http://127.0.0.1:9000/hooks".parse()?,
//!         headers: vec![("content-type".into(), "application/json".into())],
//!         body: "{}".into(),
//!         deadline: Duration::from_secs(15),
//!     })
//!     .await;
//! // Loopback is no target, unless a range allows it.
//! assert_eq!(exchange.result.unwrap_err().kind, ErrorKind::Blocked);
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

/// The examples of the README are tested too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod answer;
mod builder;
mod classify;
mod connect;
mod connection;
mod deliverer;
mod pool;
mod stream;

pub use builder::{
    BuildError, Builder, DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE, DEFAULT_IDLE_PER_HOST, IDLE_TIMEOUT,
};
pub use deliverer::HyperDeliverer;
pub use webhook_dial::{Lookup, TlsError};
