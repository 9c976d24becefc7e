//! What is given up: of targets that never answer, and what is unfinished for too long.

use webhook_core::id::DeliveryId;
use webhook_core::model::{Delivery, DeliveryStatus, NewEvent, StatusReason};
use webhook_core::testing::{RecordingDeliverer, START, Scripted};
use webhook_core::{SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::support::{TARGET, World, seconds, tenant};

const HOUR: u64 = 3600;

fn hangs() -> RecordingDeliverer {
    RecordingDeliverer::scripted(|request| match request.url.path() {
        "/good" => Scripted::status(200),
        _ => Scripted::hang(),
    })
}

fn only(event_type: &str, url: &str) -> SubscriptionDraft {
    SubscriptionDraft { event_types: vec![event_type.into()], ..SubscriptionDraft::to(url) }
}

async fn publish_many(world: &World, event_type: &str, count: usize) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(world.publish(event_type).await.deliveries[0].0);
    }
    ids
}

async fn all(world: &World, ids: &[DeliveryId]) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for id in ids {
        deliveries.push(world.delivery(*id).await);
    }
    deliveries
}

fn count(deliveries: &[Delivery], reason: StatusReason) -> usize {
    deliveries.iter().filter(|delivery| delivery.state.reason == Some(reason)).count()
}

/// Lanes, "expiry is decided in one place": the policy's span is short, so a chain may be given up after an
/// hour.
#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_expires_what_may_be_given_up_and_only_that() {
    let world = World::running(hangs());
    world.subscribe(only("dead", "https://example.com/dead")).await;
    let held = world.subscribe(only("held", "https://example.com/held")).await;
    world.webhooks.subscriptions().pause(&tenant(), held.id).await.unwrap();
    let old = publish_many(&world, "dead", 300).await;
    let paused = publish_many(&world, "held", 3).await;
    tokio::time::sleep(seconds(HOUR - 60)).await;
    assert_eq!(count(&all(&world, &old).await, StatusReason::Expired), 0, "none may be given up yet");
    let young = publish_many(&world, "dead", 3).await;
    tokio::time::sleep(seconds(180)).await;

    let old = all(&world, &old).await;
    assert!(old.iter().all(|delivery| delivery.state.status == DeliveryStatus::Exhausted));
    let expired: Vec<_> =
        old.iter().filter(|delivery| delivery.state.reason == Some(StatusReason::Expired)).collect();
    assert!(expired.iter().any(|delivery| delivery.state.attempts == 0), "tried or not");
    assert!(expired.iter().any(|delivery| delivery.state.attempts > 0), "tried or not");
    assert!(expired.iter().all(|delivery| delivery.finished_at >= Some(START.after(seconds(HOUR)))));
    for kept in all(&world, &young).await.iter().chain(&all(&world, &paused).await) {
        assert!(!kept.state.status.is_finished(), "{kept:?}");
    }
    tokio::time::sleep(seconds(HOUR)).await;
    assert!(all(&world, &young).await.iter().all(|delivery| delivery.state.status.is_finished()));
    assert_eq!(count(&all(&world, &paused).await, StatusReason::Paused), 3, "nobody has tried it");
}

/// A target that answers, and be it with an error, is given its whole schedule.
#[tokio::test(start_paused = true)]
async fn a_target_that_answers_loses_nothing_by_its_backlog() {
    let world = World::running(RecordingDeliverer::scripted(|request| {
        let late = request.headers.iter().any(|(name, value)| name == "webhook-attempt" && value == "2");
        Scripted::status(if late { 200 } else { 503 })
    }));
    let rate = Some(webhook_core::model::RateLimit { requests: 1, per: seconds(60) });
    world.subscribe(SubscriptionDraft { rate_limit: rate, ..SubscriptionDraft::to(TARGET) }).await;
    let ids = publish_many(&world, "a.b", 100).await;
    tokio::time::sleep(seconds(4 * HOUR)).await;
    for delivery in all(&world, &ids).await {
        assert_eq!((delivery.state.status, delivery.state.attempts), (DeliveryStatus::Succeeded, 2));
    }
}

/// Promise 15: the next probe asks again for what could not be done.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_expired_is_expired_later() {
    let (world, store) = World::on_faulty_store(hangs(), None);
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(only("dead", "https://example.com/dead")).await;
    let old = publish_many(&world, "dead", 300).await;
    tokio::time::sleep(seconds(HOUR - 60)).await;
    for fault in [Fault::Before, Fault::After, Fault::Before] {
        store.fail(Call::Expire, fault);
    }
    tokio::time::sleep(seconds(360)).await;
    assert!(all(&world, &old).await.iter().all(|delivery| delivery.state.status.is_finished()));
}

/// Both ages count from the start of the chain: of the publish, the moment that was asked for, or the
/// reopening.
#[tokio::test(start_paused = true)]
async fn what_is_unfinished_for_too_long_expires_wherever_it_waits() {
    let world = World::with(hangs(), |builder| builder.max_age(Some(seconds(6 * HOUR))));
    world.webhooks.spawn(Workers::default()).unwrap();
    let subscription = world.subscribe(only("held", "https://example.com/good")).await;
    world.webhooks.subscriptions().pause(&tenant(), subscription.id).await.unwrap();
    let paused = world.publish("held").await.deliveries[0].0;
    let reopened = world.publish("held").await.deliveries[0].0;
    let scheduled = NewEvent::json("held", "{}").deliver_at(START.after(seconds(5 * HOUR)));
    let scheduled = world.webhooks.publish(scheduled).await.unwrap().deliveries[0].0;
    world.webhooks.cancel(&tenant(), reopened).await.unwrap();
    tokio::time::sleep(seconds(2 * HOUR)).await;
    let event = world.delivery(reopened).await.event_id;
    let cancelled = [DeliveryStatus::Cancelled];
    let again = world.webhooks.replay_event(&tenant(), event, &cancelled).await.unwrap();
    assert_eq!(again, [(reopened, subscription.id)], "it waits there");

    let reasons = || async {
        let deliveries = all(&world, &[paused, reopened, scheduled]).await;
        deliveries.into_iter().map(|delivery| delivery.state.reason.unwrap()).collect::<Vec<_>>()
    };
    let (held, expired) = (StatusReason::Paused, StatusReason::Expired);
    tokio::time::sleep(seconds(4 * HOUR - 60)).await;
    assert_eq!(reasons().await, [held, held, held]);
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(reasons().await, [expired, held, held]);
    tokio::time::sleep(seconds(2 * HOUR)).await;
    assert_eq!(reasons().await, [expired, expired, held]);
    tokio::time::sleep(seconds(3 * HOUR)).await;
    assert_eq!(reasons().await, [expired, expired, expired]);
    world.webhooks.subscriptions().resume(&tenant(), subscription.id).await.unwrap();
    tokio::time::sleep(seconds(120)).await;
    assert!(world.target.requests().is_empty(), "promise 5");
}
