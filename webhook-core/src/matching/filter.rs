//! A subscription's condition on the payload.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::condition::Condition;
use super::parse::parse;

/// The most comparisons in a filter: each operator but `$and`, `$or` and `$not` is one, as is a bare value.
pub const MAX_FILTER_CONDITIONS: usize = 64;

/// How deep `$and`, `$or` and `$not` may be nested in each other.
pub const MAX_FILTER_DEPTH: usize = 8;

/// The most bytes of a filter's JSON, written without white space: 16 KiB.
pub const MAX_FILTER_BYTES: usize = 16 * 1024;

/// Why a filter was refused: where in it, and what is accepted there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {detail}")]
pub struct FilterError {
    /// The place: `filter`, `filter.data.amount.$gte`, `filter.$or[1].data.currency`, …
    pub path: String,
    /// What is wrong there and what is accepted.
    pub detail: String,
}

/// A condition on the JSON payload of an event, checked and bounded when it is made.
///
/// A filter is an object whose keys are dotted paths into the payload and whose values say what must be
/// found there; all of them must hold. `{}` holds for every JSON payload.
///
/// | operator | holds when the value |
/// |---|---|
/// | a bare value, `$eq` | equals it: numbers by value, objects whatever the order of keys |
/// | `$ne` | does not; a missing field does not equal anything, not even `null` |
/// | `$gt` `$gte` `$lt` `$lte` | is a number and so is the operand, or both are strings (compared by code points) |
/// | `$in` `$nin` | equals one of an array's values; equals none, as a missing field does |
/// | `$exists` | is there (`true`), `null` included, or is missing (`false`) |
/// | `$prefix` | is a string that starts with it |
/// | `$and` `$or` `$not` | among whole filters, or among the tests of one path |
///
/// On an array, one element that satisfies is enough, at the end of a path and on the way: `items.sku` looks
/// at the `sku` of every item, `items.0.sku` at the first one's. Each operator looks for itself, so several
/// in one object may be satisfied by different elements. A key that has a dot in it cannot be reached.
///
/// Whole numbers of up to 64 bits are compared exactly, all others as doubles (RFC 8259, section 6).
///
/// ```
/// use serde_json::json;
/// use webhook_core::matching::Filter;
///
/// let filter = Filter::parse(&json!({
///     "data.amount": {"$gte": 100},
///     "data.currency": {"$in": ["EUR", "USD"]},
/// }))?;
/// assert!(filter.matches(&json!({"data": {"amount": 100.0, "currency": "EUR"}})));
/// assert_eq!(
///     filter.explain(&json!({"data": {"amount": 99, "currency": "EUR"}})),
///     Err("`data.amount` must be at least 100 but is 99".to_owned()),
/// );
///
/// let error = Filter::parse(&json!({"data.amount": {"$above": 100}})).unwrap_err();
/// assert_eq!(error.path, "filter.data.amount.$above");
/// # Ok::<(), webhook_core::matching::FilterError>(())
/// ```
#[derive(Clone)]
pub struct Filter {
    json: Value,
    condition: Condition,
}

impl Filter {
    /// Checks a filter and makes it ready for matching.
    ///
    /// # Errors
    ///
    /// [`FilterError`] for what is not a filter, and for one with more than [`MAX_FILTER_CONDITIONS`]
    /// conditions, nested deeper than [`MAX_FILTER_DEPTH`], or longer than [`MAX_FILTER_BYTES`].
    pub fn parse(json: &Value) -> Result<Self, FilterError> {
        let length = json.to_string().len();
        if length > MAX_FILTER_BYTES {
            return Err(FilterError {
                path: "filter".to_owned(),
                detail: format!(
                    "a filter has at most {MAX_FILTER_BYTES} bytes of JSON, this one has {length}"
                ),
            });
        }
        Ok(Self { condition: parse(json)?, json: json.clone() })
    }

    /// The filter as it was written.
    #[must_use]
    pub fn as_json(&self) -> &Value {
        &self.json
    }

    /// Whether the filter holds for this payload.
    #[must_use]
    pub fn matches(&self, payload: &Value) -> bool {
        self.condition.holds(payload)
    }

    /// As [`matches`](Self::matches), with the first condition that does not hold in words.
    ///
    /// # Errors
    ///
    /// The words, when the filter does not hold. They may quote the start of the payload's value.
    pub fn explain(&self, payload: &Value) -> Result<(), String> {
        self.condition.explain(payload)
    }
}

/// Two filters are equal when they are written alike.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.json)
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
