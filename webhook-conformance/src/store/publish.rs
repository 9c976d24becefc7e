//! Storing events with their deliveries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use webhook_core::id::{DeliveryId, EventId};
use webhook_core::model::{DeliveryStatus, Event, Subscription, TraceParent};
use webhook_core::store::{Duplicate, Insert, Inserted, KEY_LIFETIME, Load, NewDelivery};
use webhook_core::time::Timestamp;

use crate::sample::{Desk, event, subscription, tenant};
use crate::{Fixture, StoreFixture};

fn keyed(key: &str) -> Event {
    Event { idempotency_key: Some(key.to_owned()), ..event() }
}

fn is_stored(inserted: &Inserted) -> bool {
    matches!(inserted, Inserted::Stored { .. })
}

/// Promises 1 and 9: byte for byte.
pub async fn a_stored_event_is_loaded_as_it_was<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let event = Event {
        payload: Bytes::from_static(b" {\"b\":1.0, \"a\":\xc3\xbc,\"b\":\"\\u0041\"}\n\x00\xff"),
        content_type: Arc::from("application/octet-stream"),
        ordering_key: Some("customer \u{1f980}".to_owned()),
        idempotency_key: Some("key-1".to_owned()),
        only: Some(subscription.id),
        traceparent: Some(TraceParent::new()),
        ..event()
    };
    let published = desk.publish_event(event.clone(), &[Arc::clone(&subscription)]).await;
    let loaded = desk.load(published.deliveries[0]).await;
    assert_eq!(*loaded.event, event);
    assert_eq!((loaded.subscription_id, loaded.subscription_version), (subscription.id, Some(1)));
    assert_eq!((loaded.state.status, loaded.state.attempts), (DeliveryStatus::Pending, 0));
    assert_eq!((loaded.due_in, loaded.waiting, loaded.unrecorded), (Duration::ZERO, false, vec![]));
}

/// The event is kept and shows that nobody wanted it.
pub async fn an_event_without_a_match_is_kept<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let published = desk.publish_event(event(), &[]).await;
    let kept = desk.history.event(None, published.event.id).await.unwrap();
    assert!(kept.is_some_and(|kept| kept.event_type == published.event.event_type));
}

/// Promise 10: the publish that did not know a subscription is matched again.
pub async fn an_event_matched_against_another_configuration_is_not_stored<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let first = desk.subscribe().await;
    let insert = desk.matched(event(), &[Arc::clone(&first)]).await;
    let other = desk.create(&Subscription { tenant: tenant("other"), ..subscription() }).await;
    assert_eq!(other.version, 1);
    desk.subscribe().await;
    assert_eq!(desk.insert(&insert).await, Inserted::Outdated);
    assert_eq!(desk.find(insert.deliveries[0].id).await, None);
    assert_eq!(desk.history.event(None, insert.event.id).await.unwrap(), None);
    let version = desk.version(&insert.event.tenant).await;
    assert!(is_stored(&desk.insert(&Insert { config_version: version, ..insert }).await));
}

/// Promise 1: a repeat with the same id finds what is stored, whatever has changed meanwhile.
pub async fn inserting_again_is_a_duplicate<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second) = (desk.subscribe().await, desk.subscribe().await);
    let insert = desk.matched(event(), &[first, second]).await;
    assert!(is_stored(&desk.insert(&insert).await));
    desk.subscribe().await;
    let version = desk.version(&insert.event.tenant).await;
    let Inserted::Duplicate(mut found) =
        desk.insert(&Insert { config_version: version, ..insert.clone() }).await
    else {
        panic!("it is stored already")
    };
    found.deliveries.sort_unstable();
    let mut deliveries: Vec<_> =
        insert.deliveries.iter().map(|delivery| (delivery.id, delivery.subscription_id)).collect();
    deliveries.sort_unstable();
    assert_eq!(found, Duplicate { event_id: insert.event.id, deliveries, delivery_count: 2 });
}

/// Promise 11.
pub async fn the_same_request_with_a_key_is_a_duplicate<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let first = desk.matched(keyed("k"), &[Arc::clone(&subscription)]).await;
    let again = desk.matched(keyed("k"), &[subscription]).await;
    assert!(is_stored(&desk.insert(&first).await));
    let expected = Duplicate {
        event_id: first.event.id,
        deliveries: vec![(first.deliveries[0].id, first.deliveries[0].subscription_id)],
        delivery_count: 1,
    };
    assert_eq!(desk.insert(&again).await, Inserted::Duplicate(expected));
    assert_eq!(desk.find(again.deliveries[0].id).await, None, "nothing new");
    assert_eq!(desk.history.event(None, again.event.id).await.unwrap(), None);
}

/// Promise 11: and stores nothing. In another tenant the key is another key.
pub async fn another_request_with_the_key_is_refused<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let first = desk.matched(keyed("k"), &[]).await;
    assert!(is_stored(&desk.insert(&first).await));
    let other = Insert { fingerprint: [8; 32], ..desk.matched(keyed("k"), &[]).await };
    assert_eq!(desk.insert(&other).await, Inserted::KeyReused);
    assert_eq!(desk.history.event(None, other.event.id).await.unwrap(), None);
    let elsewhere = desk.matched(Event { tenant: tenant("other"), ..keyed("k") }, &[]).await;
    assert!(is_stored(&desk.insert(&elsewhere).await));
}

