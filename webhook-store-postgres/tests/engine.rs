//! The engine over this store: two processes' worth of it, a lost connection, and the inbox.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::Case;
use support::desk::check;
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_store_postgres::PgStore;

fn engine(store: &PgStore, target: &RecordingDeliverer) -> Webhooks {
    let builder = Webhooks::builder(Arc::new(store.clone())).deliverer(Arc::new(target.clone()));
    let webhooks = builder.build().unwrap();
    webhooks.spawn(Workers::default()).unwrap();
    webhooks
}

/// Promise 8: without a fault each attempt is one request, whoever makes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_engines_on_one_database_send_each_event_once() {
    let Some(case) = Case::create_or_skip("two engines").await else { return };
    let target = RecordingDeliverer::new();
    let stores = [case.open().await, case.open().await];
    let engines = [engine(&stores[0], &target), engine(&stores[1], &target)];
    let draft = SubscriptionDraft::to("https://example.com/hook");
    engines[0].subscriptions().create(&Tenant::default(), &draft).await.unwrap();
    let mut publishing = Vec::new();
    for number in 0..100 {
        let webhooks = engines[number % 2].clone();
        publishing.push(tokio::spawn(async move {
            webhooks.publish(NewEvent::json("order.created", format!("{number}"))).await.unwrap()
        }));
    }
    for published in publishing {
        assert_eq!(published.await.unwrap().deliveries.len(), 1);
    }
    // And one from a transaction of an application's.
    let mut conn = case.connect().await;
    let event = NewEvent::json("order.created", "100");
    PgStore::publish_in_schema(&mut conn, &case.schema, event).await.unwrap();
    engines[1].wake();
    let sent = tokio::time::timeout(Duration::from_secs(60), target.wait_for(101)).await.unwrap();
    assert_eq!(sent.len(), 101);
    for webhooks in &engines {
        webhooks.shutdown(Duration::from_secs(10)).await;
    }
    assert_eq!(target.requests().len(), 101, "each event was sent once");
    check(&case).await;
    case.clean_up().await;
}
