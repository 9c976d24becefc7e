//! What meets an attempt that is on the wire: another worker, a person, a change of its subscription.

use webhook_core::id::DeliveryId;
use webhook_core::model::{
    DeliveryStatus, DisabledReason, Outcome, StatusReason, SubscriptionStatus, Trigger,
};
use webhook_core::store::{DeliveryStore as _, Ended, Expire};
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{SubscriptionDraft, Workers};

use crate::support::{TARGET, World, seconds, tenant};

/// The first request is answered so after five seconds, the second at once, all others with 200.
async fn on_the_wire(first: u16, second: u16) -> (World, DeliveryId) {
    let world = World::running(RecordingDeliverer::new());
    world.target.answer(TARGET, Scripted::status(first).after(seconds(5)));
    world.target.answer(TARGET, Scripted::status(second));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(1).await;
    (world, delivery)
}

/// The queue loses its memory, so that another process makes the next attempt meanwhile.
async fn taken_by_another(first: u16, second: u16) -> (World, DeliveryId) {
    let (world, delivery) = on_the_wire(first, second).await;
    world.queue.forget_everything();
    let another = world.another();
    another.spawn(Workers::default()).unwrap();
    // The process that holds the attempt claims nothing more: the other makes it.
    let stopping = world.webhooks.clone();
    tokio::spawn(async move { stopping.shutdown(seconds(60)).await });
    another.wake();
    world.target.wait_for(2).await;
    (world, delivery)
}

async fn outcomes(world: &World, id: DeliveryId) -> Vec<(u32, Outcome)> {
    world.attempts(id).await.iter().map(|attempt| (attempt.number, attempt.outcome)).collect()
}

/// Promise 7: every result has its row, late ones too.
#[tokio::test(start_paused = true)]
async fn a_late_success_ends_an_unfinished_delivery() {
    let (world, delivery) = taken_by_another(200, 500).await;
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(outcomes(&world, delivery).await, [(1, Outcome::Failed), (2, Outcome::Succeeded)]);
    assert_eq!(world.target.requests().len(), 2);
}

/// Promise 7: it moves neither the schedule nor the state.
#[tokio::test(start_paused = true)]
async fn a_late_failure_only_adds_its_row() {
    let (world, delivery) = taken_by_another(500, 500).await;
    let second = world.target.requests()[1].at;
    let third = world.target.wait_for(3).await[2].at;
    assert!((seconds(10)..seconds(16)).contains(&(third - second)), "{:?}", third - second);
    let finished = world.finished(delivery).await.state;
    assert_eq!((finished.status, finished.failed), (DeliveryStatus::Succeeded, 1));
    let rows = [(1, Outcome::Failed), (2, Outcome::Failed), (3, Outcome::Succeeded)];
    assert_eq!(outcomes(&world, delivery).await, rows);
}

/// Promise 5.
#[tokio::test(start_paused = true)]
async fn a_late_failure_after_a_success_only_adds_its_row() {
    let (world, delivery) = taken_by_another(410, 200).await;
    world.finished(delivery).await;
    tokio::time::sleep(seconds(120)).await;
    let state = world.delivery(delivery).await.state;
    assert_eq!((state.status, state.attempts), (DeliveryStatus::Succeeded, 2));
    assert_eq!(world.target.requests().len(), 2);
}

