//! Event types, and the patterns with which a subscription chooses among them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest event type and the longest pattern, in characters (all are ASCII).
pub const MAX_EVENT_TYPE_LEN: usize = 256;

/// Why an event type or a pattern was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventTypeError {
    /// It is empty.
    #[error("an event type has 1 to 256 characters, this one is empty")]
    Empty,
    /// It is longer than [`MAX_EVENT_TYPE_LEN`].
    #[error("an event type has 1 to 256 characters, this one has {length} bytes")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It has a character outside `[A-Za-z0-9_.-]`.
    #[error("an event type is made of A-Z, a-z, 0-9, `_`, `.` and `-`; {character:?} is none of these")]
    Character {
        /// The first such character.
        character: char,
    },
    /// It is a pattern whose `*` is neither alone nor behind a prefix and a dot.
    #[error("`*` stands alone or at the end behind a dot, such as `invoice.*`")]
    Wildcard,
}

/// Checks the type of an event: 1 to [`MAX_EVENT_TYPE_LEN`] characters of `[A-Za-z0-9_.-]`.
///
/// # Errors
///
/// [`EventTypeError`] for anything else.
///
/// ```
/// use webhook_core::matching::check_event_type;
///
/// assert!(check_event_type("invoice.paid").is_ok());
/// assert!(check_event_type("invoice paid").is_err());
/// assert!(check_event_type("invoice.*").is_err(), "a pattern is no event type");
/// ```
pub fn check_event_type(event_type: &str) -> Result<(), EventTypeError> {
    if event_type.is_empty() {
        return Err(EventTypeError::Empty);
    }
    if event_type.len() > MAX_EVENT_TYPE_LEN {
        return Err(EventTypeError::TooLong { length: event_type.len() });
    }
    match event_type.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))) {
        None => Ok(()),
        Some(character) => Err(EventTypeError::Character { character }),
    }
}

/// The event types that a subscription takes: one exact name, `*` for all, or all below a prefix.
///
/// `invoice.*` takes `invoice.paid` and `invoice.line.added`, but neither `invoice` nor `invoices.paid`.
///
/// ```
/// use webhook_core::matching::EventTypePattern;
///
/// let pattern: EventTypePattern = "invoice.*".parse()?;
/// assert!(pattern.matches("invoice.line.added"));
/// assert!(!pattern.matches("invoice"));
/// assert!("inv*".parse::<EventTypePattern>().is_err());
/// # Ok::<(), webhook_core::matching::EventTypeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventTypePattern(String);

/// A pattern taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatternKind<'a> {
    All,
    /// The part before `.*`.
    Prefix(&'a str),
    Exact(&'a str),
}

impl EventTypePattern {
    /// Checks a pattern.
    ///
    /// # Errors
    ///
    /// [`EventTypeError`] when it is not an event type, `*`, or an event type followed by `.*`.
    pub fn new(pattern: impl Into<String>) -> Result<Self, EventTypeError> {
        let pattern = pattern.into();
        if pattern == "*" {
            return Ok(Self(pattern));
        }
        if pattern.len() > MAX_EVENT_TYPE_LEN {
            return Err(EventTypeError::TooLong { length: pattern.len() });
        }
        match check_event_type(pattern.strip_suffix(".*").unwrap_or(&pattern)) {
            Ok(()) => Ok(Self(pattern)),
            // `.*` alone, or a `*` somewhere else.
            Err(EventTypeError::Empty) if !pattern.is_empty() => Err(EventTypeError::Wildcard),
            Err(EventTypeError::Character { character: '*' }) => Err(EventTypeError::Wildcard),
            Err(error) => Err(error),
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern takes this event type.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        match self.kind() {
            PatternKind::All => true,
            PatternKind::Prefix(prefix) => {
                event_type.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
            }
            PatternKind::Exact(name) => event_type == name,
        }
    }

    pub(super) fn kind(&self) -> PatternKind<'_> {
        if self.0 == "*" {
            PatternKind::All
        } else if let Some(prefix) = self.0.strip_suffix(".*") {
            PatternKind::Prefix(prefix)
        } else {
            PatternKind::Exact(&self.0)
        }
    }
}

impl fmt::Display for EventTypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventTypePattern {
    type Err = EventTypeError;

    fn from_str(pattern: &str) -> Result<Self, EventTypeError> {
        Self::new(pattern)
    }
}

impl TryFrom<String> for EventTypePattern {
    type Error = EventTypeError;

    fn try_from(pattern: String) -> Result<Self, EventTypeError> {
        Self::new(pattern)
    }
}

impl From<EventTypePattern> for String {
    fn from(pattern: EventTypePattern) -> Self {
        pattern.0
    }
}
