//! Turns of ordered deliveries. Promise 12.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;

use support::*;
use webhook_core::id::DeliveryId;
use webhook_core::lane::Effect;
use webhook_core::lifecycle::Input;
use webhook_core::model::*;
use webhook_core::queue::Lease;
use webhook_core::store::*;

async fn ordered(f: &Fixture) -> Arc<Subscription> {
    f.subscribe_with(|s| s.ordered = true).await
}

async fn publish(f: &Fixture, s: &Arc<Subscription>, key: Option<&str>) -> DeliveryId {
    let event = Event { ordering_key: key.map(str::to_owned), ..event() };
    let insert = insert_of(event, &[s], f.config().await);
    f.publish_this(insert, None).await.ids[0]
}

fn ids(leases: &[Lease]) -> Vec<DeliveryId> {
    leases.iter().map(|lease| lease.id).collect()
}

#[tokio::test]
async fn equal_keys_go_one_at_a_time_in_publish_order() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    let mut published = Vec::new();
    for _ in 0..3 {
        published.push(publish(&f, &s, Some("k")).await);
    }
    for (index, id) in published.iter().enumerate() {
        f.check().await;
        let leases = f.claim(8).await;
        assert_eq!(ids(&leases), [*id]);
        assert!(!f.load(&leases[0]).await.waiting);
        let waiting = f.store.load(&[Load { id: published[2], unsettled: Vec::new() }]).await.unwrap();
        assert_eq!(waiting[0].as_ref().unwrap().waiting, index < 2);
        let recorded = f.succeed(&leases[0]).await;
        let next = published.get(index + 1).map(|next| (*next, s.id));
        let released: Vec<_> = next.into_iter().collect();
        assert!(matches!(recorded, Recorded::Applied { released: r, .. } if r == released));
    }
    f.check().await;
}

#[tokio::test]
async fn different_keys_and_different_subscriptions_do_not_wait_for_each_other() {
    let f = Fixture::new().await;
    let (a, b) = (ordered(&f).await, ordered(&f).await);
    publish(&f, &a, Some("k")).await;
    publish(&f, &a, Some("l")).await;
    publish(&f, &a, None).await;
    publish(&f, &b, Some("k")).await;
    assert_eq!(f.claim(8).await.len(), 4);
    let waits = publish(&f, &a, None).await;
    assert_eq!(f.delivery(waits).await.state.reason, Some(StatusReason::Ordered));
    assert!(f.claim(8).await.is_empty(), "no key: all alike");
    f.check().await;
}

#[tokio::test]
async fn an_insert_answers_who_waits_and_hands_off_the_head_alone() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    f.prove(s.id).await;
    let config = f.config().await;
    let inserts: Vec<Insert> = (0..3).map(|_| new_insert(&[&s], config)).collect();
    let answers = f.store.insert(&inserts, Some(&hand_off(8))).await.unwrap();
    let Inserted::Stored { leases, waiting } = &answers[0] else { panic!("{answers:?}") };
    assert_eq!((leases.len(), waiting.len()), (1, 0));
    for (insert, answer) in inserts.iter().zip(&answers).skip(1) {
        let expected = Inserted::Stored { leases: Vec::new(), waiting: vec![insert.deliveries[0].id] };
        assert_eq!(*answer, expected);
    }
    f.check().await;
    f.succeed(&leases[0]).await;
    assert_eq!(ids(&f.claim(8).await), [inserts[1].deliveries[0].id]);
    f.check().await;
}

#[tokio::test]
async fn a_failing_head_holds_its_key_until_it_ends() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    let first = publish(&f, &s, None).await;
    let second = publish(&f, &s, None).await;
    for wait in [10, 60] {
        let leases = f.claim(8).await;
        assert_eq!(ids(&leases), [first]);
        f.attempt(&leases[0], &failure(), Effect::Fast).await;
        f.check().await;
        assert!(f.claim(8).await.is_empty());
        f.clock.advance(wait * SECOND);
    }
    let leases = f.claim(8).await;
    f.attempt(&leases[0], &failure(), Effect::Fast).await;
    assert_eq!(f.delivery(first).await.state.status, DeliveryStatus::Exhausted);
    assert_eq!(ids(&f.claim(8).await), [second]);
    f.check().await;
}

#[tokio::test]
async fn a_cancelled_head_lets_the_next_go_and_a_cancelled_waiter_is_skipped() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    let mut published = Vec::new();
    for _ in 0..3 {
        published.push(publish(&f, &s, None).await);
    }
    let cancel = || Input::Cancel(StatusReason::CancelledByUser);
    f.ask(published[1], cancel()).await;
    f.check().await;
    let recorded = f.ask(published[0], cancel()).await;
    assert!(matches!(recorded, Recorded::Applied { released, .. } if released == [(published[2], s.id)]));
    f.check().await;
    assert_eq!(ids(&f.claim(8).await), [published[2]]);
}

#[tokio::test]
async fn a_scheduled_head_holds_its_key() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    let at = webhook_core::time::Clock::now(&f.clock).after(60 * SECOND);
    let scheduled = insert_of(Event { deliver_at: Some(at), ..event() }, &[&s], f.config().await);
    let first = f.publish_this(scheduled, None).await.ids[0];
    let second = publish(&f, &s, None).await;
    assert!(f.claim(8).await.is_empty());
    f.clock.advance(60 * SECOND);
    let leases = f.claim(8).await;
    assert_eq!(ids(&leases), [first]);
    f.succeed(&leases[0]).await;
    assert_eq!(ids(&f.claim(8).await), [second]);
    f.check().await;
}

#[tokio::test]
async fn a_head_stays_head_although_an_earlier_one_is_reopened() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    let mut published = Vec::new();
    for _ in 0..3 {
        published.push(publish(&f, &s, None).await);
    }
    f.succeed(&f.claim(8).await[0]).await;
    f.ask(published[0], Input::Reopen).await;
    f.check().await;
    let state = f.delivery(published[0]).await;
    assert_eq!((state.next_attempt_at, state.state.reason), (None, Some(StatusReason::Ordered)));
    for expected in [published[1], published[0], published[2]] {
        let leases = f.claim(8).await;
        assert_eq!(ids(&leases), [expected]);
        f.succeed(&leases[0]).await;
        f.check().await;
    }
}

#[tokio::test]
async fn a_waiter_that_a_person_asks_for_still_waits_its_turn() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    let (first, second) = (publish(&f, &s, None).await, publish(&f, &s, None).await);
    f.ask(second, Input::Retry { force: false }).await;
    f.check().await;
    let leases = f.claim(8).await;
    assert_eq!(ids(&leases), [first]);
    f.succeed(&leases[0]).await;
    assert_eq!(ids(&f.claim(8).await), [second]);
    f.check().await;
}

#[tokio::test]
async fn order_is_fixed_on_a_delivery_at_publish_and_survives_a_restart() {
    let f = Fixture::new().await;
    let s = ordered(&f).await;
    let (first, second) = (publish(&f, &s, None).await, publish(&f, &s, None).await);
    f.store.update(&Subscription { ordered: false, ..(*s).clone() }, 1).await.unwrap();
    let f = f.reopen().await;
    let leases = f.claim(8).await;
    assert_eq!(ids(&leases), [first]);
    f.succeed(&leases[0]).await;
    assert_eq!(ids(&f.claim(8).await), [second]);
    f.check().await;
}
