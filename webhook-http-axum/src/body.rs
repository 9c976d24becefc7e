//! Request bodies: their type, their size, and JSON out of them.
//!
//! A body is refused before it is buffered when its length is known to be too large, and as soon as it grows
//! past the limit when it is not. One that is not there in time is refused too, so that clients which send a
//! byte now and then do not pile up. What is not JSON is 400; JSON of the wrong shape is 422. Keys that occur
//! twice are refused: parsers disagree on which one counts (RFC 8259, section 4), so such a request means two
//! things. That does not hold for payloads, which are kept as they came.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::LengthLimitError;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::fields::Fields;
use crate::problem::{Problem, ProblemCode};

/// The type of JSON routes.
pub(crate) const JSON: &str = "application/json";
/// RFC 7396.
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// How long a whole body may take. The largest batch needs 2 Mbit/s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Refuses a body that does not say it is one of `accepted`, in UTF-8.
pub(crate) fn expect_type(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Problem> {
    let refuse = || {
        Problem::new(
            ProblemCode::UnsupportedMediaType,
            format!("this route takes a body of the content type {}, in UTF-8", accepted.join(" or ")),
        )
    };
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(refuse)?;
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let utf8 = parts.filter_map(|part| part.split_once('=')).all(|(name, value)| {
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if utf8 && accepted.iter().any(|known| known.eq_ignore_ascii_case(essence)) {
        Ok(())
    } else {
        Err(refuse())
    }
}

/// Reads a body of at most `limit` bytes within [`DEADLINE`].
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let coded = headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity");
    if coded {
        return Err(Problem::new(
            ProblemCode::UnsupportedMediaType,
            "bodies with a content coding are not taken; send it without `Content-Encoding`",
        ));
    }
    let too_large = || {
        Problem::new(
            ProblemCode::PayloadTooLarge,
            format!("the body has more than {limit} bytes, the most that this route takes"),
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(DEADLINE, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_over_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(malformed("the body ended early or could not be read")),
        Err(_) => Err(malformed(format!("the body did not arrive within {} s", DEADLINE.as_secs()))),
    }
}

/// Whether a limit was passed, ours or that of a layer around the router.
fn is_over_limit(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_over_limit)
}

pub(crate) fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::MalformedJson, detail)
}

fn not_an_object() -> Problem {
    Problem::new(ProblemCode::ValidationFailed, "expected a JSON object")
}

/// A body as text, which JSON is (RFC 8259, section 8.1).
pub(crate) fn text(body: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8"))
}

/// A JSON object whose values are not looked at yet.
#[derive(Debug)]
pub(crate) struct RawObject<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// Reads one. Text that is not JSON at all is 400, any other shape 422.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = (&mut json).deserialize_map(RawFields).and_then(|object| json.end().map(|()| object));
        read.map_err(|error| classify(&error, text, not_an_object()))
    }
}

/// Whether the error is about the grammar or about what was expected.
fn classify(error: &serde_json::Error, text: &str, shape: Problem) -> Problem {
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => malformed(format!("the body is not JSON: {error}")),
        Ok(_) if error.is_data() => shape,
        // What only a parser that builds values refuses: too deep, half of a surrogate pair, 1e999.
        Ok(_) => malformed(format!("the body cannot be read as JSON: {error}")),
    }
}

struct RawFields;

impl<'de> Visitor<'de> for RawFields {
    type Value = RawObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
            // No object that we take has so many; the rest is only checked for its grammar.
            if fields.len() < 64 {
                fields.push(entry);
            }
        }
        Ok(RawObject(fields))
    }
}

/// Reads a whole body as a JSON object, every part of it built.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let text = text(body)?;
    let duplicate = RefCell::new(None);
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = Unique { path: String::new(), duplicate: &duplicate };
    let read = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    match read {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(not_an_object()),
        Err(error) => Err(classify(
            &error,
            text,
            duplicate.take().map_or_else(not_an_object, |path| Problem::field(&path, TWICE)),
        )),
    }
}

/// The largest body of a request that only asks for something.
const REQUEST: usize = 16 * 1024;

/// Reads the fields of a body that may be left out. No body is the same as `{}` and needs no content type.
pub(crate) async fn optional_fields(headers: &HeaderMap, body: Body) -> Result<Fields, Problem> {
    let body = read(headers, body, REQUEST).await?;
    if body.is_empty() {
        return Ok(Fields::new(Map::new()));
    }
    expect_type(headers, &[JSON])?;
    object(&body).map(Fields::new)
}

/// The detail of a key that occurs twice.
pub(crate) const TWICE: &str = "the field occurs more than once";

/// Builds a value and refuses objects with a key that occurs twice, whose path it leaves in `duplicate`.
struct Unique<'a> {
    path: String,
    duplicate: &'a RefCell<Option<String>>,
}

impl Unique<'_> {
    fn below(&self, path: String) -> Self {
        Self { path, duplicate: self.duplicate }
    }
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.below(format!("{}[{}]", self.path, items.len())))? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if object.contains_key(&key) {
                self.duplicate.replace(Some(path));
                return Err(A::Error::custom(TWICE));
            }
            object.insert(key, map.next_value_seed(self.below(path))?);
        }
        Ok(object.into())
    }
}
