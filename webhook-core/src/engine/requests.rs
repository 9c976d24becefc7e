//! What a person asks of one delivery or of one event's: an attempt now, a new chain, its end.
//!
//! The lifecycle decides on what is stored, and the store takes the decision only if that has not changed; if
//! it has, the decision is made anew. So a request and a result that meet lose neither.

use std::sync::Arc;
use std::time::Duration;

use super::gathered::Happened;
use super::handle::Inner;
use crate::error::BackendError;
use crate::id::{DeliveryId, EventId, SubscriptionId};
use crate::lifecycle::{self, Input, Next, Refused};
use crate::matching::LazyJson;
use crate::model::{DeliveryStatus, StatusReason, SubscriptionStatus, Tenant};
use crate::queue::{Enqueued, NewJob};
use crate::retry;
use crate::store::{Added, Load, Loaded, NewDelivery, OfEvent, Record, Recorded};

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
    /// It has not finished, so there is nothing to reopen.
    #[error("the delivery has not finished")]
    Unfinished,
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
    Retry {
        force: bool,
    },
    /// A new chain, whatever the end was; also while the subscription is paused or disabled, to wait there.
    Reopen,
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
            Ask::Reopen if loaded.subscription_version.is_none() => {
                return Err(RequestError::NotActive("deleted"));
            }
            Ask::Reopen => Input::Reopen,
        };
        // No request consults the policy: a new chain starts at once.
        let policy = &*inner.configs.defaults.policy;
        let step = lifecycle::step(&loaded.state, &input, policy, 0.0).map_err(|refused| match refused {
            Refused::Finished => RequestError::Finished,
            Refused::Unfinished => RequestError::Unfinished,
        })?;
        let next = step.next;
        let new_chain = if step.state.chain == loaded.state.chain {
            None
        } else {
            Some(give_up_after(inner, loaded.subscription_id, loaded.subscription_version).await?)
        };
        let ended = step.state.status;
        let record = Record {
            id,
            revision: loaded.state.revision,
            lease: None,
            attempts: Vec::new(),
            state: step.state,
            next,
            new_chain,
        };
        match inner.store.record(&[record]).await?.into_iter().next() {
            Some(Recorded::Applied { released, .. }) => {
                if ask == Ask::Cancel {
                    let happened = Happened { ended: Some((ended, 1)), ..Happened::default() };
                    inner.counting().happened(tenant, loaded.subscription_id, happened);
                }
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

pub(super) async fn cancel_event(
    inner: &Arc<Inner>,
    tenant: &Tenant,
    event: EventId,
) -> Result<u64, RequestError> {
    let found = inner.store.of_event(tenant, event).await?.ok_or(RequestError::NotFound)?;
    let mut cancelled = 0;
    for delivery in found.deliveries.iter().filter(|delivery| !delivery.state.status.is_finished()) {
        match ask(inner, tenant, delivery.id, Ask::Cancel).await {
            Ok(()) => cancelled += 1,
            // It ended by itself meanwhile, or was purged.
            Err(RequestError::Finished | RequestError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    if cancelled == 0 { Err(RequestError::Finished) } else { Ok(cancelled) }
}

pub(super) async fn replay_event(
    inner: &Arc<Inner>,
    tenant: &Tenant,
    event: EventId,
    statuses: &[DeliveryStatus],
) -> Result<Vec<(DeliveryId, SubscriptionId)>, RequestError> {
    let found = inner.store.of_event(tenant, event).await?.ok_or(RequestError::NotFound)?;
    let mut on_their_way = Vec::new();
    for delivery in &found.deliveries {
        let status = delivery.state.status;
        if !status.is_finished() || !(statuses.is_empty() || statuses.contains(&status)) {
            continue;
        }
        match ask(inner, tenant, delivery.id, Ask::Reopen).await {
            Ok(()) => on_their_way.push((delivery.id, delivery.subscription_id)),
            // Its subscription is deleted, or somebody else has reopened it meanwhile.
            Err(RequestError::NotActive(_) | RequestError::Unfinished | RequestError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    on_their_way.extend(add_missing(inner, &found).await?);
    Ok(on_their_way)
}

/// Gives the event to the subscriptions that match now and had no delivery of it.
async fn add_missing(
    inner: &Arc<Inner>,
    found: &OfEvent,
) -> Result<Vec<(DeliveryId, SubscriptionId)>, RequestError> {
    let event = &found.event;
    for _ in 0..TRIES {
        let config = inner.configs.of(&*inner.store, &event.tenant, inner.clock.now()).await?;
        let matches = config.matcher.matches(event.event_type.as_str(), &LazyJson::new(&event.payload));
        let missing: Vec<NewDelivery> = matches
            .into_iter()
            .filter(|endpoint| event.only.is_none_or(|only| only == endpoint.subscription.id))
            .filter(|endpoint| {
                found.deliveries.iter().all(|known| known.subscription_id != endpoint.subscription.id)
            })
            .map(|endpoint| NewDelivery {
                id: DeliveryId::new(),
                subscription_id: endpoint.subscription.id,
                ordered: endpoint.subscription.ordered,
                give_up_after: endpoint.give_up_after,
            })
            .collect();
        // Asked even if nothing is missing: only the store knows whether this configuration is the newest
        // (promise 10).
        match inner.store.add_deliveries(event.id, &missing, config.version).await? {
            Added::Stored { added, waiting } => {
                let stored: Vec<_> = missing
                    .iter()
                    .filter(|new| added.contains(&new.id))
                    .map(|new| (new.id, new.subscription_id))
                    .collect();
                let subscriptions = stored.iter().map(|(_, subscription)| *subscription);
                inner.counting().added(&event.tenant, subscriptions);
                if !inner.own_queue {
                    let heads: Vec<_> =
                        stored.iter().filter(|(id, _)| !waiting.contains(id)).copied().collect();
                    super::recorder::enqueue(inner, &heads).await;
                }
                return Ok(stored);
            }
            Added::Outdated => inner.configs.outdated(&event.tenant, config.version),
            Added::Gone => return Err(RequestError::NotFound),
        }
    }
    Err(RequestError::Conflict)
}

/// How long a chain that starts now may last by the subscription's policy, or by the engine's own.
async fn give_up_after(
    inner: &Inner,
    id: SubscriptionId,
    version: Option<u64>,
) -> Result<Duration, RequestError> {
    let wanted: Vec<_> = version.map(|version| (id, version)).into_iter().collect();
    let endpoints = inner.configs.endpoints(&*inner.store, &wanted, inner.clock.now()).await?;
    let policy = &*inner.configs.defaults.policy;
    Ok(endpoints.get(&id).map_or_else(|| retry::give_up_after(policy), |endpoint| endpoint.give_up_after))
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
