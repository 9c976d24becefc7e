//! What the engine counts, and that it counts it once.

use std::time::Duration;

use webhook_core::Webhooks;
use webhook_core::engine::Statistics;
use webhook_core::error::BackendErrorKind;
use webhook_core::model::{DeliveryStatus, NewEvent};
use webhook_core::stats::Scope;
use webhook_core::store::StatisticsStore as _;
use webhook_core::testing::{RecordingDeliverer, START, Scripted};
use webhook_core::{SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::support::{TARGET, World, seconds, tenant};

async fn read(webhooks: &Webhooks) -> Statistics {
    webhooks.statistics(&Scope::Tenant(tenant()), seconds(3600)).await.unwrap()
}

/// Deliveries by their ends, and attempts: succeeded, exhausted, cancelled; succeeded, failed, unknown.
fn numbers(statistics: &Statistics) -> ([i64; 3], [i64; 3]) {
    let counts = &statistics.counts;
    (
        [counts.succeeded, counts.exhausted, counts.cancelled],
        [counts.attempts_succeeded, counts.attempts_failed, counts.attempts_unknown],
    )
}

#[tokio::test(start_paused = true)]
async fn every_scope_counts_the_same_thing_once() {
    let world = World::running(RecordingDeliverer::new());
    let draft = SubscriptionDraft { event_types: vec!["a.*".into()], ..SubscriptionDraft::to(TARGET) };
    let subscription = world.subscribe(draft).await;
    world.target.answer(TARGET, Scripted::status(500));
    let published = world.publish("a.b").await;
    world.finished(published.deliveries[0].0).await;
    world.publish("nobody.takes.it").await;
    for (scope, events) in
        [(Scope::All, 2), (Scope::Tenant(tenant()), 2), (Scope::Subscription(tenant(), subscription.id), 1)]
    {
        let found = world.webhooks.statistics(&scope, seconds(60)).await.unwrap();
        assert_eq!((found.counts.events, numbers(&found)), (events, ([1, 0, 0], [1, 1, 0])), "{scope:?}");
        assert_eq!(found.counts.latency.count(), 1);
        assert_eq!(found.worst.len(), 1);
    }
    let other =
        world.webhooks.statistics(&Scope::Tenant("other".parse().unwrap()), seconds(60)).await.unwrap();
    assert_eq!((other.counts.events, numbers(&other)), (0, ([0; 3], [0; 3])));
}

/// A roll-up whose answer was lost is inserted again; one that was not taken is not lost.
#[tokio::test(start_paused = true)]
async fn what_the_store_did_not_confirm_is_counted_once() {
    for fault in [Fault::After, Fault::Before] {
        let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
        for _ in 0..3 {
            store.fail(Call::AddRollups, fault);
        }
        world.publish("a.b").await;
        tokio::time::sleep(seconds(1)).await;
        world.publish("a.b").await;
        tokio::time::sleep(seconds(120)).await;
        // What stands in the store, whoever asks.
        let found = world.store.totals(&Scope::All, seconds(3600), 1).await.unwrap();
        assert_eq!(found.counts.events, 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_is_written_a_moment_later_and_before_a_stop() {
    let world = World::new(RecordingDeliverer::new());
    let stored = async || world.store.totals(&Scope::All, seconds(3600), 1).await.unwrap().counts.events;
    world.publish("a.b").await;
    assert_eq!(stored().await, 0, "it is not written at once");
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(stored().await, 1);
    world.publish("a.b").await;
    world.webhooks.shutdown(seconds(1)).await;
    assert_eq!(stored().await, 2);
}

/// Promise 15: a reader is told that the store is away, and what was counted is there when it is back.
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_loses_no_counts() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.publish("a.b").await;
    store.set_away(true);
    assert!(world.webhooks.statistics(&Scope::All, seconds(60)).await.is_err());
    tokio::time::sleep(seconds(30)).await;
    store.set_away(false);
    assert_eq!(read(&world.webhooks).await.counts.events, 1);
}

#[tokio::test(start_paused = true)]
async fn what_ends_without_an_attempt_is_counted() {
    let world = World::new(RecordingDeliverer::scripted(|_| Scripted::hang()));
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let cancelled = world.publish("a.b").await.deliveries[0].0;
    world.webhooks.cancel(&tenant(), cancelled).await.unwrap();
    let event = world.publish("a.b").await.id;
    world.webhooks.cancel_event(&tenant(), event).await.unwrap();
    assert_eq!(numbers(&read(&world.webhooks).await).0, [0, 0, 2]);

    world.publish("a.b").await;
    world.webhooks.subscriptions().delete(&tenant(), subscription.id, None).await.unwrap();
    let expires = world.another_with(|builder| builder.max_age(Some(seconds(60))));
    let other = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.webhooks.subscriptions().pause(&tenant(), other.id).await.unwrap();
    world.publish("a.b").await;
    expires.spawn(Workers::default()).unwrap();
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(numbers(&read(&expires).await), ([0, 1, 3], [0, 0, 0]));
    let found = expires.statistics(&Scope::Subscription(tenant(), other.id), seconds(600)).await.unwrap();
    assert_eq!(numbers(&found).0, [0, 1, 0]);
}

/// And says nothing about latency.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_reopened_ends_again() {
    let world = World::running(RecordingDeliverer::new());
    for _ in 0..3 {
        world.target.answer(TARGET, Scripted::status(500));
    }
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Exhausted);
    world.webhooks.retry(&tenant(), delivery, false).await.unwrap();
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    let found = read(&world.webhooks).await;
    assert_eq!(numbers(&found), ([1, 1, 0], [1, 3, 0]));
    assert_eq!(found.counts.latency.count(), 0);
}

/// Of deliveries in flight nobody waits; of a parked lane those that are due do.
#[tokio::test(start_paused = true)]
async fn the_backlog_leaves_out_what_is_in_flight() {
    let world = World::running(RecordingDeliverer::scripted(|_| Scripted::hang()));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    for _ in 0..3 {
        world.publish("a.b").await;
    }
    let draft =
        SubscriptionDraft { max_in_flight: Some(1), ..SubscriptionDraft::to("https://example.com/b") };
    let slow = world.subscribe(draft).await;
    for _ in 0..4 {
        world.publish("a.b").await;
    }
    while world.webhooks.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let scope = Scope::Subscription(tenant(), slow.id);
    let backlog = world.webhooks.backlog(&scope).await.unwrap();
    assert_eq!((backlog.pending, backlog.due, backlog.waiting), (4, 3, 0));
    assert!(backlog.oldest_due.is_some());
    let all = world.webhooks.backlog(&Scope::All).await.unwrap();
    assert_eq!(all.pending, 11);
    assert_eq!(all.due, 11 - u64::try_from(world.webhooks.in_flight()).unwrap());

    let scheduled = NewEvent::json("a.b", "{}").deliver_at(START.after(seconds(9999)));
    world.webhooks.publish(scheduled).await.unwrap();
    world.webhooks.subscriptions().pause(&tenant(), slow.id).await.unwrap();
    let backlog = world.webhooks.backlog(&scope).await.unwrap();
    assert_eq!(
        (backlog.due, backlog.scheduled, backlog.waiting),
        (0, 0, 4),
        "all but the one in flight, and the new one"
    );
}

/// A replay gives a delivery to who had none; the subscription has one event more, the tenant has not.
#[tokio::test(start_paused = true)]
async fn a_replayed_event_is_no_new_event() {
    let world = World::running(RecordingDeliverer::new());
    let event = world.publish("a.b").await.id;
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.webhooks.replay_event(&tenant(), event, &[]).await.unwrap();
    assert_eq!(read(&world.webhooks).await.counts.events, 1);
    let scope = Scope::Subscription(tenant(), subscription.id);
    assert_eq!(world.webhooks.statistics(&scope, seconds(60)).await.unwrap().counts.events, 1);
}

/// Whoever asks in a loop costs the store no writes.
#[tokio::test(start_paused = true)]
async fn reading_writes_nothing() {
    let world = World::new(RecordingDeliverer::new());
    world.publish("a.b").await;
    for _ in 0..100 {
        assert_eq!(read(&world.webhooks).await.counts.events, 1);
    }
    let stored = world.store.totals(&Scope::All, seconds(3600), 1).await.unwrap();
    assert_eq!(stored.counts.events, 0);
}

/// Whether the store has it, has it not, or has it and has not said so: nothing is missing, and nothing there twice.
#[tokio::test(start_paused = true)]
async fn what_is_being_written_is_counted_once() {
    for fault in [Fault::Before, Fault::After, Fault::Slow(Duration::from_millis(300))] {
        let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
        store.fail(Call::AddRollups, fault);
        world.publish("a.b").await;
        for step in 0..40 {
            assert_eq!(read(&world.webhooks).await.counts.events, 1, "{fault:?}, step {step}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An insert that does not come to its end is no reason not to read.
#[tokio::test(start_paused = true)]
async fn a_store_that_reads_and_does_not_write_is_read() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    store.fail(Call::AddRollups, Fault::Slow(seconds(60)));
    world.publish("a.b").await;
    tokio::time::sleep(seconds(1)).await;
    let asked = tokio::time::Instant::now();
    assert_eq!(read(&world.webhooks).await.counts.events, 1);
    assert!(asked.elapsed() < seconds(1));
}

/// So that a store with one writer commits other things in between; those that were confirmed are not sent again.
#[tokio::test(start_paused = true)]
async fn many_roll_ups_are_inserted_few_at_a_time() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    for _ in 0..300 {
        world.subscribe(SubscriptionDraft::to(TARGET)).await;
    }
    world.publish("a.b").await;
    store.fail(Call::AddRollups, Fault::After);
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(store.inserts(), [256, 256, 46], "the first one twice");
    let stored = world.store.totals(&Scope::All, seconds(3600), 1).await.unwrap();
    assert_eq!(stored.counts.events, 1);
}

/// What is written and what is not are added up by subscription, those that had no failure before included.
#[tokio::test(start_paused = true)]
async fn the_worst_are_told_at_once() {
    let world = World::running(RecordingDeliverer::new());
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let worst = async || {
        let found = read(&world.webhooks).await.worst;
        found
            .into_iter()
            .map(|worst| (worst.subscription_id, worst.succeeded, worst.failed))
            .collect::<Vec<_>>()
    };
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.finished(delivery).await;
    assert_eq!(worst().await, []);
    tokio::time::sleep(seconds(10)).await;
    for failed in 1..=2 {
        world.target.answer(TARGET, Scripted::status(500));
        let delivery = world.publish("a.b").await.deliveries[0].0;
        world.finished(delivery).await;
        assert_eq!(worst().await, [(subscription.id, 1 + failed, failed)]);
    }
}

/// Who waits for a count is told so in time, and others are not kept waiting by it.
#[tokio::test(start_paused = true)]
async fn a_slow_count_keeps_nobody_waiting_for_long() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    let slow = Scope::Tenant(tenant());
    store.fail(Call::Unfinished, Fault::Slow(seconds(60)));
    let started = tokio::time::Instant::now();
    let ask = async || {
        let error = world.webhooks.backlog(&slow).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (BackendErrorKind::Timeout, 2));
    };
    tokio::join!(ask(), ask(), ask());
    world.webhooks.backlog(&Scope::All).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 2, "another one's count is had at once");
    let error = world.webhooks.statistics(&slow, seconds(60)).await.unwrap_err();
    assert_eq!((error.kind(), started.elapsed().as_secs()), (BackendErrorKind::Timeout, 4));
    tokio::time::sleep(seconds(60)).await;
    world.webhooks.backlog(&slow).await.unwrap();
}
