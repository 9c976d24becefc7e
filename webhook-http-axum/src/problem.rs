//! Every error of the API: `application/problem+json` (RFC 9457) with a stable code.
//!
//! Handlers return [`Problem`]s, and the errors of core become problems here and nowhere else, so that this
//! is the one place to see what a caller may learn. It owes them three things: the code and status of
//! `API.md`, a detail that says what to do, and silence about everything inside. A backend's text goes to the
//! log and never into an answer; nor does a secret, which no error of core repeats.

use std::error::Error;
use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use webhook_core::engine::RequestError;
use webhook_core::error::BackendError;
use webhook_core::{FieldError, PublishError, SubscriptionError};

/// How long a caller is asked to wait when the store is away, in seconds.
const RETRY_AFTER_SECONDS: u64 = 2;
/// At most so many wrong fields are named.
const MAX_ERRORS: usize = 50;
/// At most so many characters of a field's name are shown.
const MAX_FIELD: usize = 200;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $status:ident, $title:literal;)*) => {
        /// What went wrong, stable for programs: the `code` of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[$doc])* $variant,)*
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in the answer.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The status that goes with it.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),* }
            }

            /// The same short sentence for every problem with this code.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }
        }
    };
}

codes! {
    /// The body cannot be read as JSON.
    MalformedJson => "malformed_json", BAD_REQUEST, "The body is not JSON";
    /// A query parameter or a header of the request is unknown or wrong.
    InvalidParameter => "invalid_parameter", BAD_REQUEST, "A parameter is not valid";
    /// The cursor is not one that this list gave with these filters.
    InvalidCursor => "invalid_cursor", BAD_REQUEST, "The cursor is not valid";
    /// No key or signature, or a wrong one.
    Unauthorized => "unauthorized", UNAUTHORIZED, "The caller is not known";
    /// The caller is known and may not do this.
    Forbidden => "forbidden", FORBIDDEN, "The caller may not do this";
    /// There is nothing here for this caller.
    NotFound => "not_found", NOT_FOUND, "There is nothing here";
    /// The route exists with other methods.
    MethodNotAllowed => "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// It cannot be done as things stand.
    Conflict => "conflict", CONFLICT, "It cannot be done as things stand";
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused => "idempotency_key_reused", CONFLICT, "The idempotency key was used before";
    /// The subscription is paused or disabled.
    SubscriptionNotActive => "subscription_not_active", CONFLICT, "The subscription is not active";
    /// The delivery has ended.
    DeliveryFinished => "delivery_finished", CONFLICT, "The delivery is finished";
    /// It was changed since the caller read it.
    VersionMismatch => "version_mismatch", PRECONDITION_FAILED, "It was changed meanwhile";
    /// The body or the payload is too large.
    PayloadTooLarge => "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body's content type is not one that this route takes.
    UnsupportedMediaType => "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is not taken";
    /// Fields of the body are missing or wrong.
    ValidationFailed => "validation_failed", UNPROCESSABLE_ENTITY, "The request is not valid";
    /// The target is refused by the server's rules, or the body has a field that does not exist.
    TargetNotAllowed => "target_not_allowed", UNPROCESSABLE_ENTITY, "The target or a field is not allowed";
    /// Too many requests.
    RateLimited => "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// The store does not answer at the moment.
    Unavailable => "unavailable", SERVICE_UNAVAILABLE, "The service is not available at the moment";
    /// A defect on this side.
    Internal => "internal", INTERNAL_SERVER_ERROR, "The service failed";
}

/// One answer to a request that failed. Public so that an application can answer for its own routes in the
/// same form, its fallback for unknown ones above all.
///
/// ```
/// use axum::Router;
/// use webhook_http_axum::{Problem, ProblemCode};
///
/// let app: Router =
///     Router::new().fallback(|| async { Problem::new(ProblemCode::NotFound, "there is no such route") });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: ProblemCode,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with this code. The detail is for people: what happened, to which thing, and what to do.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// The same with a header in the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// A query parameter or a header that is wrong.
    pub(crate) fn parameter(name: &str, detail: impl Display) -> Self {
        let error = FieldError::new(name, detail);
        let detail = format!("`{name}`: {}", error.detail);
        Self { errors: vec![error], ..Self::new(ProblemCode::InvalidParameter, detail) }
    }

    /// Fields of the body that are wrong, one or more. Names come from the body, so the answer has an end:
    /// the first [`MAX_ERRORS`] are shown, long names cut.
    pub(crate) fn fields(mut errors: Vec<FieldError>) -> Self {
        let code = if errors.iter().any(|error| error.target_not_allowed) {
            ProblemCode::TargetNotAllowed
        } else {
            ProblemCode::ValidationFailed
        };
        errors.truncate(MAX_ERRORS);
        for error in &mut errors {
            if let Some((end, _)) = error.field.char_indices().nth(MAX_FIELD) {
                error.field.truncate(end);
                error.field.push('…');
            }
        }
        let detail = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(code, detail) }
    }

    /// One field of the body that is wrong.
    pub(crate) fn field(name: &str, detail: impl Display) -> Self {
        Self::fields(vec![FieldError::new(name, detail)])
    }

    /// Fields of the body that do not exist.
    pub(crate) fn unknown_fields(names: Vec<String>) -> Self {
        Self::fields(names.into_iter().map(unknown_field).collect())
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(ProblemCode::NotFound, format!("there is no such {what}"))
    }

    pub(crate) fn unavailable(detail: &str) -> Self {
        Self::new(ProblemCode::Unavailable, detail)
            .header(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))
    }

    pub(crate) fn internal() -> Self {
        Self::new(ProblemCode::Internal, "the request could not be carried out; the server's log says why")
    }

    /// The problem as it stands in an answer, on its own or as an item of a batch.
    pub(crate) fn body(&self) -> ProblemBody<'_> {
        ProblemBody {
            type_: format!("urn:problem-type:webhook:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            errors: self
                .errors
                .iter()
                .map(|error| ErrorBody { field: &error.field, detail: &error.detail })
                .collect(),
        }
    }
}

