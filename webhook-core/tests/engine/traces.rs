//! The trace that an event was published in.

use webhook_core::SubscriptionDraft;
use webhook_core::model::{NewEvent, TraceParent};
use webhook_core::store::InboxEvent;
use webhook_core::testing::{RecordingDeliverer, Scripted};

use crate::support::{TARGET, World};

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn event() -> NewEvent {
    NewEvent::json("order.created", r#"{"id":42}"#)
}

/// What the receiver got in each of so many requests.
async fn received(world: &World, requests: usize) -> Vec<Option<TraceParent>> {
    let requests = world.target.wait_for(requests).await;
    let read = |value: &str| value.parse().expect("valid");
    requests.iter().map(|request| request.header("traceparent").map(read)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_a_step_of_its_own_in_the_trace_of_the_publish() {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(500));
    world.target.answer(TARGET, Scripted::status(500));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let given: TraceParent = GIVEN.parse().unwrap();
    world.webhooks.publish(event().traceparent(given)).await.unwrap();
    let steps = received(&world, 3).await;
    let mut seen = vec![given.parent_id()];
    for step in steps {
        let step = step.expect("every attempt has one");
        assert_eq!((step.trace_id(), step.is_sampled()), (given.trace_id(), true));
        assert!(!seen.contains(&step.parent_id()), "{step} was there before");
        seen.push(step.parent_id());
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_outside_of_a_trace_is_delivered_outside_unless_traces_are_to_begin() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.webhooks.publish(event()).await.unwrap();
    assert_eq!(received(&world, 1).await, [None]);

    let world = World::with(RecordingDeliverer::new(), |builder| builder.begin_traces(true));
    let other = "https://example.com/other";
    for target in [TARGET, other] {
        world.subscribe(SubscriptionDraft::to(target)).await;
    }
    world.webhooks.publish(event()).await.unwrap();
    world.webhooks.run_until_idle().await.unwrap();
    let steps: Vec<_> = received(&world, 2).await.into_iter().map(Option::unwrap).collect();
    assert_eq!(steps[0].trace_id(), steps[1].trace_id(), "both deliveries are in the event's trace");
    assert_ne!(steps[0].parent_id(), steps[1].parent_id());
    // A publisher's own goes before.
    world.webhooks.publish(event().traceparent(GIVEN.parse().unwrap())).await.unwrap();
    world.webhooks.run_until_idle().await.unwrap();
    let steps = received(&world, 4).await;
    let given: TraceParent = GIVEN.parse().unwrap();
    assert!(steps[2..].iter().flatten().all(|step| step.trace_id() == given.trace_id()), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscriptions_own_traceparent_replaces_ours() {
    let world = World::new(RecordingDeliverer::new());
    let headers = [("Traceparent".to_owned(), "their-own".to_owned())].into();
    world.subscribe(SubscriptionDraft { headers, ..SubscriptionDraft::to(TARGET) }).await;
    world.webhooks.publish(event().traceparent(GIVEN.parse().unwrap())).await.unwrap();
    world.webhooks.run_until_idle().await.unwrap();
    let request = &world.target.requests()[0].request;
    let sent: Vec<_> = request.headers.iter().filter(|(name, _)| name == "traceparent").collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].1, "their-own");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_the_inbox_keeps_its_trace_and_one_that_cannot_be_read_is_none() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let given: TraceParent = GIVEN.parse().unwrap();
    world.store.publish_later(event().traceparent(given));
    world.webhooks.wake();
    let step = received(&world, 1).await[0].expect("it has one");
    assert_eq!(step.trace_id(), given.trace_id());

    let by_hand = InboxEvent { traceparent: Some(GIVEN.to_uppercase()), ..event().into() };
    world.store.publish_later(by_hand);
    world.webhooks.wake();
    assert_eq!(received(&world, 2).await[1], None, "published all the same");
}
