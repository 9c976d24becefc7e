//! What the engine counts is what was done.

use webhook_core::engine::PublishError;
use webhook_core::metrics::{Family, Kind, Value};
use webhook_core::model::NewEvent;
use webhook_core::queue::{Hold, LaneSettings};
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{SubscriptionDraft, Webhooks};

use crate::faulty::{Call, Fault};
use crate::support::{TARGET, World, seconds, tenant};

type Labels = &'static [(&'static str, &'static str)];

async fn read(webhooks: &Webhooks) -> Vec<Family> {
    webhooks.metrics().await
}

/// The value of the one series with these labels; of a histogram, its count.
fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let family = families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("{name}"));
    let mut found =
        family.samples.iter().filter(|sample| labels.iter().all(|(label, value)| sample.has(label, value)));
    let sample = found.next()?;
    assert_eq!(found.next(), None, "{name} {labels:?} is one series");
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    Some(match &sample.value {
        Value::Counter(count) => *count as f64,
        Value::Gauge(value) => *value,
        Value::Histogram(seen) => seen.count() as f64,
    })
}

#[tokio::test(start_paused = true)]
async fn what_was_published_tried_and_ended_is_counted() {
    let world = World::running(RecordingDeliverer::new());
    let gone = "https://example.com/gone";
    world.target.answer(TARGET, Scripted::status(500));
    for _ in 0..3 {
        world.target.answer(gone, Scripted::status(500));
    }
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.subscribe(SubscriptionDraft::to(gone)).await;
    let event = || NewEvent::json("a.b", "1").idempotency_key("k");
    let first = world.webhooks.publish(event()).await.unwrap();
    assert!(world.webhooks.publish(event()).await.unwrap().duplicate);
    let refused = world.webhooks.publish(NewEvent::json("not a type", "1")).await;
    assert!(matches!(refused, Err(PublishError::Invalid { .. })), "{refused:?}");
    for (delivery, _) in &first.deliveries {
        world.finished(*delivery).await;
    }
    // Published for later, and cancelled before.
    let later = NewEvent::json("a.b", "2").deliver_at(webhook_core::testing::START.after(seconds(86_400)));
    let later = world.webhooks.publish(later).await.unwrap();
    assert_eq!(world.webhooks.cancel_event(&tenant(), later.id).await.unwrap(), 2);

    let seen = read(&world.webhooks).await;
    let expected: &[(&str, Labels, f64)] = &[
        ("webhook_events_published_total", &[], 2.0),
        ("webhook_events_duplicate_total", &[], 1.0),
        ("webhook_events_refused_total", &[("reason", "invalid")], 1.0),
        ("webhook_deliveries_created_total", &[], 4.0),
        ("webhook_deliveries_total", &[("outcome", "succeeded")], 1.0),
        ("webhook_deliveries_total", &[("outcome", "exhausted")], 1.0),
        ("webhook_deliveries_total", &[("outcome", "cancelled")], 2.0),
        ("webhook_attempts_total", &[("outcome", "succeeded"), ("kind", "none")], 1.0),
        ("webhook_attempts_total", &[("outcome", "failed"), ("kind", "status")], 4.0),
        ("webhook_attempts_total", &[("outcome", "failed"), ("kind", "timeout")], 0.0),
        ("webhook_attempts_total", &[("outcome", "unknown")], 0.0),
        ("webhook_attempt_duration_seconds", &[], 5.0),
        ("webhook_delivery_latency_seconds", &[], 1.0),
        ("webhook_attempts_in_flight", &[], 0.0),
        ("webhook_attempts_in_flight_limit", &[], 512.0),
        ("webhook_deliveries_due", &[], 0.0),
        ("webhook_oldest_due_age_seconds", &[], 0.0),
        ("webhook_inbox_rejected", &[], 0.0),
        ("webhook_backend_failures_total", &[("call", "record")], 0.0),
    ];
    for (name, labels, count) in expected {
        assert_eq!(value(&seen, name, labels), Some(*count), "{name} {labels:?}");
    }
    for busy in
        ["webhook_commit_batch_events", "webhook_record_batch_attempts", "webhook_reconciler_sweeps_total"]
    {
        assert!(value(&seen, busy, &[]) > Some(0.0), "{busy}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_read_once_a_second_however_many_ask() {
    let world = World::new(RecordingDeliverer::new());
    let subscription = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.publish("a.b").await;
    tokio::time::sleep(seconds(2)).await;
    let held = |families: &[Family]| value(families, "webhook_lanes_held", &[("reason", "paused")]);
    let seen = read(&world.webhooks).await;
    assert_eq!((value(&seen, "webhook_deliveries_due", &[]), held(&seen)), (Some(1.0), Some(0.0)));
    assert_eq!(value(&seen, "webhook_oldest_due_age_seconds", &[]), Some(2.0));

    world.webhooks.subscriptions().pause(&tenant(), subscription.id).await.unwrap();
    assert_eq!(held(&read(&world.webhooks).await), Some(0.0), "as it was read before");
    tokio::time::sleep(seconds(1)).await;
    let seen = read(&world.webhooks).await;
    assert_eq!((value(&seen, "webhook_deliveries_due", &[]), held(&seen)), (Some(0.0), Some(1.0)));
    // That is what the queue calls held, whoever told it.
    let settings = LaneSettings {
        lane: subscription.id,
        version: 99,
        max_in_flight: None,
        rate: None,
        hold: Some(Hold::Disabled),
    };
    webhook_core::queue::JobQueue::lanes(&*world.queue, &[settings]).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    let seen = read(&world.webhooks).await;
    assert_eq!(value(&seen, "webhook_lanes_held", &[("reason", "disabled")]), Some(1.0));
}

/// Promise 15: an outage is seen, and its metrics are left out rather than wrong.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_failures_are_counted_and_what_it_would_say_is_left_out() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    store.fail(Call::Insert, Fault::Before);
    let lost = world.webhooks.publish(NewEvent::json("a.b", "1")).await;
    assert!(matches!(lost, Err(PublishError::Unavailable(_))), "{lost:?}");
    let seen = read(&world.webhooks).await;
    assert_eq!(value(&seen, "webhook_backend_failures_total", &[("call", "insert")]), Some(1.0));
    assert_eq!(value(&seen, "webhook_events_refused_total", &[("reason", "unavailable")]), Some(1.0));
    assert_eq!(value(&seen, "webhook_events_published_total", &[]), Some(0.0));
    assert_eq!(value(&seen, "webhook_inbox_rejected", &[]), Some(0.0));

    store.set_away(true);
    tokio::time::sleep(seconds(1)).await;
    let seen = read(&world.webhooks).await;
    assert_eq!(value(&seen, "webhook_inbox_rejected", &[]), None);
    assert_eq!(value(&seen, "webhook_backlog_read_failures_total", &[("source", "store")]), Some(1.0));
    assert_eq!(value(&seen, "webhook_deliveries_due", &[]), Some(0.0), "the queue still says");
}

#[tokio::test(start_paused = true)]
async fn counters_only_grow_and_every_metric_is_there_from_the_start() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let before = read(&world.webhooks).await;
    for _ in 0..5 {
        world.publish("a.b").await;
    }
    world.target.wait_for(5).await;
    tokio::time::sleep(seconds(2)).await;
    let after = read(&world.webhooks).await;
    let names = |families: &[Family]| families.iter().map(|family| family.name).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    for (before, after) in before.iter().zip(&after).filter(|(before, _)| before.kind == Kind::Counter) {
        for (before, after) in before.samples.iter().zip(&after.samples) {
            let (Value::Counter(before), Value::Counter(after)) = (&before.value, &after.value) else {
                panic!("a counter")
            };
            assert!(before <= after);
        }
    }
}
