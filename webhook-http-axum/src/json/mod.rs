//! What goes over the wire, in both directions: representations exactly as the API's page has them, and
//! drafts read from what users write.

mod attempt;
mod delivery;
mod event;
mod event_draft;
mod inbox;
mod purge;
mod replay;
mod stats;
mod subscription;
mod subscription_draft;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

pub(crate) use attempt::AttemptJson;
pub(crate) use delivery::DeliveryJson;
pub(crate) use event::{DeliveryRef, EventJson, MatchJson, PublishedJson};
pub(crate) use event_draft::EventDraft;
pub(crate) use inbox::RejectedJson;
pub(crate) use purge::PurgedJson;
pub(crate) use replay::{ReplayJson, ReplayProgressJson};
pub(crate) use stats::StatsJson;
pub(crate) use subscription::{SubscriptionJson, SubscriptionWithSecret};
pub(crate) use subscription_draft::{READ_ONLY, read_draft};

/// An answer in JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = (status, bytes).into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            crate::problem::Problem::internal().into_response()
        }
    }
}
