use webhook_core::model::{DeliveryStatus, NewEvent, Tenant};
use webhook_core::secret::Secret;
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{PublishError, SubscriptionDraft};

use crate::support::{TARGET, World, seconds};

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_signed_with_its_headers() {
    let world = World::new(RecordingDeliverer::new());
    let secret = Secret::generate();
    let subscription = world
        .subscribe(SubscriptionDraft { secret: Some(secret.clone()), ..SubscriptionDraft::to(TARGET) })
        .await;
    let published = world.publish("order.created").await;
    assert_eq!(published.deliveries[0].1, subscription.id);
    world.webhooks.run_until_idle().await.unwrap();

    let requests = world.target.requests();
    assert_eq!(requests.len(), 1);
    let header = |name| requests[0].header(name).unwrap_or_default();
    assert_eq!(header("webhook-id"), published.id.to_string());
    assert_eq!(header("webhook-attempt"), "1");
    assert_eq!(header("webhook-event-type"), "order.created");
    assert_eq!(header("content-type"), "application/json");
    let verified = webhook_core::signature::verify(
        webhook_core::signature::VerifyScheme::Standard,
        &[secret],
        None,
        |name| requests[0].header(name).map(str::as_bytes),
        header("webhook-timestamp").parse().unwrap(),
        &requests[0].request.body,
    );
    assert_eq!(verified.unwrap().message_id, Some(published.id.to_string()));
    let delivery = world.delivery(published.deliveries[0].0).await;
    assert_eq!(delivery.state.status, DeliveryStatus::Succeeded);
    assert_eq!(world.attempts(delivery.id).await.len(), 1);
}

/// Promise 9.
#[tokio::test(start_paused = true)]
async fn every_attempt_carries_the_same_id_and_the_same_bytes() {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(500));
    world.target.answer(TARGET, Scripted::status(500));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let payload = "{ \"b\":1.0,\n\t\"a\" : \"\\u00e4\" }";
    let event = NewEvent::json("a.b", payload);
    let published = world.webhooks.publish(event).await.unwrap();
    world.finished(published.deliveries[0].0).await;
    let requests = world.target.requests();
    assert_eq!(requests.len(), 3);
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(request.request.body, payload);
        assert_eq!(request.header("webhook-id"), Some(published.id.to_string().as_str()));
        assert_eq!(request.header("webhook-attempt"), Some((index + 1).to_string().as_str()));
    }
}

/// Promise 10, within one process; a store's suite holds it for several.
#[tokio::test(start_paused = true)]
async fn a_publish_sees_every_subscription_created_before_it_and_none_deleted() {
    let world = World::new(RecordingDeliverer::new());
    assert_eq!(world.publish("a.b").await.delivery_count, 0);
    let first = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    assert_eq!(world.publish("a.b").await.delivery_count, 1);
    let only_c = SubscriptionDraft { event_types: vec!["c.*".into()], ..SubscriptionDraft::to(TARGET) };
    world.subscribe(only_c).await;
    assert_eq!(world.publish("a.b").await.delivery_count, 1);
    assert_eq!(world.publish("c.d").await.delivery_count, 2);
    world.webhooks.subscriptions().delete(&Tenant::default(), first.id, None).await.unwrap();
    assert_eq!(world.publish("c.d").await.delivery_count, 1);
}

/// Promise 11.
#[tokio::test(start_paused = true)]
async fn a_repeat_with_the_same_key_gives_the_first_answer_and_another_request_is_refused() {
    let world = World::new(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let event = || NewEvent::json("a.b", "{}").idempotency_key("k1");
    let first = world.webhooks.publish(event()).await.unwrap();
    let again = world.webhooks.publish(event()).await.unwrap();
    assert_eq!((again.id, &again.deliveries, again.duplicate), (first.id, &first.deliveries, true));
    let other = world.webhooks.publish(NewEvent::json("a.b", "{ }").idempotency_key("k1")).await;
    assert!(matches!(other, Err(PublishError::KeyReused)), "{other:?}");
    let elsewhere = event().tenant("other".parse().unwrap());
    assert!(!world.webhooks.publish(elsewhere).await.unwrap().duplicate);
    tokio::time::advance(seconds(24 * 3600 + 1)).await;
    assert!(!world.webhooks.publish(event()).await.unwrap().duplicate);
}

/// Promise 11.
#[tokio::test(start_paused = true)]
async fn of_many_publishes_at_once_with_one_key_one_is_stored() {
    let world = World::new(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let events = (0..100).map(|_| NewEvent::json("a.b", "{}").idempotency_key("k")).collect();
    let answers = world.webhooks.publish_all(events).await;
    let ids: std::collections::HashSet<_> =
        answers.iter().map(|answer| answer.as_ref().unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.as_ref().unwrap().duplicate).count(), 1);
    world.webhooks.run_until_idle().await.unwrap();
    assert_eq!(world.target.requests().len(), 1);
}

/// Promise 1: a repeat with the same id returns what is stored.
#[tokio::test(start_paused = true)]
async fn a_repeat_with_the_same_id_returns_what_is_stored() {
    let world = World::new(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let first = world.publish("a.b").await;
    let again = world.webhooks.publish(NewEvent::json("a.b", "{}").id(first.id)).await.unwrap();
    assert_eq!((again.deliveries, again.duplicate), (first.deliveries, true));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_valid_is_refused_and_nothing_is_stored() {
    let world = World::with(RecordingDeliverer::new(), |builder| builder.max_payload(10));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let refused = [
        NewEvent::json("", "{}"),
        NewEvent::json("a b", "{}"),
        NewEvent::json("a.b", "{"),
        NewEvent::json("a.b", "{}").idempotency_key(""),
        NewEvent::json("a.b", "{}").idempotency_key("ä"),
        NewEvent::json("a.b", "{}").ordering_key("\n"),
        NewEvent::bytes("a.b", "text/plain\r\nx: y", "hi"),
        NewEvent::bytes("a.b", "text/plain", "more than ten bytes"),
    ];
    for event in refused {
        let shown = format!("{event:?}");
        let answer = world.webhooks.publish(event).await;
        assert!(
            matches!(answer, Err(PublishError::Invalid { .. } | PublishError::TooLarge { .. })),
            "{shown}"
        );
    }
    world.webhooks.run_until_idle().await.unwrap();
    assert!(world.target.requests().is_empty());
}

/// Promise 6: not before the moment that was asked for.
#[tokio::test(start_paused = true)]
async fn a_scheduled_event_waits_for_its_moment() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let start = tokio::time::Instant::now();
    let at = webhook_core::testing::START.after(seconds(3600));
    let published = world.webhooks.publish(NewEvent::json("a.b", "{}").deliver_at(at)).await.unwrap();
    tokio::time::sleep(seconds(3599)).await;
    assert!(world.target.requests().is_empty());
    world.finished(published.deliveries[0].0).await;
    assert!(world.target.requests()[0].at.duration_since(start) >= seconds(3600));
}

#[tokio::test(start_paused = true)]
async fn after_the_shutdown_publishing_is_refused() {
    let world = World::running(RecordingDeliverer::new());
    world.webhooks.shutdown(seconds(1)).await;
    let refused = world.webhooks.publish(NewEvent::json("a.b", "{}")).await;
    assert!(matches!(refused, Err(PublishError::Stopped)));
}
