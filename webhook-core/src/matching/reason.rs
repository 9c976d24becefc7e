//! The verdict on one subscription, and the definition of matching.

use std::fmt;

use super::{EventTypePattern, Filter, LazyJson};

/// Why a subscription matches an event or does not. Its `Display` is the `reason` that people read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MatchReason {
    /// The event type is taken, and the filter holds or there is none.
    Matched,
    /// None of the subscription's event types takes the event's.
    EventType,
    /// The filter does not hold: its first failing condition in words.
    Filter(String),
    /// There is a filter, and the payload cannot be read as JSON: the parser's words.
    NotJson(String),
}

impl MatchReason {
    /// Whether the subscription matches.
    #[must_use]
    pub fn is_match(&self) -> bool {
        matches!(self, Self::Matched)
    }
}

impl fmt::Display for MatchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => f.write_str("event type and filter match"),
            Self::EventType => f.write_str("the event type is none of the subscription's"),
            Self::Filter(detail) => write!(f, "the filter does not hold: {detail}"),
            Self::NotJson(detail) => {
                write!(f, "the subscription has a filter and the payload is not readable JSON: {detail}")
            }
        }
    }
}

/// Decides on one subscription: the definition of matching, of which [`Matcher`](super::Matcher) is the fast
/// form. No patterns take every event type.
///
/// ```
/// use webhook_core::matching::{EventTypePattern, LazyJson, MatchReason, explain};
///
/// let patterns = [EventTypePattern::new("invoice.*")?];
/// let payload = LazyJson::new(b"{}");
/// assert_eq!(explain("invoice.paid", &payload, &patterns, None), MatchReason::Matched);
/// assert_eq!(explain("order.paid", &payload, &patterns, None), MatchReason::EventType);
/// # Ok::<(), webhook_core::matching::EventTypeError>(())
/// ```
#[must_use]
pub fn explain(
    event_type: &str,
    payload: &LazyJson<'_>,
    patterns: &[EventTypePattern],
    filter: Option<&Filter>,
) -> MatchReason {
    if !patterns.is_empty() && !patterns.iter().any(|pattern| pattern.matches(event_type)) {
        return MatchReason::EventType;
    }
    let Some(filter) = filter else {
        return MatchReason::Matched;
    };
    match payload.value() {
        Ok(value) => filter.explain(value).map_or_else(MatchReason::Filter, |()| MatchReason::Matched),
        Err(detail) => MatchReason::NotJson(detail.to_owned()),
    }
}
