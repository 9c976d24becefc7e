//! Promise 2: a queue that lost its memory is filled again, settings before jobs.

use webhook_core::model::NewEvent;
use webhook_core::queue::{Hold, JobQueue as _};
use webhook_core::store::Store as _;
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::faulty_queue::State;
use crate::support::{TARGET, World, seconds, tenant};

/// More than the reconcile period with its jitter.
const PERIOD: u64 = 6;

/// Not even of lanes that have no job, which no sweep would bring: a claim is never served by forgotten settings.
#[tokio::test(start_paused = true)]
async fn after_a_flush_the_settings_of_every_lane_are_known_again() {
    let world = World::running(RecordingDeliverer::new());
    let limited =
        world.subscribe(SubscriptionDraft { max_in_flight: Some(7), ..SubscriptionDraft::to(TARGET) }).await;
    let paused = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.webhooks.subscriptions().pause(&tenant(), paused.id).await.unwrap();
    tokio::time::sleep(seconds(PERIOD)).await;
    world.queue.forget_everything();
    let lanes = [limited.id, paused.id];
    assert_eq!(world.queue.lane_states(&lanes).await.unwrap(), [None, None]);

    tokio::time::sleep(seconds(PERIOD)).await;
    let states = world.queue.lane_states(&lanes).await.unwrap();
    let held: Vec<_> = states.into_iter().map(|state| state.expect("it is known").hold).collect();
    assert_eq!(held, [None, Some(Hold::Paused)]);
    let noted = world.store.queue_epoch().await.unwrap();
    assert_eq!(noted, world.queue.epoch().await.unwrap(), "the store knows which memory it filled");
}

/// Over any number of pages, each once, and those that wait come no earlier.
#[tokio::test(start_paused = true)]
async fn after_a_flush_everything_owed_is_there_again() {
    const EVENTS: usize = 4_500;
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let at = webhook_core::testing::START.after(seconds(60));
    for _ in 0..EVENTS {
        world.webhooks.publish(NewEvent::json("a.b", "{}").deliver_at(at)).await.unwrap();
    }
    tokio::time::sleep(seconds(PERIOD)).await;
    assert_eq!(world.webhooks.depth().await.unwrap().scheduled, EVENTS as u64);
    world.queue.forget_everything();
    assert_eq!(world.webhooks.depth().await.unwrap().scheduled, 0);

    tokio::time::sleep(seconds(PERIOD)).await;
    let depth = world.webhooks.depth().await.unwrap();
    assert_eq!((depth.due, depth.scheduled), (0, EVENTS as u64));
    assert!(world.target.requests().is_empty());
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(world.target.requests().len(), EVENTS, "each once");
}

/// It may have become the leader and not heard so, and it may fail in the middle: it begins again.
#[tokio::test(start_paused = true)]
async fn a_leader_that_failed_begins_again() {
    let (world, store, queue) = World::on_faulty_backends(RecordingDeliverer::new());
    let lane = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    world.webhooks.spawn(Workers::default()).unwrap();
    tokio::time::sleep(seconds(PERIOD)).await;
    world.queue.forget_everything();
    store.fail(Call::AdvanceEpoch, Fault::After);
    let known = async || world.queue.lane_states(&[lane]).await.unwrap()[0].is_some();
    let noted = async || world.store.queue_epoch().await.unwrap() == world.queue.epoch().await.unwrap();
    while !noted().await {
        tokio::time::sleep(seconds(1)).await;
    }
    assert!(!known().await, "it did not hear that it leads");
    queue.set(State::Away);
    tokio::time::sleep(seconds(3 * PERIOD)).await;
    queue.set(State::Works);
    tokio::time::sleep(seconds(PERIOD)).await;
    assert!(known().await);
}

/// Who did not become the leader goes on as always, and what it does is enough.
#[tokio::test(start_paused = true)]
async fn who_does_not_lead_finds_what_is_owed_all_the_same() {
    let world = World::new(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    for _ in 0..10 {
        world.publish("a.b").await;
    }
    while world.webhooks.depth().await.unwrap().due < 10 {
        tokio::task::yield_now().await;
    }
    world.queue.forget_everything();
    // Another node has noted it, and died before it brought anything.
    let noted = world.store.queue_epoch().await.unwrap();
    assert!(world.store.advance_epoch(noted, world.queue.epoch().await.unwrap()).await.unwrap());
    world.webhooks.spawn(Workers::default()).unwrap();
    world.target.wait_for(10).await;
}

/// A leader that dies has no successor. The next sweep of any other node brings what it did not: all of it at once,
/// however many pages that is, and what waits comes no earlier for it.
#[tokio::test(start_paused = true)]
async fn what_a_dead_leader_did_not_bring_comes_with_the_next_sweep_of_another() {
    const EVENTS: usize = 4_500;
    let world = World::running(RecordingDeliverer::new());
    let lane = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    let at = webhook_core::testing::START.after(seconds(60));
    for _ in 0..EVENTS {
        world.webhooks.publish(NewEvent::json("a.b", "{}").deliver_at(at)).await.unwrap();
    }
    tokio::time::sleep(seconds(PERIOD)).await;
    world.queue.forget_everything();
    let noted = world.store.queue_epoch().await.unwrap();
    let leads = world.store.advance_epoch(noted, world.queue.epoch().await.unwrap()).await.unwrap();
    assert!(leads, "the other node was the first to notice, and died");
    let lost = tokio::time::Instant::now();
    while world.webhooks.depth().await.unwrap().scheduled < EVENTS as u64 {
        assert!(lost.elapsed() < seconds(PERIOD), "it took more than one sweep");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(world.queue.lane_states(&[lane]).await.unwrap()[0].is_some());
    assert!(world.target.requests().is_empty());
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(world.target.requests().len(), EVENTS, "each once");
}
