//! A subscription as a user writes it.

use serde_json::{Map, Value};
use webhook_core::model::RateLimit;
use webhook_core::retry::{RetryError, RetrySpec};
use webhook_core::secret::Secret;
use webhook_core::signature::VerifyScheme;
use webhook_core::{FieldError, SubscriptionDraft, VerificationDraft, VerificationSecret};

use crate::fields::Fields;
use crate::problem::Problem;

/// Fields that a user reads and does not write, `version` and `secret` apart, which have rules of their own.
pub(crate) const READ_ONLY: [&str; 6] =
    ["id", "tenant", "status", "disabled_reason", "created_at", "updated_at"];

/// Reads what can be written; read-only fields are gone from `body` by now. Fields that are left out have
/// their defaults. What is well formed is checked for its meaning by core.
pub(crate) fn read_draft(body: Map<String, Value>) -> Result<SubscriptionDraft, Problem> {
    let mut fields = Fields::new(body);
    let draft = SubscriptionDraft {
        target_url: fields.required("target_url"),
        description: fields.text("description"),
        event_types: fields.texts("event_types"),
        filter: fields.take("filter"),
        headers: fields.text_map("headers"),
        metadata: fields.text_map("metadata"),
        retry: retry(&mut fields),
        timeout: fields.duration("timeout"),
        max_in_flight: fields.number("max_in_flight"),
        rate_limit: rate_limit(&mut fields),
        ordered: fields.boolean("ordered").unwrap_or_default(),
        signature: fields.parsed("signature").unwrap_or_default(),
        verify: verify(&mut fields),
        secret: fields.text("secret").map(Secret::from_stored),
    };
    fields.finish().map(|()| draft)
}

fn retry(fields: &mut Fields) -> Option<RetrySpec> {
    let json = fields.take("retry")?;
    let refused = |error: RetryError| FieldError {
        target_not_allowed: error.is_unknown_field,
        ..FieldError::new(error.field, error.detail)
    };
    RetrySpec::from_json(&json).map_err(|error| fields.push(refused(error))).ok()
}

fn rate_limit(fields: &mut Fields) -> Option<RateLimit> {
    let mut rate = fields.object("rate_limit")?;
    for name in ["requests", "per"] {
        rate.demand(name);
    }
    let (requests, per) = (rate.number("requests"), rate.duration("per"));
    fields.finish_below(rate);
    Some(RateLimit { requests: requests?, per: per? })
}

fn verify(fields: &mut Fields) -> Option<VerificationDraft> {
    let mut verify = fields.object("verify")?;
    verify.demand("scheme");
    let scheme: Option<VerifyScheme> = verify.parsed("scheme");
    let header = verify.text("header");
    let secret = verify.text("secret").map(Secret::from_stored);
    let secret = secret.map_or(VerificationSecret::Kept, VerificationSecret::Given);
    fields.finish_below(verify);
    Some(VerificationDraft { scheme: scheme?, header, secret })
}
