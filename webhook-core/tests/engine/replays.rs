//! Replays, and requests over whole events.

use std::collections::BTreeSet;

use webhook_core::engine::RequestError;
use webhook_core::id::DeliveryId;
use webhook_core::model::{DeliveryStatus, StatusReason, Tenant, Trigger};
use webhook_core::store::{DeliveryFilter, Matched, Replay};
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::support::{TARGET, World, seconds, tenant};

/// More than two pages of a replay.
const MANY: usize = 250;

fn exhausted() -> DeliveryFilter {
    DeliveryFilter { statuses: vec![DeliveryStatus::Exhausted], ..DeliveryFilter::default() }
}

async fn publish_many(world: &World, event_type: &str, count: usize) -> BTreeSet<DeliveryId> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        ids.insert(world.publish(event_type).await.deliveries[0].0);
    }
    ids
}

/// Deliveries that are exhausted because their target was gone for a while, without an attempt in their log.
async fn exhaust(world: &World, ids: &BTreeSet<DeliveryId>) {
    for id in ids {
        assert_eq!(world.finished(*id).await.state.status, DeliveryStatus::Exhausted);
    }
}

async fn done(world: &World, replay: &Replay) -> Replay {
    loop {
        let now = world.webhooks.replay_progress(&tenant(), replay.id).await.unwrap().expect("it is stored");
        if now.finished {
            return now;
        }
        tokio::time::sleep(seconds(1)).await; // verify: allow(sleep): paused time
    }
}

/// Every delivery was reopened once: it has its attempts of before and one more.
async fn assert_reopened_once(world: &World, ids: &BTreeSet<DeliveryId>) {
    for id in ids {
        let delivery = world.finished(*id).await;
        assert_eq!((delivery.state.status, delivery.state.chain), (DeliveryStatus::Succeeded, 1));
        let triggers: Vec<_> = world.attempts(*id).await.iter().map(|attempt| attempt.trigger).collect();
        assert_eq!(triggers, [Trigger::Schedule, Trigger::Manual]);
    }
}

fn gone_first() -> RecordingDeliverer {
    RecordingDeliverer::scripted(|request| {
        let first = request.headers.iter().any(|(name, value)| name == "webhook-attempt" && value == "1");
        let kept =
            request.headers.iter().any(|(name, value)| name == "webhook-event-type" && value == "kept");
        Scripted::status(if first && !kept { 500 } else { 200 })
    })
}

/// One attempt in each chain.
fn once() -> SubscriptionDraft {
    SubscriptionDraft { retry: Some("schedule:".parse().unwrap()), ..SubscriptionDraft::to(TARGET) }
}

/// Promise 8: each once.
#[tokio::test(start_paused = true)]
async fn a_replay_reopens_what_matches_once_and_nothing_else() {
    let world = World::running(gone_first());
    world.subscribe(once()).await;
    let lost = publish_many(&world, "lost", MANY).await;
    let kept = publish_many(&world, "kept", 3).await;
    let other = publish_many(&world, "other", 1).await;
    exhaust(&world, &lost).await;
    exhaust(&world, &other).await;
    let filter = DeliveryFilter { event_type: Some("lost".parse().unwrap()), ..exhausted() };

    let matched = Matched { matched: MANY as u64, more: false };
    assert_eq!(world.webhooks.replay_count(&tenant(), filter.clone()).await.unwrap(), matched);
    assert!(!world.target.requests().is_empty());
    world.target.clear();
    tokio::time::sleep(seconds(60)).await;
    assert!(world.target.requests().is_empty(), "a dry run sends nothing");

    let replay = world.webhooks.replay(&tenant(), filter.clone()).await.unwrap();
    assert_eq!((replay.matched, replay.done, replay.finished), (matched, 0, false));
    assert_eq!(done(&world, &replay).await.done, MANY as u64);
    assert_reopened_once(&world, &lost).await;
    assert_eq!(world.target.requests().len(), MANY);
    for id in kept.iter().chain(&other) {
        assert_eq!(world.attempts(*id).await.len(), 1);
    }
    let nothing = Matched { matched: 0, more: false };
    assert_eq!(world.webhooks.replay_count(&tenant(), filter).await.unwrap(), nothing);
    let elsewhere: Tenant = "other".parse().unwrap();
    assert_eq!(world.webhooks.replay_progress(&elsewhere, replay.id).await.unwrap(), None);
}

