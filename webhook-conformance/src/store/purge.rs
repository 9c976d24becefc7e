//! Deleting what is finished of one tenant, when a person asks for it.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::lifecycle::Input;
use webhook_core::model::{Event, Subscription, Tenant};
use webhook_core::store::{Duplicate, Inserted};

use crate::sample::{Desk, event, subscription, tenant};
use crate::{Fixture, StoreFixture};

/// Purges to the end by pages of so many events. Returns how many each deleted.
async fn purge<F: StoreFixture>(
    desk: &Desk<'_, F>,
    tenant: &Tenant,
    older_than: Duration,
    limit: u32,
) -> Vec<u64> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = desk.store.purge(tenant, older_than, after, limit).await.unwrap();
        pages.push(page.deleted);
        assert!(page.deleted <= u64::from(limit), "a page of {limit} deleted {}", page.deleted);
        assert!(pages.len() < 100, "the pages never end: {pages:?}");
        match page.next {
            Some(next) => after = Some(next),
            None => return pages,
        }
    }
}

/// With its deliveries and attempts; not before its time, and nothing of another tenant.
pub async fn purge_deletes_what_finished_long_ago_of_one_tenant<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let ours = desk.subscribe().await;
    let theirs = desk.create(&Subscription { tenant: tenant("other"), ..subscription() }).await;
    let old = desk.publish_event(event(), &[Arc::clone(&ours)]).await;
    desk.succeed(old.deliveries[0]).await;
    let attempt = desk.attempts(old.deliveries[0]).await.remove(0);
    let unmatched = desk.publish_event(event(), &[]).await;
    let other = desk.publish(&theirs).await;
    desk.succeed(other).await;
    let age = unit * 4;
    assert_eq!(purge(&desk, &ours.tenant, age, 10).await, [0], "both have just finished");
    desk.pass(4).await;
    let fresh = desk.publish_event(event(), std::slice::from_ref(&ours)).await;
    desk.succeed(fresh.deliveries[0]).await;
    let fresh_unmatched = desk.publish_event(event(), &[]).await;
    desk.pass(1).await;

    assert_eq!(purge(&desk, &tenant("nobody"), age, 10).await, [0]);
    assert_eq!(purge(&desk, &ours.tenant, age, 10).await, [2]);
    for gone in [old.event.id, unmatched.event.id] {
        assert_eq!(desk.history.event(None, gone).await.unwrap(), None);
        assert_eq!(desk.history.payload(None, gone).await.unwrap(), None);
    }
    assert_eq!(desk.find(old.deliveries[0]).await, None);
    assert_eq!(desk.attempts(old.deliveries[0]).await, []);
    let page = webhook_core::store::PageRequest { before: None, limit: 10 };
    let attempts = desk.history.attempts(&webhook_core::store::AttemptFilter::default(), page).await.unwrap();
    assert!(attempts.items.iter().all(|left| left.id != attempt.id));
    for kept in [fresh.event.id, fresh_unmatched.event.id] {
        assert!(desk.history.event(None, kept).await.unwrap().is_some());
    }
    assert_eq!(desk.attempts(other).await.len(), 1, "another tenant's");

    assert_eq!(purge(&desk, &ours.tenant, Duration::ZERO, 10).await, [2], "zero: all that is finished");
    assert_eq!(purge(&desk, &theirs.tenant, age, 10).await, [1]);
    assert_eq!(desk.store.prune(Duration::ZERO, 10).await.unwrap(), 0, "nothing is left to prune");
}

/// One delivery that is not finished, or is to be tried once more, keeps all of its event.
pub async fn purge_keeps_what_is_unfinished<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second) = (desk.subscribe().await, desk.subscribe().await);
    let half = desk.publish_event(event(), &[Arc::clone(&first), second]).await;
    desk.succeed(half.deliveries[0]).await;
    let forced = desk.publish(&first).await;
    desk.succeed(forced).await;
    desk.ask(forced, &Input::Retry { force: true }).await;
    let reopened = desk.publish(&first).await;
    desk.cancel(reopened).await;
    desk.ask(reopened, &Input::Reopen).await;
    desk.pass(2).await;
    assert_eq!(purge(&desk, &first.tenant, Duration::ZERO, 10).await, [0]);
    assert_eq!(desk.attempts(half.deliveries[0]).await.len(), 1);
    for id in [half.deliveries[1], forced, reopened] {
        desk.succeed(id).await;
        assert_eq!(purge(&desk, &first.tenant, Duration::ZERO, 10).await, [1]);
    }
}

/// So that no call takes long, and every event is looked at once however many stay.
pub async fn purge_goes_through_all_events_page_by_page<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let mut kept = Vec::new();
    for _ in 0..4 {
        kept.push(desk.publish(&subscription).await);
        desk.publish_event(event(), &[]).await;
        let done = desk.publish(&subscription).await;
        desk.succeed(done).await;
    }
    let pages = purge(&desk, &subscription.tenant, Duration::ZERO, 2).await;
    assert_eq!(pages.iter().sum::<u64>(), 8, "{pages:?}");
    assert!(pages.len() >= 6, "twelve events in pages of two: {pages:?}");
    for id in &kept {
        assert!(desk.find(*id).await.is_some());
    }
    assert_eq!(purge(&desk, &subscription.tenant, Duration::ZERO, 100).await, [0]);
}

/// Promise 11: the key outlives its event, with the count that was first answered.
pub async fn a_key_is_kept_when_its_event_is_purged<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second) = (desk.subscribe().await, desk.subscribe().await);
    let keyed = || Event { idempotency_key: Some("k".to_owned()), ..event() };
    let published = desk.publish_event(keyed(), &[Arc::clone(&first), Arc::clone(&second)]).await;
    for id in &published.deliveries {
        desk.succeed(*id).await;
    }
    assert_eq!(purge(&desk, &first.tenant, Duration::ZERO, 10).await, [1]);
    let again = desk.matched(keyed(), &[first, second]).await;
    let expected = Duplicate { event_id: published.event.id, deliveries: vec![], delivery_count: 2 };
    assert_eq!(desk.insert(&again).await, Inserted::Duplicate(expected));
}
