//! Changing and deleting subscriptions.
//!
//! Every change is made on the version that was read for it, so that a concurrent one is never overwritten
//! unseen: with a version from the caller (`If-Match`, or `version` in the body) the other change wins and
//! the caller gets 412; without one the change is made again on what is stored by then.
//!
//! A patch is applied to the subscription as it is read, with its masks, and the result is taken as a
//! replacement: a mask keeps what is stored, on both ways.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use webhook_core::id::SubscriptionId;
use webhook_core::model::Subscription;
use webhook_core::secret::Secret;
use webhook_core::{FieldError, SubscriptionDraft, SubscriptionError, VerificationSecret};

use super::subscriptions::{BODY, show};
use crate::access::Caller;
use crate::body;
use crate::json::{READ_ONLY, SubscriptionJson, read_draft};
use crate::merge::merge;
use crate::params::{Id, Params};
use crate::precondition::Precondition;
use crate::problem::Problem;
use crate::state::Shared;

/// How often a change without a version is made again because somebody else was faster.
const TRIES: usize = 8;

pub(super) async fn replace(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let change = Change::read(app, &caller, &params, id, &headers)?;
    body::expect_type(&headers, &[body::JSON])?;
    let body = body::object(&body::read(&headers, body, BODY).await?)?;
    change.make(&body, |body, _| read_draft(body)).await
}

pub(super) async fn patch(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let change = Change::read(app, &caller, &params, id, &headers)?;
    body::expect_type(&headers, &[body::JSON, body::MERGE_PATCH])?;
    let patch = body::object(&body::read(&headers, body, BODY).await?)?;
    change
        .make(&patch, |patch, mut whole| {
            for name in READ_ONLY.into_iter().chain(["version"]) {
                whole.remove(name);
            }
            let patch = in_stored_spelling(patch, &whole);
            replace_retry_of_another_kind(&mut whole, &patch);
            // Not among what is read, so there is nothing that a merge could remove.
            let clears_secret =
                patch.get("verify").and_then(|verify| verify.get("secret")) == Some(&Value::Null);
            merge(&mut whole, patch);
            let mut draft = read_draft(whole)?;
            if let Some(verify) = draft.verify.as_mut().filter(|_| clears_secret) {
                verify.secret = VerificationSecret::Subscriptions;
            }
            Ok(draft)
        })
        .await
}

/// A retry policy is of one of two kinds, so a patch that names one means it in place of the other, which a merge would
/// leave beside it.
fn replace_retry_of_another_kind(stored: &mut Map<String, Value>, patch: &Map<String, Value>) {
    let names = |map: &Map<String, Value>, kind: &str| {
        map.get("retry").and_then(|retry| retry.get(kind)).is_some_and(|value| !value.is_null())
    };
    for (kind, other) in [("schedule", "exponential"), ("exponential", "schedule")] {
        if names(patch, kind) && !names(patch, other) && names(stored, other) {
            stored.remove("retry");
        }
    }
}

/// Header names are the same in any case, keys of JSON are not: names that are stored are spelled as they
/// are stored, so that `null` removes what it is meant for.
fn in_stored_spelling(mut patch: Map<String, Value>, stored: &Map<String, Value>) -> Map<String, Value> {
    if let (Some(Value::Object(patched)), Some(Value::Object(stored))) =
        (patch.get_mut("headers"), stored.get("headers"))
    {
        *patched = std::mem::take(patched)
            .into_iter()
            .map(|(name, value)| {
                let known = stored.keys().find(|known| known.eq_ignore_ascii_case(&name));
                (known.cloned().unwrap_or(name), value)
            })
            .collect();
    }
    patch
}

pub(super) async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let change = Change::read(app, &caller, &params, id, &headers)?;
    let subscriptions = change.app.webhooks.subscriptions();
    let expected = if change.precondition.names_a_version() {
        let version = subscriptions.get(&change.tenant, id).await?.version;
        change.precondition.check(version)?;
        Some(version)
    } else {
        None
    };
    subscriptions.delete(&change.tenant, id, expected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A change to one subscription that a request asks for.
struct Change {
    app: Shared,
    tenant: webhook_core::model::Tenant,
    id: SubscriptionId,
    precondition: Precondition,
}

impl Change {
    fn read(
        app: Shared,
        caller: &Caller,
        params: &Params,
        id: SubscriptionId,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        params.only(&[])?;
        let tenant = caller.tenant(params)?;
        Ok(Self { app, tenant, id, precondition: Precondition::read(headers)? })
    }

    /// Makes it: `draft` gets the body without what is read-only, and the subscription as it is read.
    async fn make(
        self,
        body: &Map<String, Value>,
        draft: impl Fn(Map<String, Value>, Map<String, Value>) -> Result<SubscriptionDraft, Problem>,
    ) -> Result<Response, Problem> {
        let subscriptions = self.app.webhooks.subscriptions();
        for _ in 0..TRIES {
            let stored = subscriptions.get(&self.tenant, self.id).await?;
            self.precondition.check(stored.version)?;
            let mut body = body.clone();
            let whole = representation(&stored)?;
            let names_a_version = take_read_only(&mut body, &whole, &stored)?;
            let draft = draft(body, whole)?;
            match subscriptions.replace(&self.tenant, self.id, &draft, Some(stored.version)).await {
                Ok(changed) => return Ok(show(&changed)),
                Err(SubscriptionError::VersionMismatch { .. })
                    if !names_a_version && !self.precondition.names_a_version() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::kept_changing())
    }
}

fn representation(stored: &Subscription) -> Result<Map<String, Value>, Problem> {
    match serde_json::to_value(SubscriptionJson::of(stored)) {
        Ok(Value::Object(map)) => Ok(map),
        // Without what was written, which holds the values of headers.
        other => {
            let error = other.err().map(|error| error.to_string());
            tracing::error!(error, "a subscription could not be written as a JSON object");
            Err(Problem::internal())
        }
    }
}

/// Takes read-only fields out, if they are equal to what is stored. Another version is 412, ahead of all
/// else: whoever sends back an old representation differs in more. Tells whether a version was given.
fn take_read_only(
    body: &mut Map<String, Value>,
    whole: &Map<String, Value>,
    stored: &Subscription,
) -> Result<bool, Problem> {
    let version = body.remove("version");
    match version.as_ref().map(Value::as_u64) {
        None => {}
        Some(None) => return Err(Problem::field("version", "expected the version that was read")),
        Some(Some(version)) if version == stored.version => {}
        Some(Some(_)) => return Err(Problem::version_mismatch(stored.version)),
    }
    let mut errors: Vec<_> = READ_ONLY
        .into_iter()
        .filter(|name| body.remove(*name).is_some_and(|given| whole.get(*name) != Some(&given)))
        .map(|name| FieldError::new(name, "read-only, and not what is stored; leave it out"))
        .collect();
    if let Some(given) = body.remove("secret") {
        let same = given.as_str().map(|text| Secret::from_stored(text.to_owned()));
        if same.as_ref() != stored.secrets.first().map(|newest| &newest.secret) {
            errors.push(FieldError::new("secret", "read-only, and not what is stored; rotate it instead"));
        }
    }
    if errors.is_empty() { Ok(version.is_some()) } else { Err(Problem::fields(errors)) }
}
