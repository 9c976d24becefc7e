//! Turns among ordered deliveries (promise 12).

use std::sync::Arc;

use webhook_core::id::DeliveryId;
use webhook_core::lifecycle::Input;
use webhook_core::model::{Event, Outcome, Subscription};

use crate::StoreFixture;
use crate::sample::{Desk, FAILURES, event, subscription, tenant};

async fn waiting<F: StoreFixture>(desk: &Desk<'_, F>, ids: &[DeliveryId]) -> Vec<bool> {
    let mut waiting = Vec::new();
    for id in ids {
        waiting.push(desk.load(*id).await.waiting);
    }
    waiting
}

async fn three<F: StoreFixture>(desk: &Desk<'_, F>, subscription: &Arc<Subscription>) -> [DeliveryId; 3] {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(desk.publish_keyed(subscription, Some("k")).await);
    }
    [ids[0], ids[1], ids[2]]
}

/// One at a time: the first is the head, the others wait and are told to.
pub async fn ordered_deliveries_wait_behind_their_head<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let keyed = || Event { ordering_key: Some("k".to_owned()), ..event() };
    let first = desk.publish_event(keyed(), &[Arc::clone(&subscription)]).await;
    let second = desk.publish_event(keyed(), &[subscription]).await;
    assert_eq!((first.waiting, second.waiting), (vec![], second.deliveries.clone()));
    let ids = [first.deliveries[0], second.deliveries[0]];
    assert_eq!(waiting(&desk, &ids).await, [false, true]);
    assert_eq!(desk.delivery(ids[1]).await.next_attempt_at, None, "it waits for its turn");
}

/// In one batch too, in its order.
pub async fn the_order_of_a_batch_is_the_order_of_delivery<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let mut batch = Vec::new();
    for _ in 0..5 {
        batch.push(desk.matched(event(), &[Arc::clone(&subscription)]).await);
    }
    // Not the order in which their ids were made.
    batch.reverse();
    desk.store.insert(&batch, None).await.unwrap();
    let mut head = batch[0].deliveries[0].id;
    for next in &batch[1..] {
        let next = next.deliveries[0].id;
        assert!(desk.load(next).await.waiting);
        assert_eq!(desk.succeed(head).await, [next]);
        head = next;
    }
    assert_eq!(desk.succeed(head).await, []);
}

/// The lowest unfinished becomes the head when the head ends, however it ends.
pub async fn the_end_of_a_head_releases_the_next<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let [first, second, third] = three(&desk, &subscription).await;
    assert_eq!(desk.succeed(first).await, [second]);
    assert_eq!(waiting(&desk, &[second, third]).await, [false, true]);
    for _ in 1..FAILURES {
        assert_eq!(desk.attempt(second, Outcome::Failed).await, [], "a failing head holds its key");
        assert_eq!(waiting(&desk, &[second, third]).await, [false, true]);
    }
    assert_eq!(desk.attempt(second, Outcome::Failed).await, [third], "it is exhausted");
    assert_eq!(desk.cancel(third).await, []);
}

/// What is cancelled while it waits never becomes the head.
pub async fn a_cancelled_one_is_passed_over<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let [first, second, third] = three(&desk, &subscription).await;
    assert_eq!(desk.cancel(second).await, [], "the head holds");
    assert_eq!(desk.cancel(first).await, [third]);
    assert!(!desk.load(third).await.waiting);
}

/// Each key, each subscription and no key at all go their own ways; without order nobody waits.
pub async fn keys_do_not_wait_for_each_other<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let ordered = desk.subscribe_ordered().await;
    let other = desk.subscribe_ordered().await;
    let plain = desk.subscribe().await;
    let mut heads = Vec::new();
    for subscription in [&ordered, &other] {
        for key in [Some("a"), Some("b"), None] {
            heads.push(desk.publish_keyed(subscription, key).await);
        }
    }
    let mut behind = Vec::new();
    for subscription in [&ordered, &other] {
        for key in [Some("a"), Some("b"), None] {
            behind.push(desk.publish_keyed(subscription, key).await);
        }
    }
    assert_eq!(waiting(&desk, &heads).await, [false; 6]);
    assert_eq!(waiting(&desk, &behind).await, [true; 6]);
    let free = [desk.publish_keyed(&plain, Some("a")).await, desk.publish_keyed(&plain, Some("a")).await];
    assert_eq!(waiting(&desk, &free).await, [false; 2]);
    assert_eq!(desk.succeed(heads[4]).await, [behind[4]], "its own and no other");
}

/// A head stays the head, even if an earlier one is reopened: that one waits for its end.
pub async fn a_reopened_delivery_waits_for_the_present_head<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let [first, second, third] = three(&desk, &subscription).await;
    desk.cancel(first).await;
    assert_eq!(desk.ask(first, &Input::Reopen).await, []);
    assert_eq!(waiting(&desk, &[first, second, third]).await, [true, false, true]);
    assert_eq!(desk.succeed(second).await, [first], "it is the lowest");
    assert_eq!(desk.succeed(first).await, [third]);
}

/// `ordered` is fixed on a delivery when it is published.
pub async fn a_delivery_keeps_the_order_that_it_was_published_with<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let created =
        desk.create(&Subscription { ordered: true, tenant: tenant("fixed"), ..subscription() }).await;
    let first = desk.publish(&created).await;
    let second = desk.publish(&created).await;
    let loose = Subscription { ordered: false, ..(*created).clone() };
    desk.store.update(&loose, 1).await.unwrap();
    let loose = desk.get(created.id).await.expect("it was updated");
    let third = desk.publish(&loose).await;
    assert_eq!(waiting(&desk, &[first, second, third]).await, [false, true, false]);
    assert_eq!(desk.succeed(first).await, [second]);
}