/// Promise 5: a cancel, and a reopening before the result came.
#[tokio::test(start_paused = true)]
async fn a_failure_of_a_cancelled_chain_does_not_move_the_reopened_one() {
    let (world, delivery) = on_the_wire(500, 200).await;
    world.webhooks.cancel(&tenant(), delivery).await.unwrap();
    world.webhooks.retry(&tenant(), delivery, false).await.unwrap();
    let finished = world.finished(delivery).await.state;
    assert_eq!((finished.status, finished.chain, finished.failed), (DeliveryStatus::Succeeded, 1, 0));
    tokio::time::sleep(seconds(120)).await;
    let triggers: Vec<_> = world.attempts(delivery).await.iter().map(|attempt| attempt.trigger).collect();
    assert_eq!(triggers, [Trigger::Schedule, Trigger::Manual]);
    assert_eq!(world.target.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_asked_for_in_mid_flight_is_made_after_a_failure() {
    let (world, delivery) = on_the_wire(500, 500).await;
    let start = world.target.requests()[0].at;
    world.webhooks.retry(&tenant(), delivery, false).await.unwrap();
    let manual = world.target.wait_for(2).await[1].at;
    assert!((seconds(5)..seconds(6)).contains(&(manual - start)), "{:?}", manual - start);
    let scheduled = world.target.wait_for(3).await[2].at;
    assert!((seconds(15)..seconds(21)).contains(&(scheduled - start)), "{:?}", scheduled - start);
    let finished = world.finished(delivery).await.state;
    assert_eq!((finished.status, finished.failed), (DeliveryStatus::Succeeded, 1));
    let triggers: Vec<_> = world.attempts(delivery).await.iter().map(|attempt| attempt.trigger).collect();
    assert_eq!(triggers, [Trigger::Schedule, Trigger::Manual, Trigger::Schedule]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_asked_for_in_mid_flight_is_needless_after_a_success() {
    let (world, delivery) = on_the_wire(200, 200).await;
    world.webhooks.retry(&tenant(), delivery, false).await.unwrap();
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(world.target.requests().len(), 1);
}

/// Promise 5.
#[tokio::test(start_paused = true)]
async fn a_success_after_its_subscription_was_deleted_only_adds_its_row() {
    let (world, delivery) = on_the_wire(200, 200).await;
    let subscription = world.delivery(delivery).await.subscription_id;
    world.webhooks.subscriptions().delete(&tenant(), subscription, None).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    let state = world.delivery(delivery).await.state;
    assert_eq!((state.reason, state.attempts), (Some(StatusReason::SubscriptionDeleted), 0));
    tokio::time::sleep(seconds(120)).await;
    let state = world.delivery(delivery).await.state;
    assert_eq!((state.status, state.attempts), (DeliveryStatus::Cancelled, 1));
    assert_eq!(world.webhooks.in_flight(), 0);
}

/// Promise 5: expired by another node.
#[tokio::test(start_paused = true)]
async fn a_result_after_the_expiry_only_adds_its_row() {
    for answer in [200, 500] {
        let (world, delivery) = on_the_wire(answer, 200).await;
        tokio::time::sleep(seconds(1)).await;
        let expired = world.store.expire(Expire::OlderThan(seconds(0)), 10).await.unwrap();
        assert_eq!(Ended::total(&expired.ended), 1);
        tokio::time::sleep(seconds(120)).await;
        let state = world.delivery(delivery).await.state;
        assert_eq!((state.reason, state.attempts), (Some(StatusReason::Expired), 1));
        assert_eq!(world.target.requests().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_mid_flight_holds_the_next_attempt() {
    let (world, delivery) = on_the_wire(500, 200).await;
    let subscription = world.delivery(delivery).await.subscription_id;
    world.webhooks.subscriptions().pause(&tenant(), subscription).await.unwrap();
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(world.target.requests().len(), 1);
    assert_eq!(outcomes(&world, delivery).await, [(1, Outcome::Failed)]);
    world.webhooks.subscriptions().resume(&tenant(), subscription).await.unwrap();
    let finished = world.finished(delivery).await.state;
    assert_eq!((finished.status, finished.attempts), (DeliveryStatus::Succeeded, 2));
}

/// Promise 9: only time-stamp, signature and number change.
#[tokio::test(start_paused = true)]
async fn a_rotation_in_mid_flight_signs_the_next_attempt_with_both_secrets() {
    let (world, delivery) = on_the_wire(500, 200).await;
    let subscription = world.delivery(delivery).await.subscription_id;
    let subscriptions = world.webhooks.subscriptions();
    subscriptions.rotate_secret(&tenant(), subscription, None, seconds(3600)).await.unwrap();
    world.finished(delivery).await;
    let requests = world.target.requests();
    let signatures = |index: usize| requests[index].header("webhook-signature").unwrap().split(' ').count();
    assert_eq!((signatures(0), signatures(1)), (1, 2));
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[0].request.body, requests[1].request.body);
}

/// Whoever is told where to deliver while an attempt is on the wire is not told by the old target that it is gone.
#[tokio::test(start_paused = true)]
async fn gone_from_a_target_that_was_changed_in_mid_flight_is_an_ordinary_failure() {
    let (world, delivery) = on_the_wire(410, 200).await;
    let id = world.delivery(delivery).await.subscription_id;
    let subscriptions = world.webhooks.subscriptions();
    let moved = "https://moved.example.com/hook";
    subscriptions.replace(&tenant(), id, &SubscriptionDraft::to(moved), None).await.unwrap();
    let finished = world.finished(delivery).await.state;
    assert_eq!((finished.status, finished.failed), (DeliveryStatus::Succeeded, 1));
    let requests = world.target.requests();
    let urls: Vec<_> = requests.iter().map(|request| request.request.url.as_str()).collect();
    assert_eq!(urls, [TARGET, moved]);
    assert!(requests[1].at - requests[0].at >= seconds(15), "on schedule");
    assert_eq!(subscriptions.get(&tenant(), id).await.unwrap().status, SubscriptionStatus::Active);
}

/// What the target says is newer than what a person said; resuming re-enables either way.
#[tokio::test(start_paused = true)]
async fn gone_in_mid_flight_disables_a_subscription_that_was_paused_meanwhile() {
    let (world, delivery) = on_the_wire(410, 200).await;
    let id = world.delivery(delivery).await.subscription_id;
    let subscriptions = world.webhooks.subscriptions();
    subscriptions.pause(&tenant(), id).await.unwrap();
    assert_eq!(world.finished(delivery).await.state.reason, Some(StatusReason::Gone));
    let mut now = subscriptions.get(&tenant(), id).await.unwrap();
    while now.status == SubscriptionStatus::Paused {
        tokio::task::yield_now().await;
        now = subscriptions.get(&tenant(), id).await.unwrap();
    }
    assert_eq!((now.status, now.disabled_reason), (SubscriptionStatus::Disabled, Some(DisabledReason::Gone)));
    let paused = subscriptions.pause(&tenant(), id).await.unwrap();
    assert_eq!(paused.status, SubscriptionStatus::Disabled, "a pause hides nothing");
    let resumed = subscriptions.resume(&tenant(), id).await.unwrap();
    assert_eq!((resumed.status, resumed.disabled_reason), (SubscriptionStatus::Active, None));
}
