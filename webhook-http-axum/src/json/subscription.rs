//! A subscription as it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;
use webhook_core::id::SubscriptionId;
use webhook_core::matching::EventTypePattern;
use webhook_core::model::{
    DisabledReason, RateLimit, Subscription, SubscriptionStatus, Tenant, Verification,
};
use webhook_core::retry::RetrySpec;
use webhook_core::secret::Secret;
use webhook_core::signature::{SignatureScheme, VerifyScheme};
use webhook_core::target::{MASK, is_masked_header};
use webhook_core::time::Timestamp;
use webhook_core::units::serde_duration;

/// Every field, nulls included, and no secret: values of headers that carry credentials are masked, and
/// `verify` is without its own.
#[derive(Debug, Serialize)]
pub(crate) struct SubscriptionJson<'a> {
    id: SubscriptionId,
    tenant: &'a Tenant,
    target_url: &'a str,
    description: Option<&'a str>,
    #[serde(serialize_with = "patterns")]
    event_types: &'a [EventTypePattern],
    filter: Option<&'a Value>,
    headers: BTreeMap<&'a str, &'a str>,
    metadata: &'a BTreeMap<String, String>,
    status: SubscriptionStatus,
    disabled_reason: Option<DisabledReason>,
    retry: Option<&'a RetrySpec>,
    #[serde(with = "serde_duration::option")]
    timeout: Option<Duration>,
    max_in_flight: Option<u32>,
    rate_limit: Option<RateLimit>,
    ordered: bool,
    signature: SignatureScheme,
    verify: Option<VerifyJson<'a>>,
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct VerifyJson<'a> {
    scheme: VerifyScheme,
    header: Option<&'a str>,
}

fn patterns<S: Serializer>(patterns: &[EventTypePattern], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(patterns.iter().map(ToString::to_string))
}

impl<'a> SubscriptionJson<'a> {
    pub(crate) fn of(subscription: &'a Subscription) -> Self {
        let masked = |(name, value): (&'a String, &'a String)| {
            (name.as_str(), if is_masked_header(name) { MASK } else { value.as_str() })
        };
        let verify =
            |verify: &'a Verification| VerifyJson { scheme: verify.scheme, header: verify.header.as_deref() };
        Self {
            id: subscription.id,
            tenant: &subscription.tenant,
            target_url: subscription.target_url.as_str(),
            description: subscription.description.as_deref(),
            event_types: &subscription.event_types,
            filter: subscription.filter.as_ref().map(|filter| filter.as_json()),
            headers: subscription.headers.iter().map(masked).collect(),
            metadata: &subscription.metadata,
            status: subscription.status,
            disabled_reason: subscription.disabled_reason,
            retry: subscription.retry.as_ref(),
            timeout: subscription.timeout,
            max_in_flight: subscription.max_in_flight,
            rate_limit: subscription.rate_limit,
            ordered: subscription.ordered,
            signature: subscription.signature,
            verify: subscription.verify.as_ref().map(verify),
            version: subscription.version,
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
        }
    }
}

/// The answer to a creation, the only representation with the secret in it.
#[derive(Serialize)]
pub(crate) struct SubscriptionWithSecret<'a> {
    #[serde(flatten)]
    subscription: SubscriptionJson<'a>,
    secret: &'a str,
}

impl<'a> SubscriptionWithSecret<'a> {
    pub(crate) fn of(subscription: &'a Subscription, secret: &'a Secret) -> Self {
        Self { subscription: SubscriptionJson::of(subscription), secret: secret.expose() }
    }
}
