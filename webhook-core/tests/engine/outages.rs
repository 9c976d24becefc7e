//! Promises 15, 16 and 17: a backend that is away is a pause, and nothing grows meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use webhook_core::model::{DeliveryStatus, NewEvent, Outcome};
use webhook_core::testing::{RecordingDeliverer, START, Scripted};
use webhook_core::{PublishError, SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::faulty_queue::State;
use crate::support::{TARGET, World, seconds, tenant};

/// Counts the bytes that were given away and are still held by somebody.
#[derive(Debug, Clone, Default)]
struct Counter(Arc<AtomicUsize>);

struct Counted {
    bytes: Vec<u8>,
    counter: Counter,
}

impl Counter {
    /// Bytes that are counted one by one for as long as anybody holds them.
    fn give(&self, bytes: Vec<u8>) -> Bytes {
        self.0.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Counted { bytes, counter: self.clone() })
    }

    fn held(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counter.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A JSON string of so many bytes.
fn json(length: usize) -> Vec<u8> {
    let mut json = vec![b'a'; length];
    json[0] = b'"';
    json[length - 1] = b'"';
    json
}

/// Returns when so many requests have come, which must be soon.
async fn soon(world: &World, requests: usize) {
    let start = tokio::time::Instant::now();
    while world.target.requests().len() < requests {
        assert!(start.elapsed() < seconds(20), "{} of {requests}", world.target.requests().len());
        tokio::time::sleep(seconds(1)).await; // verify: allow(sleep): paused time
    }
}

/// Promises 15 and 2.
#[tokio::test(start_paused = true)]
async fn while_the_queue_is_away_publishing_goes_on_and_all_is_delivered_when_it_is_back() {
    let (world, store, queue) = World::on_faulty_backends(RecordingDeliverer::new());
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    queue.set(State::Away);
    let mut last = None;
    for _ in 0..3_000 {
        last = Some(world.publish("a.b").await.deliveries[0].0);
    }
    let readiness = world.webhooks.readiness().await;
    assert!(readiness.store.is_ok() && readiness.queue.is_err());
    let (_, _) = (store.calls(), queue.calls());
    tokio::time::sleep(seconds(300)).await;
    // A claim every 2.5 s at least, a sweep every 4.5 s: nothing spins, and nothing grows with what waits.
    let calls = (queue.calls(), store.calls());
    assert!(calls.0 < 250 && calls.1 < 400, "{calls:?} calls of the queue and the store in five minutes");
    assert!(world.target.requests().is_empty());
    assert_eq!(world.delivery(last.unwrap()).await.state.status, DeliveryStatus::Pending);

    queue.set(State::Works);
    soon(&world, 3_000).await;
    world.webhooks.run_until_idle().await.unwrap();
    assert_eq!(world.target.requests().len(), 3_000, "each once");
}

/// Promise 15: results are stored; their jobs are settled when the queue is back, and sent nothing twice.
#[tokio::test(start_paused = true)]
async fn a_result_that_comes_while_the_queue_is_away_is_stored_and_sent_once() {
    let (world, _, queue) = World::on_faulty_backends(RecordingDeliverer::new());
    world.webhooks.spawn(Workers::default()).unwrap();
    world.target.answer(TARGET, Scripted::status(200).after(seconds(5)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(1).await;
    queue.set(State::Away);
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(world.webhooks.in_flight(), 0);
    queue.set(State::Works);
    tokio::time::sleep(seconds(60)).await;
    assert_eq!((world.target.requests().len(), world.attempts(delivery).await.len()), (1, 1));
    let depth = world.webhooks.depth().await.unwrap();
    assert_eq!((depth.due, depth.scheduled), (0, 0), "its job is gone");
}

/// Promise 16: the queue takes no job, however many there are.
#[tokio::test(start_paused = true)]
async fn what_is_held_while_the_queue_is_away_does_not_grow_with_the_backlog() {
    // Of small events their number is bounded, of large ones their bytes: 32 MiB of a quarter each.
    for (state, events, length, most) in [
        (State::Hangs, 12_000, 64, 8_192 + 256),
        (State::Hangs, 200, 256 * 1024, 128),
        (State::Away, 12_000, 64, 2_048),
    ] {
        let (world, _, queue) = World::on_faulty_backends(RecordingDeliverer::new());
        world.webhooks.spawn(Workers::default()).unwrap();
        world.subscribe(SubscriptionDraft::to(TARGET)).await;
        queue.set(state);
        let counter = Counter::default();
        let mut held = 0;
        for _ in 0..events {
            world.webhooks.publish(NewEvent::json("a.b", counter.give(json(length)))).await.unwrap();
            held = held.max(counter.held());
        }
        assert!(held <= most, "{held} of {events} events of {length} bytes are held while it {state:?}");
        queue.set(State::Works);
        soon(&world, events).await;
        world.webhooks.run_until_idle().await.unwrap();
        assert_eq!(world.target.requests().len(), events, "each once");
        // The target keeps what it got.
        world.target.clear();
        assert_eq!(counter.held(), 0);
    }
}

/// Promise 15: a worker that claims and cannot load neither spins through the backlog nor drops any of it.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nothing_is_dropped_and_nothing_spins() {
    let (world, store, queue) = World::on_faulty_backends(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    // Its lane has proved itself, so that nothing but the store holds it back.
    world.publish("a.b").await;
    world.webhooks.run_until_idle().await.unwrap();
    let mut published = Vec::new();
    for _ in 0..3_000 {
        published.push(world.publish("a.b").await.deliveries[0].0);
    }
    while world.webhooks.depth().await.unwrap().due < 3_000 {
        tokio::task::yield_now().await;
    }
    store.set_away(true);
    let (_, _) = (store.calls(), queue.calls());
    world.webhooks.spawn(Workers::default()).unwrap();
    tokio::time::sleep(seconds(300)).await;
    let calls = (queue.calls(), store.calls());
    assert!(calls.0 < 400 && calls.1 < 600, "{calls:?} calls of the queue and the store in five minutes");
    let refused = world.webhooks.publish(NewEvent::json("a.b", "{}")).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    assert_eq!(world.target.requests().len(), 1);

    store.set_away(false);
    soon(&world, 3_001).await;
    world.webhooks.run_until_idle().await.unwrap();
    assert_eq!(world.target.requests().len(), 3_001, "each once");
    for delivery in published {
        let state = world.delivery(delivery).await.state;
        assert_eq!((state.status, state.attempts, state.unknowns), (DeliveryStatus::Succeeded, 1, 0));
    }
}

/// Promise 16: every result that waits for the store keeps its slot.
#[tokio::test(start_paused = true)]
async fn no_more_results_wait_for_the_store_than_there_are_slots() {
    let counter = Counter::default();
    let answers = counter.clone();
    let (world, store, _) = World::on_faulty_backends(RecordingDeliverer::scripted(move |_| {
        Scripted::status(200).after(seconds(2)).body(answers.give(vec![b'a'; 1024]))
    }));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    for _ in 0..1_000 {
        world.publish("a.b").await;
    }
    world.webhooks.spawn(Workers::default().concurrency(64)).unwrap();
    world.target.wait_for(1).await;
    store.set_away(true);
    let mut held = 0;
    for _ in 0..300 {
        tokio::time::sleep(seconds(1)).await;
        held = held.max(counter.held());
        assert!(world.webhooks.in_flight() <= 64);
    }
    assert!((1..=64).contains(&held), "{held} answers");
    assert_eq!(world.target.requests().len(), held, "nothing starts whose result could not wait");
    store.set_away(false);
    world.webhooks.run_until_idle().await.unwrap();
    assert_eq!(world.target.requests().len(), 1_000, "each once");
}

/// Promises 15 and 17: whatever is away, and whether it fails or hangs, a stop ends with its grace. What could not
/// be recorded is the next worker's, which knows of it.
#[tokio::test(start_paused = true)]
async fn a_stop_while_the_store_is_away_ends_with_its_grace() {
    let (world, store, _) = World::on_faulty_backends(RecordingDeliverer::new());
    world.webhooks.spawn(Workers::default()).unwrap();
    world.target.answer(TARGET, Scripted::status(200).after(seconds(1)));
    world.target.answer(TARGET, Scripted::status(200).after(seconds(14)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let waits = world.publish("a.b").await.deliveries[0].0;
    let on_the_wire = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(2).await;
    store.set_away(true);
    tokio::time::sleep(seconds(2)).await;
    let start = tokio::time::Instant::now();
    world.webhooks.shutdown(seconds(5)).await;
    let took = start.elapsed();
    assert!((seconds(5)..=seconds(6)).contains(&took), "{took:?}");

    store.set_away(false);
    let elsewhere = world.another();
    elsewhere.spawn(Workers::default()).unwrap();
    for delivery in [waits, on_the_wire] {
        assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
        let rows: Vec<_> = world.attempts(delivery).await.iter().map(|attempt| attempt.outcome).collect();
        assert_eq!(rows, [Outcome::Unknown, Outcome::Succeeded]);
    }
    elsewhere.shutdown(seconds(1)).await;
}

/// Promise 17: results that come after the store is back, before the grace is over, are recorded.
#[tokio::test(start_paused = true)]
async fn a_stop_while_the_store_comes_back_records_what_waited() {
    let (world, store, _) = World::on_faulty_backends(RecordingDeliverer::new());
    world.webhooks.spawn(Workers::default()).unwrap();
    world.target.answer(TARGET, Scripted::status(200).after(seconds(1)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(1).await;
    store.set_away(true);
    tokio::time::sleep(seconds(60)).await;
    let stopping = world.webhooks.clone();
    let stop = tokio::spawn(async move { stopping.shutdown(seconds(30)).await });
    tokio::time::sleep(seconds(10)).await;
    store.set_away(false);
    stop.await.unwrap();
    let state = world.delivery(delivery).await.state;
    assert_eq!((state.status, state.attempts), (DeliveryStatus::Succeeded, 1));
    assert_eq!(world.attempts(delivery).await[0].outcome, Outcome::Succeeded);
}

/// Promises 15 and 17.
#[tokio::test(start_paused = true)]
async fn a_stop_while_the_queue_is_away_ends_with_its_grace_and_leaves_what_is_finished_finished() {
    for (state, longest) in [(State::Away, seconds(6)), (State::Hangs, seconds(11))] {
        let (world, _, queue) = World::on_faulty_backends(RecordingDeliverer::new());
        world.webhooks.spawn(Workers::default()).unwrap();
        world.target.answer(TARGET, Scripted::status(200).after(seconds(1)));
        world.subscribe(SubscriptionDraft::to(TARGET)).await;
        let delivery = world.publish("a.b").await.deliveries[0].0;
        world.target.wait_for(1).await;
        queue.set(state);
        let start = tokio::time::Instant::now();
        world.webhooks.shutdown(seconds(5)).await;
        assert!(start.elapsed() <= longest, "{:?} while it {state:?}", start.elapsed());
        let stored = world.delivery(delivery).await.state;
        assert_eq!((stored.status, stored.attempts), (DeliveryStatus::Succeeded, 1));
        queue.set(State::Works);
        let elsewhere = world.another();
        elsewhere.spawn(Workers::default()).unwrap();
        tokio::time::sleep(seconds(120)).await;
        assert_eq!(world.target.requests().len(), 1);
        elsewhere.shutdown(seconds(1)).await;
    }
}

/// A queue that was away missed a pause: the worker that meets an older lane tells it, before it hands anything back.
#[tokio::test(start_paused = true)]
async fn a_pause_that_the_queue_missed_is_pushed_by_whoever_loads_and_nothing_spins() {
    let (world, _, queue) = World::on_faulty_backends(RecordingDeliverer::new());
    // The sweep, which would tell the queue too, comes once at the start and then much later.
    let workers = world.another_with(|builder| builder.reconcile_period(seconds(3600)));
    workers.spawn(Workers::default()).unwrap();
    let id = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    for _ in 0..100 {
        let later = NewEvent::json("a.b", "{}").deliver_at(START.after(seconds(20)));
        world.webhooks.publish(later).await.unwrap();
    }
    tokio::time::sleep(seconds(10)).await;
    queue.set(State::Away);
    world.webhooks.subscriptions().pause(&tenant(), id).await.unwrap();
    queue.set(State::Works);
    let _ = queue.calls();
    queue.most(200);
    tokio::time::sleep(seconds(60)).await;
    let calls = queue.calls();
    assert!(calls < 50, "{calls} calls in a minute");
    assert!(world.target.requests().is_empty());
    world.webhooks.subscriptions().resume(&tenant(), id).await.unwrap();
    soon(&world, 100).await;
    workers.shutdown(seconds(1)).await;
}

/// Promise 17: a store that neither fails nor answers. It may still do what it was asked, and nothing is sent twice.
#[tokio::test(start_paused = true)]
async fn a_stop_while_the_store_does_not_answer_ends_five_seconds_after_its_grace_at_most() {
    for call in [Call::Insert, Call::Record] {
        let (world, store, _) = World::on_faulty_backends(RecordingDeliverer::new());
        world.webhooks.spawn(Workers::default()).unwrap();
        world.subscribe(SubscriptionDraft::to(TARGET)).await;
        store.fail(call, Fault::Slow(seconds(600)));
        let publishing = world.webhooks.clone();
        tokio::spawn(async move { publishing.publish(NewEvent::json("a.b", "{}")).await });
        tokio::time::sleep(seconds(1)).await;
        let start = tokio::time::Instant::now();
        world.webhooks.shutdown(seconds(5)).await;
        assert!(start.elapsed() <= seconds(10), "{:?} while {call:?} does not answer", start.elapsed());
        let elsewhere = world.another();
        elsewhere.spawn(Workers::default()).unwrap();
        soon(&world, 1).await;
        tokio::time::sleep(seconds(900)).await;
        assert_eq!(world.target.requests().len(), 1);
        elsewhere.shutdown(seconds(1)).await;
    }
}
