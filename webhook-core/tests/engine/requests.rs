use webhook_core::SubscriptionDraft;
use webhook_core::engine::RequestError;
use webhook_core::model::{DeliveryStatus, StatusReason, SubscriptionStatus, Tenant, Trigger};
use webhook_core::testing::{RecordingDeliverer, Scripted};

use crate::support::{TARGET, World, seconds, tenant};

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_waiting_delivery_is_made_now_and_the_schedule_goes_on_after_it() {
    let world = World::running(RecordingDeliverer::scripted(|_| Scripted::status(500)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    let start = world.target.wait_for(1).await[0].at;
    tokio::time::sleep(seconds(2)).await;
    world.webhooks.retry(&tenant(), delivery, false).await.unwrap();
    let manual = world.target.wait_for(2).await[1].at;
    assert!(manual - start < seconds(3), "{:?}", manual - start);
    let scheduled = world.target.wait_for(3).await[2].at;
    assert!((seconds(10)..seconds(16)).contains(&(scheduled - start)), "{:?}", scheduled - start);
    let finished = world.finished(delivery).await;
    assert_eq!((finished.state.attempts, finished.state.failed), (4, 3));
    let triggers: Vec<_> = world.attempts(delivery).await.iter().map(|attempt| attempt.trigger).collect();
    assert_eq!(triggers, [Trigger::Schedule, Trigger::Manual, Trigger::Schedule, Trigger::Schedule]);
}

/// Promise 5.
#[tokio::test(start_paused = true)]
async fn a_cancelled_delivery_is_never_sent_again_until_it_is_reopened() {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(500));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(1).await;
    tokio::time::sleep(seconds(1)).await;
    world.webhooks.cancel(&tenant(), delivery).await.unwrap();
    let again = world.webhooks.cancel(&tenant(), delivery).await;
    assert!(matches!(again, Err(RequestError::Finished)), "{again:?}");
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(world.target.requests().len(), 1);
    assert_eq!(world.delivery(delivery).await.state.reason, Some(StatusReason::CancelledByUser));

    world.webhooks.retry(&tenant(), delivery, false).await.unwrap();
    let finished = world.finished(delivery).await;
    assert_eq!((finished.state.status, finished.state.attempts), (DeliveryStatus::Succeeded, 2));
}

/// Promise 5: on the wire when it was cancelled.
#[tokio::test(start_paused = true)]
async fn a_result_that_comes_after_the_cancel_only_adds_its_row() {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(200).after(seconds(5)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(1).await;
    world.webhooks.cancel(&tenant(), delivery).await.unwrap();
    tokio::time::sleep(seconds(60)).await;
    let state = world.delivery(delivery).await.state;
    assert_eq!((state.status, state.attempts), (DeliveryStatus::Cancelled, 1));
    assert_eq!(world.attempts(delivery).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_succeeded_delivery_is_sent_again_only_by_force_and_stays_succeeded() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.finished(delivery).await;
    let refused = world.webhooks.retry(&tenant(), delivery, false).await;
    assert!(matches!(refused, Err(RequestError::Finished)), "{refused:?}");
    world.target.answer(TARGET, Scripted::status(500));
    world.webhooks.retry(&tenant(), delivery, true).await.unwrap();
    world.target.wait_for(2).await;
    tokio::time::sleep(seconds(60)).await;
    let state = world.delivery(delivery).await.state;
    assert_eq!((state.status, state.attempts, state.request), (DeliveryStatus::Succeeded, 2, None));
}

#[tokio::test(start_paused = true)]
async fn a_paused_subscription_gets_nothing_until_it_is_resumed() {
    let world = World::running(RecordingDeliverer::new());
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let subscriptions = world.webhooks.subscriptions();
    let paused = subscriptions.pause(&tenant(), subscription.id).await.unwrap();
    assert_eq!((paused.status, paused.version), (SubscriptionStatus::Paused, 2));
    let delivery = world.publish("a.b").await.deliveries[0].0;
    tokio::time::sleep(seconds(600)).await;
    assert!(world.target.requests().is_empty());
    let refused = world.webhooks.retry(&tenant(), delivery, false).await;
    assert!(matches!(refused, Err(RequestError::NotActive("paused"))), "{refused:?}");
    subscriptions.resume(&tenant(), subscription.id).await.unwrap();
    assert_eq!(world.finished(delivery).await.state.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_rotation_both_secrets_sign_until_the_overlap_ends() {
    let world = World::running(RecordingDeliverer::new());
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let subscriptions = world.webhooks.subscriptions();
    let secret = subscriptions.rotate_secret(&tenant(), subscription.id, None, seconds(3600)).await.unwrap();
    assert_ne!(secret, subscription.secrets[0].secret);
    let signatures = |count: usize| {
        let requests = world.target.requests();
        requests[count - 1].header("webhook-signature").unwrap().split(' ').count()
    };
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.finished(delivery).await;
    assert_eq!(signatures(1), 2);
    tokio::time::sleep(seconds(3601)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.finished(delivery).await;
    assert_eq!(signatures(2), 1);
}

#[tokio::test(start_paused = true)]
async fn another_tenants_delivery_does_not_exist() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    let other: Tenant = "other".parse().unwrap();
    let refused = world.webhooks.cancel(&other, delivery).await;
    assert!(matches!(refused, Err(RequestError::NotFound)), "{refused:?}");
}
