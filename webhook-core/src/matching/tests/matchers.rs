use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::{filters, values};
use crate::matching::{EventTypePattern, Filter, LazyJson, MatchReason, Matcher, explain};

fn patterns(texts: &[&str]) -> Vec<EventTypePattern> {
    texts.iter().map(|text| EventTypePattern::new(*text).unwrap()).collect()
}

fn filter(json: &serde_json::Value) -> Arc<Filter> {
    Arc::new(Filter::parse(json).unwrap())
}

#[test]
fn results_come_in_the_order_of_insertion_and_each_once() {
    let lists = [
        patterns(&["invoice.paid"]),
        patterns(&["*"]),
        patterns(&["invoice.*", "invoice.paid", "invoice.paid"]),
        patterns(&["order.*"]),
        patterns(&[]),
        patterns(&["*", "invoice.paid"]),
    ];
    let matcher: Matcher<usize> =
        lists.iter().enumerate().map(|(i, list)| (i, list.as_slice(), None)).collect();
    let payload = LazyJson::new(b"{}");
    assert_eq!(matcher.matches("invoice.paid", &payload), [&0, &1, &2, &4, &5]);
    assert_eq!(matcher.matches("invoice", &payload), [&1, &4, &5]);
    assert_eq!(matcher.len(), 6);
    assert!(Matcher::<usize>::default().is_empty());
}

#[test]
fn the_payload_is_parsed_only_when_a_candidate_has_a_filter() {
    let list = patterns(&["invoice.*"]);
    let matcher = Matcher::new([
        ("filtered", list.as_slice(), Some(filter(&json!({"a": 1})))),
        ("plain", [].as_slice(), None),
    ]);
    let payload = LazyJson::new(br#"{"a":1}"#);
    assert_eq!(matcher.matches("order.paid", &payload), [&"plain"]);
    assert!(!payload.is_parsed());
    assert_eq!(matcher.matches("invoice.paid", &payload), [&"filtered", &"plain"]);
    assert!(payload.is_parsed());
}

#[test]
fn a_payload_that_is_not_json_matches_only_without_a_filter() {
    let matcher =
        Matcher::new([("any", [].as_slice(), None), ("all", [].as_slice(), Some(filter(&json!({}))))]);
    for payload in [b"<xml/>".as_slice(), b"", b"{} {}", b"a=1", b"\xff", b"1e400"] {
        assert_eq!(matcher.matches("a", &LazyJson::new(payload)), [&"any"], "{payload:?}");
    }
    assert_eq!(matcher.matches("a", &LazyJson::new(b" [1] ")), [&"any", &"all"]);
}

#[test]
fn reasons_are_in_words() {
    let (list, condition) = (patterns(&["invoice.*"]), filter(&json!({"a": 1})));
    let reason = |event_type: &str, payload: &[u8], filter: Option<&Filter>| {
        explain(event_type, &LazyJson::new(payload), &list, filter)
    };
    assert!(reason("invoice.paid", b"<xml/>", None).is_match());
    assert_eq!(reason("invoice.paid", br#"{"a":1}"#, Some(&condition)), MatchReason::Matched);
    assert_eq!(
        reason("order", b"{}", Some(&condition)).to_string(),
        "the event type is none of the subscription's"
    );
    assert_eq!(
        reason("invoice.paid", b"{}", Some(&condition)).to_string(),
        "the filter does not hold: `a` must be 1 but is missing"
    );
    let not_json = reason("invoice.paid", b"<xml/>", Some(&condition));
    assert!(matches!(not_json, MatchReason::NotJson(_)));
    assert!(not_json.to_string().contains("not readable JSON"), "{not_json}");
}

#[test]
fn a_matcher_and_a_payload_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Matcher<u64>>();
    shared::<LazyJson<'_>>();
}

fn event_types() -> impl Strategy<Value = String> {
    "[ab.]{1,5}"
}

fn pattern_lists() -> impl Strategy<Value = Vec<EventTypePattern>> {
    let one = prop_oneof![
        4 => event_types(),
        4 => event_types().prop_map(|prefix| prefix + ".*"),
        1 => Just("*".to_owned()),
    ];
    prop::collection::vec(one.prop_map(|text| EventTypePattern::new(text).unwrap()), 0..4)
}

proptest! {
    #[test]
    fn the_matcher_agrees_with_the_definition(
        subscriptions in prop::collection::vec((pattern_lists(), prop::option::of(filters())), 0..12),
        event_type in event_types(),
        payload in values(),
        json: bool,
    ) {
        let subscriptions: Vec<_> = subscriptions
            .into_iter()
            .map(|(patterns, json)| (patterns, json.map(|json| filter(&json))))
            .collect();
        let matcher: Matcher<usize> = subscriptions
            .iter()
            .enumerate()
            .map(|(i, (patterns, filter))| (i, patterns.as_slice(), filter.clone()))
            .collect();
        let bytes = if json { payload.to_string() } else { "not json".to_owned() };
        let payload = LazyJson::new(bytes.as_bytes());
        let expected: Vec<usize> = subscriptions
            .iter()
            .enumerate()
            .filter(|(_, (patterns, filter))| explain(&event_type, &payload, patterns, filter.as_deref()).is_match())
            .map(|(i, _)| i)
            .collect();
        let found: Vec<usize> = matcher.matches(&event_type, &payload).into_iter().copied().collect();
        prop_assert_eq!(found, expected);
    }
}
