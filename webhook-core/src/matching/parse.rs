//! From a filter's JSON to its conditions, within the limits.
//!
//! ```text
//! filter    = { key: …, … }                            all of its entries hold
//! entry     = "$and": [filter, …] | "$or": [filter, …] | "$not": filter
//!           | path: test
//! test      = { operator: operand, … }                 all of its operators hold
//!           | any other JSON value                     equality
//! operator  = $eq $ne $gt $gte $lt $lte $in $nin $exists $prefix
//!           | $and $or (operand: an array of tests) | $not (operand: a test)
//! ```
//!
//! Strictness is for mistakes that would otherwise be a subscription which never fires: unknown operators,
//! operands of a type that can never match, `$and` and `$or` of nothing, operators hidden inside an object
//! that would be compared as a whole.

use serde_json::{Map, Value};

use super::condition::{Bound, Condition, Field, Path, Relation, Test};
use super::filter::{FilterError, MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH};
use super::value::compare;

const OPERATORS: &str = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $prefix, $and, $or and $not";

/// Parses a filter; `json` is within the limit of its size.
pub(super) fn parse(json: &Value) -> Result<Condition, FilterError> {
    Parser { conditions: 0 }.filter(json, &At { place: "filter".to_owned(), depth: 0 })
}

/// Counts the conditions seen so far.
struct Parser {
    conditions: usize,
}

/// Where the parser is: the place in the filter for errors, and how many logical operators are around it.
struct At {
    place: String,
    depth: usize,
}

impl At {
    fn key(&self, key: &str) -> Self {
        Self { place: format!("{}.{key}", self.place), depth: self.depth }
    }

    fn index(&self, index: usize) -> Self {
        Self { place: format!("{}[{index}]", self.place), depth: self.depth }
    }

    /// Below a logical operator.
    fn deeper(&self) -> Result<Self, FilterError> {
        if self.depth == MAX_FILTER_DEPTH {
            return Err(self.refuse(format!("$and, $or and $not may be nested {MAX_FILTER_DEPTH} deep")));
        }
        Ok(Self { place: self.place.clone(), depth: self.depth + 1 })
    }

    fn refuse(&self, detail: impl Into<String>) -> FilterError {
        FilterError { path: self.place.clone(), detail: detail.into() }
    }
}

/// How the operands of a logical operator are read: as filters, or as tests of one path.
type Operand<'a> = &'a dyn Fn(&mut Parser, &Value, &At) -> Result<Condition, FilterError>;

impl Parser {
    fn filter(&mut self, json: &Value, at: &At) -> Result<Condition, FilterError> {
        let object = json
            .as_object()
            .ok_or_else(|| at.refuse("expected an object, such as {\"data.amount\": {\"$gte\": 100}}"))?;
        let mut conditions = Vec::with_capacity(object.len());
        for (key, json) in object {
            let at = at.key(key);
            conditions.push(match self.logical(key, json, &at, &Self::filter)? {
                Some(condition) => condition,
                None if is_comparison(key) => {
                    return Err(
                        at.refuse(format!("{key} needs a field: write {{\"a.path\": {{\"{key}\": …}}}}"))
                    );
                }
                None if key.starts_with('$') => return Err(unknown_operator(&at)),
                None => {
                    let path = Path::new(key).ok_or_else(|| {
                        at.refuse("a path is made of keys separated by single dots, such as data.amount")
                    })?;
                    self.test(&path, json, &at)?
                }
            });
        }
        Ok(all(conditions))
    }

    /// Reads `$and`, `$or` and `$not`; `None` for any other key.
    fn logical(
        &mut self,
        key: &str,
        json: &Value,
        at: &At,
        operand: Operand<'_>,
    ) -> Result<Option<Condition>, FilterError> {
        if !matches!(key, "$and" | "$or" | "$not") {
            return Ok(None);
        }
        let at = at.deeper()?;
        if key == "$not" {
            return Ok(Some(Condition::Not(Box::new(operand(self, json, &at)?))));
        }
        let operands = json
            .as_array()
            .filter(|operands| !operands.is_empty())
            .ok_or_else(|| at.refuse(format!("{key} takes an array of at least one condition")))?;
        let conditions: Vec<Condition> = operands
            .iter()
            .enumerate()
            .map(|(i, json)| operand(self, json, &at.index(i)))
            .collect::<Result<_, _>>()?;
        Ok(Some(if key == "$and" { all(conditions) } else { Condition::Any(conditions) }))
    }

