//! What a target's behaviour does to its lane, and to nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use webhook_core::id::DeliveryId;
use webhook_core::model::{DeliveryStatus, StatusReason};
use webhook_core::testing::Scripted;
use webhook_core::{SubscriptionDraft, Workers};

use crate::target::Reply;
use crate::world::{TARGET, World, eventually, seconds, tenant};

fn only(event_type: &str, host: &str) -> SubscriptionDraft {
    let url = format!("https://{host}/hook");
    SubscriptionDraft { event_types: vec![event_type.into()], ..SubscriptionDraft::to(url) }
}

const HANGING: [&str; 2] = ["one.example.com", "two.example.com"];
const GOOD: &str = "good.example.com";

/// Promise 13: of sixteen attempts at once, eight are in slots and eight in the second pool.
#[tokio::test]
async fn targets_that_hang_together_leave_a_slot_for_others_and_their_lanes_wait() {
    let hanging = Arc::new(AtomicBool::new(false));
    let hangs = Arc::clone(&hanging);
    let script = move |request: &webhook_core::deliver::Request| {
        let held = hangs.load(Ordering::SeqCst) && request.url.host_str() != Some(GOOD);
        if held { Reply::Held } else { Reply::status(200) }
    };
    let world = World::new(script).await;
    world.webhooks.spawn(Workers::default().concurrency(16)).unwrap();
    for (event_type, host) in [("one", HANGING[0]), ("two", HANGING[1]), ("good", GOOD)] {
        world.subscribe(only(event_type, host)).await;
        // One fast answer proves a lane.
        let proof = world.publish(event_type).await;
        world.finished(proof).await;
    }
    hanging.store(true, Ordering::SeqCst);
    let mut held = Vec::new();
    for event_type in ["one", "two"] {
        for _ in 0..4 {
            held.push(world.publish(event_type).await);
        }
    }
    // The last eighth of the slots, here one, is for lanes that hold fewer than are free.
    eventually("the slots are taken but one", async || (world.webhooks.in_flight() == 7).then_some(())).await;
    let start = Instant::now();
    let waiting = world.publish("one").await;
    // Before and after those that hang have left their slots: at last they fill the second pool but one place.
    while start.elapsed() < seconds(2) {
        let good = world.publish("good").await;
        assert_eq!(world.finished(good).await.state.status, DeliveryStatus::Succeeded);
    }
    assert_eq!(world.target.count_of(HANGING[0]), 5, "its lane is not served");
    assert_eq!(world.delivery(waiting).await.state.attempts, 0);
    assert_eq!(world.webhooks.in_flight(), 7);
    world.target.release(Scripted::status(200));
    for delivery in held.into_iter().chain([waiting]) {
        assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    }
    world.end().await;
}

async fn publish(world: &World, count: usize) -> Vec<DeliveryId> {
    let mut published = Vec::new();
    for _ in 0..count {
        published.push(world.publish("a.b").await);
    }
    published
}

/// Only what is over its time to give up, which here is an hour, tried or not.
#[tokio::test]
async fn a_target_that_never_answers_expires_what_may_be_given_up_and_only_that() {
    let world = World::running(|_| Reply::TimedOut(seconds(15))).await;
    let id = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    world.webhooks.subscriptions().pause(&tenant(), id).await.unwrap();
    let old = publish(&world, 20).await;
    world.clock.advance(seconds(3600));
    let young = publish(&world, 5).await;
    world.webhooks.subscriptions().resume(&tenant(), id).await.unwrap();
    let mut untried = 0;
    for delivery in old {
        let state = world.finished(delivery).await.state;
        assert_eq!((state.status, state.reason), (DeliveryStatus::Exhausted, Some(StatusReason::Expired)));
        untried += usize::from(state.attempts == 0);
    }
    // Four at once, two, one, one: each round is a strike, and the eighth strike gives up.
    assert_eq!(untried, 12);
    for delivery in young {
        let state = world.delivery(delivery).await.state;
        assert_eq!((state.status, state.attempts), (DeliveryStatus::Pending, 0));
    }
    world.end().await;
}

#[tokio::test]
async fn what_is_unfinished_for_too_long_expires_wherever_it_waits() {
    let world = World::with(|_| Reply::status(200), |builder| builder.max_age(Some(seconds(86_400)))).await;
    let paused = world.subscribe(only("paused", "paused.example.com")).await;
    world.subscribe(only("scheduled", GOOD)).await;
    world.webhooks.subscriptions().pause(&tenant(), paused.id).await.unwrap();
    let waits = world.publish("paused").await;
    let at = world.now().after(seconds(86_400));
    let event = webhook_core::model::NewEvent::json("scheduled", "{}").deliver_at(at);
    let scheduled = world.publish_event(event).await;
    world.clock.advance(seconds(86_401));
    // Ages are looked at when workers start, and then within a minute.
    world.spawn();
    let state = world.finished(waits).await.state;
    assert_eq!((state.status, state.reason), (DeliveryStatus::Exhausted, Some(StatusReason::Expired)));
    assert_eq!(
        world.finished(scheduled).await.state.status,
        DeliveryStatus::Succeeded,
        "its age is a second"
    );
    assert_eq!(world.target.count(), 1);
    world.end().await;
}
