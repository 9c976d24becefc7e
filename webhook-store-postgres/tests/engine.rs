//! The engine over this store: two processes' worth of it, the inbox, and a row that cannot be read.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::Case;
use support::desk::check;
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_store_postgres::PgStore;

fn idle_engine(store: &PgStore, target: &RecordingDeliverer) -> Webhooks {
    let builder = Webhooks::builder(Arc::new(store.clone())).deliverer(Arc::new(target.clone()));
    builder.build().unwrap()
}

fn engine(store: &PgStore, target: &RecordingDeliverer) -> Webhooks {
    let webhooks = idle_engine(store, target);
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

/// Promise 14: the others of its batch are delivered, and it waits by itself.
#[tokio::test]
async fn a_delivery_that_cannot_be_read_stays_alone() {
    let Some(case) = Case::create_or_skip("an unreadable row").await else { return };
    let target = RecordingDeliverer::new();
    let store = case.open().await;
    let webhooks = idle_engine(&store, &target);
    let draft = SubscriptionDraft::to("https://example.com/hook");
    webhooks.subscriptions().create(&Tenant::default(), &draft).await.unwrap();
    let mut published = Vec::new();
    for number in 0..40 {
        let event = NewEvent::json("order.created", format!("{number}"));
        published.push(webhooks.publish(event).await.unwrap().deliveries[0].0);
    }
    let broken = published[17].as_uuid();
    let set = |status| format!("UPDATE deliveries SET status = '{status}' WHERE id = '{broken}'");
    case.execute(&set("no such status")).await;
    webhooks.spawn(Workers::default()).unwrap();
    tokio::time::timeout(Duration::from_secs(60), target.wait_for(39)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let depth = webhooks.depth().await.unwrap();
        if (depth.due, depth.scheduled) == (0, 1) {
            break;
        }
        assert!(Instant::now() < deadline, "it does not wait: {depth:?}");
        // verify: allow(sleep): between two looks, until a deadline
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    webhooks.shutdown(Duration::from_secs(10)).await;
    assert_eq!(target.requests().len(), 39, "each of the others was sent once");
    case.execute(&set("pending")).await;
    check(&case).await;
    case.clean_up().await;
}
