use proptest::prelude::*;
use serde_json::{Value, json};

use super::{filters, reference, values};
use crate::matching::{Filter, MAX_FILTER_BYTES};

fn filter(json: &Value) -> Filter {
    Filter::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// Checks what a filter says to payloads that hold for it and to payloads that do not.
#[track_caller]
fn check(json: &Value, holds: &[Value], fails: &[Value]) {
    let filter = filter(json);
    for (payloads, expected) in [(holds, true), (fails, false)] {
        for payload in payloads {
            assert_eq!(filter.matches(payload), expected, "{json} on {payload}");
            assert_eq!(filter.explain(payload).is_ok(), expected, "{json} on {payload}");
        }
    }
}

#[test]
fn the_documented_example_holds_as_documented() {
    check(
        &json!({"data.amount": {"$gte": 100}, "data.currency": {"$in": ["EUR", "USD"]}}),
        &[
            json!({"data": {"amount": 100, "currency": "EUR"}}),
            json!({"data": {"amount": 1e9, "currency": "USD"}}),
        ],
        &[
            json!({"data": {"amount": 99, "currency": "EUR"}}),
            json!({"data": {"amount": 100, "currency": "GBP"}}),
            json!({"data": {"amount": 100}}),
            json!({"data.amount": 100, "data.currency": "EUR"}),
            json!({}),
            json!(null),
        ],
    );
}

#[test]
fn a_bare_value_means_equality() {
    check(
        &json!({"a": 1}),
        &[json!({"a": 1}), json!({"a": 1.0})],
        &[json!({"a": "1"}), json!({"a": true}), json!({})],
    );
    check(&json!({"a": null}), &[json!({"a": null})], &[json!({"a": 0}), json!({})]);
    check(
        &json!({"a": {"b": 1}}),
        &[json!({"a": {"b": 1.0}})],
        &[json!({"a": {"b": 1, "c": 2}}), json!({"a": {}})],
    );
    check(&json!({"a": {}}), &[json!({"a": {}})], &[json!({"a": {"b": 1}}), json!({})]);
    check(
        &json!({"a": [1, 2]}),
        &[json!({"a": [1, 2]}), json!({"a": [[1, 2]]})],
        &[json!({"a": [2, 1]}), json!({"a": 1})],
    );
}

#[test]
fn an_empty_filter_holds_for_every_payload() {
    check(&json!({}), &[json!(null), json!([]), json!({"a": 1}), json!(7)], &[]);
}

#[test]
fn negated_operators_hold_for_a_missing_field() {
    check(
        &json!({"a": {"$ne": 1}}),
        &[json!({}), json!({"a": null}), json!({"a": "1"})],
        &[json!({"a": 1.0})],
    );
    check(&json!({"a": {"$ne": null}}), &[json!({}), json!({"a": 1})], &[json!({"a": null})]);
    check(&json!({"a": {"$nin": [1, 2]}}), &[json!({}), json!({"a": 3})], &[json!({"a": 2})]);
    check(&json!({"a": {"$nin": []}}), &[json!({}), json!({"a": 3})], &[]);
    check(&json!({"a": {"$in": []}}), &[], &[json!({}), json!({"a": 3})]);
}

#[test]
fn no_element_may_satisfy_what_a_negated_operator_forbids() {
    check(
        &json!({"tags": {"$ne": "vip"}}),
        &[json!({"tags": ["new"]}), json!({"tags": []})],
        &[json!({"tags": ["new", "vip"]})],
    );
}

#[test]
fn order_operators_never_hold_across_types() {
    check(
        &json!({"a": {"$gt": 5}}),
        &[json!({"a": 6}), json!({"a": 5.5})],
        &[
            json!({"a": 5}),
            json!({"a": "6"}),
            json!({"a": true}),
            json!({"a": null}),
            json!({"a": {}}),
            json!({}),
        ],
    );
    check(
        &json!({"a": {"$lte": "m"}}),
        &[json!({"a": "m"}), json!({"a": ""})],
        &[json!({"a": "n"}), json!({"a": 1})],
    );
    check(
        &json!({"a": {"$gte": 1, "$lt": 2}}),
        &[json!({"a": 1}), json!({"a": 1.9})],
        &[json!({"a": 2}), json!({"a": 0.9})],
    );
}

#[test]
fn large_whole_numbers_are_told_apart() {
    let payload = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    check(
        &payload(r#"{"id": 9007199254740993}"#),
        &[payload(r#"{"id": 9007199254740993}"#)],
        &[payload(r#"{"id": 9007199254740992}"#), payload(r#"{"id": 9007199254740992.0}"#)],
    );
}

#[test]
fn existence_is_about_the_field_and_not_its_value() {
    check(
        &json!({"a.b": {"$exists": true}}),
        &[json!({"a": {"b": null}}), json!({"a": {"b": []}}), json!({"a": [{}, {"b": 1}]})],
        &[json!({"a": {}}), json!({"a": 1})],
    );
    check(
        &json!({"a.b": {"$exists": false}}),
        &[json!({"a": {}}), json!({}), json!([])],
        &[json!({"a": {"b": null}})],
    );
}

#[test]
fn prefixes_are_of_strings() {
    check(
        &json!({"a": {"$prefix": "re"}}),
        &[json!({"a": "re"}), json!({"a": "refund"}), json!({"a": ["x", "ref"]})],
        &[json!({"a": "Re"}), json!({"a": 7}), json!({})],
    );
}

#[test]
fn one_element_of_an_array_is_enough_at_the_end_and_on_the_way() {
    check(
        &json!({"tags": "vip"}),
        &[json!({"tags": ["new", "vip"]}), json!({"tags": [["vip"]]})],
        &[json!({"tags": []}), json!({"tags": ["vi"]})],
    );
    check(
        &json!({"items.sku": "A1"}),
        &[
            json!({"items": [{"sku": "B"}, {"sku": "A1"}]}),
            json!({"items": [{"sku": ["A1"]}]}),
            json!({"items": [[{"sku": "A1"}]]}),
        ],
        &[json!({"items": [{"sku": "B"}, "A1", null]}), json!({"items": []})],
    );
    check(&json!({"a": 1}), &[json!([{"a": 2}, {"a": 1}])], &[json!([1])]);
    check(
        &json!({"scores": {"$gt": 80, "$lt": 85}}),
        &[json!({"scores": [70, 90]}), json!({"scores": 81})],
        &[json!({"scores": [90]})],
    );
}

#[test]
fn a_segment_of_digits_takes_one_element_or_a_key() {
    check(
        &json!({"items.1.sku": "B"}),
        &[json!({"items": [{"sku": "A"}, {"sku": "B"}]}), json!({"items": {"1": {"sku": "B"}}})],
        &[json!({"items": [{"sku": "B"}]}), json!({"items": [{"sku": "B"}, {"sku": "A"}]})],
    );
    check(
        &json!({"a.99999999999999999999999": 1}),
        &[json!({"a": {"99999999999999999999999": 1}})],
        &[json!({"a": [1]})],
    );
}

#[test]
fn logical_operators_combine_filters_and_the_tests_of_a_path() {
    check(
        &json!({"$or": [{"a": 1}, {"b": 2}], "c": 3}),
        &[json!({"a": 1, "c": 3}), json!({"b": 2, "c": 3})],
        &[json!({"a": 1}), json!({"c": 3})],
    );
    check(&json!({"$and": [{"a": {"$gt": 1}}, {"a": {"$lt": 3}}]}), &[json!({"a": 2})], &[json!({"a": 3})]);
    check(&json!({"$not": {"a": 1, "b": 2}}), &[json!({"a": 1}), json!({})], &[json!({"a": 1, "b": 2})]);
    check(
        &json!({"a": {"$not": {"$gt": 5}}}),
        &[json!({"a": 5}), json!({}), json!({"a": "x"})],
        &[json!({"a": 6})],
    );
    check(&json!({"a": {"$or": [{"$lt": 0}, 7]}}), &[json!({"a": -1}), json!({"a": 7})], &[json!({"a": 6})]);
    check(
        &json!({"a": {"$and": [{"$gt": 0}], "$lt": 2}}),
        &[json!({"a": 1})],
        &[json!({"a": 2}), json!({"a": 0})],
    );
}

#[test]
fn what_is_no_filter_is_refused_at_its_place() {
    for (json, path) in [
        (json!(null), "filter"),
        (json!([]), "filter"),
        (json!("a"), "filter"),
        (json!({"": 1}), "filter."),
        (json!({"a..b": 1}), "filter.a..b"),
        (json!({"a.": 1}), "filter.a."),
        (json!({"$eq": 1}), "filter.$eq"),
        (json!({"$where": "1"}), "filter.$where"),
        (json!({"a": {"$regex": "x"}}), "filter.a.$regex"),
        (json!({"a": {"$gt": 1, "b": 2}}), "filter.a.b"),
        (json!({"data": {"amount": {"$gte": 100}}}), "filter.data.amount"),
        (json!({"data": {"x": {"amount": {"$gte": 100}}}}), "filter.data.x.amount"),
        (json!({"a": {"$gt": null}}), "filter.a.$gt"),
        (json!({"a": {"$lte": [1]}}), "filter.a.$lte"),
        (json!({"a": {"$in": "x"}}), "filter.a.$in"),
        (json!({"a": {"$nin": {}}}), "filter.a.$nin"),
        (json!({"a": {"$exists": 1}}), "filter.a.$exists"),
        (json!({"a": {"$prefix": 1}}), "filter.a.$prefix"),
        (json!({"$and": {}}), "filter.$and"),
        (json!({"$and": []}), "filter.$and"),
        (json!({"$or": []}), "filter.$or"),
        (json!({"$or": [{"a": 1}, 2]}), "filter.$or[1]"),
        (json!({"$or": [{"a": 1}, {"b": {"$in": 1}}]}), "filter.$or[1].b.$in"),
        (json!({"$not": [{"a": 1}]}), "filter.$not"),
    ] {
        let error = Filter::parse(&json).unwrap_err();
        assert_eq!(error.path, path, "{json}: {error}");
        assert_eq!(serde_json::from_value::<Filter>(json).unwrap_err().to_string(), error.to_string());
    }
}

#[test]
fn errors_say_what_to_write() {
    let detail = |json: Value| Filter::parse(&json).unwrap_err().detail;
    assert!(detail(json!({"a": {"$regex": "x"}})).contains("$prefix"));
    assert!(detail(json!({"data": {"amount": {"$gte": 1}}})).contains("\"data.amount\""));
    assert!(detail(json!({"$gt": 1})).contains(r#"{"a.path": {"$gt""#));
}

#[test]
fn operators_inside_an_explicit_operand_are_plain_keys() {
    check(
        &json!({"a": {"$eq": {"b": {"$ref": 1}}}}),
        &[json!({"a": {"b": {"$ref": 1}}})],
        &[json!({"a": {"b": 1}})],
    );
}

#[test]
fn sixty_four_conditions_are_the_most() {
    let fields = |count: usize| Value::Object((0..count).map(|i| (format!("f{i}"), json!(1))).collect());
    assert!(Filter::parse(&fields(64)).is_ok());
    assert!(Filter::parse(&fields(65)).unwrap_err().detail.contains("64"));
    let branches = |count: usize| json!({"$or": vec![json!({"a": {"$gt": 1}}); count]});
    assert!(Filter::parse(&branches(64)).is_ok(), "logical operators are not counted");
    assert!(Filter::parse(&branches(65)).is_err());
    let pairs = |count: usize| json!({"$or": vec![json!({"a": {"$gt": 1, "$lt": 2}}); count]});
    assert!(Filter::parse(&pairs(32)).is_ok());
    assert!(Filter::parse(&pairs(33)).is_err(), "each operator is one condition");
}

#[test]
fn logical_operators_nest_eight_deep() {
    let nested = |depth: usize| (0..depth).fold(json!({"a": 1}), |filter, _| json!({ "$not": filter }));
    check(&nested(8), &[json!({"a": 1})], &[json!({})]);
    assert!(Filter::parse(&nested(9)).unwrap_err().detail.contains("8 deep"));
    let in_field = |depth: usize| json!({"a": (0..depth).fold(json!(1), |test, _| json!({ "$not": test }))});
    assert!(Filter::parse(&in_field(8)).is_ok());
    assert!(Filter::parse(&in_field(9)).is_err());
    let mixed = json!({"$and": [{"$or": [{"$not": {"$and": [{"$or": [{"$not": {"$and": [
        {"a": {"$or": [{"$not": 1}]}}
    ]}}]}]}}]}]});
    assert!(Filter::parse(&mixed).is_err(), "nine, of both kinds");
}

#[test]
fn sixteen_kibibytes_are_the_most() {
    let sized = |length: usize| json!({"a": "x".repeat(length - r#"{"a":""}"#.len())});
    assert!(Filter::parse(&sized(MAX_FILTER_BYTES)).is_ok());
    assert!(Filter::parse(&sized(MAX_FILTER_BYTES + 1)).unwrap_err().detail.contains("16384"));
}

#[test]
fn a_filter_reads_back_as_it_was_written() {
    let json = json!({"a": {"$in": [3, 1, 1.0]}, "$and": [{"b": 2}]});
    assert_eq!(filter(&json).as_json(), &json);
    assert_eq!(serde_json::to_value(filter(&json)).unwrap(), json);
}

#[test]
fn a_failure_is_explained_by_its_first_condition() {
    let words = |json: Value, payload: Value| filter(&json).explain(&payload).unwrap_err();
    for (json, payload, expected) in [
        (json!({"a": {"$gte": 100}}), json!({"a": 50}), "`a` must be at least 100 but is 50"),
        (json!({"a": {"$lt": "m"}}), json!({"a": 50}), "`a` must be less than \"m\" but is 50"),
        (json!({"a.b": "x"}), json!({"a": {}}), "`a.b` must be \"x\" but is missing"),
        (json!({"a": {"$ne": 1}}), json!({"a": [0, 1]}), "`a` must not be 1 but is [0,1]"),
        (
            json!({"a": {"$in": ["y", "x"]}}),
            json!({"a": "z"}),
            "`a` must be one of [\"x\",\"y\"] but is \"z\"",
        ),
        (json!({"a": {"$exists": true}}), json!({}), "`a` must be there but is missing"),
        (json!({"a": {"$exists": false}}), json!({"a": 1}), "`a` must be missing but is there"),
        (json!({"a": {"$prefix": "re"}}), json!({"a": "x"}), "`a` must start with \"re\" but is \"x\""),
        (json!({"a": 1, "b": 2}), json!({"a": 1}), "`b` must be 2 but is missing"),
        (
            json!({"$or": [{"a": 1}, {"b": 2}]}),
            json!({}),
            "no branch of $or holds; the first: `a` must be 1 but is missing",
        ),
        (json!({"$not": {"a": 1}}), json!({"a": 1}), "the condition under $not holds: `a` must be 1"),
    ] {
        assert_eq!(words(json, payload), expected);
    }
}

#[test]
fn quoted_values_are_shortened_at_a_character() {
    let words = filter(&json!({"a": 1})).explain(&json!({"a": "é".repeat(500)})).unwrap_err();
    assert_eq!(words, format!("`a` must be 1 but is \"{}…", "é".repeat(63)));
}

/// Arbitrary JSON in which the filter language's words are frequent.
fn near_filters() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        prop::sample::select(vec![
            "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$prefix", "$and", "$or",
            "$not", "$", "", ".", "a", "a.b", "0",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    values().prop_recursive(10, 40, 4, move |below| {
        prop_oneof![
            prop::collection::vec(below.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), below, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_filter_decides_as_the_naive_definition_does(json in filters(), payload in values()) {
        let filter = Filter::parse(&json).unwrap();
        prop_assert_eq!(filter.matches(&payload), reference::holds(&json, &payload));
    }

    #[test]
    fn explaining_agrees_with_matching(json in filters(), payload in values()) {
        let filter = Filter::parse(&json).unwrap();
        let explained = filter.explain(&payload);
        prop_assert_eq!(explained.is_ok(), filter.matches(&payload));
        prop_assert!(explained.err().is_none_or(|words| !words.is_empty()));
    }

    #[test]
    fn not_is_the_complement(json in filters(), payload in values()) {
        let plain = Filter::parse(&json).unwrap().matches(&payload);
        let negated = Filter::parse(&json!({"$not": json})).unwrap().matches(&payload);
        prop_assert_eq!(plain, !negated);
    }

    #[test]
    fn ne_and_nin_are_the_complements_of_eq_and_in(
        operand in values(), list in prop::collection::vec(values(), 0..4), payload in values(),
    ) {
        for (plain, negated) in [
            (json!({"a": {"$eq": operand}}), json!({"a": {"$ne": operand}})),
            (json!({"a": {"$in": list}}), json!({"a": {"$nin": list}})),
        ] {
            prop_assert_ne!(filter(&plain).matches(&payload), filter(&negated).matches(&payload));
        }
    }

    #[test]
    fn parsing_never_panics_and_what_parses_can_be_used(json in near_filters(), payload in values()) {
        if let Ok(filter) = Filter::parse(&json) {
            prop_assert_eq!(filter.matches(&payload), reference::holds(&json, &payload));
            prop_assert_eq!(filter.explain(&payload).is_ok(), filter.matches(&payload));
        }
    }
}
