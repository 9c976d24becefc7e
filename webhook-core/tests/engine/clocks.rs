//! Promise 18: clocks may lie. The store's clock says what is due, the queue's how long a lease lasts; a worker's
//! wall clock says nothing, and its monotonic clock only ever makes it send less.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::model::{DeliveryStatus, NewEvent, Outcome};
use webhook_core::queue::{JobQueue as _, NewJob};
use webhook_core::testing::{ManualClock, RecordingDeliverer, START, Scripted};
use webhook_core::time::{Clock as _, Timestamp};
use webhook_core::{SubscriptionDraft, Webhooks, Workers};

use crate::faulty::{Call, Fault};
use crate::faulty_queue::QueueCall;
use crate::support::{TARGET, World, seconds, tenant};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// An engine whose wall clock is moved a year forth or back, in turn, by every request.
fn lying(answer: Scripted) -> (World, ManualClock) {
    let clock = ManualClock::new();
    let lies = clock.clone();
    let target = RecordingDeliverer::scripted(move |_| {
        lies.set(if lies.now() > START { Timestamp::EPOCH } else { START.after(YEAR) });
        answer.clone()
    });
    let world = World::with(target, |builder| builder.clock(Arc::new(clock.clone())).lease(seconds(2)));
    (world, clock)
}

/// Promises 6 and 18.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_moves_no_wait_and_no_lease() {
    // Each attempt takes longer than its lease, which is renewed.
    let (world, _) = lying(Scripted::status(500).after(seconds(5)));
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    let finished = world.finished(delivery).await;
    let times: Vec<_> = world.target.requests().iter().map(|request| request.at).collect();
    assert_eq!(times.len(), 3);
    for (pair, wait) in times.windows(2).zip([10, 60]) {
        let gap = pair[1] - pair[0];
        assert!((seconds(5 + wait)..seconds(5 + wait + 6)).contains(&gap), "{gap:?} for {wait} s");
    }
    assert_eq!(finished.state.attempts, 3);
    let end = finished.finished_at.unwrap();
    assert!(end.since(START) < seconds(120) && end > START, "{end} by the store's clock");
}

/// Promises 6 and 18: a worker that is a year ahead has room for it at once, and must not send it.
#[tokio::test(start_paused = true)]
async fn a_scheduled_event_is_sent_at_its_moment_by_the_stores_clock() {
    for worker in [START.after(YEAR), Timestamp::EPOCH] {
        let (world, clock) = lying(Scripted::status(200));
        clock.set(worker);
        world.webhooks.spawn(Workers::default()).unwrap();
        world.subscribe(SubscriptionDraft::to(TARGET)).await;
        let start = tokio::time::Instant::now();
        let event = NewEvent::json("a.b", "{}").deliver_at(START.after(seconds(3600)));
        let published = world.webhooks.publish(event).await.unwrap();
        tokio::time::sleep(seconds(3599)).await;
        assert!(world.target.requests().is_empty(), "with a clock at {worker}");
        world.finished(published.deliveries[0].0).await;
        let waited = world.target.requests()[0].at - start;
        assert!((seconds(3600)..seconds(3606)).contains(&waited), "{waited:?} with a clock at {worker}");
    }
}

/// What the other sends is still on the wire when the first one goes on.
fn slow() -> RecordingDeliverer {
    RecordingDeliverer::scripted(|_| Scripted::status(200).after(seconds(14)))
}

