//! Lists, and forgetting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use webhook_core::id::DeliveryId;
use webhook_core::lane::Effect;
use webhook_core::lifecycle::Input;
use webhook_core::model::*;
use webhook_core::store::*;
use webhook_core::time::Clock as _;

/// Two tenants, three subscriptions, deliveries in every status.
async fn some_history(f: &Fixture) -> (Vec<Arc<Subscription>>, Vec<DeliveryId>) {
    let a = f.subscribe_with(|s| s.ordered = true).await;
    let b = f.subscribe().await;
    let c = f.subscribe_with(|s| s.tenant = "acme".parse().unwrap()).await;
    let mut ids = Vec::new();
    for index in 0..12 {
        let event_type = if index % 3 == 0 { "invoice.paid" } else { "order.created" };
        let event = Event { event_type: event_type.parse().unwrap(), ..event() };
        let config = f.config().await;
        ids.extend(f.publish_this(insert_of(event.clone(), &[&a, &b], config), None).await.ids);
        let event = Event { id: webhook_core::id::EventId::new(), tenant: c.tenant.clone(), ..event };
        ids.extend(f.publish_this(insert_of(event, &[&c], 1), None).await.ids);
        f.clock.advance(SECOND);
        for (turn, lease) in f.claim(2).await.iter().enumerate() {
            let ending = if (index + turn) % 2 == 0 { success() } else { failure() };
            f.attempt(lease, &ending, Effect::Fast).await;
        }
    }
    f.ask(ids[30], Input::Cancel(StatusReason::CancelledByUser)).await;
    f.check().await;
    (vec![a, b, c], ids)
}

