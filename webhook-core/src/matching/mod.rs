//! Which subscriptions an event reaches: event types and payload conditions, compiled for a tenant.
//!
//! Matching is decided once, at publish, and fixed from then on (promise 9). The module is pure: it owes the
//! publisher a fast answer for every event and the API a checked filter at write time and a reason at read
//! time, and all three from one definition, [`explain`]:
//!
//! > A subscription matches when its event types are empty or one of them takes the event's type, and its
//! > filter, if it has one, holds for the payload.
//!
//! - [`EventTypePattern`]: an exact name, `*`, or a prefix such as `invoice.*`; [`check_event_type`] for the
//!   names themselves.
//! - [`Filter`]: a condition on the JSON payload, parsed and bounded when it is written.
//! - [`LazyJson`]: the payload, parsed at most once and only when some filter asks.
//! - [`Matcher`]: all subscriptions of a tenant behind an index by event type, so that a publish costs what
//!   it matches and not what exists. It never decides otherwise than [`explain`]; a property test holds it.
//! - [`MatchReason`]: the verdict on one subscription, in words.
//!
//! A payload that cannot be read as JSON matches only without a filter, even one that would hold for
//! everything. What can be read counts as JSON whatever its content type says.

mod compiled;
mod condition;
mod explain;
mod filter;
mod parse;
mod pattern;
mod payload;
mod reason;
mod value;

#[cfg(test)]
mod tests;

pub use compiled::Matcher;
pub use filter::{Filter, FilterError, MAX_FILTER_BYTES, MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH};
pub use pattern::{EventTypeError, EventTypePattern, MAX_EVENT_TYPE_LEN, check_event_type};
pub use payload::LazyJson;
pub use reason::{MatchReason, explain};
