//! What people see.

use std::sync::Arc;

use webhook_core::id::{AttemptId, DeliveryId, EventId};
use webhook_core::model::{DeliveryStatus, Event, Outcome, Subscription, Tenant};
use webhook_core::store::{AttemptFilter, DeliveryFilter, EventFilter, PageRequest};
use webhook_core::time::Timestamp;

use crate::StoreFixture;
use crate::sample::{Desk, event, subscription, tenant};

fn all<Id>() -> PageRequest<Id> {
    PageRequest { before: None, limit: 100 }
}

/// Newest first; rows that come meanwhile neither repeat nor hide others.
pub async fn pages_are_newest_first_and_stable<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let mut published = Vec::new();
    for _ in 0..5 {
        published.push(desk.publish_event(event(), &[Arc::clone(&subscription)]).await);
    }
    published.reverse();
    let mut events: Vec<EventId> = Vec::new();
    let mut request = PageRequest { before: None, limit: 2 };
    loop {
        let page = desk.history.events(&EventFilter::default(), request).await.unwrap();
        assert!(page.items.len() <= 2);
        events.extend(page.items.iter().map(|event| event.id));
        desk.publish_event(event(), &[Arc::clone(&subscription)]).await;
        let Some(next) = page.next else { break };
        request.before = Some(next);
    }
    assert_eq!(events, published.iter().map(|one| one.event.id).collect::<Vec<_>>());

    let mut deliveries: Vec<DeliveryId> = Vec::new();
    let mut request = PageRequest { before: Some(*published[0].deliveries.first().unwrap()), limit: 3 };
    loop {
        let page = desk.history.deliveries(&DeliveryFilter::default(), request).await.unwrap();
        deliveries.extend(page.items.iter().map(|delivery| delivery.id));
        let Some(next) = page.next else { break };
        request.before = Some(next);
    }
    assert_eq!(deliveries, published[1..].iter().map(|one| one.deliveries[0]).collect::<Vec<_>>());
}

/// A page that is just full is the last one when nothing follows.
pub async fn the_last_page_says_so<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    for _ in 0..4 {
        desk.publish_event(event(), &[]).await;
    }
    let request = |limit| PageRequest { before: None, limit };
    let page = desk.history.events(&EventFilter::default(), request(4)).await.unwrap();
    assert_eq!((page.items.len(), page.next), (4, None));
    let page = desk.history.events(&EventFilter::default(), request(3)).await.unwrap();
    assert_eq!(page.next, page.items.last().map(|event| event.id));
}

/// What belongs to another tenant does not exist.
pub async fn another_tenants_rows_do_not_exist<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (ours, theirs) = (tenant("ours"), tenant("theirs"));
    let subscription = desk.create(&Subscription { tenant: ours.clone(), ..subscription() }).await;
    let id = desk.publish(&subscription).await;
    desk.succeed(id).await;
    let event = desk.load(id).await.event.id;
    for (tenant, sees) in [(Some(&ours), true), (None, true), (Some(&theirs), false)] {
        assert_eq!(desk.history.event(tenant, event).await.unwrap().is_some(), sees);
        assert_eq!(desk.history.payload(tenant, event).await.unwrap().is_some(), sees);
        assert_eq!(desk.history.delivery(tenant, id).await.unwrap().is_some(), sees);
        assert_eq!(desk.history.attempts_of(tenant, id).await.unwrap().len(), usize::from(sees));
        let tenant = tenant.cloned();
        let filter = EventFilter { tenant: tenant.clone(), ..EventFilter::default() };
        let events = desk.history.events(&filter, all()).await.unwrap();
        let filter = DeliveryFilter { tenant: tenant.clone(), ..DeliveryFilter::default() };
        let deliveries = desk.history.deliveries(&filter, all()).await.unwrap();
        let filter = AttemptFilter { tenant, ..AttemptFilter::default() };
        let attempts = desk.history.attempts(&filter, all()).await.unwrap();
        let counts = [events.items.len(), deliveries.items.len(), attempts.items.len()];
        assert_eq!(counts, [usize::from(sees); 3]);
    }
}

