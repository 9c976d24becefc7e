//! What `insert` owes: durability, duplicates, versions, hand-off.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::Duration;

use support::*;
use webhook_core::model::*;
use webhook_core::store::*;

#[tokio::test]
async fn a_delivery_goes_from_publish_to_success() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let leases = f.claim(10).await;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].id, published.ids[0]);
    let loaded = f.load(&leases[0]).await;
    assert_eq!(loaded.event, published.event);
    assert_eq!(
        (loaded.subscription_version, loaded.due_in, loaded.waiting),
        (Some(1), Duration::ZERO, false)
    );
    let recorded = f.succeed(&leases[0]).await;
    assert_eq!(recorded, Recorded::Applied { released: Vec::new(), strikes: Some(2) });
    let delivery = f.delivery(leases[0].id).await;
    assert_eq!(delivery.state.status, DeliveryStatus::Succeeded);
    assert_eq!(delivery.finished_at, Some(webhook_core::time::Clock::now(&f.clock)));
    assert_eq!(f.claim(10).await, []);
    assert_eq!(f.count("jobs").await, 0);
    f.check().await;
}

#[tokio::test]
async fn a_handed_off_delivery_is_leased_in_the_publishing_commit() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let hand_off = hand_off(8);
    let published = f.publish(&[&s], Some(&hand_off)).await;
    assert_eq!(published.leases.len(), 1);
    assert_eq!(published.leases[0].token, hand_off.token);
    assert_eq!(f.lane(s.id).await.in_flight, 1);
    f.check().await;
    assert!(is_applied(&f.succeed(&published.leases[0]).await));
    assert_eq!(f.lane(s.id).await.in_flight, 0);
    f.check().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_process_is_gone() {
    // Promise 1.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let f = f.reopen().await;
    let leases = f.claim(10).await;
    assert_eq!(leases.len(), 1);
    assert_eq!(f.load(&leases[0]).await.event, published.event);
    f.check().await;
}

#[tokio::test]
async fn every_field_of_an_event_is_kept() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let mut event = event();
    event.payload = b"\x00\xff not json".to_vec().into();
    event.content_type = "application/octet-stream".into();
    event.ordering_key = Some("customer-7".to_owned());
    event.deliver_at = Some(webhook_core::time::Clock::now(&f.clock).after(SECOND));
    event.idempotency_key = Some("key".to_owned());
    event.only = Some(s.id);
    let insert = insert_of(event.clone(), &[&s], f.config().await);
    f.publish_this(insert, None).await;
    f.clock.advance(SECOND);
    let leases = f.claim(1).await;
    assert_eq!(*f.load(&leases[0]).await.event, event);
    f.succeed(&leases[0]).await;
    f.check().await;
}

#[tokio::test]
async fn a_repeat_with_the_same_event_id_returns_what_is_stored() {
    // Promise 1.
    let f = Fixture::new().await;
    let (a, b) = (f.subscribe().await, f.subscribe().await);
    let insert = new_insert(&[&a, &b], f.config().await);
    let other = new_insert(&[&a], f.config().await);
    f.publish_this(insert.clone(), None).await;
    // Among new ones, and with an outdated configuration: a repeat is a repeat.
    f.subscribe().await;
    let fresh = new_insert(&[&b], f.config().await);
    let answers = f.store.insert(&[other, insert.clone(), fresh], None).await.unwrap();
    let deliveries = insert.deliveries.iter().map(|d| (d.id, d.subscription_id)).collect();
    let duplicate = Duplicate { event_id: insert.event.id, deliveries, delivery_count: 2 };
    assert_eq!(answers[0], Inserted::Outdated);
    assert_eq!(answers[1], Inserted::Duplicate(duplicate));
    assert!(matches!(answers[2], Inserted::Stored { .. }));
    assert_eq!(f.count("deliveries").await, 3);
    f.check().await;
}

#[tokio::test]
async fn of_two_equal_ids_in_one_batch_the_second_is_the_duplicate() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let insert = new_insert(&[&s], f.config().await);
    let answers = f.store.insert(&[insert.clone(), insert.clone()], None).await.unwrap();
    assert!(matches!(answers[0], Inserted::Stored { .. }));
    assert!(
        matches!(&answers[1], Inserted::Duplicate(d) if d.delivery_count == 1 && d.deliveries.len() == 1)
    );
    assert_eq!(f.count("jobs").await, 1);
    f.check().await;
}

