//! What a person asks of one delivery: an attempt now, a new chain, its end.
//!
//! The lifecycle decides on what is stored, and the store takes the decision only if that has not changed; if
//! it has, the decision is made anew. So a request and a result that meet lose neither.

use std::sync::Arc;
use std::time::Duration;

use super::handle::Inner;
use crate::error::BackendError;
use crate::id::{DeliveryId, SubscriptionId};
use crate::lifecycle::{self, Input, Next};
use crate::model::{StatusReason, SubscriptionStatus, Tenant};
use crate::queue::{Enqueued, NewJob};
use crate::store::{Load, Loaded, Record, Recorded};

/// Why a request was not granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no such delivery in this tenant.
    #[error("there is no such delivery")]
    NotFound,
    /// It has finished in a way that does not allow the request.
    #[error("the delivery has finished")]
    Finished,
    /// Its subscription is paused, disabled or deleted.
    #[error("the delivery's subscription is {0}: nothing is sent to it")]
    NotActive(&'static str),
    /// It changed so fast that no decision held.
    #[error("the delivery kept changing; try again")]
    Conflict,
    /// The store does not answer, or failed.
    #[error("the store did not take the request")]
    Store(#[from] BackendError),
}

/// How often a decision is made anew because the delivery changed in between.
const TRIES: usize = 16;

/// What is asked of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Retry { force: bool },
    Cancel,
}

pub(super) async fn ask(
    inner: &Arc<Inner>,
    tenant: &Tenant,
    id: DeliveryId,
    ask: Ask,
) -> Result<(), RequestError> {
    for _ in 0..TRIES {
        let load = Load { id, unsettled: Vec::new() };
        let loaded = inner.store.load(&[load]).await?.into_iter().next().flatten();
        let loaded = loaded.filter(|loaded| loaded.event.tenant == *tenant).ok_or(RequestError::NotFound)?;
        let input = match ask {
            Ask::Cancel => Input::Cancel(StatusReason::CancelledByUser),
            Ask::Retry { force } => {
                check_active(inner, loaded.subscription_id).await?;
                Input::Retry { force }
            }
        };
        // No request consults the policy: a new chain starts at once.
        let policy = &*inner.configs.defaults.policy;
        let step = lifecycle::step(&loaded.state, &input, policy, 0.0).map_err(|_| RequestError::Finished)?;
        let next = step.next;
        let record = Record {
            id,
            revision: loaded.state.revision,
            lease: None,
            attempts: Vec::new(),
            state: step.state,
            next,
        };
        match inner.store.record(&[record]).await?.into_iter().next() {
            Some(Recorded::Applied { released, .. }) => {
                if !inner.own_queue {
                    tell_queue(inner, id, &loaded, next, &released).await;
                }
                return Ok(());
            }
            Some(Recorded::Gone) => return Err(RequestError::NotFound),
            Some(Recorded::Stale { .. }) | None => {}
        }
    }
    Err(RequestError::Conflict)
}

async fn check_active(inner: &Inner, id: SubscriptionId) -> Result<(), RequestError> {
    let found = inner.store.get(&[id]).await?.into_iter().next().flatten();
    match found.map(|subscription| subscription.status) {
        Some(SubscriptionStatus::Active) => Ok(()),
        Some(held) => Err(RequestError::NotActive(held.as_str())),
        None => Err(RequestError::NotActive("deleted")),
    }
}

/// Tells a queue apart from the store. What it does not take now, the reconciler and the next load set right.
async fn tell_queue(
    inner: &Inner,
    id: DeliveryId,
    loaded: &Loaded,
    next: Next,
    released: &[(DeliveryId, SubscriptionId)],
) {
    let job = |id, lane, urgent| NewJob { id, lane, wait: Duration::ZERO, lane_version: 0, urgent };
    let mut jobs: Vec<_> = released.iter().map(|(id, lane)| job(*id, *lane, false)).collect();
    let removed = match next {
        Next::Never => inner.queue.remove(&[id]).await,
        Next::After(_) | Next::AsBefore => {
            if !loaded.waiting {
                jobs.push(job(id, loaded.subscription_id, true));
            }
            Ok(())
        }
    };
    let enqueued = if jobs.is_empty() { Ok(Vec::new()) } else { inner.queue.enqueue(&jobs, None).await };
    let taken = enqueued.is_ok_and(|outcomes| !outcomes.contains(&Enqueued::LaneBehind));
    if removed.is_err() || !taken {
        inner.reconcile_now.notify_one();
    }
}
