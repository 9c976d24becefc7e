//! Giving up: what of a lane may be, and what is unfinished for too long.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::id::DeliveryId;
use webhook_core::lifecycle::Input;
use webhook_core::model::{DeliveryStatus, Event, Outcome, StatusReason, Subscription, SubscriptionStatus};
use webhook_core::store::{Ended, Expire, Expired, Inserted, Record};

use crate::sample::{Desk, asked, event};
use crate::{Fixture, StoreFixture};

fn units<F: Fixture>(count: u32) -> Duration {
    F::UNIT * count
}

/// Publishes to one subscription. Its first chain may be given up after so long.
async fn publish<F: StoreFixture>(
    desk: &Desk<'_, F>,
    event: Event,
    subscription: &Arc<Subscription>,
    give_up_after: Duration,
) -> DeliveryId {
    let mut insert = desk.matched(event, std::slice::from_ref(subscription)).await;
    insert.deliveries[0].give_up_after = give_up_after;
    assert!(matches!(desk.insert(&insert).await, Inserted::Stored { .. }));
    insert.deliveries[0].id
}

/// How many ended.
async fn count<F: StoreFixture>(desk: &Desk<'_, F>, which: Expire) -> u64 {
    Ended::total(&expire(desk, which).await.ended)
}

fn of(subscription: &Subscription, count: u64) -> Vec<Ended> {
    let (tenant, subscription_id) = (subscription.tenant.clone(), subscription.id);
    vec![Ended { tenant, subscription_id, count }]
}

async fn expire<F: StoreFixture>(desk: &Desk<'_, F>, which: Expire) -> Expired {
    desk.store.expire(which, 100).await.unwrap()
}

async fn assert_expired<F: StoreFixture>(desk: &Desk<'_, F>, id: DeliveryId) {
    let shown = desk.delivery(id).await;
    let end = (shown.state.status, shown.state.reason, shown.next_attempt_at);
    assert_eq!(end, (DeliveryStatus::Exhausted, Some(StatusReason::Expired), None));
    assert!(shown.finished_at.is_some());
}

/// Its own and no other lane's; tried or not; what may be given up and nothing else.
pub async fn what_may_be_given_up_of_a_lane_expires<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (hopeless, other) = (desk.subscribe().await, desk.subscribe().await);
    let untried = publish(&desk, event(), &hopeless, units::<F>(4)).await;
    let tried = publish(&desk, event(), &hopeless, units::<F>(4)).await;
    let kept = publish(&desk, event(), &hopeless, units::<F>(3600)).await;
    let elsewhere = publish(&desk, event(), &other, units::<F>(4)).await;
    desk.attempt(tried, Outcome::Failed).await;
    let revision = desk.load(untried).await.state.revision;
    let lane = Expire::Lane(hopeless.id);
    desk.pass(2).await;
    assert_eq!(expire(&desk, lane).await, Expired::default(), "it is too early");
    desk.pass(2).await;
    assert_eq!(expire(&desk, lane).await, Expired { ended: of(&hopeless, 2), released: vec![] });
    assert_expired(&desk, untried).await;
    assert_expired(&desk, tried).await;
    assert!(desk.load(untried).await.state.revision > revision, "a committed change raises the revision");
    assert_eq!((desk.status(tried).await, desk.attempts(tried).await.len()), (DeliveryStatus::Exhausted, 1));
    for id in [kept, elsewhere] {
        assert_eq!(desk.status(id).await, DeliveryStatus::Pending);
    }
    assert_eq!(expire(&desk, lane).await, Expired::default(), "a repeat finds nothing");
}

/// Of any lane, held ones too.
pub async fn what_is_unfinished_for_too_long_expires<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second) = (desk.subscribe().await, desk.subscribe().await);
    let old = [desk.publish(&first).await, desk.publish(&second).await];
    let paused = Subscription { status: SubscriptionStatus::Paused, ..(*second).clone() };
    desk.store.update(&paused, 1).await.unwrap();
    let old_age = Expire::OlderThan(units::<F>(6));
    desk.pass(3).await;
    assert_eq!(count(&desk, old_age).await, 0, "it is too early");
    desk.pass(4).await;
    let young = desk.publish(&first).await;
    assert_eq!(count(&desk, old_age).await, 2);
    for id in old {
        assert_expired(&desk, id).await;
    }
    assert_eq!(desk.status(young).await, DeliveryStatus::Pending);
}