/// Pages through everything, two at a time.
async fn all(f: &Fixture, filter: &DeliveryFilter) -> Vec<Delivery> {
    let mut found: Vec<Delivery> = Vec::new();
    let mut before = None;
    loop {
        let page = f.store.deliveries(filter, PageRequest { before, limit: 2 }).await.unwrap();
        assert!(page.items.len() <= 2);
        found.extend(page.items);
        before = page.next;
        if before.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn every_filter_of_deliveries_gives_what_it_names_newest_first_without_gaps() {
    let f = Fixture::new().await;
    let (subscriptions, ids) = some_history(&f).await;
    let everything = all(&f, &DeliveryFilter::default()).await;
    assert_eq!(everything.len(), ids.len());
    assert!(everything.windows(2).all(|pair| pair[0].id > pair[1].id));
    use DeliveryStatus::*;
    let tenants =
        [None, Some(Tenant::default()), Some("acme".parse().unwrap()), Some("nobody".parse().unwrap())];
    let statuses = [
        vec![],
        vec![Pending],
        vec![Pending, Retrying],
        vec![Succeeded],
        vec![Cancelled, Exhausted],
        vec![Retrying, Cancelled],
    ];
    let since = everything[20].created_at;
    let until = everything[5].created_at;
    let mut tried = 0;
    for tenant in &tenants {
        for statuses in &statuses {
            for subscription_id in [None, Some(subscriptions[0].id), Some(subscriptions[2].id)] {
                for event_id in [None, Some(everything[7].event_id)] {
                    for event_type in [None, Some("invoice.paid".parse().unwrap())] {
                        for (since, until) in [(None, None), (Some(since), Some(until))] {
                            let filter = DeliveryFilter {
                                tenant: tenant.clone(),
                                statuses: statuses.clone(),
                                subscription_id,
                                event_id,
                                event_type: event_type.clone(),
                                since,
                                until,
                            };
                            let wanted: Vec<Delivery> = everything
                                .iter()
                                .filter(|d| {
                                    filter.tenant.as_ref().is_none_or(|t| d.tenant == *t)
                                        && (statuses.is_empty() || statuses.contains(&d.state.status))
                                        && subscription_id.is_none_or(|s| d.subscription_id == s)
                                        && event_id.is_none_or(|e| d.event_id == e)
                                        && event_type.as_ref().is_none_or(|t| d.event_type == *t)
                                        && since.is_none_or(|s| d.created_at >= s)
                                        && until.is_none_or(|u| d.created_at < u)
                                })
                                .cloned()
                                .collect();
                            assert_eq!(all(&f, &filter).await, wanted, "{filter:?}");
                            tried += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(tried, 4 * 6 * 3 * 2 * 2 * 2);
}

#[tokio::test]
async fn every_filter_of_attempts_gives_what_it_names_newest_first() {
    let f = Fixture::new().await;
    let (subscriptions, _) = some_history(&f).await;
    let list = async |filter: AttemptFilter| f.store.attempts(&filter, page(250)).await.unwrap().items;
    let everything = list(AttemptFilter::default()).await;
    assert!(everything.len() > 10, "{}", everything.len());
    assert!(everything.windows(2).all(|pair| pair[0].id > pair[1].id));
    let some = &everything[everything.len() / 2];
    let filters = [
        AttemptFilter { tenant: Some(Tenant::default()), ..Default::default() },
        AttemptFilter {
            tenant: Some("acme".parse().unwrap()),
            outcomes: vec![Outcome::Failed],
            ..Default::default()
        },
        AttemptFilter { subscription_id: Some(subscriptions[1].id), ..Default::default() },
        AttemptFilter {
            delivery_id: Some(some.delivery_id),
            tenant: Some(some.tenant.clone()),
            ..Default::default()
        },
        AttemptFilter { event_id: Some(some.event_id), ..Default::default() },
        AttemptFilter {
            event_id: Some(some.event_id),
            tenant: Some("nobody".parse().unwrap()),
            ..Default::default()
        },
        AttemptFilter { outcomes: vec![Outcome::Succeeded, Outcome::Unknown], ..Default::default() },
        AttemptFilter { until: Some(some.started_at), ..Default::default() },
    ];
    for filter in filters {
        let wanted: Vec<Attempt> = everything
            .iter()
            .filter(|a| {
                filter.tenant.as_ref().is_none_or(|t| a.tenant == *t)
                    && filter.subscription_id.is_none_or(|s| a.subscription_id == s)
                    && filter.delivery_id.is_none_or(|d| a.delivery_id == d)
                    && filter.event_id.is_none_or(|e| a.event_id == e)
                    && (filter.outcomes.is_empty() || filter.outcomes.contains(&a.outcome))
                    && filter.since.is_none_or(|s| a.started_at >= s)
                    && filter.until.is_none_or(|u| a.started_at < u)
            })
            .cloned()
            .collect();
        assert_eq!(list(filter.clone()).await, wanted, "{filter:?}");
    }
    let first = f.store.attempts(&AttemptFilter::default(), page(3)).await.unwrap();
    let request = PageRequest { before: first.next, limit: 250 };
    let rest = f.store.attempts(&AttemptFilter::default(), request).await.unwrap();
    assert_eq!([first.items, rest.items].concat(), everything);
}

#[tokio::test]
async fn events_are_listed_by_tenant_and_type_and_belong_to_their_tenant() {
    let f = Fixture::new().await;
    some_history(&f).await;
    let list = async |filter: EventFilter| f.store.events(&filter, page(250)).await.unwrap().items;
    let everything = list(EventFilter::default()).await;
    assert_eq!(everything.len(), 24);
    assert!(everything.windows(2).all(|pair| pair[0].id > pair[1].id));
    let acme: Tenant = "acme".parse().unwrap();
    let theirs = list(EventFilter { tenant: Some(acme.clone()), ..Default::default() }).await;
    assert_eq!(theirs.len(), 12);
    let invoices = EventFilter { event_type: Some("invoice.paid".parse().unwrap()), ..Default::default() };
    assert_eq!(list(invoices).await.len(), 8);
    let old = EventFilter { until: Some(everything[12].created_at), ..Default::default() };
    assert!(list(old).await.iter().all(|event| event.created_at < everything[12].created_at));
    let id = theirs[0].id;
    assert_eq!(f.store.event(Some(&acme), id).await.unwrap().as_ref(), Some(&theirs[0]));
    assert_eq!(f.store.event(None, id).await.unwrap().as_ref(), Some(&theirs[0]));
    assert_eq!(f.store.event(Some(&Tenant::default()), id).await.unwrap(), None);
    assert_eq!(f.store.payload(None, id).await.unwrap().unwrap(), event().payload);
    assert_eq!(f.store.payload(Some(&Tenant::default()), id).await.unwrap(), None);
    let filter = DeliveryFilter { tenant: Some(acme), ..Default::default() };
    let delivery = f.store.deliveries(&filter, page(1)).await.unwrap().items.remove(0).id;
    assert_eq!(f.store.delivery(Some(&Tenant::default()), delivery).await.unwrap(), None);
    assert!(f.store.attempts_of(Some(&Tenant::default()), delivery).await.unwrap().is_empty());
}

#[tokio::test]
async fn pruning_takes_whole_finished_events_after_their_time_and_nothing_else() {
    let f = Fixture::new().await;
    let (a, b) = (f.proven().await, f.proven().await);
    let unmatched = f.publish(&[], None).await.event.id;
    let both = f.publish(&[&a, &b], None).await;
    let leases = f.claim(8).await;
    f.succeed(&leases[0]).await;
    f.clock.advance(3600 * SECOND);
    let retention = 1800 * SECOND;
    assert_eq!(f.store.prune(retention, 10).await.unwrap(), 1);
    assert_eq!(f.store.event(None, unmatched).await.unwrap(), None);
    assert!(f.store.event(None, both.event.id).await.unwrap().is_some(), "one delivery is unfinished");
    f.check().await;
    // The lease of the other has run out meanwhile.
    let lease = f.claim(8).await.remove(0);
    f.succeed(&lease).await;
    f.clock.advance(retention - Duration::from_micros(1));
    assert_eq!(f.store.prune(retention, 10).await.unwrap(), 0);
    f.check().await;
    f.clock.advance(Duration::from_micros(1));
    assert_eq!(f.store.prune(retention, 10).await.unwrap(), 1);
    for table in ["events", "deliveries", "attempts", "finished", "jobs"] {
        assert_eq!(f.count(table).await, 0, "{table}");
    }
    f.check().await;
}

#[tokio::test]
async fn pruning_stops_at_its_limit_and_goes_on_where_it_was() {
    let f = Fixture::new().await;
    let config = f.config().await;
    let inserts: Vec<Insert> = (0..250).map(|_| new_insert(&[], config)).collect();
    f.store.insert(&inserts, None).await.unwrap();
    f.clock.advance(SECOND);
    let mut pruned = Vec::new();
    loop {
        let step = f.store.prune(Duration::ZERO, 120).await.unwrap();
        pruned.push(step);
        if step < 120 {
            break;
        }
    }
    assert_eq!(pruned, [120, 120, 10]);
    f.check().await;
}

#[tokio::test]
async fn a_reopened_delivery_keeps_its_event_until_it_ends_again() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let published = f.publish(&[&s], None).await;
    f.succeed(&f.claim(1).await[0]).await;
    f.clock.advance(3600 * SECOND);
    f.ask(published.ids[0], Input::Reopen).await;
    assert_eq!(f.store.prune(SECOND, 10).await.unwrap(), 0);
    f.check().await;
    f.succeed(&f.claim(1).await[0]).await;
    f.check().await;
    assert_eq!(f.store.prune(SECOND, 10).await.unwrap(), 0);
    f.clock.advance(SECOND);
    assert_eq!(f.store.prune(SECOND, 10).await.unwrap(), 1);
    f.check().await;
}

#[tokio::test]
async fn a_delivery_tells_why_it_waits() {
    let f = Fixture::new().await;
    let rate = RateLimit { requests: 1, per: 60 * SECOND };
    let s = f.subscribe_with(|s| s.rate_limit = Some(rate)).await;
    let (a, b) = (f.publish(&[&s], None).await.ids[0], f.publish(&[&s], None).await.ids[0]);
    let reason = async |id| f.delivery(id).await.state.reason;
    assert_eq!(reason(a).await, None, "due");
    let lease = f.claim(8).await.remove(0);
    assert_eq!(reason(a).await, None, "in flight");
    assert_eq!(reason(b).await, Some(StatusReason::RateLimited));
    f.attempt(&lease, &failure(), Effect::Asked(120 * SECOND)).await;
    assert_eq!(reason(a).await, None, "between retries");
    assert_eq!(reason(b).await, Some(StatusReason::Parked));
    let delivery = f.delivery(a).await;
    assert_eq!(delivery.next_attempt_at, Some(f.clock.now().after(10 * SECOND)));
}
