//! Whole events: what was made of one, and giving it to more subscriptions.

use std::sync::Arc;

use webhook_core::id::{DeliveryId, EventId};
use webhook_core::model::{Event, Subscription, Tenant};
use webhook_core::store::{Added, Duplicate, Inserted, NewDelivery};

use crate::sample::{Desk, GIVE_UP, event, tenant};
use crate::{Fixture, StoreFixture};

fn new(subscription: &Subscription) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::new(),
        subscription_id: subscription.id,
        ordered: subscription.ordered,
        give_up_after: GIVE_UP,
    }
}

fn stored(added: &[DeliveryId], waiting: &[DeliveryId]) -> Added {
    Added::Stored { added: added.to_vec(), waiting: waiting.to_vec() }
}

/// Adds against the current configuration.
async fn add<F: StoreFixture>(desk: &Desk<'_, F>, event: EventId, deliveries: &[NewDelivery]) -> Added {
    let version = desk.version(&Tenant::default()).await;
    desk.store.add_deliveries(event, deliveries, version).await.unwrap()
}

/// Where they stand, in the order of their ids.
pub async fn an_event_is_found_with_its_deliveries<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscriptions = [desk.subscribe().await, desk.subscribe().await, desk.subscribe().await];
    let mut insert = desk.matched(event(), &subscriptions).await;
    insert.deliveries.reverse();
    desk.insert(&insert).await;
    let mut ids: Vec<DeliveryId> = insert.deliveries.iter().map(|delivery| delivery.id).collect();
    ids.sort_unstable();
    desk.succeed(ids[1]).await;
    let whose = Tenant::default();
    let found = desk.store.of_event(&whose, insert.event.id).await.unwrap().expect("it is stored");
    assert_eq!(found.event, insert.event);
    assert_eq!(found.deliveries.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), ids);
    for delivery in &found.deliveries {
        let loaded = desk.load(delivery.id).await;
        assert_eq!((delivery.subscription_id, &delivery.state), (loaded.subscription_id, &loaded.state));
    }
    let unmatched = desk.publish_event(event(), &[]).await.event.id;
    let found = desk.store.of_event(&whose, unmatched).await.unwrap().expect("it is stored");
    assert_eq!(found.deliveries, []);
    assert_eq!(desk.store.of_event(&whose, EventId::new()).await.unwrap(), None);
}

/// What belongs to another tenant does not exist.
pub async fn another_tenants_event_is_not_found<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let published = desk.publish_event(event(), &[]).await;
    assert_eq!(desk.store.of_event(&tenant("mallory"), published.event.id).await.unwrap(), None);
}

/// At most one for each subscription, whatever is repeated.
pub async fn deliveries_are_added_to_a_stored_event<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second, third) = (desk.subscribe().await, desk.subscribe().await, desk.subscribe().await);
    let published = desk.publish_event(event(), &[Arc::clone(&first)]).await;
    desk.succeed(published.deliveries[0]).await;
    let (again, missing, last) = (new(&first), new(&second), new(&third));
    let both = [again, missing.clone(), new(&second)];
    assert_eq!(add(&desk, published.event.id, &both).await, stored(&[missing.id], &[]));
    assert_eq!(add(&desk, published.event.id, &both).await, stored(&[], &[]), "a repeat adds nothing");
    let more = [new(&second), last.clone()];
    assert_eq!(add(&desk, published.event.id, &more).await, stored(&[last.id], &[]));
    let loaded = desk.load(missing.id).await;
    assert_eq!((&loaded.event, loaded.subscription_id), (&published.event, second.id));
    assert!(loaded.due_in.is_zero() && !loaded.waiting && loaded.state.attempts == 0);
    let found = desk.store.of_event(&Tenant::default(), published.event.id).await.unwrap().unwrap();
    assert_eq!(found.deliveries.len(), 3);
    if desk.owes_a_queue() {
        let owed: Vec<_> = desk.owed().await.iter().map(|owed| owed.id).collect();
        assert_eq!(owed, [missing.id, last.id]);
    }
}

/// Promise 10, also when nothing is missing by the older configuration.
pub async fn adding_against_another_configuration_adds_nothing<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let published = desk.publish_event(event(), &[]).await;
    let before = desk.version(&Tenant::default()).await;
    let subscription = desk.subscribe().await;
    for deliveries in [vec![], vec![new(&subscription)]] {
        let answer = desk.store.add_deliveries(published.event.id, &deliveries, before).await.unwrap();
        assert_eq!(answer, Added::Outdated);
    }
    let found = desk.store.of_event(&Tenant::default(), published.event.id).await.unwrap().unwrap();
    assert_eq!(found.deliveries, []);
    assert_eq!(add(&desk, published.event.id, &[]).await, stored(&[], &[]));
}

/// It was never there, or has been pruned.
pub async fn nothing_is_added_to_an_event_that_is_gone<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    assert_eq!(add(&desk, EventId::new(), &[new(&subscription)]).await, Added::Gone);
    let published = desk.publish_event(event(), &[]).await;
    desk.pass(2).await;
    assert_eq!(desk.store.prune(<F as Fixture>::UNIT, 10).await.unwrap(), 1);
    assert_eq!(add(&desk, published.event.id, &[new(&subscription)]).await, Added::Gone);
}

/// Promise 12: behind those that are there.
pub async fn an_added_delivery_takes_its_turn<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let early = desk.publish_event(event(), &[]).await.event.id;
    let subscription = desk.subscribe_ordered().await;
    let head = desk.publish(&subscription).await;
    let next = desk.publish(&subscription).await;
    let added = new(&subscription);
    let answer = add(&desk, early, std::slice::from_ref(&added)).await;
    assert_eq!(answer, stored(&[added.id], &[added.id]));
    assert_eq!(desk.succeed(head).await, [next]);
    assert_eq!(desk.succeed(next).await, [added.id]);
    let alone = new(&subscription);
    desk.succeed(added.id).await;
    let another = desk.publish_event(event(), &[]).await.event.id;
    assert_eq!(add(&desk, another, std::slice::from_ref(&alone)).await, stored(&[alone.id], &[]));
}

/// Promise 6.
pub async fn an_added_delivery_is_due_at_its_events_time<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let now = desk.delivery(desk.publish(&subscription).await).await.created_at;
    let at = now.after(<F as Fixture>::UNIT * 600);
    let scheduled = desk.publish_event(Event { deliver_at: Some(at), ..event() }, &[]).await;
    let added = new(&subscription);
    add(&desk, scheduled.event.id, std::slice::from_ref(&added)).await;
    assert!(desk.load(added.id).await.due_in > <F as Fixture>::UNIT * 300);
}

/// Promise 1: with what its publish made of it, not with what was added later.
pub async fn a_repeated_publish_is_answered_as_at_first<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second) = (desk.subscribe().await, desk.subscribe().await);
    let insert = desk.matched(event(), std::slice::from_ref(&first)).await;
    desk.insert(&insert).await;
    add(&desk, insert.event.id, &[new(&second)]).await;
    let repeat = Duplicate {
        event_id: insert.event.id,
        deliveries: vec![(insert.deliveries[0].id, first.id)],
        delivery_count: 1,
    };
    assert_eq!(desk.insert(&insert).await, Inserted::Duplicate(repeat));
}
