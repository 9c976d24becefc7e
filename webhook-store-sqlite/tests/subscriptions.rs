//! Subscriptions, configuration versions, deletion.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use webhook_core::id::SubscriptionId;
use webhook_core::lane::Effect;
use webhook_core::lifecycle::Input;
use webhook_core::matching::Filter;
use webhook_core::model::*;
use webhook_core::queue::*;
use webhook_core::secret::Secret;
use webhook_core::signature::{SignatureScheme, VerifyScheme};
use webhook_core::store::*;
use webhook_core::time::{Clock as _, Timestamp};
use webhook_store_sqlite::sqlx;

fn full() -> Subscription {
    let secret = |text: &str| Secret::from_stored(text.to_owned());
    Subscription {
        tenant: "acme".parse().unwrap(),
        description: Some("ä note".to_owned()),
        event_types: vec!["order.*".parse().unwrap(), "invoice.paid".parse().unwrap()],
        filter: Some(Arc::new(Filter::parse(&serde_json::json!({"data.amount": {"$gte": 100}})).unwrap())),
        headers: [("authorization".to_owned(), "Bearer 1".to_owned())].into(),
        metadata: [("team".to_owned(), "blue".to_owned())].into(),
        status: SubscriptionStatus::Disabled,
        disabled_reason: Some(DisabledReason::Gone),
        retry: Some("schedule:10s,1m".parse().unwrap()),
        timeout: Some(Duration::from_millis(1500)),
        max_in_flight: Some(7),
        rate_limit: Some(RateLimit { requests: 3, per: Duration::from_secs(2) }),
        ordered: true,
        signature: SignatureScheme::Github,
        verify: Some(Verification {
            scheme: VerifyScheme::Hex,
            header: Some("X-Signature".to_owned()),
            secret: Some(secret("verify me")),
        }),
        secrets: vec![
            ActiveSecret { secret: secret("the newest secret"), expires_at: None },
            ActiveSecret { secret: secret("an older secret"), expires_at: Some(Timestamp::from_micros(5)) },
        ],
        ..subscription()
    }
}

#[tokio::test]
async fn every_field_is_kept_and_times_and_version_are_the_stores() {
    let f = Fixture::new().await;
    let new = full();
    let stored = f.store.create(&new).await.unwrap();
    let now = f.clock.now();
    assert_eq!(*stored, Subscription { version: 1, created_at: now, updated_at: now, ..new.clone() });
    let f = f.reopen().await;
    assert_eq!(f.store.get(&[new.id]).await.unwrap(), [Some(Arc::clone(&stored))]);
    // A repeat returns what is stored.
    f.clock.advance(SECOND);
    assert_eq!(f.store.create(&Subscription { description: None, ..new }).await.unwrap(), stored);
    assert_eq!(f.store.snapshot(&stored.tenant).await.unwrap().version, 1);
}

#[tokio::test]
async fn an_update_needs_the_expected_version_and_keeps_what_never_changes() {
    let f = Fixture::new().await;
    let stored = f.store.create(&full()).await.unwrap();
    f.clock.advance(SECOND);
    let mut change = (*stored).clone();
    change.description = None;
    change.created_at = Timestamp::EPOCH;
    assert_eq!(f.store.update(&change, 2).await.unwrap(), Changed::VersionMismatch { current: 1 });
    let Changed::Done(changed) = f.store.update(&change, 1).await.unwrap() else { panic!() };
    let expected = Subscription {
        version: 2,
        description: None,
        created_at: stored.created_at,
        updated_at: f.clock.now(),
        ..(*stored).clone()
    };
    assert_eq!(*changed, expected);
    assert_eq!(f.store.update(&change, 1).await.unwrap(), Changed::VersionMismatch { current: 2 });
    let foreign = Subscription { tenant: "other".parse().unwrap(), ..expected };
    assert_eq!(f.store.update(&foreign, 2).await.unwrap(), Changed::NotFound);
    assert_eq!(f.store.update(&subscription(), 1).await.unwrap(), Changed::NotFound);
}

#[tokio::test]
async fn changes_are_told_since_any_version() {
    // Promise 10.
    let f = Fixture::new().await;
    let tenant = Tenant::default();
    assert_eq!(f.store.snapshot(&tenant).await.unwrap(), Snapshot { version: 0, subscriptions: Vec::new() });
    let (a, b, c) = (f.subscribe().await, f.subscribe().await, f.subscribe().await);
    f.store.create(&full()).await.unwrap();
    let Changed::Done(b2) = f.store.update(&b, 1).await.unwrap() else { panic!() };
    let Changed::Done(gone) = f.store.delete(&tenant, c.id, None).await.unwrap() else { panic!() };
    assert_eq!((gone.id, gone.version), (c.id, 2), "a deletion is a change");
    let changes = f.store.changes_since(&tenant, 1).await.unwrap().unwrap();
    assert_eq!(changes, Changes { version: 5, changed: vec![Arc::clone(&b2)], deleted: vec![c.id] });
    let none = f.store.changes_since(&tenant, 5).await.unwrap().unwrap();
    assert_eq!(none, Changes { version: 5, changed: Vec::new(), deleted: Vec::new() });
    let snapshot = f.store.snapshot(&tenant).await.unwrap();
    assert_eq!(snapshot, Snapshot { version: 5, subscriptions: vec![a, b2] });
}

