//! What a parsed filter is made of, and when it holds.
//!
//! # Paths and arrays
//!
//! A path leads through objects by key. On an array, one element that satisfies is enough, at the end of the
//! path and on the way: `items.sku` reaches the `sku` of every element of `items`, and `tags` reaches the
//! array itself, for conditions on it as a whole, and each of its elements, arrays in arrays included. A
//! segment of digits takes that element of an array, counted from 0, and no other.
//!
//! Each operator asks for itself: `{"scores": {"$gt": 80, "$lt": 85}}` holds for `[70, 90]`, because one
//! element is above 80 and one is below 85, just as it does for two conditions under `$and`.
//!
//! Each segment moves either down or across, never both, so a node of the payload is visited at most once for
//! each condition: a hostile pair of filter and payload costs no more than their sizes.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::value::{compare, compare_numbers};

#[derive(Debug, Clone)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Field(Field),
}

/// One operator on one path.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) path: Path,
    /// Turns the test around: `$ne` is not `$eq`, `$nin` not `$in`, `$exists: false` not `$exists: true`.
    pub(super) negated: bool,
    pub(super) test: Test,
}

#[derive(Debug, Clone)]
pub(super) enum Test {
    Equals(Value),
    /// Sorted by [`compare`].
    OneOf(Vec<Value>),
    Order(Relation, Bound),
    Exists,
    Prefix(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// What an order operator compares with. Strings are compared by Unicode code points, which puts RFC 3339
/// times in UTC into their order.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    Number(Number),
    Text(String),
}

#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
struct Segment {
    key: String,
    /// Set when the key is digits only: the element of an array that it takes.
    index: Option<usize>,
}

impl Path {
    /// Splits a dotted path, or `None` when a segment is empty.
    pub(super) fn new(text: &str) -> Option<Self> {
        let segment = |key: &str| {
            let digits = key.bytes().all(|b| b.is_ascii_digit());
            // An index too large for the machine is beyond the end of every array.
            let index = digits.then(|| key.parse().unwrap_or(usize::MAX));
            (!key.is_empty()).then(|| Segment { key: key.to_owned(), index })
        };
        let segments = text.split('.').map(segment).collect::<Option<_>>()?;
        Some(Self { text: text.to_owned(), segments })
    }

    /// Whether one of the values that the path reaches passes the test.
    fn any(&self, payload: &Value, test: &impl Fn(&Value) -> bool) -> bool {
        any_below(payload, &self.segments, test)
    }

    /// The first value that the path reaches, for words; arrays at its end as a whole.
    pub(super) fn first<'a>(&self, payload: &'a Value) -> Option<&'a Value> {
        first_below(payload, &self.segments)
    }
}

fn any_below(value: &Value, segments: &[Segment], test: &impl Fn(&Value) -> bool) -> bool {
    let Some((segment, rest)) = segments.split_first() else {
        return test(value)
            || value
                .as_array()
                .is_some_and(|elements| elements.iter().any(|e| any_below(e, segments, test)));
    };
    match value {
        Value::Object(object) => object.get(&segment.key).is_some_and(|below| any_below(below, rest, test)),
        Value::Array(elements) => match segment.index {
            Some(index) => elements.get(index).is_some_and(|element| any_below(element, rest, test)),
            None => elements.iter().any(|element| any_below(element, segments, test)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn first_below<'a>(value: &'a Value, segments: &[Segment]) -> Option<&'a Value> {
    let Some((segment, rest)) = segments.split_first() else {
        return Some(value);
    };
    match value {
        Value::Object(object) => first_below(object.get(&segment.key)?, rest),
        Value::Array(elements) => match segment.index {
            Some(index) => first_below(elements.get(index)?, rest),
            None => elements.iter().find_map(|element| first_below(element, segments)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

impl Condition {
    pub(super) fn holds(&self, payload: &Value) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(payload)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(payload)),
            Self::Not(condition) => !condition.holds(payload),
            Self::Field(field) => field.holds(payload),
        }
    }
}

impl Field {
    pub(super) fn holds(&self, payload: &Value) -> bool {
        self.path.any(payload, &|value| self.test.passes(value)) != self.negated
    }
}

impl Test {
    fn passes(&self, value: &Value) -> bool {
        match self {
            Self::Equals(expected) => compare(value, expected).is_eq(),
            Self::OneOf(sorted) => sorted.binary_search_by(|candidate| compare(candidate, value)).is_ok(),
            Self::Order(relation, bound) => bound.order(value).is_some_and(|order| relation.admits(order)),
            Self::Exists => true,
            Self::Prefix(prefix) => value.as_str().is_some_and(|text| text.starts_with(prefix.as_str())),
        }
    }
}

impl Bound {
    /// How `value` stands to the bound; `None` across types.
    fn order(&self, value: &Value) -> Option<Ordering> {
        match (value, self) {
            (Value::Number(value), Self::Number(bound)) => Some(compare_numbers(value, bound)),
            (Value::String(value), Self::Text(bound)) => Some(value.as_str().cmp(bound)),
            _ => None,
        }
    }
}

impl Relation {
    fn admits(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::matching::tests::{paths, values};

    /// How often a path's test is asked when it always fails.
    fn visits(path: &str, payload: &Value) -> usize {
        let visits = Cell::new(0);
        let test = |_: &Value| {
            visits.set(visits.get() + 1);
            false
        };
        assert!(!Path::new(path).unwrap().any(payload, &test));
        visits.get()
    }

    fn nodes(value: &Value) -> usize {
        let below: usize = match value {
            Value::Array(elements) => elements.iter().map(nodes).sum(),
            Value::Object(object) => object.values().map(nodes).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        };
        below + 1
    }

    /// If a segment could move both down and across, the ways to a node would be too many to count here.
    #[test]
    fn a_hostile_pair_of_path_and_payload_visits_no_node_twice() {
        let payload = (0..50).fold(json!(1), |below, _| json!([{"0": below, "a": 2}, [3]]));
        for length in [1, 2, 25, 50, 100, 101] {
            for key in ["0", "a"] {
                assert!(visits(&vec![key; length].join("."), &payload) <= nodes(&payload), "{length} {key}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_node_is_visited_twice(path in paths(), payload in values()) {
            prop_assert!(visits(&path, &payload) <= nodes(&payload));
        }
    }
}
