//! Lists that are merged from several places, page by page.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use support::Case;
use support::desk::{Desk, event, insert_of, is_applied, subscription, success};
use webhook_core::id::{AttemptId, DeliveryId};
use webhook_core::model::Tenant;
use webhook_core::store::{
    AttemptFilter, DeliveryFilter, DeliveryStore as _, History as _, PageRequest, SubscriptionStore as _,
};

/// Of some subscriptions there is much on a page and of others nothing.
#[tokio::test]
async fn pages_of_a_tenant_have_everything_once_and_the_newest_first() {
    let Some(case) = Case::create_or_skip("merged lists").await else { return };
    let desk = Desk::new(case.open().await).await;
    let mut to = vec![desk.subscription.clone()];
    for _ in 0..8 {
        to.push(desk.store.create(&subscription()).await.unwrap());
    }
    let version = desk.store.snapshot(&Tenant::default()).await.unwrap().version;
    let mut published: Vec<DeliveryId> = Vec::new();
    for number in 0..40_usize {
        let insert = insert_of(event(), &[&to[(number * number / 7) % to.len()]], version);
        desk.store.insert(std::slice::from_ref(&insert), None).await.unwrap();
        published.push(insert.deliveries[0].id);
    }
    let recorded = desk.record(&published, &success()).await;
    assert!(recorded.iter().all(is_applied));

    let tenant = Some(Tenant::default());
    let filter = DeliveryFilter { tenant: tenant.clone(), ..DeliveryFilter::default() };
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let page = desk.store.deliveries(&filter, PageRequest { before, limit: 3 }).await.unwrap();
        listed.extend(page.items.iter().map(|delivery| delivery.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    published.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(listed, published);

    for tenant in [tenant, None] {
        let filter = AttemptFilter { tenant, ..AttemptFilter::default() };
        let (mut listed, mut before): (Vec<AttemptId>, _) = (Vec::new(), None);
        loop {
            let page = desk.store.attempts(&filter, PageRequest { before, limit: 3 }).await.unwrap();
            listed.extend(page.items.iter().map(|attempt| attempt.id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(listed.len(), published.len());
        assert!(listed.is_sorted_by(|newer, older| newer > older));
    }
    case.clean_up().await;
}
