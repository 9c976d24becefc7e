//! What may be a target: rules for URLs, classes of addresses, and headers that a subscription may set.
//!
//! A subscription's owner chooses where this service connects to and with which headers, so without rules it
//! is a way into the operator's network (server-side request forgery, [OWASP]). This module owes two callers
//! a decision, and performs no I/O itself:
//!
//! - **At write time** an API checks the URL ([`TargetRules::check_url`]) and the headers ([`check_headers`])
//!   and shows what is wrong with them.
//! - **At every dial** the deliverer checks the URL again ([`TargetRules::check`]: rules change, and HTTP
//!   clients do not resolve literals) and lets a connection go only to what [`TargetRules::check_addrs`]
//!   passed, on the very addresses it then dials. A check of the name alone can be undone by its next
//!   resolution.
//!
//! Only global unicast addresses pass, after every IPv4 address inside an IPv6 one is taken out, and what the
//! operator allowed. No message repeats an address, since a resolved one would tell about the inside network.
//!
//! [OWASP]: https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html

mod address;
mod headers;
mod rules;
#[cfg(test)]
mod tests;

pub use address::AddressClass;
pub use headers::{
    HeaderError, HeaderProblem, MASK, MAX_HEADER_BYTES, MAX_HEADERS, check_headers, is_masked_header,
};
pub use rules::{MAX_URL_LEN, TargetError, TargetRules};
