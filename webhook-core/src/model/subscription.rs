use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Tenant;
use crate::id::SubscriptionId;
use crate::matching::{EventTypePattern, Filter};
use crate::retry::RetrySpec;
use crate::secret::Secret;
use crate::signature::{SignatureScheme, VerifyScheme};
use crate::time::Timestamp;

/// Who wants which events, and how they are sent there.
///
/// Matching is fixed when an event is published; everything else is as loaded before each attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// Its id, which is its lane's too.
    pub id: SubscriptionId,
    /// Whose it is. Never changes.
    pub tenant: Tenant,
    /// Where deliveries go. Checked by [`TargetRules`](crate::target::TargetRules) when written, and its
    /// addresses again at every dial.
    pub target_url: Url,
    /// A note for people.
    pub description: Option<String>,
    /// Which event types it takes; empty takes all.
    pub event_types: Vec<EventTypePattern>,
    /// A condition on the payload.
    pub filter: Option<Arc<Filter>>,
    /// Headers sent with every attempt, besides the product's own.
    pub headers: BTreeMap<String, String>,
    /// The user's own data, never interpreted.
    pub metadata: BTreeMap<String, String>,
    /// Whether its deliveries are sent or wait.
    pub status: SubscriptionStatus,
    /// Why it was disabled, when it is.
    pub disabled_reason: Option<DisabledReason>,
    /// Its own retry policy; else the builder's.
    pub retry: Option<RetrySpec>,
    /// Its own deadline for one exchange; else the builder's.
    pub timeout: Option<Duration>,
    /// Its own limit of attempts in flight, over all workers; else the builder's.
    pub max_in_flight: Option<u32>,
    /// At most so many attempts in a time.
    pub rate_limit: Option<RateLimit>,
    /// Whether deliveries with equal ordering keys go one at a time, in order.
    pub ordered: bool,
    /// How attempts are signed.
    pub signature: SignatureScheme,
    /// How the caller of ingest proves itself, in place of an API key.
    pub verify: Option<Verification>,
    /// Signing secrets, newest first; older ones sign until their overlap ends.
    pub secrets: Vec<ActiveSecret>,
    /// Counts every change, from 1.
    pub version: u64,
    /// When it was created, by the store's clock.
    pub created_at: Timestamp,
    /// When it was last changed, by the store's clock.
    pub updated_at: Timestamp,
}

/// Whether a subscription's deliveries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionStatus {
    /// They are sent.
    Active,
    /// They wait, because a person said so.
    Paused,
    /// They wait, because the target said or showed that it is gone. A paused one becomes this too, when an
    /// attempt that was on the wire meanwhile tells.
    Disabled,
}

impl SubscriptionStatus {
    /// The name in the API and in stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for SubscriptionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a subscription was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// The target answered 410.
    Gone,
    /// Nothing succeeded for too long.
    Failing,
}

impl DisabledReason {
    /// The name in the API and in stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

/// At most `requests` attempts in any time of `per`, smoothly: one every `per / requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many attempts, from 1 to 1,000,000.
    pub requests: u32,
    /// In how long, from one millisecond to a day.
    #[serde(with = "crate::units::serde_duration")]
    pub per: Duration,
}

impl RateLimit {
    /// The time between two attempts.
    #[must_use]
    pub fn gap(&self) -> Duration {
        self.per / self.requests.max(1)
    }
}

/// A secret that signs, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveSecret {
    /// The secret.
    pub secret: Secret,
    /// It no longer signs from this moment on; `None` for the newest.
    pub expires_at: Option<Timestamp>,
}

/// How the caller of ingest proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// What is compared.
    pub scheme: VerifyScheme,
    /// The header that carries the signature, when not the scheme's own.
    pub header: Option<String>,
    /// Its own secret; without one the subscription's signing secret is used.
    pub secret: Option<Secret>,
}

impl Subscription {
    /// The secrets that sign at `now`, newest first.
    pub fn signing_secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        self.secrets
            .iter()
            .filter(move |active| active.expires_at.is_none_or(|end| now < end))
            .map(|active| &active.secret)
    }
}
