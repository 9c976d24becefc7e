use std::time::Duration;

use webhook_core::model::{
    DeliveryStatus, DisabledReason, ErrorKind, NewEvent, Outcome, StatusReason, SubscriptionStatus, Tenant,
};
use webhook_core::retry::RetrySpec;
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::support::{TARGET, World, seconds, tenant};

/// Promise 6.
#[tokio::test(start_paused = true)]
async fn a_failing_delivery_is_retried_on_schedule_never_early_and_then_exhausted() {
    let world = World::running(RecordingDeliverer::scripted(|_| Scripted::status(500)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let published = world.publish("a.b").await;
    let delivery = world.finished(published.deliveries[0].0).await;
    assert_eq!(delivery.state.status, DeliveryStatus::Exhausted);
    assert_eq!(delivery.state.reason, Some(StatusReason::AttemptsExhausted));
    let times: Vec<_> = world.target.requests().iter().map(|request| request.at).collect();
    assert_eq!(times.len(), 3);
    for (index, wait) in [seconds(10), seconds(60)].into_iter().enumerate() {
        let gap = times[index + 1] - times[index];
        assert!((wait..wait + seconds(6)).contains(&gap), "{gap:?} for {wait:?}");
    }
    let numbers: Vec<_> = world.attempts(delivery.id).await.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_subscriptions_own_policy_wins() {
    let world = World::running(RecordingDeliverer::scripted(|_| Scripted::status(500)));
    let retry = Some("schedule:1s".parse::<RetrySpec>().unwrap());
    world.subscribe(SubscriptionDraft { retry, ..SubscriptionDraft::to(TARGET) }).await;
    let published = world.publish("a.b").await;
    assert_eq!(world.finished(published.deliveries[0].0).await.state.attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn retry_after_lengthens_the_wait() {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(429).header("retry-after", "100"));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let published = world.publish("a.b").await;
    world.finished(published.deliveries[0].0).await;
    let times: Vec<_> = world.target.requests().iter().map(|request| request.at).collect();
    assert!(times[1] - times[0] >= seconds(100));
}

#[tokio::test(start_paused = true)]
async fn a_gone_target_exhausts_the_delivery_and_disables_its_subscription() {
    let world = World::running(RecordingDeliverer::scripted(|_| Scripted::status(410)));
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let published = world.publish("a.b").await;
    let delivery = world.finished(published.deliveries[0].0).await;
    assert_eq!(delivery.state.reason, Some(StatusReason::Gone));
    let subscriptions = world.webhooks.subscriptions();
    let mut now = subscriptions.get(&Tenant::default(), subscription.id).await.unwrap();
    while now.status == SubscriptionStatus::Active {
        tokio::task::yield_now().await;
        now = subscriptions.get(&Tenant::default(), subscription.id).await.unwrap();
    }
    assert_eq!((now.status, now.disabled_reason), (SubscriptionStatus::Disabled, Some(DisabledReason::Gone)));
    // Its later deliveries wait.
    let waiting = world.publish("a.b").await;
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(world.delivery(waiting.deliveries[0].0).await.state.status, DeliveryStatus::Pending);
    assert_eq!(world.target.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deliveries_of_a_deleted_subscription_are_cancelled_and_never_sent() {
    let world = World::running(RecordingDeliverer::scripted(|_| Scripted::status(500)));
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let published = world.publish("a.b").await;
    world.target.wait_for(1).await;
    world.webhooks.subscriptions().delete(&Tenant::default(), subscription.id, None).await.unwrap();
    let delivery = world.finished(published.deliveries[0].0).await;
    assert_eq!(delivery.state.status, DeliveryStatus::Cancelled);
    assert_eq!(delivery.state.reason, Some(StatusReason::SubscriptionDeleted));
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(world.target.requests().len(), 1);
}

/// Promise 17.
#[tokio::test(start_paused = true)]
async fn what_is_cut_off_at_the_end_of_the_grace_is_interrupted_and_retried_at_once_elsewhere() {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(200).after(seconds(14)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let published = world.publish("a.b").await;
    world.target.wait_for(1).await;
    let start = tokio::time::Instant::now();
    world.webhooks.shutdown(seconds(2)).await;
    assert!(start.elapsed() < seconds(3));

    let delivery = published.deliveries[0].0;
    let attempts = world.attempts(delivery).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, Outcome::Failed);
    assert_eq!(attempts[0].error.as_ref().map(|error| error.kind), Some(ErrorKind::Interrupted));
    assert_eq!(world.delivery(delivery).await.state.failed, 0);

    let elsewhere = webhook_core::Webhooks::builder(world.store.clone())
        .queue(world.queue.clone())
        .deliverer(std::sync::Arc::new(world.target.clone()))
        .build()
        .unwrap();
    elsewhere.run_until_idle().await.unwrap();
    assert_eq!(world.delivery(delivery).await.state.status, DeliveryStatus::Succeeded);
    assert!(start.elapsed() < seconds(4), "it waited for a lease: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_while_its_attempt_lasts() {
    let target = RecordingDeliverer::scripted(|_| Scripted::status(200).after(seconds(13)));
    let world = World::with(target, |builder| builder.lease(seconds(2)));
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let published = world.publish("a.b").await;
    let delivery = world.finished(published.deliveries[0].0).await;
    assert_eq!((delivery.state.status, delivery.state.attempts), (DeliveryStatus::Succeeded, 1));
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(world.target.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn finished_events_leave_after_the_retention() {
    let world = World::with(RecordingDeliverer::new(), |builder| builder.retention(Some(seconds(3600))));
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let published = world.publish("a.b").await;
    world.finished(published.deliveries[0].0).await;
    let stored = || async {
        use webhook_core::store::History as _;
        world.store.event(None, published.id).await.unwrap().is_some()
    };
    tokio::time::sleep(seconds(3500)).await;
    assert!(stored().await);
    tokio::time::sleep(seconds(200) + Duration::from_secs(66)).await;
    assert!(!stored().await);
}

#[tokio::test(start_paused = true)]
async fn a_purge_takes_what_had_finished_when_it_began_however_many_pages_it_is() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    for _ in 0..1_100 {
        world.publish("a.b").await;
    }
    tokio::time::sleep(seconds(10)).await;
    let late = world.publish("a.b").await;
    assert_eq!(world.webhooks.purge(&tenant(), seconds(60)).await.unwrap(), 0);
    assert_eq!(world.webhooks.purge(&tenant(), seconds(5)).await.unwrap(), 1_100);
    store.set_away(true);
    assert!(world.webhooks.purge(&tenant(), Duration::ZERO).await.unwrap_err().is_retryable());
    store.set_away(false);
    assert_eq!(world.webhooks.purge(&tenant(), Duration::ZERO).await.unwrap(), 1, "{}", late.id);
}

/// Promise 17: a stop begins with claiming nothing more, whatever else it has to wait for.
#[tokio::test(start_paused = true)]
async fn a_stop_that_waits_for_a_publish_claims_nothing_meanwhile() {
    let target = RecordingDeliverer::scripted(|_| Scripted::status(500));
    let (world, store, _) = World::on_faulty_backends(target);
    world.webhooks.spawn(Workers::default()).unwrap();
    let draft = SubscriptionDraft { event_types: vec!["a.b".to_owned()], ..SubscriptionDraft::to(TARGET) };
    world.subscribe(draft).await;
    world.publish("a.b").await;
    world.target.wait_for(1).await;
    // The retry is due after ten seconds.
    store.fail(Call::Insert, Fault::Slow(seconds(30)));
    let publisher = world.webhooks.clone();
    let publish = tokio::spawn(async move { publisher.publish(NewEvent::json("nobody.asked", "1")).await });
    tokio::time::sleep(seconds(1)).await;
    let start = tokio::time::Instant::now();
    world.webhooks.shutdown(seconds(60)).await;
    assert!(start.elapsed() > seconds(25), "it waited for the publish: {:?}", start.elapsed());
    assert_eq!(world.target.requests().len(), 1);
    // Its caller heard nothing for five seconds, and may repeat it.
    assert!(publish.await.unwrap().is_err());
}

/// Promise 17: between the end of claiming and the shutdown publishing goes on, and others deliver.
#[tokio::test(start_paused = true)]
async fn without_claiming_events_are_taken_and_others_deliver_them() {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(200).after(seconds(5)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let in_flight = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(1).await;
    world.webhooks.stop_claiming();
    let waits = world.publish("a.b").await.deliveries[0].0;
    assert_eq!(world.finished(in_flight).await.state.status, DeliveryStatus::Succeeded);
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(world.target.requests().len(), 1);
    let elsewhere = world.another();
    elsewhere.spawn(Workers::default()).unwrap();
    assert_eq!(world.finished(waits).await.state.status, DeliveryStatus::Succeeded);
    elsewhere.shutdown(seconds(1)).await;
    world.webhooks.shutdown(seconds(1)).await;
}
