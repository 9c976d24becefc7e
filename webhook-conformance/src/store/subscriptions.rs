//! Subscriptions and the versions of tenants' configurations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use webhook_core::id::SubscriptionId;
use webhook_core::matching::Filter;
use webhook_core::model::{
    ActiveSecret, DisabledReason, RateLimit, Subscription, SubscriptionStatus, Tenant, Verification,
};
use webhook_core::secret::Secret;
use webhook_core::signature::{SignatureScheme, VerifyScheme};
use webhook_core::store::{Changed, PageRequest, SubscriptionFilter};
use webhook_core::time::Timestamp;

use crate::StoreFixture;
use crate::sample::{Desk, subscription, tenant};

/// At version 1, wherever one looks.
pub async fn a_created_subscription_is_there<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let created = desk.subscribe().await;
    assert_eq!(created.version, 1);
    assert!(created.created_at > Timestamp::EPOCH && created.created_at == created.updated_at);
    assert_eq!(desk.get(created.id).await, Some(Arc::clone(&created)));
    let snapshot = desk.store.snapshot(&created.tenant).await.unwrap();
    assert_eq!((snapshot.version, snapshot.subscriptions), (1, vec![created]));
}

/// A repeat after a lost answer.
pub async fn creating_again_returns_what_is_stored<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let created = desk.subscribe().await;
    let other = Subscription { description: Some("another".to_owned()), ..(*created).clone() };
    assert_eq!(desk.create(&other).await, created);
    assert_eq!(desk.get(created.id).await, Some(Arc::clone(&created)));
    assert_eq!(desk.version(&created.tenant).await, 1, "nothing changed");
}

/// Every field, to the bit.
pub async fn a_subscription_is_stored_whole<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let old = ActiveSecret {
        secret: Secret::from_stored("sixteen characters".to_owned()),
        expires_at: Some(Timestamp::from_micros(1_800_000_000_000_001)),
    };
    let full = Subscription {
        tenant: tenant("acme_2"),
        target_url: "https://example.com:8443/a%20b?c=d#e".parse().unwrap(),
        description: Some("naïve \u{1f980} \"quoted\"".to_owned()),
        event_types: vec!["invoice.*".parse().unwrap(), "order.paid".parse().unwrap()],
        filter: Some(Arc::new(Filter::parse(&json!({"data.amount": {"$gte": 100}})).unwrap())),
        headers: map(&[("authorization", "Bearer x"), ("x-a", "1")]),
        metadata: map(&[("team", "billing"), ("", "ü")]),
        status: SubscriptionStatus::Disabled,
        disabled_reason: Some(DisabledReason::Gone),
        retry: Some(serde_json::from_value(json!({"schedule": ["10s", "5m"]})).unwrap()),
        timeout: Some(Duration::from_millis(2_500)),
        max_in_flight: Some(3),
        rate_limit: Some(RateLimit { requests: 10, per: Duration::from_secs(60) }),
        ordered: true,
        signature: SignatureScheme::Github,
        verify: Some(Verification {
            scheme: VerifyScheme::Hex,
            header: Some("x-signature".to_owned()),
            secret: Some(Secret::from_stored("verify".to_owned())),
        }),
        secrets: vec![ActiveSecret { secret: Secret::generate(), expires_at: None }, old],
        ..subscription()
    };
    let created = desk.create(&full).await;
    let expected = Subscription {
        version: 1,
        created_at: created.created_at,
        updated_at: created.updated_at,
        ..full.clone()
    };
    assert_eq!(*created, expected);
    assert_eq!(desk.get(full.id).await.as_deref(), Some(&expected));
    let snapshot = desk.store.snapshot(&full.tenant).await.unwrap();
    assert_eq!(*snapshot.subscriptions[0], expected);
}

/// And never its id, its tenant or when it was created.
pub async fn an_update_replaces_what_may_change<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let created = desk.subscribe().await;
    desk.pass(1).await;
    let paused = Subscription {
        status: SubscriptionStatus::Paused,
        max_in_flight: Some(5),
        created_at: Timestamp::EPOCH,
        version: 77,
        ..(*created).clone()
    };
    let Changed::Done(updated) = desk.store.update(&paused, 1).await.unwrap() else {
        panic!("the version is the expected one")
    };
    assert_eq!((updated.version, updated.created_at), (2, created.created_at));
    assert!(updated.updated_at > created.updated_at);
    assert_eq!((updated.status, updated.max_in_flight), (SubscriptionStatus::Paused, Some(5)));
    assert_eq!(desk.get(created.id).await, Some(updated));
}

/// Of two who change it, the second is told.
pub async fn an_update_of_another_version_changes_nothing<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let created = desk.subscribe().await;
    let change = Subscription { description: Some("mine".to_owned()), ..(*created).clone() };
    assert!(matches!(desk.store.update(&change, 1).await.unwrap(), Changed::Done(_)));
    let again = desk.store.update(&change, 1).await.unwrap();
    assert_eq!(again, Changed::VersionMismatch { current: 2 });
    let deleted = desk.store.delete(&created.tenant, created.id, Some(1)).await.unwrap();
    assert_eq!(deleted, Changed::VersionMismatch { current: 2 });
    assert_eq!(desk.version(&created.tenant).await, 2, "two changes, no more");
    assert_eq!(desk.get(created.id).await.unwrap().version, 2);
}

