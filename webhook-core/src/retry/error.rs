//! Why a retry policy was refused.

/// A retry policy that cannot be: which part of it, and what is accepted there.
///
/// `field` is the path of the part in a subscription's JSON, so that an HTTP answer can carry it as it is.
///
/// ```
/// use webhook_core::retry::RetrySpec;
///
/// let json = serde_json::json!({"schedule": ["10s", "30s", "soon"]});
/// let error = RetrySpec::from_json(&json).unwrap_err();
/// assert_eq!(error.field, "retry.schedule[2]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {detail}")]
pub struct RetryError {
    /// Path of the refused part: `retry`, `retry.schedule[3]`, `retry.exponential.factor`, …
    pub field: String,
    /// What is wrong with it and what is accepted.
    pub detail: String,
    /// The part is a field that does not exist, which an HTTP API may answer with a code of its own.
    pub is_unknown_field: bool,
}

impl RetryError {
    pub(super) fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into(), is_unknown_field: false }
    }
}
