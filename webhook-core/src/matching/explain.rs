//! The first condition that does not hold, in words.
//!
//! The words are for people who ask why an event did not reach a subscription. They quote values from filter
//! and payload only in part, since both are foreign text of any length.

use std::fmt::Write as _;

use serde_json::Value;

use super::condition::{Bound, Condition, Field, Relation, Test};

/// How much of a value is quoted, in characters.
const QUOTED: usize = 64;

impl Condition {
    pub(super) fn explain(&self, payload: &Value) -> Result<(), String> {
        if self.holds(payload) { Ok(()) } else { Err(self.fault(payload)) }
    }

    /// What is wrong with a payload for which the condition does not hold.
    fn fault(&self, payload: &Value) -> String {
        match self {
            Self::All(conditions) => conditions
                .iter()
                .find(|condition| !condition.holds(payload))
                .map_or_else(String::new, |condition| condition.fault(payload)),
            Self::Any(conditions) => {
                let mut words = String::from("no branch of $or holds");
                if let Some(first) = conditions.first() {
                    // Writing to a string cannot fail.
                    let _ = write!(words, "; the first: {}", first.fault(payload));
                }
                words
            }
            Self::Not(condition) => format!("the condition under $not holds: {}", condition.describe()),
            Self::Field(field) => field.fault(payload),
        }
    }

    /// The condition itself in short, its first part standing for all.
    fn describe(&self) -> String {
        match self {
            Self::All(conditions) => match conditions.first() {
                Some(first) => format!("{} and {} more", first.describe(), conditions.len() - 1),
                None => "it holds for every payload".to_owned(),
            },
            Self::Any(conditions) => conditions
                .first()
                .map_or_else(String::new, |first| format!("{} or another branch of $or", first.describe())),
            Self::Not(condition) => format!("not ({})", condition.describe()),
            Self::Field(field) => format!("`{}` {}", field.path.text, field.demand()),
        }
    }
}

impl Field {
    fn fault(&self, payload: &Value) -> String {
        let path = &self.path.text;
        let found = match self.path.first(payload) {
            None => "is missing".to_owned(),
            Some(_) if matches!(self.test, Test::Exists) => "is there".to_owned(),
            Some(value) => format!("is {}", quote(value)),
        };
        format!("`{path}` {} but {found}", self.demand())
    }

    fn demand(&self) -> String {
        let not = if self.negated { " not" } else { "" };
        match &self.test {
            Test::Equals(value) => format!("must{not} be {}", quote(value)),
            Test::OneOf(values) => {
                format!("must{not} be one of {}", shorten(&Value::Array(values.clone()).to_string()))
            }
            Test::Order(relation, bound) => {
                let relation = match relation {
                    Relation::Greater => "more than",
                    Relation::GreaterOrEqual => "at least",
                    Relation::Less => "less than",
                    Relation::LessOrEqual => "at most",
                };
                let bound = match bound {
                    Bound::Number(number) => number.to_string(),
                    Bound::Text(text) => shorten(&Value::String(text.clone()).to_string()),
                };
                format!("must be {relation} {bound}")
            }
            Test::Exists if self.negated => "must be missing".to_owned(),
            Test::Exists => "must be there".to_owned(),
            Test::Prefix(prefix) => {
                format!("must start with {}", shorten(&Value::String(prefix.clone()).to_string()))
            }
        }
    }
}

fn quote(value: &Value) -> String {
    shorten(&value.to_string())
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
