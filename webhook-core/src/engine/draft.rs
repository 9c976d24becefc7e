//! What a user writes of a subscription, and whether it may be stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::id::SubscriptionId;
use crate::matching::{EventTypePattern, Filter};
use crate::model::{ActiveSecret, RateLimit, Subscription, SubscriptionStatus, Tenant, Verification};
use crate::retry::RetrySpec;
use crate::secret::Secret;
use crate::signature::{SignatureScheme, VerifyScheme};
use crate::target::{MASK, TargetRules, check_headers, is_masked_header};
use crate::time::Timestamp;

/// At most so many event type patterns.
pub const MAX_EVENT_TYPES: usize = 100;
/// At most so many bytes of description.
pub const MAX_DESCRIPTION: usize = 2 * 1024;
/// At most so many metadata entries.
pub const MAX_METADATA: usize = 50;
/// At most so many bytes of metadata, names and values together.
pub const MAX_METADATA_BYTES: usize = 8 * 1024;
/// The deadlines that a subscription may ask for.
pub const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);
/// The attempts in flight that a subscription may ask for.
pub const IN_FLIGHT: std::ops::RangeInclusive<u32> = 1..=10_000;
/// The requests of a rate limit.
pub const RATE_REQUESTS: std::ops::RangeInclusive<u32> = 1..=1_000_000;
/// The time of a rate limit.
pub const RATE_PER: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(86_400);

/// A subscription as its user writes it: to create one, or to replace all that can be changed.
///
/// ```
/// use webhook_core::SubscriptionDraft;
///
/// let draft = SubscriptionDraft {
///     event_types: vec!["order.*".to_owned()],
///     ..SubscriptionDraft::to("https://example.com/hooks")
/// };
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubscriptionDraft {
    /// Where deliveries go.
    pub target_url: String,
    /// A note for people.
    pub description: Option<String>,
    /// Exact names, `*`, or prefixes such as `invoice.*`; empty takes all.
    pub event_types: Vec<String>,
    /// A condition on the payload, as JSON.
    pub filter: Option<Value>,
    /// Headers sent with every attempt. A masked one whose value is `***` keeps what is stored.
    pub headers: BTreeMap<String, String>,
    /// The user's own data.
    pub metadata: BTreeMap<String, String>,
    /// Its own retry policy.
    pub retry: Option<RetrySpec>,
    /// Its own deadline for one exchange, within [`TIMEOUTS`].
    pub timeout: Option<Duration>,
    /// Its own limit of attempts in flight, within [`IN_FLIGHT`].
    pub max_in_flight: Option<u32>,
    /// At most so many attempts in a time.
    pub rate_limit: Option<RateLimit>,
    /// Whether deliveries with equal ordering keys go one at a time.
    pub ordered: bool,
    /// How attempts are signed.
    pub signature: SignatureScheme,
    /// How the caller of ingest proves itself.
    pub verify: Option<VerificationDraft>,
    /// The signing secret; one is made when absent. Only used at creation.
    pub secret: Option<Secret>,
}

/// How the caller of ingest proves itself, as written by a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationDraft {
    /// What is compared.
    pub scheme: VerifyScheme,
    /// The header that carries the signature, when not the scheme's own.
    pub header: Option<String>,
    /// The secret of its signatures.
    pub secret: VerificationSecret,
}

/// The secret that the caller of ingest signs with, as written by a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VerificationSecret {
    /// The one that is stored, or the subscription's own where none is.
    #[default]
    Kept,
    /// The subscription's own, whatever is stored.
    Subscriptions,
    /// This one. `***` stands for the one that is stored, and is refused where none is.
    Given(Secret),
}

impl SubscriptionDraft {
    /// A subscription to everything, sent to this URL and signed by Standard Webhooks.
    #[must_use]
    pub fn to(target_url: impl Into<String>) -> Self {
        Self { target_url: target_url.into(), ..Self::default() }
    }

