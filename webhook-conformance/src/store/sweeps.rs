//! What is done in batches, again and again: owing, cancelling, pruning.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use webhook_core::id::DeliveryId;
use webhook_core::lifecycle::{Input, Next};
use webhook_core::model::{DeliveryStatus, Event, Outcome, StatusReason};
use webhook_core::store::Ended;

use crate::sample::{Desk, due, event, result};
use crate::{Fixture, StoreFixture};

/// Promise 2: in the order of ids, each once, over any number of pages. A store with its own queue owes
/// nothing.
pub async fn everything_unfinished_is_owed<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let subscription = desk.subscribe().await;
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        ids.insert(desk.publish(&subscription).await);
    }
    let done = ids.pop_first().expect("there are ten");
    desk.succeed(done).await;
    let retried = *ids.first().expect("there are nine");
    let record = result(retried, &desk.load(retried).await, Outcome::Failed, webhook_core::id::Token::new());
    desk.apply(&due(record, Next::After(unit * 600))).await;
    let urgent = *ids.last().expect("there are nine");
    desk.ask(urgent, &Input::Retry { force: false }).await;

    let owed = desk.owed().await;
    if !desk.owes_a_queue() {
        assert_eq!(owed, [], "its jobs are its own");
        return;
    }
    assert_eq!(owed.iter().map(|owed| owed.id).collect::<Vec<_>>(), ids.into_iter().collect::<Vec<_>>());
    for owed in owed {
        assert_eq!((owed.lane, owed.lane_version), (subscription.id, 1));
        assert_eq!(owed.urgent, owed.id == urgent);
        if owed.id == retried {
            assert!(owed.wait > unit * 300 && owed.wait <= unit * 600);
        } else {
            assert_eq!(owed.wait, Duration::ZERO);
        }
    }
}

/// What waits behind another has no job.
pub async fn what_waits_for_its_turn_is_not_owed<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let head = desk.publish(&subscription).await;
    let next = desk.publish(&subscription).await;
    let ids = |owed: Vec<webhook_core::store::Owed>| owed.iter().map(|owed| owed.id).collect::<Vec<_>>();
    let before = ids(desk.owed().await);
    desk.succeed(head).await;
    let after = ids(desk.owed().await);
    if desk.owes_a_queue() {
        assert_eq!((before, after), (vec![head], vec![next]));
    }
}

/// An attempt that a person forced on a succeeded delivery needs a job as well.
pub async fn a_forced_attempt_is_owed<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    desk.succeed(id).await;
    desk.ask(id, &Input::Retry { force: true }).await;
    let loaded = desk.load(id).await;
    assert_eq!((loaded.state.status, loaded.due_in), (DeliveryStatus::Succeeded, Duration::ZERO));
    if desk.owes_a_queue() {
        let owed = desk.owed().await;
        assert!(matches!(owed.as_slice(), [owed] if owed.id == id && owed.urgent));
    }
    desk.apply(&result(id, &loaded, Outcome::Failed, webhook_core::id::Token::new())).await;
    assert_eq!(desk.status(id).await, DeliveryStatus::Succeeded);
    assert_eq!(desk.owed().await, []);
}

/// Deletion is final for a worker that loads, and then cancels in batches what is left.
pub async fn deliveries_of_a_deleted_subscription_are_cancelled<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (deleted, kept) = (desk.subscribe().await, desk.subscribe_ordered().await);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(desk.publish(&deleted).await);
    }
    let other = desk.publish(&kept).await;
    desk.succeed(ids[0]).await;
    assert_eq!(Ended::total(&desk.store.cancel_deleted(10).await.unwrap()), 0, "nothing was deleted yet");
    desk.store.delete(&deleted.tenant, deleted.id, None).await.unwrap();
    assert_eq!(desk.load(ids[1]).await.subscription_version, None);
    let revision = desk.load(ids[1]).await.state.revision;

    let mut batches = Vec::new();
    loop {
        let ended = desk.store.cancel_deleted(3).await.unwrap();
        let whose = |ended: &Ended| (ended.tenant.clone(), ended.subscription_id);
        assert!(ended.iter().all(|ended| whose(ended) == (deleted.tenant.clone(), deleted.id)));
        let batch = Ended::total(&ended);
        batches.push(batch);
        if batch == 0 {
            break;
        }
        assert!(batch <= 3);
    }
    assert_eq!(batches.iter().sum::<u64>(), 4);
    assert_eq!(desk.status(ids[0]).await, DeliveryStatus::Succeeded, "what has ended stays");
    for id in &ids[1..] {
        let shown = desk.delivery(*id).await;
        assert_eq!(shown.state.status, DeliveryStatus::Cancelled);
        assert_eq!(shown.state.reason, Some(StatusReason::SubscriptionDeleted));
        assert!(shown.finished_at.is_some());
    }
    assert!(desk.load(ids[1]).await.state.revision > revision, "a committed change raises the revision");
    assert_eq!(desk.status(other).await, DeliveryStatus::Pending);
}