    fn test(&mut self, path: &Path, json: &Value, at: &At) -> Result<Condition, FilterError> {
        match json.as_object() {
            Some(operators) if operators.keys().any(|key| key.starts_with('$')) => {
                self.operators(path, operators, at)
            }
            Some(object) => {
                refuse_hidden_operators(object, &path.text, at)?;
                self.field(path, false, Test::Equals(json.clone()), at)
            }
            None => self.field(path, false, Test::Equals(json.clone()), at),
        }
    }

    fn operators(
        &mut self,
        path: &Path,
        operators: &Map<String, Value>,
        at: &At,
    ) -> Result<Condition, FilterError> {
        let mut conditions = Vec::with_capacity(operators.len());
        for (key, operand) in operators {
            let at = at.key(key);
            if !key.starts_with('$') {
                return Err(at.refuse(format!(
                    "operators and fields do not mix in one object; for a field write the path \"{}.{key}\"",
                    path.text
                )));
            }
            let below: Operand<'_> = &|parser, json, at| parser.test(path, json, at);
            conditions.push(match self.logical(key, operand, &at, below)? {
                Some(condition) => condition,
                None => {
                    let (negated, test) = comparison(key, operand, &at)?;
                    self.field(path, negated, test, &at)?
                }
            });
        }
        Ok(all(conditions))
    }

    fn field(&mut self, path: &Path, negated: bool, test: Test, at: &At) -> Result<Condition, FilterError> {
        self.conditions += 1;
        if self.conditions > MAX_FILTER_CONDITIONS {
            return Err(at.refuse(format!("a filter has at most {MAX_FILTER_CONDITIONS} conditions")));
        }
        Ok(Condition::Field(Field { path: path.clone(), negated, test }))
    }
}

/// All of the conditions; one alone stands for itself.
fn all(mut conditions: Vec<Condition>) -> Condition {
    match conditions.pop() {
        Some(only) if conditions.is_empty() => only,
        Some(last) => {
            conditions.push(last);
            Condition::All(conditions)
        }
        None => Condition::All(conditions),
    }
}

fn is_comparison(key: &str) -> bool {
    matches!(key, "$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte" | "$in" | "$nin" | "$exists" | "$prefix")
}

fn unknown_operator(at: &At) -> FilterError {
    at.refuse(format!("unknown operator; the operators are {OPERATORS}"))
}

/// Reads one comparing operator: whether it is turned around, and its test.
fn comparison(key: &str, operand: &Value, at: &At) -> Result<(bool, Test), FilterError> {
    let order = |relation| match operand {
        Value::Number(number) => Ok((false, Test::Order(relation, Bound::Number(number.clone())))),
        Value::String(text) => Ok((false, Test::Order(relation, Bound::Text(text.clone())))),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(at.refuse(format!("{key} takes a number or a string")))
        }
    };
    match key {
        "$eq" | "$ne" => Ok((key == "$ne", Test::Equals(operand.clone()))),
        "$in" | "$nin" => {
            let mut values = operand
                .as_array()
                .ok_or_else(|| at.refuse(format!("{key} takes an array of values")))?
                .clone();
            values.sort_by(compare);
            values.dedup_by(|a, b| compare(a, b).is_eq());
            Ok((key == "$nin", Test::OneOf(values)))
        }
        "$gt" => order(Relation::Greater),
        "$gte" => order(Relation::GreaterOrEqual),
        "$lt" => order(Relation::Less),
        "$lte" => order(Relation::LessOrEqual),
        "$exists" => {
            let wanted = operand.as_bool().ok_or_else(|| at.refuse("$exists takes true or false"))?;
            Ok((!wanted, Test::Exists))
        }
        "$prefix" => {
            let prefix = operand.as_str().ok_or_else(|| at.refuse("$prefix takes a string"))?;
            Ok((false, Test::Prefix(prefix.to_owned())))
        }
        _ => Err(unknown_operator(at)),
    }
}

/// Refuses an object that would be compared as a whole although it seems to hold conditions.
fn refuse_hidden_operators(object: &Map<String, Value>, path: &str, at: &At) -> Result<(), FilterError> {
    for (key, json) in object {
        let Some(below) = json.as_object() else { continue };
        let (at, path) = (at.key(key), format!("{path}.{key}"));
        if let Some(operator) = below.keys().find(|key| key.starts_with('$')) {
            return Err(at.refuse(format!(
                "an object is compared as a whole, so {operator} in it would be a key; for a condition on the \
                 field write the path \"{path}\", to compare with this object use $eq"
            )));
        }
        refuse_hidden_operators(below, &path, &at)?;
    }
    Ok(())
}