#[tokio::test]
async fn lists_are_paged_newest_first_and_filtered() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for index in 0..10 {
        let types = if index % 2 == 0 {
            vec!["order.*".parse().unwrap()]
        } else {
            vec!["invoice.paid".parse().unwrap()]
        };
        ids.push(f.subscribe_with(|s| s.event_types = types).await.id);
    }
    let acme = f.store.create(&full()).await.unwrap();
    let list = async |filter: SubscriptionFilter, before, limit| {
        let page = f.store.list(&filter, PageRequest { before, limit }).await.unwrap();
        (page.items.iter().map(|s| s.id).collect::<Vec<_>>(), page.next)
    };
    let tenant = Some(Tenant::default());
    let mine = SubscriptionFilter { tenant, ..SubscriptionFilter::default() };
    ids.reverse();
    assert_eq!(list(mine.clone(), None, 4).await, (ids[..4].to_vec(), Some(ids[3])));
    assert_eq!(list(mine.clone(), Some(ids[3]), 6).await, (ids[4..].to_vec(), None));
    let disabled = SubscriptionFilter { statuses: vec![SubscriptionStatus::Disabled], ..Default::default() };
    assert_eq!(list(disabled, None, 5).await, (vec![acme.id], None));
    let orders = SubscriptionFilter { event_type: Some("order.created".parse().unwrap()), ..mine };
    let taking: Vec<SubscriptionId> = ids.iter().copied().skip(1).step_by(2).collect();
    assert_eq!(list(orders.clone(), None, 3).await, (taking[..3].to_vec(), Some(taking[2])));
    assert_eq!(list(orders, Some(taking[2]), 3).await, (taking[3..].to_vec(), None));
}

#[tokio::test]
async fn a_deleted_subscription_starts_nothing_and_its_deliveries_are_cancelled_in_batches() {
    let f = Fixture::new().await;
    let s = f.subscribe_with(|s| s.ordered = true).await;
    let t = f.proven().await;
    for _ in 0..3 {
        f.publish(&[&s, &t], None).await;
    }
    let leases = f.claim(8).await;
    let in_flight = leases.iter().find(|lease| lease.lane == s.id).unwrap();
    let loaded = f.load(in_flight).await;
    assert_eq!(
        f.store.delete(&s.tenant, s.id, Some(7)).await.unwrap(),
        Changed::VersionMismatch { current: 1 }
    );
    assert!(matches!(f.store.delete(&s.tenant, s.id, Some(1)).await.unwrap(), Changed::Done(_)));
    assert_eq!(f.store.delete(&s.tenant, s.id, None).await.unwrap(), Changed::NotFound);
    assert_eq!(f.store.get(&[s.id]).await.unwrap(), [None]);
    assert_eq!(f.load(in_flight).await.subscription_version, None);
    assert_eq!(f.lane(s.id).await.hold, Some(Hold::Deleted));
    assert!(f.claim(8).await.is_empty());
    // The work survives a restart half-way.
    assert_eq!(Ended::total(&f.store.cancel_deleted(2).await.unwrap()), 2);
    let f = f.reopen().await;
    assert_eq!(Ended::total(&f.store.cancel_deleted(100).await.unwrap()), 1);
    assert_eq!(Ended::total(&f.store.cancel_deleted(100).await.unwrap()), 0);
    f.check().await;
    let filter = DeliveryFilter { subscription_id: Some(s.id), ..DeliveryFilter::default() };
    let listed = f.store.deliveries(&filter, page(10)).await.unwrap().items;
    assert_eq!(listed.len(), 3);
    for delivery in &listed {
        let expected = (DeliveryStatus::Cancelled, Some(StatusReason::SubscriptionDeleted));
        assert_eq!((delivery.state.status, delivery.state.reason), expected);
    }
    // A request on the wire is recorded and changes nothing else (promise 5).
    let late = f.store.record(&[result(&loaded, in_flight, &success(), Effect::Fast)]).await.unwrap();
    assert!(matches!(&late[0], Recorded::Stale { state, .. } if state.status == DeliveryStatus::Cancelled));
    // Reopened behind the deletion's back, it is cancelled again.
    f.ask(listed[0].id, Input::Reopen).await;
    f.check().await;
    assert!(f.claim(8).await.iter().all(|lease| lease.lane == t.id));
    assert_eq!(Ended::total(&f.store.cancel_deleted(100).await.unwrap()), 1);
    f.check().await;
}

#[tokio::test]
async fn the_secrets_of_a_deleted_subscription_are_gone() {
    let f = Fixture::new().await;
    let stored = f.store.create(&full()).await.unwrap();
    f.store.delete(&stored.tenant, stored.id, None).await.unwrap();
    let rest: Vec<u8> = sqlx::query_scalar("SELECT secrets FROM webhooks_subscriptions")
        .fetch_one(&mut f.raw().await)
        .await
        .unwrap();
    let rest = String::from_utf8(rest).unwrap();
    for secret in ["newest", "older", "verify", "Bearer"] {
        assert!(!rest.contains(secret), "{rest}");
    }
}

#[tokio::test]
async fn pausing_and_resuming_holds_and_frees_the_lane_in_the_same_commit() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let paused = Subscription { status: SubscriptionStatus::Paused, ..(*s).clone() };
    f.store.update(&paused, 1).await.unwrap();
    assert!(f.claim(8).await.is_empty());
    assert_eq!(f.delivery(published.ids[0]).await.state.reason, Some(StatusReason::Paused));
    let f = f.reopen().await;
    assert!(f.claim(8).await.is_empty());
    f.store.update(&s, 2).await.unwrap();
    let leases = f.claim(8).await;
    assert_eq!((leases.len(), leases[0].lane_version), (1, 3));
    f.check().await;
}