/// What belongs to another tenant does not exist.
pub async fn another_tenant_cannot_change_it<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let created = desk.subscribe().await;
    let foreign = Subscription { tenant: tenant("mallory"), ..(*created).clone() };
    assert_eq!(desk.store.update(&foreign, 1).await.unwrap(), Changed::NotFound);
    let deleted = desk.store.delete(&tenant("mallory"), created.id, None).await.unwrap();
    assert_eq!(deleted, Changed::NotFound);
    assert_eq!(desk.get(created.id).await, Some(created));
}

/// And deleting it again finds nothing.
pub async fn a_deleted_subscription_is_gone<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (created, other) = (desk.subscribe().await, desk.subscribe().await);
    let deleted = desk.store.delete(&created.tenant, created.id, None).await.unwrap();
    // So that settings of its lane that are pushed late cannot lift the hold.
    assert!(matches!(deleted, Changed::Done(gone) if gone.id == created.id && gone.version == 2));
    assert_eq!(desk.store.get(&[created.id, other.id]).await.unwrap(), [None, Some(Arc::clone(&other))]);
    assert_eq!(desk.store.snapshot(&other.tenant).await.unwrap().subscriptions, [Arc::clone(&other)]);
    let page = PageRequest { before: None, limit: 10 };
    let list = desk.store.list(&SubscriptionFilter::default(), page).await.unwrap();
    assert_eq!((list.items, list.next), (vec![other], None));
    let again = desk.store.delete(&created.tenant, created.id, None).await.unwrap();
    assert_eq!(again, Changed::NotFound);
    assert_eq!(desk.store.update(&created, 1).await.unwrap(), Changed::NotFound);
}

/// Promise 10 stands on it: each change has a version of its own, in its own tenant.
pub async fn every_change_raises_the_configuration_version<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (ours, theirs) = (Tenant::default(), tenant("other"));
    assert_eq!((desk.version(&ours).await, desk.version(&theirs).await), (0, 0));
    let created = desk.subscribe().await;
    assert_eq!(desk.version(&ours).await, 1);
    desk.store.update(&created, 1).await.unwrap();
    assert_eq!(desk.version(&ours).await, 2);
    desk.store.delete(&ours, created.id, None).await.unwrap();
    assert_eq!((desk.version(&ours).await, desk.version(&theirs).await), (3, 0));
}

/// Or says that a snapshot is needed.
pub async fn changes_since_a_version_are_told<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let ours = Tenant::default();
    let (kept, changed, deleted) = (desk.subscribe().await, desk.subscribe().await, desk.subscribe().await);
    desk.create(&Subscription { tenant: tenant("other"), ..subscription() }).await;
    let before = desk.version(&ours).await;
    let nothing = desk.store.changes_since(&ours, before).await.unwrap();
    if let Some(nothing) = nothing {
        assert_eq!((nothing.version, nothing.changed, nothing.deleted), (before, vec![], vec![]));
    }
    desk.store.update(&changed, 1).await.unwrap();
    desk.store.delete(&ours, deleted.id, None).await.unwrap();
    let created = desk.subscribe().await;
    if let Some(changes) = desk.store.changes_since(&ours, before).await.unwrap() {
        assert_eq!(changes.version, before + 3);
        let mut ids: Vec<SubscriptionId> = changes.changed.iter().map(|found| found.id).collect();
        ids.sort_unstable();
        assert_eq!((ids, changes.deleted), (vec![changed.id, created.id], vec![deleted.id]));
        assert!(changes.changed.iter().any(|found| found.id == changed.id && found.version == 2));
        assert!(changes.changed.iter().all(|found| found.id != kept.id));
    }
    let ahead = desk.store.changes_since(&ours, before + 100).await.unwrap();
    assert_eq!(ahead, None, "of a version that never was, nothing is known");
}

/// Newest first, each once.
pub async fn subscriptions_are_listed_by_filter_and_page<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let mut ids = Vec::new();
    for index in 0..5 {
        let status = if index == 2 { SubscriptionStatus::Paused } else { SubscriptionStatus::Active };
        let event_types = if index == 3 { vec!["invoice.*".parse().unwrap()] } else { vec![] };
        ids.push(desk.create(&Subscription { status, event_types, ..subscription() }).await.id);
    }
    desk.create(&Subscription { tenant: tenant("other"), ..subscription() }).await;
    ids.reverse();

    let ours = SubscriptionFilter { tenant: Some(Tenant::default()), ..SubscriptionFilter::default() };
    let mut listed = Vec::new();
    let mut request = PageRequest { before: None, limit: 2 };
    loop {
        let page = desk.store.list(&ours, request).await.unwrap();
        assert!(page.items.len() <= 2);
        listed.extend(page.items.iter().map(|found| found.id));
        let Some(next) = page.next else { break };
        request.before = Some(next);
    }
    assert_eq!(listed, ids);

    let all = PageRequest { before: None, limit: 50 };
    let list = async |filter: &SubscriptionFilter| -> Vec<SubscriptionId> {
        desk.store.list(filter, all).await.unwrap().items.iter().map(|found| found.id).collect()
    };
    let paused = SubscriptionFilter { statuses: vec![SubscriptionStatus::Paused], ..ours.clone() };
    assert_eq!(list(&paused).await, [ids[2]]);
    let orders = SubscriptionFilter { event_type: Some("order.paid".parse().unwrap()), ..ours.clone() };
    assert_eq!(list(&orders).await, [ids[0], ids[2], ids[3], ids[4]]);
    let invoices = SubscriptionFilter { event_type: Some("invoice.paid".parse().unwrap()), ..ours };
    assert_eq!(list(&invoices).await, ids);
    assert_eq!(list(&SubscriptionFilter::default()).await.len(), 6);
}