/// Promise 8: the replies to the commits of pages are lost, and others do not take effect.
#[tokio::test(start_paused = true)]
async fn a_page_whose_reply_was_lost_is_not_done_twice() {
    let (world, store) = World::on_faulty_store(gone_first(), None);
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(once()).await;
    let lost = publish_many(&world, "lost", MANY).await;
    exhaust(&world, &lost).await;
    for fault in [Fault::After, Fault::Before, Fault::After, Fault::After, Fault::After] {
        store.fail(Call::ReplayRecord, fault);
    }
    let replay = world.webhooks.replay(&tenant(), exhausted()).await.unwrap();
    assert_eq!(done(&world, &replay).await.done, MANY as u64);
    assert_reopened_once(&world, &lost).await;
}

/// Promise 8: the workers of two processes work at one replay.
#[tokio::test(start_paused = true)]
async fn two_workers_do_each_page_once() {
    let (world, _store) = World::on_faulty_store(gone_first(), None);
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(once()).await;
    let lost = publish_many(&world, "lost", MANY).await;
    exhaust(&world, &lost).await;
    let another = world.another();
    another.spawn(Workers::default()).unwrap();
    let replay = another.replay(&tenant(), exhausted()).await.unwrap();
    world.webhooks.wake();
    assert_eq!(done(&world, &replay).await.done, MANY as u64);
    assert_reopened_once(&world, &lost).await;
    assert_eq!(world.target.requests().len(), 2 * MANY);
}

/// It survives the process that started it.
#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_in_another_process() {
    let world = World::running(gone_first());
    world.subscribe(once()).await;
    let lost = publish_many(&world, "lost", MANY).await;
    exhaust(&world, &lost).await;
    let replay = world.webhooks.replay(&tenant(), exhausted()).await.unwrap();
    while world.webhooks.replay_progress(&tenant(), replay.id).await.unwrap().unwrap().done == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    world.webhooks.shutdown(seconds(1)).await;
    let half = world.webhooks.replay_progress(&tenant(), replay.id).await.unwrap().unwrap();
    assert!(!half.finished && half.done < MANY as u64, "{half:?}");
    world.another().spawn(Workers::default()).unwrap();
    assert_eq!(done(&world, &replay).await.done, MANY as u64);
    assert_reopened_once(&world, &lost).await;
}

/// What is published, or ends, while a replay runs.
#[tokio::test(start_paused = true)]
async fn what_is_published_after_the_start_is_no_part_of_a_replay() {
    let world = World::new(gone_first());
    world.subscribe(once()).await;
    let before = world.publish("lost").await.deliveries[0].0;
    world.webhooks.run_until_idle().await.unwrap();
    let replay = world.webhooks.replay(&tenant(), exhausted()).await.unwrap();
    // No worker has worked at it when this one ends.
    let claimed = world.publish("lost").await.deliveries[0].0;
    world.webhooks.cancel(&tenant(), claimed).await.unwrap();
    world.webhooks.spawn(Workers::default()).unwrap();
    assert_eq!(done(&world, &replay).await.done, 1);
    assert_eq!(world.finished(before).await.state.status, DeliveryStatus::Succeeded);
    assert_eq!(world.delivery(claimed).await.state.status, DeliveryStatus::Cancelled);
}

/// Those of a paused subscription are reopened and wait; those of a deleted one are left.
#[tokio::test(start_paused = true)]
async fn a_replay_reaches_paused_subscriptions_and_leaves_deleted_ones() {
    let world = World::running(gone_first());
    let (paused, deleted) = (world.subscribe(once()).await, world.subscribe(once()).await);
    let deliveries = world.publish("lost").await.deliveries;
    for (id, _) in &deliveries {
        world.finished(*id).await;
    }
    let of = |wanted| deliveries.iter().find(|(_, subscription)| *subscription == wanted).unwrap().0;
    world.webhooks.subscriptions().pause(&tenant(), paused.id).await.unwrap();
    world.webhooks.subscriptions().delete(&tenant(), deleted.id, None).await.unwrap();
    let replay = world.webhooks.replay(&tenant(), exhausted()).await.unwrap();
    assert_eq!(replay.matched.matched, 1);
    assert_eq!(done(&world, &replay).await.done, 1);
    tokio::time::sleep(seconds(60)).await;
    let waits = world.delivery(of(paused.id)).await.state;
    assert_eq!((waits.status, waits.reason), (DeliveryStatus::Pending, Some(StatusReason::Paused)));
    assert_eq!(world.delivery(of(deleted.id)).await.state.status, DeliveryStatus::Exhausted);
    world.webhooks.subscriptions().resume(&tenant(), paused.id).await.unwrap();
    assert_eq!(world.finished(of(paused.id)).await.state.status, DeliveryStatus::Succeeded);
}