/// So that no call takes long.
pub async fn expire_keeps_to_its_limit<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    for which in [Expire::Lane(subscription.id), Expire::OlderThan(units::<F>(1))] {
        for _ in 0..5 {
            publish(&desk, event(), &subscription, units::<F>(1)).await;
        }
        desk.pass(2).await;
        let mut counts = Vec::new();
        for _ in 0..4 {
            counts.push(Ended::total(&desk.store.expire(which, 2).await.unwrap().ended));
        }
        assert_eq!(counts, [2, 2, 1, 0], "{which:?}");
    }
}

/// Promise 5: an end is left only by a request.
pub async fn what_has_ended_does_not_expire<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(publish(&desk, event(), &subscription, units::<F>(1)).await);
    }
    desk.succeed(ids[0]).await;
    desk.cancel(ids[1]).await;
    desk.succeed(ids[2]).await;
    desk.ask(ids[2], &Input::Retry { force: true }).await;
    desk.pass(2).await;
    assert_eq!(count(&desk, Expire::Lane(subscription.id)).await, 0);
    assert_eq!(count(&desk, Expire::OlderThan(units::<F>(1))).await, 0);
    assert_eq!(desk.delivery(ids[1]).await.state.reason, Some(StatusReason::CancelledByUser));
}

/// Not when its event was published.
pub async fn a_chain_starts_when_its_event_is_to_be_delivered<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let now = desk.delivery(desk.publish(&subscription).await).await.created_at;
    let scheduled = || Event { deliver_at: Some(now.after(units::<F>(8))), ..event() };
    let one = publish(&desk, scheduled(), &subscription, units::<F>(2)).await;
    let two = publish(&desk, scheduled(), &subscription, units::<F>(3600)).await;
    desk.pass(4).await;
    assert_eq!(count(&desk, Expire::Lane(subscription.id)).await, 0);
    assert_eq!(count(&desk, Expire::OlderThan(units::<F>(3))).await, 1, "the one that is due");
    desk.pass(8).await;
    assert_eq!(count(&desk, Expire::Lane(subscription.id)).await, 1);
    assert_expired(&desk, one).await;
    assert_eq!(count(&desk, Expire::OlderThan(units::<F>(3))).await, 1);
    assert_expired(&desk, two).await;
}

/// Both ages count from the reopening; a result moves neither.
pub async fn a_new_chain_moves_the_time_to_give_up<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let lane = Expire::Lane(subscription.id);
    let reopened = publish(&desk, event(), &subscription, units::<F>(4)).await;
    let retried = publish(&desk, event(), &subscription, units::<F>(4)).await;
    desk.cancel(reopened).await;
    desk.pass(4).await;
    desk.attempt(retried, Outcome::Failed).await;
    let record = asked(reopened, &desk.load(reopened).await.state, &Input::Reopen);
    desk.apply(&Record { new_chain: Some(units::<F>(4)), ..record }).await;
    assert_eq!(count(&desk, lane).await, 1);
    assert_expired(&desk, retried).await;
    desk.pass(1).await;
    assert_eq!(count(&desk, Expire::OlderThan(units::<F>(3))).await, 0);
    assert_eq!(count(&desk, lane).await, 0);
    desk.pass(4).await;
    assert_eq!(count(&desk, lane).await, 1);
    assert_expired(&desk, reopened).await;
}

/// Promise 12: of those that are left, whether one head ends or several together.
pub async fn an_expired_head_releases_the_next<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let mut ids = Vec::new();
    for life in [1, 1, 3600, 3600] {
        ids.push(publish(&desk, event(), &subscription, units::<F>(life)).await);
    }
    let last = publish(&desk, event(), &subscription, units::<F>(1)).await;
    desk.pass(2).await;
    let expired = expire(&desk, Expire::Lane(subscription.id)).await;
    assert_eq!(expired, Expired { ended: of(&subscription, 3), released: vec![(ids[2], subscription.id)] });
    assert!(!desk.load(ids[2]).await.waiting && desk.load(ids[3]).await.waiting);
    assert_expired(&desk, last).await;
    assert_eq!(desk.succeed(ids[2]).await, [ids[3]]);
    assert_eq!(desk.succeed(ids[3]).await, []);
}
