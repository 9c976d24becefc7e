//! Promise 12 on a file.

use webhook_core::SubscriptionDraft;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::model::{DeliveryStatus, NewEvent, StatusReason};

use crate::target::{Reply, header};
use crate::world::{TARGET, World, seconds, tenant};

/// Events of this type fail.
const BAD: &str = "bad";

async fn ordered() -> (World, SubscriptionId) {
    let world = World::running(|request| {
        Reply::status(if header(request, "webhook-event-type") == BAD { 500 } else { 200 })
    })
    .await;
    let draft = SubscriptionDraft { ordered: true, ..SubscriptionDraft::to(TARGET) };
    let id = world.subscribe(draft).await.id;
    (world, id)
}

async fn publish(world: &World, event_type: &str, key: &str) -> DeliveryId {
    world.publish_event(NewEvent::json(event_type, "{}").ordering_key(key)).await
}

async fn sent(world: &World) -> Vec<String> {
    world.target.got().iter().map(|got| got.header("webhook-event-type").to_owned()).collect()
}

#[tokio::test]
async fn a_failing_head_holds_its_key_until_it_is_exhausted_and_no_other_key() {
    let (world, _) = ordered().await;
    let start = world.now();
    let head = publish(&world, BAD, "a").await;
    let next = publish(&world, "next", "a").await;
    let free = publish(&world, "free", "b").await;
    world.finished(free).await;
    world.tried(head, 1).await;
    for wait in [10, 70] {
        let waits = world.delivery(next).await;
        assert_eq!((waits.state.reason, waits.next_attempt_at), (Some(StatusReason::Ordered), None));
        let before = world.target.count();
        world.clock.set(start.after(seconds(wait)));
        world.requested(before + 1).await;
        assert_eq!(world.target.got()[before].header("webhook-event-type"), BAD);
        if wait == 10 {
            world.tried(head, 2).await;
        }
    }
    assert_eq!(world.finished(head).await.state.status, DeliveryStatus::Exhausted);
    assert_eq!(world.finished(next).await.state.status, DeliveryStatus::Succeeded);
    assert_eq!(sent(&world).await.last().map(String::as_str), Some("next"));
    world.end().await;
}

/// Promise 6 too.
#[tokio::test]
async fn a_scheduled_head_holds_its_key() {
    let (world, _) = ordered().await;
    let moment = world.now().after(seconds(3600));
    let later = NewEvent::json("head", "{}").ordering_key("a").deliver_at(moment);
    let head = world.publish_event(later).await;
    let next = publish(&world, "next", "a").await;
    assert_eq!(world.delivery(next).await.state.reason, Some(StatusReason::Ordered));
    // What another key has shows that the workers are at work meanwhile.
    let free = publish(&world, "free", "b").await;
    world.finished(free).await;
    assert_eq!(sent(&world).await, ["free"]);
    world.comes_exactly_at(moment).await;
    world.finished(head).await;
    world.finished(next).await;
    assert_eq!(sent(&world).await, ["free", "head", "next"]);
    world.end().await;
}

#[tokio::test]
async fn those_behind_the_head_of_a_deleted_subscription_are_cancelled_unsent() {
    let (world, id) = ordered().await;
    let other = "https://other.example.com/hook";
    let only = SubscriptionDraft { event_types: vec!["free".into()], ..SubscriptionDraft::to(other) };
    let head = publish(&world, BAD, "a").await;
    let mut behind = Vec::new();
    for _ in 0..5 {
        behind.push(publish(&world, "next", "a").await);
    }
    world.tried(head, 1).await;
    world.webhooks.subscriptions().delete(&tenant(), id, None).await.unwrap();
    for delivery in behind.into_iter().chain([head]) {
        let state = world.finished(delivery).await.state;
        assert_eq!(
            (state.status, state.reason),
            (DeliveryStatus::Cancelled, Some(StatusReason::SubscriptionDeleted))
        );
    }
    world.clock.advance(seconds(600));
    world.subscribe(only).await;
    let free = world.publish("free").await;
    world.finished(free).await;
    assert_eq!(sent(&world).await, [BAD, "free"], "nothing of the deleted one is left to be sent");
    world.end().await;
}
