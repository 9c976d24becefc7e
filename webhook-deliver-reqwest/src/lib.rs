//! Sends webhooks with [reqwest]: [`webhook_core::deliver::Deliverer`] over HTTP/1.1.
//!
//! One call is one exchange: a `POST`, its answer's status, and the first 16 KiB of its body. What this crate owes
//! the engine, beyond the contract of the trait:
//!
//! - **No way inside.** The URL is checked against the [`TargetRules`](webhook_core::target::TargetRules) before
//!   each request, and a connection goes only to addresses that the rules passed at this very dial: a name is
//!   resolved here, all of its addresses pass or none is dialled, and what passed is what is dialled. A connection
//!   that is used again was vetted when it was made. Proxies of the
//!   environment are ignored, since one would dial in our place. No redirect is followed.
//! - **At most one request.** Nothing is repeated (promise 8). The only second try is one that no target can see:
//!   when a kept connection turns out to be closed before the first byte of the request was written to it,
//!   another one is taken.
//! - **One deadline** over resolving, connecting, TLS, sending and reading. With an answer's head in hand, the
//!   deadline ends the body and not the answer.
//! - **Bounded memory** (promise 16): 16 KiB of body, 8 KiB of headers. While a head is read, hyper holds at most
//!   100 headers in about 408 KiB; reqwest has no switch to lower that. Bodies are never decompressed.
//! - **Dead name servers hold up their own names.** Lookups have threads of their own, bounded, and names that
//!   resolve slowly have a bounded part of them to themselves.
//!
//! - **`reset` or `protocol`**: hyper does not tell a connection closed before any byte of an answer from one closed
//!   in the middle of its head; both are `reset` here.
//!
//! Beside the given headers a request carries `host`, `content-length` and `accept: */*`, which reqwest always
//! adds. Details of failures are sentences made here: no text of a library, no address, no URL.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use webhook_core::deliver::{Deliverer, Request};
//! use webhook_core::model::ErrorKind;
//! use webhook_deliver_reqwest::ReqwestDeliverer;
//!
//! let deliverer = ReqwestDeliverer::builder().build()?;
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
mod deliverer;
mod vetted;

pub use builder::{BuildError, Builder, DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE_PER_HOST, IDLE_TIMEOUT};
pub use deliverer::ReqwestDeliverer;
pub use webhook_dial::{Lookup, TlsError};
