//! What deliverers have in common, whatever HTTP client they use.
//!
//! A [`Deliverer`](webhook_core::deliver::Deliverer) sends requests to addresses that strangers chose. Which of them
//! are let through is decided in [`webhook_core::target`]; what is left to do around an HTTP client is the same for
//! each of them and easy to get wrong, so it is here once:
//!
//! - [`Resolver`]: from a name to vetted addresses. What it returned is what must be dialled, with no resolution in
//!   between. IP literals never come here: check those with
//!   [`TargetRules::check`](webhook_core::target::TargetRules::check) before each request.
//! - [`tls_config`]: whom we trust.
//! - [`header_map`], [`Partial`]: what a request may carry, and what is kept of an answer.
//! - [`failure`]: the classes of failures, each with a sentence made here. No text of a library gets out, since those
//!   carry URLs and addresses.
//!
//! This crate knows no HTTP client, makes no connection and keeps nothing between calls but which names are slow.

#![forbid(unsafe_code)]

mod answer;
pub mod failure;
mod headers;
mod lookup;
mod resolver;
#[cfg(test)]
mod tests;
mod tls;

pub use answer::{DRAIN_LIMIT, DRAIN_TIME, Partial, is_worth_draining, outcome};
pub use headers::{header_map, kept_headers};
pub use lookup::LookupError;
pub use resolver::{DialError, Lookup, MAX_PER_FAMILY, Resolver};
pub use tls::{TlsError, tls_config};
