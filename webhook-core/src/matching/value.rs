//! One total order of JSON values, by which filters compare.
//!
//! Equality of JSON values is this order's `Equal`: objects without regard to the order of keys, numbers by
//! their value and not by their spelling (`1`, `1.0` and `1e0` are one number). Between types the order is
//! fixed but has no meaning; the order operators of a filter never use it.
//!
//! # How exact numbers are
//!
//! Whole numbers written without fraction or exponent between -2^63 and 2^64 are exact, and so is their
//! comparison with fractions: 9007199254740993 differs from 9007199254740992.0 although the first does not
//! fit a double. Every other number is the nearest double, in filter and payload alike, as RFC 8259 section
//! 6 lets senders expect; two numbers that no double tells apart are equal here. Money and ids that need more
//! are strings wherever they cross systems.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

/// Compares two values in the total order.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a
            .iter()
            .zip(b)
            .map(|(a, b)| compare(a, b))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        (Value::Object(a), Value::Object(b)) => compare_objects(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

fn compare_objects(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| {
        // Sorted here, because whether a map is sorted is a build option of serde_json.
        let (a, b) = (sorted(a), sorted(b));
        a.into_iter()
            .zip(b)
            .map(|(a, b)| a.0.cmp(b.0).then_with(|| compare(a.1, b.1)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    })
}

fn sorted(object: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by_key(|entry| entry.0);
    entries
}

/// A number's value; the second never holds a NaN.
enum Numeric {
    Whole(i128),
    Double(f64),
}

fn numeric(number: &Number) -> Numeric {
    if let Some(whole) = number.as_i64() {
        Numeric::Whole(whole.into())
    } else if let Some(whole) = number.as_u64() {
        Numeric::Whole(whole.into())
    } else {
        // Without a double (1e400 where serde_json keeps arbitrary precision) it lies beyond all of them.
        let beyond = || if number.to_string().starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
        Numeric::Double(number.as_f64().unwrap_or_else(beyond))
    }
}

/// Compares two numbers by value.
pub(super) fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (numeric(a), numeric(b)) {
        (Numeric::Whole(a), Numeric::Whole(b)) => a.cmp(&b),
        (Numeric::Whole(a), Numeric::Double(b)) => compare_whole(a, b),
        (Numeric::Double(a), Numeric::Whole(b)) => compare_whole(b, a).reverse(),
        (Numeric::Double(a), Numeric::Double(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

/// Compares a whole number within the range of 64 bits, signed or not, with a double.
fn compare_whole(whole: i128, double: f64) -> Ordering {
    // Far outside the range of `whole`, far inside that of the conversion below.
    const FAR: f64 = 1e30;
    if double >= FAR {
        return Ordering::Less;
    }
    if double <= -FAR {
        return Ordering::Greater;
    }
    #[allow(clippy::cast_possible_truncation)] // exact: no fraction is left and the size was checked
    let floor = double.floor() as i128;
    // A whole number equal to the floor is below the double when the double has a fraction.
    whole.cmp(&floor).then(if double.fract() == 0.0 { Ordering::Equal } else { Ordering::Less })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn number(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_are_compared_by_value_and_not_by_spelling() {
        for (a, b) in
            [("1", "1.0"), ("1", "1e0"), ("100", "1e2"), ("0", "-0.0"), ("0.1", "1e-1"), ("-5", "-5.0")]
        {
            assert_eq!(compare(&number(a), &number(b)), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn whole_numbers_are_exact_beyond_what_a_double_holds() {
        for (a, b) in [
            ("9007199254740992", "9007199254740993"),
            ("9007199254740992.0", "9007199254740993"),
            ("18446744073709551614", "18446744073709551615"),
            ("18446744073709551615", "18446744073709551616.0"),
            ("-9223372036854775808", "-9223372036854775807"),
            ("-9223372036854777000.0", "-9223372036854775808"),
            ("-1", "-0.5"),
            ("-1.5", "-1"),
            ("-1e300", "-9223372036854775808"),
            ("18446744073709551615", "1e300"),
            ("0", "5e-324"),
        ] {
            assert_eq!(compare(&number(a), &number(b)), Ordering::Less, "{a} < {b}");
            assert_eq!(compare(&number(b), &number(a)), Ordering::Greater, "{b} > {a}");
        }
    }

    #[test]
    fn objects_are_equal_whatever_the_order_of_their_keys() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":[2,{"c":3}]}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b":[2.0,{"c":3.0}],"a":1.0}"#).unwrap();
        assert_eq!(compare(&a, &b), Ordering::Equal);
        assert_ne!(compare(&a, &json!({"a": 1})), Ordering::Equal);
        assert_ne!(compare(&json!([1]), &json!([1, 2])), Ordering::Equal);
        assert_ne!(compare(&json!(1), &json!("1")), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in super::super::tests::values(), b in super::super::tests::values(), c in super::super::tests::values()) {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }

        #[test]
        fn whole_and_double_compare_as_their_exact_values(whole in -2_000_i64..2_000, quarters in -8_000_i32..8_000) {
            let double = f64::from(quarters) / 4.0;
            prop_assert_eq!(compare(&json!(whole), &json!(double)), (whole * 4).cmp(&i64::from(quarters)));
        }
    }
}
