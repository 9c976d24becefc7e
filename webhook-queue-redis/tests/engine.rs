//! The engine on this queue, while the server's memory and the server are lost under it. Promises 2 and 15.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::resp::Resp;
use support::{eventually, own_server};
use test_servers::redis::Server;
use webhook_core::memory::MemoryStore;
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::retry::Schedule;
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_queue_redis::{RedisOptions, RedisQueue};

const TARGET: &str = "https://example.com/hooks";

struct Engine {
    webhooks: Webhooks,
    target: RecordingDeliverer,
    subscription: webhook_core::id::SubscriptionId,
}

/// A target that refuses the first attempt of everything, and retries after this wait.
async fn engine(server: &Server, wait: Duration) -> Engine {
    let target = RecordingDeliverer::scripted(|request| {
        let first = request.headers.iter().any(|(name, value)| name == "webhook-attempt" && value == "1");
        Scripted::status(if first { 500 } else { 200 })
    });
    let options = RedisOptions::new(server.url()).command_timeout(Duration::from_millis(500));
    let webhooks = Webhooks::builder(Arc::new(MemoryStore::new()))
        .queue(Arc::new(RedisQueue::connect(options).await.unwrap()))
        .deliverer(Arc::new(target.clone()))
        .retry(Schedule::new([wait, wait, wait, wait], 0.0).unwrap())
        .reconcile_period(Duration::from_secs(1))
        .build()
        .unwrap();
    let draft =
        SubscriptionDraft { event_types: vec!["order.*".to_owned()], ..SubscriptionDraft::to(TARGET) };
    let subscription = webhooks.subscriptions().create(&Tenant::default(), &draft).await.unwrap().id;
    webhooks.spawn(Workers::default()).unwrap();
    Engine { webhooks, target, subscription }
}

impl Engine {
    async fn publish(&self, count: usize) {
        for number in 0..count {
            let event = NewEvent::json("order.created", format!(r#"{{"number":{number}}}"#));
            self.webhooks.publish(event).await.unwrap();
        }
    }

    /// How many requests each event has had.
    fn requests(&self) -> BTreeMap<String, usize> {
        let mut requests = BTreeMap::new();
        for recorded in self.target.requests() {
            *requests.entry(recorded.header("webhook-id").unwrap().to_owned()).or_insert(0) += 1;
        }
        requests
    }

    async fn all_had(&self, count: usize, requests: usize) {
        eventually("every event had its requests", async || {
            let had = self.requests();
            had.len() == count && had.values().all(|had| *had >= requests)
        })
        .await;
    }
}

/// Promise 2: what the queue forgot is found in the store, settings included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_with_retries_pending_loses_nothing() {
    let Some(server) = own_server(&[]) else { return };
    let engine = engine(&server, Duration::from_millis(1500)).await;
    engine.publish(300).await;
    engine.all_had(300, 1).await;
    Resp::connect(server.port).await.call(&["FLUSHALL"]).await;
    engine.publish(10).await;
    engine.all_had(310, 2).await;
    assert!(
        engine.requests().values().all(|had| *had == 2),
        "nothing was sent twice: {:?}",
        engine.requests()
    );
    engine.webhooks.shutdown(Duration::from_secs(5)).await;
}

/// Promise 2, for a server that was killed and started empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_restart_loses_nothing() {
    let Some(mut server) = own_server(&[]) else { return };
    let engine = engine(&server, Duration::from_millis(1500)).await;
    engine.publish(100).await;
    engine.all_had(100, 1).await;
    server.kill();
    engine.publish(10).await;
    assert!(engine.webhooks.readiness().await.queue.is_err());
    let Ok(_again) = Server::start_on(server.port, &[]) else { panic!("it was there before") };
    engine.all_had(110, 2).await;
    engine.webhooks.shutdown(Duration::from_secs(5)).await;
}

/// Promise 15: an acknowledgement never waits for the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_goes_on_while_the_server_is_frozen() {
    let Some(server) = own_server(&[]) else { return };
    let engine = engine(&server, Duration::from_millis(100)).await;
    server.signal("STOP");
    let began = Instant::now();
    engine.publish(500).await;
    let took = began.elapsed();
    server.signal("CONT");
    assert!(took < Duration::from_secs(2), "{took:?} for 500 events");
    engine.all_had(500, 2).await;
    engine.webhooks.shutdown(Duration::from_secs(5)).await;
}

/// A pause is the subscription's, so no flush ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_outlives_a_flush() {
    let Some(server) = own_server(&[]) else { return };
    let engine = engine(&server, Duration::from_millis(100)).await;
    let subscriptions = engine.webhooks.subscriptions();
    subscriptions.pause(&Tenant::default(), engine.subscription).await.unwrap();
    engine.publish(20).await;
    let mut admin = Resp::connect(server.port).await;
    admin.call(&["FLUSHALL"]).await;
    eventually("the lane is known again, and held", async || {
        engine.webhooks.depth().await.is_ok_and(|depth| depth.paused == 1)
    })
    .await;
    assert_eq!(engine.requests().len(), 0);
    subscriptions.resume(&Tenant::default(), engine.subscription).await.unwrap();
    engine.all_had(20, 2).await;
    engine.webhooks.shutdown(Duration::from_secs(5)).await;
}
