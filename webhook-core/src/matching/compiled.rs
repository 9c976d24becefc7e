//! All subscriptions of a tenant behind an index by event type.
//!
//! Exact names and prefixes are found by hash: the event type itself, and each part of it before a dot.
//! Subscriptions that take everything are a list of their own. So a publish looks at the subscriptions that
//! take its event type and at no other, and evaluates only their filters. The hashes are keyed (names come
//! from tenants).

use std::collections::HashMap;
use std::sync::Arc;

use super::pattern::PatternKind;
use super::{EventTypePattern, Filter, LazyJson};

/// The subscriptions of a tenant, compiled for matching. `K` names a subscription: an id, an `Arc` of it.
///
/// It is built once for each version of the tenant's configuration and then shared by every publish.
///
/// ```
/// use std::sync::Arc;
/// use serde_json::json;
/// use webhook_core::matching::{EventTypePattern, Filter, LazyJson, Matcher};
///
/// let invoices = [EventTypePattern::new("invoice.*")?];
/// let large = Arc::new(Filter::parse(&json!({"amount": {"$gte": 1000}}))?);
/// let matcher: Matcher<&str> = [
///     ("billing", invoices.as_slice(), None),
///     ("auditors", invoices.as_slice(), Some(large)),
///     ("everything", [].as_slice(), None),
/// ]
/// .into_iter()
/// .collect();
///
/// let payload = LazyJson::new(br#"{"amount": 20}"#);
/// assert_eq!(matcher.matches("invoice.paid", &payload), [&"billing", &"everything"]);
/// assert_eq!(matcher.matches("order.paid", &payload), [&"everything"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Matcher<K> {
    entries: Vec<Entry<K>>,
    /// Positions in `entries`, ascending, as in the other two.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By the part before `.*`.
    prefixes: HashMap<Box<str>, Vec<usize>>,
    all: Vec<usize>,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    filter: Option<Arc<Filter>>,
}

impl<K> Matcher<K> {
    /// Compiles subscriptions: for each its key, its event types (none: all) and its filter.
    pub fn new<'a>(
        subscriptions: impl IntoIterator<Item = (K, &'a [EventTypePattern], Option<Arc<Filter>>)>,
    ) -> Self {
        let mut matcher =
            Self { entries: Vec::new(), exact: HashMap::new(), prefixes: HashMap::new(), all: Vec::new() };
        for (key, patterns, filter) in subscriptions {
            matcher.index(patterns);
            matcher.entries.push(Entry { key, filter });
        }
        matcher
    }

    /// Indexes the entry that comes next.
    fn index(&mut self, patterns: &[EventTypePattern]) {
        let position = self.entries.len();
        if patterns.is_empty() || patterns.iter().any(|pattern| pattern.kind() == PatternKind::All) {
            self.all.push(position);
            return;
        }
        for pattern in patterns {
            let (index, name) = match pattern.kind() {
                PatternKind::All => continue,
                PatternKind::Prefix(prefix) => (&mut self.prefixes, prefix),
                PatternKind::Exact(name) => (&mut self.exact, name),
            };
            index.entry(name.into()).or_default().push(position);
        }
    }

    /// How many subscriptions it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The subscriptions that an event reaches, in the order in which they were given, each once.
    ///
    /// The payload is parsed only when one that takes the event type has a filter.
    #[must_use]
    pub fn matches(&self, event_type: &str, payload: &LazyJson<'_>) -> Vec<&K> {
        let mut positions = self.all.clone();
        positions.extend(self.exact.get(event_type).into_iter().flatten());
        if !self.prefixes.is_empty() {
            for (dot, _) in event_type.match_indices('.') {
                positions.extend(self.prefixes.get(&event_type[..dot]).into_iter().flatten());
            }
        }
        if positions.len() > self.all.len() {
            // Several patterns of one subscription may have taken the event.
            positions.sort_unstable();
            positions.dedup();
        }
        positions
            .into_iter()
            .map(|position| &self.entries[position])
            .filter(|entry| {
                entry
                    .filter
                    .as_ref()
                    .is_none_or(|filter| payload.value().is_ok_and(|json| filter.matches(json)))
            })
            .map(|entry| &entry.key)
            .collect()
    }
}

impl<K> Default for Matcher<K> {
    /// A matcher without subscriptions.
    fn default() -> Self {
        Self::new([])
    }
}

impl<'a, K> FromIterator<(K, &'a [EventTypePattern], Option<Arc<Filter>>)> for Matcher<K> {
    fn from_iter<I>(subscriptions: I) -> Self
    where
        I: IntoIterator<Item = (K, &'a [EventTypePattern], Option<Arc<Filter>>)>,
    {
        Self::new(subscriptions)
    }
}