fn keyed(key: &str, fingerprint: u8, to: &[&std::sync::Arc<Subscription>], config: u64) -> Insert {
    let event = Event { idempotency_key: Some(key.to_owned()), ..event() };
    Insert { fingerprint: [fingerprint; 32], ..insert_of(event, to, config) }
}

#[tokio::test]
async fn an_idempotency_key_gives_the_first_answer_and_refuses_another_request() {
    // Promise 11.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let config = f.config().await;
    let first = keyed("k", 1, &[&s], config);
    let others = [keyed("k", 1, &[&s], config), keyed("k", 2, &[&s], config), keyed("l", 1, &[&s], config)];
    let batch: Vec<Insert> = std::iter::once(first.clone()).chain(others).collect();
    let answers = f.store.insert(&batch, None).await.unwrap();
    assert!(matches!(answers[0], Inserted::Stored { .. }));
    assert!(
        matches!(&answers[1], Inserted::Duplicate(d) if d.event_id == first.event.id && d.deliveries.len() == 1)
    );
    assert_eq!(answers[2], Inserted::KeyReused);
    assert!(matches!(answers[3], Inserted::Stored { .. }));
    let again =
        f.store.insert(&[keyed("k", 1, &[], config), keyed("k", 2, &[], config)], None).await.unwrap();
    assert!(
        matches!(&again[0], Inserted::Duplicate(d) if d.event_id == first.event.id && d.delivery_count == 1)
    );
    assert_eq!(again[1], Inserted::KeyReused);
    f.check().await;
}

#[tokio::test]
async fn a_key_is_kept_its_full_time_whatever_is_purged_and_then_free() {
    // Promise 11.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let config = f.config().await;
    let first = keyed("k", 1, &[&s], config);
    f.publish_this(first.clone(), None).await;
    f.succeed(&f.claim(1).await[0]).await;
    f.clock.advance(SECOND);
    assert_eq!(f.store.prune(Duration::ZERO, 10).await.unwrap(), 1);
    f.clock.advance(KEY_LIFETIME - 2 * SECOND);
    f.store.prune(Duration::ZERO, 10).await.unwrap();
    let again = f.store.insert(&[keyed("k", 1, &[&s], config)], None).await.unwrap();
    let gone = Duplicate { event_id: first.event.id, deliveries: Vec::new(), delivery_count: 1 };
    assert_eq!(again[0], Inserted::Duplicate(gone));
    f.clock.advance(SECOND);
    let again = f.store.insert(&[keyed("k", 2, &[&s], config)], None).await.unwrap();
    assert!(matches!(again[0], Inserted::Stored { .. }), "{again:?}");
    f.check().await;
}

#[tokio::test]
async fn a_key_belongs_to_its_tenant() {
    let f = Fixture::new().await;
    let other: Tenant = "other".parse().unwrap();
    let mine = keyed("k", 1, &[], f.config().await);
    let mut theirs = keyed("k", 2, &[], 0);
    std::sync::Arc::make_mut(&mut theirs.event).tenant = other;
    let answers = f.store.insert(&[mine, theirs], None).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Inserted::Stored { .. })), "{answers:?}");
}

