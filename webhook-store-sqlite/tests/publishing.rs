//! What `insert` owes: durability, duplicates, versions, hand-off.

mod support;

use std::time::Duration;

use support::*;
use webhook_core::model::*;
use webhook_core::store::*;

#[tokio::test]
async fn a_delivery_goes_from_publish_to_success() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let leases = f.claim(10).await;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].id, published.ids[0]);
    let loaded = f.load(&leases[0]).await;
    assert_eq!(loaded.event, published.event);
    assert_eq!(
        (loaded.subscription_version, loaded.due_in, loaded.waiting),
        (Some(1), Duration::ZERO, false)
    );
    let recorded = f.succeed(&leases[0]).await;
    assert_eq!(recorded, Recorded::Applied { released: Vec::new(), strikes: Some(2) });
    let delivery = f.delivery(leases[0].id).await;
    assert_eq!(delivery.state.status, DeliveryStatus::Succeeded);
    assert_eq!(delivery.finished_at, Some(webhook_core::time::Clock::now(&f.clock)));
    assert_eq!(f.claim(10).await, []);
    assert_eq!(f.count("jobs").await, 0);
    f.check().await;
}

#[tokio::test]
async fn a_handed_off_delivery_is_leased_in_the_publishing_commit() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let hand_off = hand_off(8);
    let published = f.publish(&[&s], Some(&hand_off)).await;
    assert_eq!(published.leases.len(), 1);
    assert_eq!(published.leases[0].token, hand_off.token);
    assert_eq!(f.lane(s.id).await.in_flight, 1);
    f.check().await;
    assert!(is_applied(&f.succeed(&published.leases[0]).await));
    assert_eq!(f.lane(s.id).await.in_flight, 0);
    f.check().await;
}