/// Succeeded ones too, and who matches only now gets one.
#[tokio::test(start_paused = true)]
async fn a_replayed_event_goes_to_all_who_match_now() {
    let world = World::running(RecordingDeliverer::new());
    let (kept, deleted) = (
        world.subscribe(SubscriptionDraft::to(TARGET)).await,
        world.subscribe(SubscriptionDraft::to(TARGET)).await,
    );
    let published = world.publish("a.b").await;
    for (id, _) in &published.deliveries {
        world.finished(*id).await;
    }
    world.webhooks.subscriptions().delete(&tenant(), deleted.id, None).await.unwrap();
    let late = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let elsewhere = SubscriptionDraft { event_types: vec!["c.d".into()], ..SubscriptionDraft::to(TARGET) };
    world.subscribe(elsewhere).await;

    let again = world.webhooks.replay_event(&tenant(), published.id, &[]).await.unwrap();
    let to: BTreeSet<_> = again.iter().map(|(_, subscription)| *subscription).collect();
    assert_eq!(to, BTreeSet::from([kept.id, late.id]));
    for (id, _) in &again {
        assert_eq!(world.finished(*id).await.state.status, DeliveryStatus::Succeeded);
    }
    tokio::time::sleep(seconds(60)).await;
    let requests = world.target.requests();
    assert_eq!(requests.len(), 4);
    let id = published.id.to_string();
    assert!(requests.iter().all(|request| request.header("webhook-id") == Some(id.as_str())), "promise 9");

    let none = world.webhooks.replay_event(&tenant(), published.id, &[DeliveryStatus::Cancelled]).await;
    assert_eq!(none.unwrap(), []);
    let foreign: Tenant = "other".parse().unwrap();
    let refused = world.webhooks.replay_event(&foreign, published.id, &[]).await;
    assert!(matches!(refused, Err(RequestError::NotFound)), "{refused:?}");
}

/// Promise 10: the subscription was created on another node a moment ago.
#[tokio::test(start_paused = true)]
async fn a_replayed_event_sees_every_subscription_created_before() {
    let world = World::running(RecordingDeliverer::new());
    let published = world.publish("a.b").await;
    let another = world.another();
    let created = another.subscriptions().create(&tenant(), &SubscriptionDraft::to(TARGET)).await.unwrap();
    let again = world.webhooks.replay_event(&tenant(), published.id, &[]).await.unwrap();
    assert_eq!(again.iter().map(|(_, subscription)| *subscription).collect::<Vec<_>>(), [created.id]);
    assert_eq!(world.finished(again[0].0).await.state.status, DeliveryStatus::Succeeded);
}

/// Promise 8: nobody gets two deliveries of one event.
#[tokio::test(start_paused = true)]
async fn replaying_an_event_twice_adds_no_second_delivery() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.webhooks.spawn(Workers::default()).unwrap();
    let published = world.publish("a.b").await;
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    store.fail(Call::AddDeliveries, Fault::After);
    let lost = world.webhooks.replay_event(&tenant(), published.id, &[]).await;
    assert!(matches!(lost, Err(RequestError::Store(_))), "{lost:?}");
    let whose = tenant();
    let (first, second) = tokio::join!(
        world.webhooks.replay_event(&whose, published.id, &[]),
        world.webhooks.replay_event(&whose, published.id, &[]),
    );
    assert!(first.unwrap().len() + second.unwrap().len() <= 1);
    tokio::time::sleep(seconds(60)).await;
    assert!((1..=2).contains(&world.target.requests().len()));
    let repeat = webhook_core::model::NewEvent::json("a.b", r#"{"id":42}"#).id(published.id);
    let repeat = world.webhooks.publish(repeat).await.unwrap();
    assert_eq!((repeat.duplicate, repeat.delivery_count), (true, 0), "as first answered");
}

#[tokio::test(start_paused = true)]
async fn cancelling_an_event_ends_what_is_unfinished_of_it() {
    let world = World::running(RecordingDeliverer::scripted(|request| {
        Scripted::status(if request.url.path() == "/bad" { 500 } else { 200 })
    }));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.subscribe(SubscriptionDraft::to("https://example.com/bad")).await;
    let published = world.publish("a.b").await;
    world.target.wait_for(2).await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(world.webhooks.cancel_event(&tenant(), published.id).await.unwrap(), 1);
    let again = world.webhooks.cancel_event(&tenant(), published.id).await;
    assert!(matches!(again, Err(RequestError::Finished)), "{again:?}");
    let mut statuses = Vec::new();
    for (id, _) in &published.deliveries {
        statuses.push(world.delivery(*id).await.state.status);
    }
    statuses.sort_unstable_by_key(|status| status.as_str());
    assert_eq!(statuses, [DeliveryStatus::Cancelled, DeliveryStatus::Succeeded]);
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(world.target.requests().len(), 2);
}
