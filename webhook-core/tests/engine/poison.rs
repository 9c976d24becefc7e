//! Promise 14: whatever cannot be stored or loaded stands alone.

use webhook_core::id::DeliveryId;
use webhook_core::model::{DeliveryStatus, Outcome, StatusReason};
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Workers};

use crate::faulty::Culprits;
use crate::support::{TARGET, World, seconds};

/// Proves the lane, so that all that follow are claimed together, and publishes a hundred.
async fn a_hundred(world: &World) -> Vec<DeliveryId> {
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    for _ in 0..8 {
        world.publish("a.b").await;
        world.webhooks.run_until_idle().await.unwrap();
    }
    let mut published = Vec::new();
    for _ in 0..100 {
        published.push(world.publish("a.b").await.deliveries[0].0);
    }
    while world.webhooks.depth().await.unwrap().due < 100 {
        tokio::task::yield_now().await;
    }
    world.target.clear();
    published
}

async fn all_succeed(world: &World, deliveries: &[DeliveryId]) {
    let start = tokio::time::Instant::now();
    for delivery in deliveries {
        let state = world.finished(*delivery).await.state;
        assert_eq!((state.status, state.attempts), (DeliveryStatus::Succeeded, 1));
    }
    assert!(start.elapsed() < seconds(1), "nobody waits for it: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_cannot_be_loaded_waits_alone() {
    let (world, store, _) = World::on_faulty_backends(RecordingDeliverer::new());
    let mut published = a_hundred(&world).await;
    let culprit = published.remove(42);
    store.set_culprits(Culprits { load: Some(culprit), ..Culprits::default() });
    let _ = store.calls();
    world.webhooks.spawn(Workers::default()).unwrap();
    all_succeed(&world, &published).await;
    // A claim of 64 is halved six times.
    assert!(store.calls() < 60, "halving takes few calls");
    tokio::time::sleep(seconds(600)).await;
    assert!(store.calls() < 1_200, "it waits a minute at a time");
    assert_eq!(world.delivery(culprit).await.state.attempts, 0);
    assert_eq!(world.target.requests().len(), 99);
    // Once it can be loaded it goes on.
    store.set_culprits(Culprits::default());
    assert_eq!(world.finished(culprit).await.state.status, DeliveryStatus::Succeeded);
}

/// Promise 7 too: what its worker could not record is unknown, and the eighth in a row is poison.
#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_recorded_stands_alone_and_ends_as_poison() {
    let (world, store, _) = World::on_faulty_backends(RecordingDeliverer::new());
    let mut published = a_hundred(&world).await;
    let culprit = published.remove(42);
    store.set_culprits(Culprits { record: Some(culprit), ..Culprits::default() });
    world.webhooks.spawn(Workers::default()).unwrap();
    all_succeed(&world, &published).await;
    let ended = world.finished(culprit).await.state;
    assert_eq!((ended.status, ended.reason), (DeliveryStatus::Exhausted, Some(StatusReason::Poison)));
    let rows = world.attempts(culprit).await;
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(rows.iter().all(|row| row.outcome == Outcome::Unknown));
    assert_eq!(world.target.requests().len(), 99 + 8);
    assert_eq!(world.webhooks.in_flight(), 0);
}