/// RFC 9457, section 3, with the members that this API adds.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemBody<'a> {
    #[serde(rename = "type")]
    type_: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    errors: Vec<ErrorBody<'a>>,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    field: &'a str,
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        if error.is_retryable() {
            log_unavailable(&error);
            Self::unavailable("the store does not answer at the moment; repeat the request later")
        } else {
            log_defect(&error);
            Self::internal()
        }
    }
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Self {
        match error {
            SubscriptionError::Invalid(errors) => Self::fields(errors),
            SubscriptionError::NotFound => Self::not_found("subscription"),
            SubscriptionError::VersionMismatch { current } => Self::version_mismatch(current),
            SubscriptionError::Store(error) => error.into(),
            error => {
                log_defect(&error);
                Self::internal()
            }
        }
    }
}

impl Problem {
    pub(crate) fn version_mismatch(current: u64) -> Self {
        Self::new(
            ProblemCode::VersionMismatch,
            format!("the subscription is at version {current}; read it again and repeat the change"),
        )
    }
}

impl Problem {
    /// What a person asked of a delivery or an event (`what`) and was not granted. `finished` says what to do
    /// about one that has ended.
    pub(crate) fn refused(error: RequestError, what: &str, finished: &str) -> Self {
        match error {
            RequestError::NotFound => Self::not_found(what),
            RequestError::Finished => Self::new(ProblemCode::DeliveryFinished, finished),
            RequestError::NotActive(status) => Self::subscription_not_active(status),
            RequestError::Unfinished | RequestError::Conflict => Self::new(
                ProblemCode::Conflict,
                format!("the {what} changed while the request was carried out; repeat it"),
            ),
            RequestError::Store(error) => error.into(),
            error => {
                log_defect(&error);
                Self::internal()
            }
        }
    }

    pub(crate) fn subscription_not_active(status: impl Display) -> Self {
        Self::new(
            ProblemCode::SubscriptionNotActive,
            format!("the subscription is {status}, and nothing is sent to it until it is active"),
        )
    }

    /// A change that asks for no version and yet never met the one that it read.
    pub(crate) fn kept_changing() -> Self {
        Self::new(
            ProblemCode::Conflict,
            "the subscription kept changing while this change was made; repeat it",
        )
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Invalid { field, detail } => Self::field(field, detail),
            PublishError::TooLarge { size, limit } => Self::new(
                ProblemCode::PayloadTooLarge,
                format!("the payload has {size} bytes, and at most {limit} are taken"),
            ),
            PublishError::KeyReused => Self::new(
                ProblemCode::IdempotencyKeyReused,
                "the idempotency key was used for another request within 24 hours; use another key, or \
                 repeat the same request",
            ),
            PublishError::SubscriptionNotFound => Self::not_found("subscription"),
            PublishError::Unavailable(error) => {
                log_unavailable(&error);
                Self::unavailable(
                    "the event was not acknowledged; it may have been stored, and a repeat with the same \
                     idempotency key is safe",
                )
            }
            PublishError::Stopped => {
                Self::unavailable("the server is shutting down; repeat the request, it reaches another one")
            }
            PublishError::Rejected(error) => {
                log_defect(&error);
                Self::internal()
            }
            error => {
                log_defect(&error);
                Self::internal()
            }
        }
    }
}

/// A field that does not exist. The API answers it with the code of a refused target.
pub(crate) fn unknown_field(field: String) -> FieldError {
    FieldError { target_not_allowed: true, ..FieldError::new(field, "unknown field") }
}

fn log_unavailable(error: &BackendError) {
    tracing::warn!(error = %chain(error), "a backend does not answer; the caller was asked to come back");
}

fn log_defect(error: &(dyn Error + 'static)) {
    tracing::error!(error = %chain(error), "a request failed on this side");
}

/// The error with its sources, which `Display` leaves out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use webhook_core::error::BackendErrorKind;

    use super::*;

    #[test]
    fn a_backends_text_stays_out_of_the_answer() {
        for kind in [BackendErrorKind::Unavailable, BackendErrorKind::Corrupt, BackendErrorKind::Internal] {
            let error = || BackendError::new(kind, "sqlite", "insert", "SECRET TEXT");
            for problem in [
                Problem::from(error()),
                Problem::from(PublishError::Unavailable(error())),
                Problem::from(PublishError::Rejected(error())),
                Problem::from(SubscriptionError::Store(error())),
            ] {
                let body = serde_json::to_string(&problem.body()).unwrap();
                assert!(!body.contains("SECRET") && !body.contains("sqlite"), "{body}");
            }
        }
    }

    #[test]
    fn what_may_be_repeated_says_when() {
        let error = BackendError::new(BackendErrorKind::Timeout, "sqlite", "insert", "");
        let response = Problem::from(error).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }

    #[test]
    fn a_refused_target_or_an_unknown_field_sets_the_code() {
        let refused = FieldError { target_not_allowed: true, ..FieldError::new("target_url", "private") };
        let wrong = FieldError::new("timeout", "too long");
        assert_eq!(Problem::fields(vec![wrong.clone()]).code(), ProblemCode::ValidationFailed);
        assert_eq!(Problem::fields(vec![wrong, refused]).code(), ProblemCode::TargetNotAllowed);
    }
}