/// Two workers of which the first does not get, or not get on with, what it claimed within its lease of 30 s.
async fn frozen(
    freeze: impl FnOnce(&World, &crate::faulty::FaultyStore, &crate::faulty_queue::FaultyQueue),
) -> World {
    let (world, store, queue) = World::on_faulty_backends(slow());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    while world.webhooks.depth().await.unwrap().due < 1 {
        tokio::task::yield_now().await;
    }
    freeze(&world, &store, &queue);
    world.webhooks.spawn(Workers::default()).unwrap();
    tokio::time::sleep(seconds(1)).await;
    assert!(world.target.requests().is_empty(), "it is frozen");
    let another = world.another();
    another.spawn(Workers::default()).unwrap();
    let start = tokio::time::Instant::now();
    let state = world.finished(delivery).await.state;
    assert_eq!(state.status, DeliveryStatus::Succeeded);
    assert!(start.elapsed() < seconds(36 + 14), "the other goes on when the lease has run out");
    tokio::time::sleep(seconds(300)).await;
    another.shutdown(seconds(1)).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_frozen_past_its_lease_while_it_claimed_sends_nothing() {
    let world = frozen(|_, _, queue| queue.delay(QueueCall::Claim, seconds(40))).await;
    assert_eq!(world.target.requests().len(), 1, "the other's");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_frozen_past_its_lease_while_it_loaded_sends_nothing() {
    let world = frozen(|_, store, _| store.fail(Call::Load, Fault::Slow(seconds(40)))).await;
    assert_eq!(world.target.requests().len(), 1, "the other's");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_frozen_past_its_lease_while_a_fresh_job_was_handed_to_it_sends_nothing() {
    let (world, _, queue) = World::on_faulty_backends(slow());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.webhooks.spawn(Workers::default()).unwrap();
    tokio::time::sleep(seconds(1)).await;
    queue.delay(QueueCall::Enqueue, seconds(40));
    let delivery = world.publish("a.b").await.deliveries[0].0;
    tokio::time::sleep(seconds(1)).await;
    assert!(world.target.requests().is_empty(), "it is frozen");
    let another = world.another();
    another.spawn(Workers::default()).unwrap();
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(world.target.requests().len(), 1, "the other's");
    another.shutdown(seconds(1)).await;
}

/// What is to be sent does not wait until what is not to be sent is settled: its lease would run out meanwhile.
#[tokio::test(start_paused = true)]
async fn a_slow_settle_of_others_makes_nobody_send_after_its_lease() {
    let (world, _, queue) = World::on_faulty_backends(RecordingDeliverer::new());
    let id = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    // A job of a delivery that is long gone.
    let stray = NewJob {
        id: webhook_core::id::DeliveryId::new(),
        lane: id,
        wait: Duration::ZERO,
        lane_version: 1,
        urgent: false,
    };
    world.queue.enqueue(&[stray], None).await.unwrap();
    while world.webhooks.depth().await.unwrap().due < 2 {
        tokio::task::yield_now().await;
    }
    queue.delay(QueueCall::Settle, seconds(40));
    let start = tokio::time::Instant::now();
    world.webhooks.spawn(Workers::default()).unwrap();
    let another = world.another();
    another.spawn(Workers::default()).unwrap();
    world.finished(delivery).await;
    tokio::time::sleep(seconds(300)).await;
    let requests = world.target.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].at - start < seconds(1), "{:?}", requests[0].at - start);
    another.shutdown(seconds(1)).await;
}

/// The store's and the queue's clock has gone on by more than a lease, and the worker's monotonic clock has not, as
/// after a suspended machine: it cannot know, and what it does then harms nothing but one repeated request.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_monotonic_clock_is_late_is_overtaken_and_its_result_has_its_row() {
    for (answer, outcome) in [(200, Outcome::Succeeded), (500, Outcome::Failed)] {
        let clock = ManualClock::new();
        let store = Arc::new(MemoryStore::with_clock(Arc::new(clock.clone())));
        let queue = Arc::new(MemoryQueue::with_clock(Arc::new(clock.clone())));
        let target = RecordingDeliverer::new();
        let engine = || {
            Webhooks::builder(store.clone())
                .queue(queue.clone())
                .deliverer(Arc::new(target.clone()))
                .clock(Arc::new(clock.clone()))
                .build()
                .unwrap()
        };
        let late = engine();
        late.spawn(Workers::default()).unwrap();
        late.subscriptions().create(&tenant(), &SubscriptionDraft::to(TARGET)).await.unwrap();
        target.answer(TARGET, Scripted::status(answer).after(seconds(5)));
        target.answer(TARGET, Scripted::status(200).after(seconds(10)));
        let delivery = late.publish(NewEvent::json("a.b", "{}")).await.unwrap().deliveries[0].0;
        target.wait_for(1).await;
        clock.advance(seconds(31));
        let another = engine();
        another.spawn(Workers::default()).unwrap();
        target.wait_for(2).await;
        tokio::time::sleep(seconds(60)).await;
        use webhook_core::store::History as _;
        let rows: Vec<_> = store.attempts_of(None, delivery).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row.number, row.outcome)).collect();
        assert_eq!(rows, [(1, outcome), (2, Outcome::Succeeded)], "each result in its own row");
        let state = store.delivery(None, delivery).await.unwrap().unwrap().state;
        assert_eq!((state.status, state.attempts), (DeliveryStatus::Succeeded, 2));
        assert_eq!(target.requests().len(), 2);
        late.shutdown(seconds(1)).await;
        another.shutdown(seconds(1)).await;
    }
}