    /// What a stored subscription looks like as a draft: replacing it by this changes nothing.
    #[must_use]
    pub fn of(stored: &Subscription) -> Self {
        Self {
            target_url: stored.target_url.to_string(),
            description: stored.description.clone(),
            event_types: stored.event_types.iter().map(ToString::to_string).collect(),
            filter: stored.filter.as_ref().map(|filter| filter.as_json().clone()),
            headers: stored.headers.clone(),
            metadata: stored.metadata.clone(),
            retry: stored.retry.clone(),
            timeout: stored.timeout,
            max_in_flight: stored.max_in_flight,
            rate_limit: stored.rate_limit,
            ordered: stored.ordered,
            signature: stored.signature,
            verify: stored.verify.as_ref().map(|verify| VerificationDraft {
                scheme: verify.scheme,
                header: verify.header.clone(),
                secret: verify
                    .secret
                    .clone()
                    .map_or(VerificationSecret::Subscriptions, VerificationSecret::Given),
            }),
            secret: None,
        }
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct FieldError {
    /// The field, as a path such as `retry.schedule[3]`.
    pub field: String,
    /// What is wrong and what is accepted. Never a secret.
    pub detail: String,
    /// The field is well formed, but the operator's rules refuse the target.
    pub target_not_allowed: bool,
}

impl FieldError {
    /// A field that is wrong.
    #[must_use]
    pub fn new(field: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self { field: field.into(), detail: detail.to_string(), target_not_allowed: false }
    }
}

/// The subscription that `draft` makes: a new one, or `stored` with all that can be changed replaced.
pub(super) fn accept(
    draft: &SubscriptionDraft,
    tenant: &Tenant,
    stored: Option<&Subscription>,
    rules: &TargetRules,
) -> Result<Subscription, Vec<FieldError>> {
    let mut errors = Vec::new();
    let target_url = match rules.check_url(&draft.target_url) {
        Ok(url) => Some(url),
        Err(error) => {
            errors.push(FieldError {
                target_not_allowed: !error.is_malformed(),
                ..FieldError::new("target_url", error)
            });
            None
        }
    };
    let event_types = event_types(&draft.event_types, &mut errors);
    let filter = draft.filter.as_ref().and_then(|json| match Filter::parse(json) {
        Ok(filter) => Some(Arc::new(filter)),
        Err(error) => {
            errors.push(FieldError::new(error.path, error.detail));
            None
        }
    });
    let headers = headers(draft, stored, &mut errors);
    bounds(draft, &mut errors);
    let verify = draft.verify.as_ref().map(|verify| verification(verify, stored, &mut errors));
    if let Some(Verification { scheme, secret: Some(secret), .. }) = &verify
        && let Err(error) = Secret::parse_for_verify(secret.expose(), *scheme)
    {
        errors.push(FieldError::new("verify.secret", error));
    }
    if let Some(Verification { scheme, header: Some(header), .. }) = &verify {
        if !scheme.takes_header() {
            errors.push(FieldError::new(
                "verify.header",
                format!("the scheme {scheme} has headers of its own"),
            ));
        } else if !is_header_name(header) {
            errors.push(FieldError::new("verify.header", "not a header name"));
        }
    }
    let secrets = secrets(draft, stored, &mut errors);

    match target_url {
        Some(target_url) if errors.is_empty() => Ok(Subscription {
            id: stored.map_or_else(SubscriptionId::new, |stored| stored.id),
            tenant: stored.map_or_else(|| tenant.clone(), |stored| stored.tenant.clone()),
            target_url,
            description: draft.description.clone(),
            event_types,
            filter,
            headers,
            metadata: draft.metadata.clone(),
            status: stored.map_or(SubscriptionStatus::Active, |stored| stored.status),
            disabled_reason: stored.and_then(|stored| stored.disabled_reason),
            retry: draft.retry.clone(),
            timeout: draft.timeout,
            max_in_flight: draft.max_in_flight,
            rate_limit: draft.rate_limit,
            ordered: draft.ordered,
            signature: draft.signature,
            verify,
            secrets,
            version: stored.map_or(1, |stored| stored.version),
            // Both are stamped by the store.
            created_at: stored.map_or(Timestamp::EPOCH, |stored| stored.created_at),
            updated_at: stored.map_or(Timestamp::EPOCH, |stored| stored.updated_at),
        }),
        _ => Err(errors),
    }
}

fn event_types(texts: &[String], errors: &mut Vec<FieldError>) -> Vec<EventTypePattern> {
    if texts.len() > MAX_EVENT_TYPES {
        errors.push(FieldError::new("event_types", format!("at most {MAX_EVENT_TYPES}")));
    }
    let mut patterns = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match EventTypePattern::new(text.as_str()) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => errors.push(FieldError::new(format!("event_types[{index}]"), error)),
        }
    }
    patterns
}

const NOTHING_STORED: &str = "`***` keeps a stored value, and none is stored";

fn headers(
    draft: &SubscriptionDraft,
    stored: Option<&Subscription>,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<String, String> {
    let mut headers = draft.headers.clone();
    for (name, value) in &mut headers {
        if value != MASK || !is_masked_header(name) {
            continue;
        }
        let kept = stored.and_then(|stored| {
            stored.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        });
        match kept {
            Some(kept) => kept.clone_into(value),
            None => errors.push(FieldError::new(format!("headers.{name}"), NOTHING_STORED)),
        }
    }
    if let Err(error) = check_headers(&headers, draft.signature) {
        let field =
            error.name.as_ref().map_or_else(|| "headers".to_owned(), |name| format!("headers.{name}"));
        errors.push(FieldError::new(field, error.problem));
    }
    headers
}

fn bounds(draft: &SubscriptionDraft, errors: &mut Vec<FieldError>) {
    if draft.description.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION) {
        errors.push(FieldError::new("description", format!("at most {MAX_DESCRIPTION} bytes")));
    }
    let metadata: usize = draft.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if draft.metadata.len() > MAX_METADATA || metadata > MAX_METADATA_BYTES {
        errors.push(FieldError::new(
            "metadata",
            format!("at most {MAX_METADATA} entries of {MAX_METADATA_BYTES} bytes together"),
        ));
    }
    if draft.timeout.is_some_and(|timeout| !TIMEOUTS.contains(&timeout)) {
        errors.push(FieldError::new("timeout", "expected 100ms to 5m"));
    }
    if draft.max_in_flight.is_some_and(|limit| !IN_FLIGHT.contains(&limit)) {
        errors.push(FieldError::new("max_in_flight", "expected 1 to 10000"));
    }
    if let Some(rate) = draft.rate_limit {
        if !RATE_REQUESTS.contains(&rate.requests) {
            errors.push(FieldError::new("rate_limit.requests", "expected 1 to 1000000"));
        }
        if !RATE_PER.contains(&rate.per) {
            errors.push(FieldError::new("rate_limit.per", "expected 1ms to 24h"));
        }
    }
}

