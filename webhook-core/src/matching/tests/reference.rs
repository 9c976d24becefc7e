//! The filter language once more, naively: straight from the JSON, by collecting every value that a path
//! reaches. The parsed and bounded form must never decide otherwise.

use std::cmp::Ordering;

use serde_json::Value;

pub(super) fn holds(filter: &Value, payload: &Value) -> bool {
    filter.as_object().unwrap().iter().all(|(key, operand)| match key.as_str() {
        "$and" => operand.as_array().unwrap().iter().all(|filter| holds(filter, payload)),
        "$or" => operand.as_array().unwrap().iter().any(|filter| holds(filter, payload)),
        "$not" => !holds(operand, payload),
        path => {
            let mut reached = vec![payload];
            for key in path.split('.') {
                reached = reached.into_iter().flat_map(|value| step(value, key)).collect();
            }
            passes(operand, &reached.into_iter().flat_map(elements).collect::<Vec<_>>())
        }
    })
}

fn step<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    match (value, key.parse::<usize>()) {
        (Value::Array(array), Ok(index)) => array.get(index).into_iter().collect(),
        (Value::Array(array), Err(_)) => array.iter().flat_map(|element| step(element, key)).collect(),
        (value, _) => value.get(key).into_iter().collect(),
    }
}

/// A value and, in an array, all of its elements.
fn elements(value: &Value) -> Vec<&Value> {
    let below = value.as_array().into_iter().flatten().flat_map(elements);
    std::iter::once(value).chain(below).collect()
}

fn passes(test: &Value, reached: &[&Value]) -> bool {
    let operators = match test.as_object() {
        Some(object) if object.keys().any(|key| key.starts_with('$')) => object,
        _ => return reached.iter().any(|value| equal(value, test)),
    };
    operators.iter().all(|(operator, operand)| {
        let any = |test: &dyn Fn(&Value) -> bool| reached.iter().any(|value| test(value));
        let list = || operand.as_array().unwrap();
        match operator.as_str() {
            "$eq" => any(&|value| equal(value, operand)),
            "$ne" => !any(&|value| equal(value, operand)),
            "$in" => any(&|value| list().iter().any(|one| equal(value, one))),
            "$nin" => !any(&|value| list().iter().any(|one| equal(value, one))),
            "$gt" => any(&|value| order(value, operand) == Some(Ordering::Greater)),
            "$gte" => any(&|value| order(value, operand).is_some_and(Ordering::is_ge)),
            "$lt" => any(&|value| order(value, operand) == Some(Ordering::Less)),
            "$lte" => any(&|value| order(value, operand).is_some_and(Ordering::is_le)),
            "$exists" => reached.is_empty() != operand.as_bool().unwrap(),
            "$prefix" => any(&|v| v.as_str().is_some_and(|text| text.starts_with(operand.as_str().unwrap()))),
            "$and" => list().iter().all(|test| passes(test, reached)),
            "$or" => list().iter().any(|test| passes(test, reached)),
            "$not" => !passes(operand, reached),
            other => panic!("{other} is no operator"),
        }
    })
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// Equality for the small numbers that the strategies draw.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}
