//! A flood over a restart, in real time.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::model::{DeliveryStatus, NewEvent};
use webhook_core::retry::Schedule;
use webhook_core::store::{DeliveryFilter, History as _, PageRequest};
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_store_sqlite::{SqliteOptions, SqliteStore};

use crate::support::check;
use crate::world::{eventually, seconds, tenant};

fn engine(store: &SqliteStore, target: &RecordingDeliverer) -> Webhooks {
    Webhooks::builder(Arc::new(store.clone()))
        .deliverer(Arc::new(target.clone()))
        .retry(Schedule::new([Duration::from_millis(20)], 0.0).unwrap())
        .build()
        .unwrap()
}

/// Promise 8: no fault, no duplicate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_delivered_once_each_and_the_rest_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhooks.db");
    let target = RecordingDeliverer::new();
    let total = 600;
    {
        let store = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap();
        let webhooks = engine(&store, &target);
        for index in 0..3 {
            let draft = SubscriptionDraft::to(format!("https://example.com/{index}"));
            webhooks.subscriptions().create(&tenant(), &draft).await.unwrap();
        }
        webhooks.spawn(Workers::default()).unwrap();
        let events = (0..total / 3).map(|_| NewEvent::json("order.created", "{}"));
        for answer in webhooks.publish_all(events.collect()).await {
            assert_eq!(answer.unwrap().deliveries.len(), 3);
        }
        tokio::time::timeout(seconds(60), target.wait_for(total / 2)).await.expect("half of it");
        webhooks.shutdown(seconds(10)).await;
        check(&store, &path).await;
    }
    let store = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap();
    let webhooks = engine(&store, &target);
    webhooks.spawn(Workers::default()).unwrap();
    tokio::time::timeout(seconds(60), target.wait_for(total)).await.expect("the rest");
    eventually("all have succeeded", async || {
        let filter =
            DeliveryFilter { statuses: vec![DeliveryStatus::Succeeded], ..DeliveryFilter::default() };
        let page = store.deliveries(&filter, PageRequest { before: None, limit: 10_000 }).await.unwrap();
        (page.items.len() == total).then_some(())
    })
    .await;
    webhooks.shutdown(seconds(1)).await;
    assert_eq!(target.requests().len(), total);
    check(&store, &path).await;
}
