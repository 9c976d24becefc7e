//! Turns among ordered deliveries (promise 12).

use std::time::Duration;

use webhook_core::id::DeliveryId;
use webhook_core::model::{DeliveryStatus, NewEvent, StatusReason};
use webhook_core::store::{DeliveryFilter, DeliveryStore as _, Expire};
use webhook_core::testing::{RecordingDeliverer, START, Scripted};
use webhook_core::{Published, SubscriptionDraft};

use crate::support::{TARGET, World, seconds, tenant};

/// Events of this type fail.
const BAD: &str = "bad";

fn scripted() -> RecordingDeliverer {
    RecordingDeliverer::scripted(|request| {
        let bad = request.headers.iter().any(|(name, value)| name == "webhook-event-type" && value == BAD);
        Scripted::status(if bad { 500 } else { 200 })
    })
}

async fn ordered(world: &World) -> webhook_core::id::SubscriptionId {
    world.subscribe(SubscriptionDraft { ordered: true, ..SubscriptionDraft::to(TARGET) }).await.id
}

async fn publish(world: &World, event_type: &str, key: &str) -> Published {
    world.webhooks.publish(NewEvent::json(event_type, "{}").ordering_key(key)).await.unwrap()
}

fn requests_of(world: &World, published: &Published) -> usize {
    let id = published.id.to_string();
    world.target.requests().iter().filter(|request| request.header("webhook-id") == Some(id.as_str())).count()
}

fn delivery(published: &Published) -> DeliveryId {
    published.deliveries[0].0
}

#[tokio::test(start_paused = true)]
async fn a_failing_head_holds_its_key_until_it_is_exhausted() {
    let world = World::running(scripted());
    ordered(&world).await;
    let head = publish(&world, BAD, "a").await;
    let next = publish(&world, "good", "a").await;
    let free = publish(&world, "good", "b").await;
    world.finished(delivery(&free)).await;
    tokio::time::sleep(seconds(60)).await;
    assert_eq!((requests_of(&world, &head), requests_of(&world, &next)), (2, 0));
    let waits = world.delivery(delivery(&next)).await;
    assert_eq!((waits.state.reason, waits.next_attempt_at), (Some(StatusReason::Ordered), None));
    assert_eq!(world.finished(delivery(&head)).await.state.status, DeliveryStatus::Exhausted);
    let end = world.delivery(delivery(&head)).await.finished_at.unwrap();
    let done = world.finished(delivery(&next)).await;
    assert_eq!(done.state.status, DeliveryStatus::Succeeded);
    assert!(done.finished_at.unwrap().since(end) < seconds(1), "it is promoted at once");
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_head_the_next_goes_on() {
    let world = World::running(scripted());
    ordered(&world).await;
    let [cancelled, expired, next] = [
        publish(&world, BAD, "a").await,
        publish(&world, BAD, "a").await,
        publish(&world, "good", "a").await,
    ];
    world.target.wait_for(1).await;
    tokio::time::sleep(seconds(1)).await;
    world.webhooks.cancel(&tenant(), delivery(&cancelled)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((requests_of(&world, &expired), requests_of(&world, &next)), (1, 0));
    // As another node does.
    let released = world.store.expire(Expire::OlderThan(Duration::ZERO), 1).await.unwrap().released;
    assert_eq!(released.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [delivery(&next)]);
    assert_eq!(world.finished(delivery(&next)).await.state.status, DeliveryStatus::Succeeded);
    assert_eq!(world.delivery(delivery(&expired)).await.state.reason, Some(StatusReason::Expired));
}

#[tokio::test(start_paused = true)]
async fn those_behind_the_head_of_a_deleted_subscription_are_cancelled_unsent() {
    let world = World::running(scripted());
    let id = ordered(&world).await;
    let head = publish(&world, BAD, "a").await;
    let next = publish(&world, "good", "a").await;
    world.target.wait_for(1).await;
    world.webhooks.subscriptions().delete(&tenant(), id, None).await.unwrap();
    for published in [&head, &next] {
        let reason = world.finished(delivery(published)).await.state.reason;
        assert_eq!(reason, Some(StatusReason::SubscriptionDeleted));
    }
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(world.target.requests().len(), 1);
}

/// Promise 6 too.
#[tokio::test(start_paused = true)]
async fn a_scheduled_head_holds_its_key() {
    let world = World::running(scripted());
    ordered(&world).await;
    let later = NewEvent::json("good", "{}").ordering_key("a").deliver_at(START.after(seconds(3600)));
    let head = world.webhooks.publish(later).await.unwrap();
    let next = publish(&world, "good", "a").await;
    tokio::time::sleep(seconds(3590)).await;
    assert!(world.target.requests().is_empty());
    world.finished(delivery(&next)).await;
    let ids: Vec<_> = world
        .target
        .requests()
        .iter()
        .map(|request| request.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids, [head.id.to_string(), next.id.to_string()]);
}

/// In the order of their publishing, one at a time.
#[tokio::test(start_paused = true)]
async fn replayed_deliveries_take_turns() {
    let world = World::running(RecordingDeliverer::scripted(|request| {
        let first = request.headers.iter().any(|(name, value)| name == "webhook-attempt" && value == "1");
        if first { Scripted::status(410) } else { Scripted::status(200).after(seconds(5)) }
    }));
    let id = ordered(&world).await;
    let mut published = Vec::new();
    for _ in 0..5 {
        published.push(publish(&world, "good", "a").await);
    }
    // A 410 ends the head and disables the subscription; each resume lets the next end.
    for gone in &published {
        while !world.delivery(delivery(gone)).await.state.status.is_finished() {
            world.webhooks.subscriptions().resume(&tenant(), id).await.unwrap();
            tokio::time::sleep(seconds(1)).await;
        }
    }
    world.webhooks.subscriptions().resume(&tenant(), id).await.unwrap();
    world.target.clear();
    let filter = DeliveryFilter { statuses: vec![DeliveryStatus::Exhausted], ..DeliveryFilter::default() };
    world.webhooks.replay(&tenant(), filter).await.unwrap();
    let requests = world.target.wait_for(5).await;
    world.finished(delivery(&published[4])).await;
    let ids: Vec<_> =
        requests.iter().map(|request| request.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids, published.iter().map(|published| published.id.to_string()).collect::<Vec<_>>());
    for pair in requests.windows(2) {
        assert!(pair[1].at - pair[0].at >= seconds(5), "one at a time");
    }
}
