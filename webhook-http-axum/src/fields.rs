//! Typed reading of a JSON object, with every wrong field named at once.
//!
//! Derived deserializers stop at the first error and say where it is in bytes. People who fill in a form, and
//! programs that show them which field is wrong, need all of them by their paths. So a handler takes each
//! field that it knows out of a [`Fields`], and what is left at the end is unknown. `null` is the same as left
//! out.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};
use webhook_core::FieldError;
use webhook_core::units::parse_duration;

use crate::problem::{Problem, unknown_field};

/// A JSON object that is being read.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The path of the object with a dot behind it; empty for a body.
    prefix: String,
    map: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self { prefix: String::new(), map, errors: Vec::new() }
    }

    pub(crate) fn refuse(&mut self, name: &str, detail: impl Display) {
        self.errors.push(FieldError::new(format!("{}{name}", self.prefix), detail));
    }

    /// Adds an error whose field is a whole path already.
    pub(crate) fn push(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    /// The field, if it is there and not null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => self.wrong(name, "a string"),
        }
    }

    /// Refuses the object when the field is not there.
    pub(crate) fn demand(&mut self, name: &str) {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.refuse(name, "the field is missing");
        }
    }

    /// A text that must be there; empty, and refused, when it is not.
    pub(crate) fn required(&mut self, name: &str) -> String {
        self.demand(name);
        self.text(name).unwrap_or_default()
    }

    /// A text with a form of its own.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        text.parse().map_err(|error| self.refuse(name, error)).ok()
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(value) => Some(value),
            _ => self.wrong(name, "true or false"),
        }
    }

    /// A whole number. One past 32 bits is left to the check of its range, whose words fit it better.
    pub(crate) fn number(&mut self, name: &str) -> Option<u32> {
        match self.take(name)?.as_u64() {
            Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
            None => self.wrong(name, "a whole number, 0 or more"),
        }
    }

    pub(crate) fn duration(&mut self, name: &str) -> Option<Duration> {
        match self.take(name)? {
            Value::String(text) => parse_duration(&text).map_err(|error| self.refuse(name, error)).ok(),
            _ => self.wrong(name, "a duration in text, such as \"10s\""),
        }
    }

    pub(crate) fn texts(&mut self, name: &str) -> Vec<String> {
        match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let mut texts = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    match item {
                        Value::String(text) => texts.push(text),
                        _ => self.refuse(&format!("{name}[{index}]"), "expected a string"),
                    }
                }
                texts
            }
            Some(_) => self.wrong(name, "an array of strings").unwrap_or_default(),
        }
    }

    /// One or several of these names.
    pub(crate) fn names<T: Copy + Display>(&mut self, name: &str, all: &[T]) -> Option<Vec<T>> {
        let Value::Array(items) = self.take(name)? else { return self.wrong(name, "an array of strings") };
        let expected = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if items.is_empty() {
            return self.wrong(name, &format!("one or several of {expected}"));
        }
        let mut names = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match all.iter().find(|known| item.as_str() == Some(&known.to_string())) {
                Some(known) => names.push(*known),
                None => self.refuse(&format!("{name}[{index}]"), format!("expected one of {expected}")),
            }
        }
        Some(names)
    }

    pub(crate) fn text_map(&mut self, name: &str) -> BTreeMap<String, String> {
        match self.take(name) {
            None => BTreeMap::new(),
            Some(Value::Object(entries)) => {
                let mut texts = BTreeMap::new();
                for (key, value) in entries {
                    match value {
                        Value::String(text) => {
                            texts.insert(key, text);
                        }
                        _ => self.refuse(&format!("{name}.{key}"), "expected a string"),
                    }
                }
                texts
            }
            Some(_) => self.wrong(name, "an object of strings").unwrap_or_default(),
        }
    }

    /// An object below this one; give it back to [`finish_below`](Self::finish_below).
    pub(crate) fn object(&mut self, name: &str) -> Option<Self> {
        match self.take(name)? {
            Value::Object(map) => {
                Some(Self { prefix: format!("{}{name}.", self.prefix), map, errors: Vec::new() })
            }
            _ => self.wrong(name, "an object"),
        }
    }

    /// Takes over what was wrong below.
    pub(crate) fn finish_below(&mut self, below: Self) {
        self.errors.extend(below.into_errors());
    }

    /// Refuses what was wrong and what is left.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let errors = self.into_errors();
        if errors.is_empty() { Ok(()) } else { Err(Problem::fields(errors)) }
    }

    fn into_errors(self) -> Vec<FieldError> {
        let Self { prefix, map, mut errors } = self;
        errors.extend(map.into_iter().map(|(name, _)| unknown_field(format!("{prefix}{name}"))));
        errors
    }

    fn wrong<T>(&mut self, name: &str, expected: &str) -> Option<T> {
        self.refuse(name, format!("expected {expected}"));
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        match value {
            Value::Object(map) => Fields::new(map),
            _ => panic!("an object"),
        }
    }

    #[test]
    fn every_wrong_field_is_named_by_its_path() {
        let mut body = fields(json!({
            "a": 1, "list": ["x", 2], "map": {"k": null}, "below": {"n": -1, "per": 5, "more": 1}, "left": 1
        }));
        body.text("a");
        body.texts("list");
        body.text_map("map");
        body.required("missing");
        let mut below = body.object("below").unwrap();
        below.number("n");
        below.duration("per");
        body.finish_below(below);
        let names: Vec<_> = body.into_errors().into_iter().map(|error| error.field).collect();
        assert_eq!(names, ["a", "list[1]", "map.k", "missing", "below.n", "below.per", "below.more", "left"]);
    }

    #[test]
    fn a_list_of_names_has_at_least_one_and_none_that_is_unknown() {
        let mut body = fields(json!({"a": ["x", "y"], "b": [], "c": ["z", 1, "y"], "d": "x", "e": null}));
        assert_eq!(body.names("a", &["x", "y"]), Some(vec!["x", "y"]));
        for name in ["b", "c", "d", "e"] {
            body.names(name, &["x", "y"]);
        }
        let names: Vec<_> = body.into_errors().into_iter().map(|error| error.field).collect();
        assert_eq!(names, ["b", "c[0]", "c[1]", "d"]);
    }

    #[test]
    fn null_is_the_same_as_left_out() {
        let mut body = fields(json!({"a": null, "b": null, "c": null, "d": null}));
        assert_eq!(body.text("a"), None);
        assert_eq!(body.texts("b"), Vec::<String>::new());
        assert!(body.object("c").is_none());
        assert_eq!(body.boolean("d"), None);
        assert_eq!(body.finish(), Ok(()));
    }
}
