//! Why a delivery waits, where its row does not say.
//!
//! A reason that a store shows is kept: what waits behind another (`ordered`), only the store knows. For the
//! rest this looks, in this order, at the subscription (paused, disabled), at the event (its `deliver_at` lies
//! ahead and nothing was tried), and for what is due at the lane (parked, waiting for its rate). Each is looked
//! up once for a page, and only when it may be the reason.
//!
//! The queue alone knows its lanes. While it is away, or has lost its memory, such a wait has no reason: what
//! people look at never fails because of the queue.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use webhook_core::SubscriptionError;
use webhook_core::id::{EventId, LaneId, SubscriptionId};
use webhook_core::model::{Delivery, Request, StatusReason, SubscriptionStatus};
use webhook_core::queue::LaneState;
use webhook_core::time::Timestamp;

use crate::problem::Problem;
use crate::state::App;

/// Fills in the reasons of a page.
pub(crate) async fn fill(app: &App, deliveries: &mut [Delivery]) -> Result<(), Problem> {
    let statuses = statuses(app, deliveries).await?;
    for delivery in deliveries.iter_mut().filter(|delivery| may_wait(delivery)) {
        delivery.state.reason = match statuses.get(&delivery.subscription_id) {
            Some(SubscriptionStatus::Paused) => Some(StatusReason::Paused),
            Some(SubscriptionStatus::Disabled) => Some(StatusReason::Disabled),
            Some(SubscriptionStatus::Active) | None => None,
        };
    }
    let now = app.options.clock.now();
    let scheduled = scheduled(app, deliveries, now).await?;
    for delivery in deliveries.iter_mut() {
        if is_untried_and_ahead(delivery, now) && scheduled.contains(&delivery.event_id) {
            delivery.state.reason = Some(StatusReason::Scheduled);
        }
    }
    // One whose subscription is deleted waits only for its cancellation.
    let may_be_held = |delivery: &Delivery| {
        is_due(delivery, now) && statuses.get(&delivery.subscription_id) == Some(&SubscriptionStatus::Active)
    };
    let lanes = lanes(app, deliveries.iter().filter(|delivery| may_be_held(delivery))).await;
    for delivery in deliveries.iter_mut().filter(|delivery| may_be_held(delivery)) {
        let lane = lanes.get(&delivery.subscription_id);
        delivery.state.reason = lane.and_then(|lane| held(lane, delivery.state.request));
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

fn is_due(delivery: &Delivery, now: Timestamp) -> bool {
    may_wait(delivery) && delivery.next_attempt_at.is_some_and(|next| next <= now)
}

/// What holds a due delivery of this lane back. An attempt that a person asked for does not wait for parking
/// to end, only for the rate.
fn held(lane: &LaneState, request: Option<Request>) -> Option<StatusReason> {
    let parked = lane.parked_for.filter(|_| request != Some(Request::Retry));
    match (parked, lane.rate_limited_for) {
        (None, None) => None,
        (parked, rate) if parked >= rate => Some(StatusReason::Parked),
        _ => Some(StatusReason::RateLimited),
    }
}

/// The statuses of the subscriptions that still exist.
async fn statuses(
    app: &App,
    deliveries: &[Delivery],
) -> Result<BTreeMap<SubscriptionId, SubscriptionStatus>, Problem> {
    let ids: BTreeSet<_> = deliveries
        .iter()
        .filter(|delivery| may_wait(delivery))
        .map(|delivery| delivery.subscription_id)
        .collect();
    let look = async |id: SubscriptionId| match app.webhooks.subscriptions().get_any(id).await {
        Ok(found) => Ok(Some((id, found.status))),
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

/// How the lanes of these stand, as far as the queue knows and says.
async fn lanes<'a>(app: &App, deliveries: impl Iterator<Item = &'a Delivery>) -> BTreeMap<LaneId, LaneState> {
    let ids: BTreeSet<LaneId> = deliveries.map(|delivery| delivery.subscription_id).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    if ids.is_empty() {
        return BTreeMap::new();
    }
    match app.webhooks.lane_states(&ids).await {
        Ok(states) => ids.into_iter().zip(states).filter_map(|(id, state)| Some((id, state?))).collect(),
        Err(error) => {
            tracing::debug!(%error, "the queue does not say why deliveries wait");
            BTreeMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use webhook_core::lane::Health;

    use super::*;

    fn lane(parked: Option<u64>, rate: Option<u64>) -> LaneState {
        LaneState {
            version: 1,
            health: Health::default(),
            in_flight: 0,
            parked_for: parked.map(Duration::from_secs),
            rate_limited_for: rate.map(Duration::from_secs),
            hold: None,
        }
    }

    #[test]
    fn a_lane_is_held_by_what_ends_last() {
        for (parked, rate, expected) in [
            (None, None, None),
            (Some(1), None, Some(StatusReason::Parked)),
            (None, Some(1), Some(StatusReason::RateLimited)),
            (Some(2), Some(1), Some(StatusReason::Parked)),
            (Some(1), Some(2), Some(StatusReason::RateLimited)),
        ] {
            assert_eq!(held(&lane(parked, rate), None), expected, "{parked:?} {rate:?}");
            assert_eq!(held(&lane(parked, rate), Some(Request::Reopen)), expected, "{parked:?} {rate:?}");
        }
    }

    #[test]
    fn an_attempt_that_a_person_asked_for_waits_for_the_rate_alone() {
        let asked = Some(Request::Retry);
        assert_eq!(held(&lane(Some(2), None), asked), None);
        assert_eq!(held(&lane(Some(2), Some(1)), asked), Some(StatusReason::RateLimited));
    }
}