/// Each filter alone, and together.
pub async fn deliveries_are_found_by_every_filter<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second) = (desk.subscribe().await, desk.subscribe().await);
    let both = desk.publish_event(event(), &[Arc::clone(&first), Arc::clone(&second)]).await;
    desk.pass(1).await;
    let paid = Event { event_type: "order.paid".parse().unwrap(), ..event() };
    let late = desk.publish_event(paid, &[Arc::clone(&first)]).await;
    desk.succeed(both.deliveries[0]).await;
    desk.cancel(both.deliveries[1]).await;
    let late_at = desk.delivery(late.deliveries[0]).await.created_at;

    let find = async |filter: DeliveryFilter| -> Vec<DeliveryId> {
        let page = desk.history.deliveries(&filter, all()).await.unwrap();
        page.items.iter().map(|delivery| delivery.id).collect()
    };
    let any = DeliveryFilter::default;
    let (one, two, three) = (both.deliveries[0], both.deliveries[1], late.deliveries[0]);
    assert_eq!(find(any()).await, [three, two, one]);
    assert_eq!(find(DeliveryFilter { subscription_id: Some(first.id), ..any() }).await, [three, one]);
    assert_eq!(find(DeliveryFilter { event_id: Some(both.event.id), ..any() }).await, [two, one]);
    let paid = Some("order.paid".parse().unwrap());
    assert_eq!(find(DeliveryFilter { event_type: paid.clone(), ..any() }).await, [three]);
    let ended = vec![DeliveryStatus::Succeeded, DeliveryStatus::Cancelled];
    assert_eq!(find(DeliveryFilter { statuses: ended.clone(), ..any() }).await, [two, one]);
    assert_eq!(find(DeliveryFilter { since: Some(late_at), ..any() }).await, [three], "inclusive");
    assert_eq!(find(DeliveryFilter { until: Some(late_at), ..any() }).await, [two, one], "exclusive");
    let none = DeliveryFilter { statuses: ended, event_type: paid, ..any() };
    assert_eq!(find(none).await, []);
}

/// As they were published.
pub async fn events_are_found_and_shown<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let at = Timestamp::from_micros(4_102_444_800_000_001);
    let full = Event {
        ordering_key: Some("o".to_owned()),
        idempotency_key: Some("i".to_owned()),
        deliver_at: Some(at),
        ..event()
    };
    let published = desk.publish_event(full.clone(), &[]).await;
    let paid = Event { event_type: "order.paid".parse().unwrap(), ..event() };
    let other = desk.publish_event(paid, &[]).await;
    let shown = desk.history.event(None, full.id).await.unwrap().expect("it is stored");
    assert_eq!((shown.id, shown.tenant, shown.event_type), (full.id, Tenant::default(), full.event_type));
    assert_eq!(shown.payload_size, full.payload.len() as u64);
    assert_eq!((shown.ordering_key, shown.idempotency_key), (full.ordering_key, full.idempotency_key));
    assert_eq!((shown.deliver_at, shown.only), (Some(at), None));
    assert_eq!(desk.history.payload(None, full.id).await.unwrap(), Some(full.payload));
    assert_eq!(desk.history.payload(None, EventId::new()).await.unwrap(), None);
    let filter = EventFilter { event_type: Some("order.paid".parse().unwrap()), ..EventFilter::default() };
    let found = desk.history.events(&filter, all()).await.unwrap();
    assert_eq!(found.items.iter().map(|event| event.id).collect::<Vec<_>>(), [other.event.id]);
    assert_ne!(published.event.id, other.event.id);
}

/// Lists leave out what is big; one delivery's attempts are whole.
pub async fn attempts_are_listed_without_bodies<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let other = desk.publish(&subscription).await;
    desk.attempt(id, Outcome::Failed).await;
    desk.attempt(other, Outcome::Unknown).await;
    desk.succeed(id).await;
    let whole = desk.attempts(id).await;
    assert!(whole.iter().all(|row| !row.response_body.is_empty() && row.response_headers.len() == 2));

    let find = async |filter: AttemptFilter| -> Vec<AttemptId> {
        let page = desk.history.attempts(&filter, all()).await.unwrap();
        assert!(page.items.iter().all(|row| row.response_body.is_empty() && row.response_headers.is_empty()));
        page.items.iter().map(|row| row.id).collect()
    };
    let any = AttemptFilter::default;
    assert_eq!(find(any()).await.len(), 3);
    assert_eq!(find(AttemptFilter { delivery_id: Some(id), ..any() }).await, [whole[1].id, whole[0].id]);
    let ended = AttemptFilter { outcomes: vec![Outcome::Succeeded, Outcome::Unknown], ..any() };
    assert_eq!(find(ended).await.len(), 2);
    assert_eq!(find(AttemptFilter { subscription_id: Some(subscription.id), ..any() }).await.len(), 3);
    assert_eq!(find(AttemptFilter { event_id: Some(whole[0].event_id), ..any() }).await.len(), 2);
    let started = whole[0].started_at;
    assert_eq!(find(AttemptFilter { since: Some(started), ..any() }).await.len(), 3, "inclusive");
    assert_eq!(find(AttemptFilter { until: Some(started), ..any() }).await, [], "exclusive");
}
