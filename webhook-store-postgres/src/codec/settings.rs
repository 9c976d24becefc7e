//! The two documents of a subscription.
//!
//! What is queried has columns. The rest is one JSON document in the clear, and one that holds all that must
//! stay secret: signing secrets, the secret of `verify`, header values. The latter passes through [`seal`]
//! and [`open`], the one place where encryption at rest belongs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use url::Url;
use webhook_core::matching::{EventTypePattern, Filter};
use webhook_core::model::{
    ActiveSecret, DisabledReason, EventType, RateLimit, Subscription, SubscriptionStatus, Verification,
};
use webhook_core::retry::RetrySpec;
use webhook_core::secret::Secret;
use webhook_core::signature::{SignatureScheme, VerifyScheme};
use webhook_core::time::Timestamp;

use super::columns::{blob, moment, subscription_id, tenant, text, unsigned};
use crate::error::Fault;

/// A subscription's documents, ready to be stored.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) settings: String,
    pub(crate) secrets: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Settings {
    target_url: Url,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    event_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<DisabledReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetrySpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_micros: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate_requests: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate_per_micros: Option<u64>,
    #[serde(default)]
    ordered: bool,
    signature: SignatureScheme,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verify: Option<Verify>,
}

#[derive(Serialize, Deserialize)]
struct Verify {
    scheme: VerifyScheme,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Secrets {
    signing: Vec<Signing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verify: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Signing {
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

impl Document {
    pub(crate) fn of(subscription: &Subscription) -> Result<Self, Fault> {
        let s = subscription;
        let settings = Settings {
            target_url: s.target_url.clone(),
            description: s.description.clone(),
            event_types: s.event_types.iter().map(pattern_text).collect(),
            filter: s.filter.as_deref().map(filter_json),
            metadata: s.metadata.clone(),
            disabled_reason: s.disabled_reason,
            retry: s.retry.clone(),
            timeout_micros: s.timeout.map(micros),
            max_in_flight: s.max_in_flight,
            rate_requests: s.rate_limit.map(|rate| rate.requests),
            rate_per_micros: s.rate_limit.map(|rate| micros(rate.per)),
            ordered: s.ordered,
            signature: s.signature,
            verify: s
                .verify
                .as_ref()
                .map(|verify| Verify { scheme: verify.scheme, header: verify.header.clone() }),
        };
        let signing = |active: &ActiveSecret| Signing {
            secret: active.secret.expose().to_owned(),
            expires_at: active.expires_at.map(Timestamp::as_micros),
        };
        let secrets = Secrets {
            signing: s.secrets.iter().map(signing).collect(),
            verify: s
                .verify
                .as_ref()
                .and_then(|v| v.secret.as_ref())
                .map(|secret| secret.expose().to_owned()),
            headers: s.headers.clone(),
        };
        let settings = serde_json::to_string(&settings);
        let secrets = serde_json::to_vec(&secrets);
        match (settings, secrets) {
            (Ok(settings), Ok(secrets)) => Ok(Self { settings, secrets: seal(secrets) }),
            _ => Err(Fault::Defect("a subscription cannot be written as JSON")),
        }
    }
}

impl Document {
    /// What remains of a deleted one.
    pub(crate) fn without_secrets(subscription: &Subscription) -> Result<Self, Fault> {
        let mut bare = subscription.clone();
        bare.secrets.clear();
        bare.headers.clear();
        bare.verify = None;
        Self::of(&bare)
    }
}

/// A subscription, from a row of `subscriptions`.
pub(crate) fn subscription(row: &PgRow) -> Result<Arc<Subscription>, Fault> {
    let settings: Settings =
        serde_json::from_str(text(row, "settings")?).map_err(|error| Fault::corrupt("settings", error))?;
    // The parser's message could repeat a secret.
    let secrets: Secrets = serde_json::from_slice(&open(blob(row, "secrets")?))
        .map_err(|_| Fault::corrupt("secrets", "they are not what this version writes"))?;
    let active = |signing: Signing| ActiveSecret {
        secret: Secret::from_stored(signing.secret),
        expires_at: signing.expires_at.map(Timestamp::from_micros),
    };
    let verify_secret = secrets.verify.map(Secret::from_stored);
    Ok(Arc::new(Subscription {
        id: subscription_id(row, "id")?,
        tenant: tenant(row, "tenant")?,
        target_url: settings.target_url,
        description: settings.description,
        event_types: settings.event_types.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
        filter: settings.filter.as_ref().map(filter).transpose()?,
        headers: secrets.headers,
        metadata: settings.metadata,
        status: status(text(row, "status")?)?,
        disabled_reason: settings.disabled_reason,
        retry: settings.retry,
        timeout: settings.timeout_micros.map(Duration::from_micros),
        max_in_flight: settings.max_in_flight,
        rate_limit: match (settings.rate_requests, settings.rate_per_micros) {
            (Some(requests), Some(per)) => Some(RateLimit { requests, per: Duration::from_micros(per) }),
            _ => None,
        },
        ordered: settings.ordered,
        signature: settings.signature,
        verify: settings.verify.map(|verify| Verification {
            scheme: verify.scheme,
            header: verify.header,
            secret: verify_secret,
        }),
        secrets: secrets.signing.into_iter().map(active).collect(),
        version: unsigned(row, "version")?,
        created_at: moment(row, "created_at")?,
        updated_at: moment(row, "updated_at")?,
    }))
}

fn status(name: &str) -> Result<SubscriptionStatus, Fault> {
    [SubscriptionStatus::Active, SubscriptionStatus::Paused, SubscriptionStatus::Disabled]
        .into_iter()
        .find(|status| status.as_str() == name)
        .ok_or_else(|| Fault::corrupt("status", format!("{name:?} is no name for it")))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

// What depends on the form of core's matching types.

fn pattern_text(pattern: &EventTypePattern) -> String {
    pattern.as_str().to_owned()
}

fn pattern(text: &str) -> Result<EventTypePattern, Fault> {
    text.parse().map_err(|error| Fault::corrupt("event_types", error))
}

/// Whether a subscription with this pattern takes the event type.
pub(crate) fn takes(pattern: &EventTypePattern, event_type: &EventType) -> bool {
    pattern.matches(event_type.as_str())
}

fn filter_json(filter: &Filter) -> serde_json::Value {
    filter.as_json().clone()
}

fn filter(json: &serde_json::Value) -> Result<Arc<Filter>, Fault> {
    Filter::parse(json).map(Arc::new).map_err(|error| Fault::corrupt("filter", error))
}

// Encryption at rest.

/// What is stored in place of `clear`: the same, until there are keys.
fn seal(clear: Vec<u8>) -> Vec<u8> {
    clear
}

/// What [`seal`] was given.
fn open(sealed: &[u8]) -> Vec<u8> {
    sealed.to_vec()
}
