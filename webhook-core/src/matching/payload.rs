//! The payload as JSON, parsed when the first filter asks.

use std::sync::OnceLock;

use serde_json::Value;

/// A payload that is parsed at most once, and not at all when nobody asks.
///
/// It borrows the bytes and never changes them: what is delivered is not what was parsed (promise 9).
///
/// ```
/// use webhook_core::matching::LazyJson;
///
/// let payload = LazyJson::new(br#"{"amount": 5}"#);
/// assert!(!payload.is_parsed());
/// assert_eq!(payload.value().map(|value| value["amount"] == 5), Ok(true));
/// assert!(LazyJson::new(b"amount=5").value().is_err());
/// ```
#[derive(Debug)]
pub struct LazyJson<'a> {
    bytes: &'a [u8],
    parsed: OnceLock<Result<Value, String>>,
}

impl<'a> LazyJson<'a> {
    /// A payload that nobody has parsed yet.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, parsed: OnceLock::new() }
    }

    /// The payload's bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The payload as JSON, parsed by the first call.
    ///
    /// # Errors
    ///
    /// The parser's words when the payload cannot be read as JSON. That includes the few texts that the
    /// grammar allows and no filter could read: nested deeper than 128, a number beyond the range of a
    /// double, half of a surrogate pair.
    pub fn value(&self) -> Result<&Value, &str> {
        self.parsed
            .get_or_init(|| serde_json::from_slice(self.bytes).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(String::as_str)
    }

    /// Whether the payload has been parsed.
    #[must_use]
    pub fn is_parsed(&self) -> bool {
        self.parsed.get().is_some()
    }
}