/// Promise 11: of two in one batch, the second is the duplicate.
pub async fn a_key_twice_in_one_batch_is_stored_once<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let first = desk.matched(keyed("k"), &[Arc::clone(&subscription)]).await;
    let second = desk.matched(keyed("k"), &[Arc::clone(&subscription)]).await;
    let third = Insert { fingerprint: [8; 32], ..desk.matched(keyed("k"), &[subscription]).await };
    let batch = [first.clone(), second, third, first.clone()];
    let answers = desk.store.insert(&batch, None).await.unwrap();
    assert!(is_stored(&answers[0]), "{answers:?}");
    for answer in [&answers[1], &answers[3]] {
        assert!(matches!(answer, Inserted::Duplicate(found) if found.event_id == first.event.id));
    }
    assert_eq!(answers[2], Inserted::KeyReused);
}

/// Promise 11: the key outlives its event.
pub async fn a_key_is_kept_when_its_event_is_pruned<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let first = desk.publish_event(keyed("k"), &[Arc::clone(&subscription)]).await;
    desk.succeed(first.deliveries[0]).await;
    desk.pass(2).await;
    assert_eq!(desk.store.prune(<F as Fixture>::UNIT, 10).await.unwrap(), 1);
    let again = desk.matched(keyed("k"), &[subscription]).await;
    let expected = Duplicate { event_id: first.event.id, deliveries: vec![], delivery_count: 1 };
    assert_eq!(desk.insert(&again).await, Inserted::Duplicate(expected));
}

/// Twenty-four hours. Needs a clock that can be moved.
pub async fn a_key_is_free_again_after_its_time<F: StoreFixture>(fixture: &F) {
    if !F::MOVES_TIME {
        eprintln!("skipped: a key lives for 24 hours, and this clock cannot be moved");
        return;
    }
    let desk = Desk::new(fixture);
    let first = desk.matched(keyed("k"), &[]).await;
    assert!(is_stored(&desk.insert(&first).await));
    fixture.advance(KEY_LIFETIME - Duration::from_secs(60)).await;
    let again = desk.matched(keyed("k"), &[]).await;
    assert!(matches!(desk.insert(&again).await, Inserted::Duplicate(_)));
    fixture.advance(Duration::from_secs(120)).await;
    assert!(is_stored(&desk.insert(&again).await));
}

/// Promise 6: by the store's clock.
pub async fn an_event_with_a_time_is_due_then<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let unit = <F as Fixture>::UNIT;
    let now = desk.subscribe().await.created_at;
    let at = |moment: Timestamp| Event { deliver_at: Some(moment), ..event() };
    let later = desk.publish_event(at(now.after(unit * 60)), &[Arc::clone(&subscription)]).await;
    let past = desk.publish_event(at(now.before(unit * 60)), &[subscription]).await;
    let due_in = desk.load(later.deliveries[0]).await.due_in;
    assert!(due_in > unit * 30 && due_in <= unit * 60, "{due_in:?}");
    assert_eq!(desk.load(past.deliveries[0]).await.due_in, Duration::ZERO);
}

/// Outcomes stand where their events stood, and none depends on another.
pub async fn the_events_of_a_batch_are_independent<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let stored = desk.matched(event(), &[Arc::clone(&subscription)]).await;
    desk.insert(&stored).await;
    let fresh = desk.matched(event(), &[Arc::clone(&subscription)]).await;
    let last = desk.matched(event(), &[subscription]).await;
    let outdated = Insert { config_version: 99, ..desk.matched(event(), &[]).await };
    let batch = [outdated.clone(), fresh.clone(), stored, last.clone()];
    let answers = desk.store.insert(&batch, None).await.unwrap();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0], Inserted::Outdated);
    assert!(is_stored(&answers[1]) && is_stored(&answers[3]), "{answers:?}");
    assert!(matches!(answers[2], Inserted::Duplicate(_)));
    let loads = [&fresh, &last].map(|insert| Load { id: insert.deliveries[0].id, unsettled: vec![] });
    let loaded = desk.store.load(&loads).await.unwrap();
    assert!(loaded.iter().all(Option::is_some), "what was answered as stored is stored");
    assert_eq!(desk.history.event(None, outdated.event.id).await.unwrap(), None);
}

/// However many there are, every delivery is stored with its event.
pub async fn every_delivery_of_an_event_is_stored<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let mut subscriptions = Vec::new();
    for _ in 0..50 {
        subscriptions.push(desk.subscribe().await);
    }
    let mut batch = Vec::new();
    for _ in 0..10 {
        batch.push(desk.matched(event(), &subscriptions).await);
    }
    let answers = desk.store.insert(&batch, None).await.unwrap();
    assert!(answers.iter().all(is_stored));
    let deliveries: Vec<&NewDelivery> = batch.iter().flat_map(|insert| &insert.deliveries).collect();
    let loads: Vec<Load> =
        deliveries.iter().map(|delivery| Load { id: delivery.id, unsettled: vec![] }).collect();
    let loaded = desk.store.load(&loads).await.unwrap();
    for (delivery, loaded) in deliveries.iter().zip(loaded) {
        assert_eq!(loaded.map(|found| found.subscription_id), Some(delivery.subscription_id));
    }
}

/// Unknown ids among known ones, in their places.
pub async fn loads_are_answered_in_input_order<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let first = desk.publish_event(event(), &[Arc::clone(&subscription)]).await;
    let second = desk.publish_event(event(), &[subscription]).await;
    let ids = [second.deliveries[0], DeliveryId::new(), first.deliveries[0], second.deliveries[0]];
    let loads = ids.map(|id| Load { id, unsettled: vec![] });
    let loaded = desk.store.load(&loads).await.unwrap();
    let events: Vec<Option<EventId>> =
        loaded.into_iter().map(|found| found.map(|found| found.event.id)).collect();
    assert_eq!(events, [Some(second.event.id), None, Some(first.event.id), Some(second.event.id)]);
}
