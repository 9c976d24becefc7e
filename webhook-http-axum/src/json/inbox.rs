//! An event that was published inside a transaction and could not be.

use serde::Serialize;
use webhook_core::id::EventId;
use webhook_core::store::RejectedEvent;
use webhook_core::time::Timestamp;

/// Nothing of it was checked, so tenant and type are texts that may be neither.
#[derive(Debug, Serialize)]
pub(crate) struct RejectedJson<'a> {
    id: EventId,
    tenant: &'a str,
    event_type: &'a str,
    problem: &'a str,
    created_at: Timestamp,
}

impl<'a> RejectedJson<'a> {
    pub(crate) fn of(rejected: &'a RejectedEvent) -> Self {
        Self {
            id: rejected.id,
            tenant: &rejected.tenant,
            event_type: &rejected.event_type,
            problem: &rejected.problem,
            created_at: rejected.created_at,
        }
    }
}
