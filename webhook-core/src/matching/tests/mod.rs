//! Tests of matching as a whole, and the payloads and filters that they draw.

mod filters;
mod matchers;
mod patterns;
mod reference;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// JSON values from a small world, so that two draws often have something in common.
pub(super) fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from),
        (-4..6_i32).prop_map(|halves| json!(f64::from(halves) / 2.0)),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 12, 3, |below| {
        prop_oneof![prop::collection::vec(below.clone(), 0..3).prop_map(Value::from), objects(below),]
    })
}

/// Objects whose keys are those of [`paths`].
fn objects(below: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(vec!["a", "b", "0"]), below), 0..3)
        .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

pub(super) fn paths() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "0", "1"]), 1..3)
        .prop_map(|keys| keys.join("."))
}

/// The operators of one path.
fn operators() -> impl Strategy<Value = Value> {
    let one = prop_oneof![
        (prop::sample::select(vec!["$eq", "$ne"]), values()),
        (
            prop::sample::select(vec!["$gt", "$gte", "$lt", "$lte"]),
            prop_oneof![(-2..3_i64).prop_map(Value::from), "[ab]{0,2}".prop_map(Value::from)]
        ),
        (
            prop::sample::select(vec!["$in", "$nin"]),
            prop::collection::vec(values(), 0..4).prop_map(Value::from)
        ),
        (Just("$exists"), any::<bool>().prop_map(Value::from)),
        (Just("$prefix"), "[ab]{0,1}".prop_map(Value::from)),
    ];
    prop::collection::vec(one, 1..3).prop_map(|operators| {
        operators.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into()
    })
}

fn logical(below: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = (String, Value)> {
    prop_oneof![
        prop::collection::vec(below.clone(), 1..3).prop_map(|list| ("$and".to_owned(), list.into())),
        prop::collection::vec(below.clone(), 1..3).prop_map(|list| ("$or".to_owned(), list.into())),
        below.prop_map(|one| ("$not".to_owned(), one)),
    ]
}

/// Valid filters.
fn filters() -> impl Strategy<Value = Value> {
    let test = prop_oneof![
        3 => operators(),
        1 => values(),
        1 => logical(operators().boxed()).prop_map(|entry| Map::from_iter([entry]).into()),
    ];
    let fields = prop::collection::vec((paths(), test), 0..3)
        .prop_map(|entries| Value::from(entries.into_iter().collect::<Map<_, _>>()));
    fields.prop_recursive(3, 8, 2, |below| {
        prop::collection::vec(logical(below), 1..3)
            .prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into())
    })
}