#[tokio::test]
async fn a_publish_matched_against_an_outdated_configuration_stores_nothing() {
    // Promise 10.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let before = f.config().await;
    f.subscribe().await;
    let answers = f.store.insert(&[new_insert(&[&s], before)], None).await.unwrap();
    assert_eq!(answers, [Inserted::Outdated]);
    assert_eq!(f.count("events").await, 0);
    // Another tenant's configuration is its own.
    let mut theirs = new_insert(&[], 0);
    std::sync::Arc::make_mut(&mut theirs.event).tenant = "other".parse().unwrap();
    assert!(matches!(f.store.insert(&[theirs], None).await.unwrap()[0], Inserted::Stored { .. }));
    f.check().await;
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_kept() {
    let f = Fixture::new().await;
    let published = f.publish(&[], Some(&hand_off(8))).await;
    assert!(f.store.event(None, published.event.id).await.unwrap().is_some());
    assert_eq!(f.count("finished").await, 1);
    f.check().await;
}

#[tokio::test]
async fn a_scheduled_event_is_not_handed_off_and_due_at_its_time() {
    // Promise 6.
    let f = Fixture::new().await;
    let s = f.proven().await;
    let at = webhook_core::time::Clock::now(&f.clock).after(60 * SECOND);
    let insert = insert_of(Event { deliver_at: Some(at), ..event() }, &[&s], f.config().await);
    let published = f.publish_this(insert, Some(&hand_off(8))).await;
    assert!(published.leases.is_empty());
    let delivery = f.delivery(published.ids[0]).await;
    assert_eq!((delivery.next_attempt_at, delivery.state.reason), (Some(at), Some(StatusReason::Scheduled)));
    f.clock.advance(60 * SECOND - Duration::from_micros(1));
    assert!(f.claim(8).await.is_empty());
    f.clock.advance(Duration::from_micros(1));
    assert_eq!(f.claim(8).await.len(), 1);
    f.check().await;
}

#[tokio::test]
async fn a_hand_off_stays_within_the_workers_room_and_the_lanes_limit() {
    // Promise 13.
    let f = Fixture::new().await;
    let unproven = f.subscribe().await;
    let inserts: Vec<Insert> = {
        let config = f.config().await;
        (0..10).map(|_| new_insert(&[&unproven], config)).collect()
    };
    let handed = |answers: &[Inserted]| {
        let count = |answer: &Inserted| match answer {
            Inserted::Stored { leases, .. } => leases.len(),
            _ => 0,
        };
        answers.iter().map(count).sum::<usize>()
    };
    let mut little = hand_off(8);
    little.room.doubtful = 2;
    let answers = f.store.insert(&inserts[..5], Some(&little)).await.unwrap();
    assert_eq!(handed(&answers), 2, "the room for doubtful lanes");
    assert_eq!(f.lane(unproven.id).await.in_flight, 2);
    let answers = f.store.insert(&inserts[5..], Some(&hand_off(8))).await.unwrap();
    assert_eq!(handed(&answers), 0, "earlier ones wait, so it is not these ones' turn");
    let proven = f.proven().await;
    let config = f.config().await;
    let inserts: Vec<Insert> = (0..100).map(|_| new_insert(&[&proven], config)).collect();
    let answers = f.store.insert(&inserts, Some(&hand_off(1000))).await.unwrap();
    assert_eq!(handed(&answers), 64, "the lane's limit");
    f.check().await;
}

#[tokio::test]
async fn lanes_that_are_held_or_avoided_are_not_handed_off() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let avoiding = webhook_core::queue::HandOff { avoid: vec![s.id], ..hand_off(8) };
    assert!(f.publish(&[&s], Some(&avoiding)).await.leases.is_empty());
    f.succeed(&f.claim(1).await[0]).await;
    let paused = Subscription { status: SubscriptionStatus::Paused, ..(*s).clone() };
    f.store.update(&paused, 1).await.unwrap();
    assert!(f.publish(&[&s], Some(&hand_off(8))).await.leases.is_empty());
    assert!(f.claim(8).await.is_empty());
    f.check().await;
}

#[tokio::test]
async fn a_batch_of_any_size_is_stored_whole() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let t = f.proven().await;
    let config = f.config().await;
    let mut stored = 0;
    for size in [1, 2, 4, 5, 16, 17, 63, 64, 65, 256, 257, 600] {
        let inserts: Vec<Insert> = (0..size)
            .map(|index| match index % 3 {
                0 => new_insert(&[&s, &t], config),
                1 => new_insert(&[], config),
                _ => new_insert(&[&t], config),
            })
            .collect();
        let answers = f.store.insert(&inserts, Some(&hand_off(10))).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Inserted::Stored { .. })));
        stored += inserts.iter().map(|insert| i64::try_from(insert.deliveries.len()).unwrap()).sum::<i64>();
        assert_eq!(f.count("deliveries").await, stored);
        assert_eq!(f.count("jobs").await, stored);
    }
    f.check().await;
}