fn verification(
    draft: &VerificationDraft,
    stored: Option<&Subscription>,
    errors: &mut Vec<FieldError>,
) -> Verification {
    let kept = || stored.and_then(|stored| stored.verify.as_ref()?.secret.clone());
    let secret = match &draft.secret {
        VerificationSecret::Given(secret) if secret.expose() == MASK => {
            let kept = kept();
            if kept.is_none() {
                errors.push(FieldError::new("verify.secret", NOTHING_STORED));
            }
            kept
        }
        VerificationSecret::Given(secret) => Some(secret.clone()),
        VerificationSecret::Kept => kept(),
        VerificationSecret::Subscriptions => None,
    };
    Verification { scheme: draft.scheme, header: draft.header.clone(), secret }
}

fn secrets(
    draft: &SubscriptionDraft,
    stored: Option<&Subscription>,
    errors: &mut Vec<FieldError>,
) -> Vec<ActiveSecret> {
    if let Some(stored) = stored {
        let newest = stored.secrets.first();
        if let Some(Err(error)) = newest.map(|newest| Secret::parse(newest.secret.expose(), draft.signature))
        {
            errors.push(FieldError::new(
                "signature",
                format!("the subscription's secret does not fit this scheme ({error}); rotate it first"),
            ));
        }
        return stored.secrets.clone();
    }
    let secret = match &draft.secret {
        None => Secret::generate(),
        Some(given) => match Secret::parse(given.expose(), draft.signature) {
            Ok(secret) => secret,
            Err(error) => {
                errors.push(FieldError::new("secret", error));
                return Vec::new();
            }
        },
    };
    vec![ActiveSecret { secret, expires_at: None }]
}

/// RFC 9110, section 5.1: a token.
fn is_header_name(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> TargetRules {
        TargetRules::default()
    }

    fn fields(draft: &SubscriptionDraft) -> Vec<String> {
        accept(draft, &Tenant::default(), None, &rules())
            .expect_err("refused")
            .into_iter()
            .map(|error| error.field)
            .collect()
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let draft = SubscriptionDraft {
            event_types: vec!["ok".into(), "not ok".into()],
            filter: Some(serde_json::json!({"a": {"$what": 1}})),
            headers: BTreeMap::from([("Host".into(), "x".into())]),
            max_in_flight: Some(0),
            timeout: Some(Duration::ZERO),
            secret: Some(Secret::from_stored("short".into())),
            ..SubscriptionDraft::to("http://127.0.0.1/")
        };
        let fields = fields(&draft);
        for expected in ["target_url", "event_types[1]", "headers.Host", "max_in_flight", "timeout", "secret"]
        {
            assert!(fields.iter().any(|field| field == expected), "{expected} in {fields:?}");
        }
        assert!(fields.iter().any(|field| field.starts_with("filter")), "{fields:?}");
    }

    #[test]
    fn replacing_a_subscription_by_what_it_is_changes_nothing() {
        let draft = SubscriptionDraft {
            headers: BTreeMap::from([("Authorization".into(), "Bearer one".into())]),
            verify: Some(VerificationDraft {
                scheme: VerifyScheme::Github,
                header: None,
                secret: VerificationSecret::Given(Secret::from_stored("0123456789abcdef".into())),
            }),
            ..SubscriptionDraft::to("https://example.com/hook")
        };
        let stored = accept(&draft, &Tenant::default(), None, &rules()).unwrap();
        let again = accept(&SubscriptionDraft::of(&stored), &Tenant::default(), Some(&stored), &rules());
        assert_eq!(again.as_ref(), Ok(&stored));

        let mut masked = SubscriptionDraft::of(&stored);
        masked.headers.insert("Authorization".into(), MASK.into());
        if let Some(verify) = &mut masked.verify {
            verify.secret = VerificationSecret::Kept;
        }
        assert_eq!(accept(&masked, &Tenant::default(), Some(&stored), &rules()), Ok(stored));
    }

    #[test]
    fn a_mask_without_anything_stored_is_refused() {
        let draft = SubscriptionDraft {
            headers: BTreeMap::from([("authorization".into(), MASK.into())]),
            verify: Some(VerificationDraft {
                scheme: VerifyScheme::Hex,
                header: None,
                secret: VerificationSecret::Given(Secret::from_stored(MASK.into())),
            }),
            ..SubscriptionDraft::to("https://example.com/hook")
        };
        assert_eq!(fields(&draft), ["headers.authorization", "verify.secret"]);
    }
}
