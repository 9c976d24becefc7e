//! Why a delivery waits, where its row does not say.
//!
//! A reason that a store shows is kept. For the rest this looks at what is known without the queue: the
//! subscription is paused or disabled, or the event's `deliver_at` lies ahead and nothing was tried. Each
//! subscription and each event of a page is looked up once, and only when it may be the reason.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use webhook_core::SubscriptionError;
use webhook_core::id::{EventId, SubscriptionId};
use webhook_core::model::{Delivery, StatusReason, SubscriptionStatus};
use webhook_core::time::Timestamp;

use crate::problem::Problem;
use crate::state::App;

/// Fills in the reasons of a page.
pub(crate) async fn fill(app: &App, deliveries: &mut [Delivery]) -> Result<(), Problem> {
    let held = held(app, deliveries).await?;
    for delivery in deliveries.iter_mut().filter(|delivery| may_wait(delivery)) {
        delivery.state.reason = held.get(&delivery.subscription_id).copied();
    }
    let now = app.options.clock.now();
    let scheduled = scheduled(app, deliveries, now).await?;
    for delivery in deliveries.iter_mut() {
        if is_untried_and_ahead(delivery, now) && scheduled.contains(&delivery.event_id) {
            delivery.state.reason = Some(StatusReason::Scheduled);
        }
    }
    Ok(())
}

fn may_wait(delivery: &Delivery) -> bool {
    delivery.state.reason.is_none() && !delivery.state.status.is_finished()
}

fn is_untried_and_ahead(delivery: &Delivery, now: Timestamp) -> bool {
    may_wait(delivery)
        && delivery.state.attempts == 0
        && delivery.next_attempt_at.is_some_and(|next| next > now)
}

async fn held(app: &App, deliveries: &[Delivery]) -> Result<BTreeMap<SubscriptionId, StatusReason>, Problem> {
    let ids: BTreeSet<_> = deliveries
        .iter()
        .filter(|delivery| may_wait(delivery))
        .map(|delivery| delivery.subscription_id)
        .collect();
    let look = async |id: SubscriptionId| match app.webhooks.subscriptions().get_any(id).await {
        Ok(found) => Ok(match found.status {
            SubscriptionStatus::Active => None,
            SubscriptionStatus::Paused => Some((id, StatusReason::Paused)),
            SubscriptionStatus::Disabled => Some((id, StatusReason::Disabled)),
        }),
        Err(SubscriptionError::NotFound) => Ok(None),
        Err(error) => Err(Problem::from(error)),
    };
    Ok(try_join_all(ids.into_iter().map(look)).await?.into_iter().flatten().collect())
}

async fn scheduled(app: &App, deliveries: &[Delivery], now: Timestamp) -> Result<BTreeSet<EventId>, Problem> {
    let ids: BTreeSet<_> = deliveries
        .iter()
        .filter(|delivery| is_untried_and_ahead(delivery, now))
        .map(|delivery| delivery.event_id)
        .collect();
    let look = async |id: EventId| {
        let event = app.history.event(None, id).await?;
        let ahead = event.and_then(|event| event.deliver_at).is_some_and(|at| at > now);
        Ok::<_, Problem>(ahead.then_some(id))
    };
    Ok(try_join_all(ids.into_iter().map(look)).await?.into_iter().flatten().collect())
}