/// The event with all its deliveries and attempts, and not before its time.
pub async fn prune_deletes_what_finished_long_ago<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let subscription = desk.subscribe().await;
    let old = desk.publish_event(event(), &[Arc::clone(&subscription)]).await;
    desk.succeed(old.deliveries[0]).await;
    let attempt = desk.attempts(old.deliveries[0]).await.remove(0);
    let unmatched = desk.publish_event(event(), &[]).await;
    assert_eq!(desk.store.prune(unit * 4, 10).await.unwrap(), 0, "both have just finished");
    desk.pass(4).await;
    let fresh = desk.publish_event(event(), &[Arc::clone(&subscription)]).await;
    desk.succeed(fresh.deliveries[0]).await;
    desk.pass(1).await;
    assert_eq!(desk.store.prune(unit * 4, 10).await.unwrap(), 2);
    for gone in [old.event.id, unmatched.event.id] {
        assert_eq!(desk.history.event(None, gone).await.unwrap(), None);
        assert_eq!(desk.history.payload(None, gone).await.unwrap(), None);
    }
    assert_eq!(desk.find(old.deliveries[0]).await, None);
    assert_eq!(desk.attempts(old.deliveries[0]).await, []);
    let page = webhook_core::store::PageRequest { before: None, limit: 10 };
    let attempts = desk.history.attempts(&webhook_core::store::AttemptFilter::default(), page).await.unwrap();
    assert!(attempts.items.iter().all(|left| left.id != attempt.id));
    assert!(desk.history.event(None, fresh.event.id).await.unwrap().is_some());
    assert_eq!(desk.store.prune(unit * 4, 10).await.unwrap(), 0);
}

/// One delivery that is not finished keeps all of its event.
pub async fn prune_keeps_what_is_unfinished<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second) = (desk.subscribe().await, desk.subscribe().await);
    let published = desk.publish_event(event(), &[first, second]).await;
    desk.succeed(published.deliveries[0]).await;
    desk.pass(4).await;
    assert_eq!(desk.store.prune(<F as Fixture>::UNIT, 10).await.unwrap(), 0);
    assert_eq!(desk.attempts(published.deliveries[0]).await.len(), 1);
    desk.succeed(published.deliveries[1]).await;
    assert_eq!(desk.store.prune(<F as Fixture>::UNIT * 2, 10).await.unwrap(), 0, "it has just finished");
    desk.pass(2).await;
    assert_eq!(desk.store.prune(<F as Fixture>::UNIT * 2, 10).await.unwrap(), 1);
}

/// So that no call takes long.
pub async fn prune_keeps_to_its_limit<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    for _ in 0..5 {
        desk.publish_event(event(), &[]).await;
    }
    desk.pass(2).await;
    let mut pruned = Vec::new();
    for _ in 0..4 {
        pruned.push(desk.store.prune(<F as Fixture>::UNIT, 2).await.unwrap());
    }
    assert_eq!(pruned, [2, 2, 1, 0]);
}

/// Promise 12: a purge of ended ones leaves the order of those that wait.
pub async fn prune_leaves_the_order_of_the_rest<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let keyed = || Event { ordering_key: Some("k".to_owned()), ..event() };
    let mut ids: Vec<DeliveryId> = Vec::new();
    for _ in 0..3 {
        ids.extend(desk.publish_event(keyed(), &[Arc::clone(&subscription)]).await.deliveries);
    }
    desk.succeed(ids[0]).await;
    desk.pass(2).await;
    assert_eq!(desk.store.prune(<F as Fixture>::UNIT, 10).await.unwrap(), 1);
    assert!(!desk.load(ids[1]).await.waiting && desk.load(ids[2]).await.waiting);
    assert_eq!(desk.succeed(ids[1]).await, [ids[2]]);
}
