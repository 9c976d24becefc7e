//! Promise 14, and the end of what crashes its process again and again (promise 7).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use webhook_core::id::DeliveryId;
use webhook_core::lifecycle::POISON_AFTER;
use webhook_core::model::{DeliveryStatus, ErrorKind, NewEvent, Outcome, StatusReason};
use webhook_core::store::{History as _, SubscriptionStore as _};
use webhook_core::testing::ManualClock;
use webhook_core::{SubscriptionDraft, Workers};
use webhook_store_sqlite::{SqliteOptions, SqliteStore, sqlx};

use crate::support::{check, raw_writer, subscription};
use crate::target::{Reply, Target};
use crate::world::{TARGET, World, engine, eventually, seconds, tenant};

#[tokio::test]
async fn a_delivery_that_cannot_be_loaded_stays_alone() {
    let world = World::new(|_| Reply::status(200)).await;
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let mut published = Vec::new();
    for _ in 0..40 {
        published.push(world.publish("a.b").await);
    }
    let broken = published.remove(17);
    let mut conn = raw_writer(&world.path).await;
    sqlx::query("UPDATE webhooks_deliveries SET status = 'no such status' WHERE id = ?")
        .bind(&broken.as_bytes()[..])
        .execute(&mut conn)
        .await
        .unwrap();
    world.spawn();
    for delivery in published {
        assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    }
    assert_eq!(world.target.count(), 39);
    // It waits by itself, a minute at a time, and goes on once somebody has mended it.
    eventually("it waits", async || {
        let depth = world.webhooks.depth().await.unwrap();
        (depth.due == 0 && depth.scheduled == 1).then_some(())
    })
    .await;
    sqlx::query("UPDATE webhooks_deliveries SET status = 'pending' WHERE id = ?")
        .bind(&broken.as_bytes()[..])
        .execute(&mut conn)
        .await
        .unwrap();
    world.clock.advance(seconds(60));
    assert_eq!(world.finished(broken).await.state.status, DeliveryStatus::Succeeded);
    world.end().await;
}

/// A subscription without a secret, which no draft gives.
#[tokio::test]
async fn a_delivery_that_cannot_be_built_fails_alone() {
    let world = World::running(|_| Reply::status(200)).await;
    let mut unsigned = subscription();
    unsigned.secrets.clear();
    unsigned.event_types = vec!["unsigned".parse().unwrap()];
    world.store.create(&unsigned).await.unwrap();
    let good = SubscriptionDraft { event_types: vec!["signed".into()], ..SubscriptionDraft::to(TARGET) };
    world.subscribe(good).await;
    let events = (0..20).map(|n| NewEvent::json(if n == 7 { "unsigned" } else { "signed" }, "{}"));
    let answers = world.webhooks.publish_all(events.collect()).await;
    for (n, answer) in answers.into_iter().enumerate() {
        let delivery = answer.unwrap().deliveries[0].0;
        if n == 7 {
            let state = world.tried(delivery, 1).await.state;
            assert_eq!(state.last_error.map(|error| error.kind), Some(ErrorKind::Internal));
        } else {
            assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
        }
    }
    assert_eq!(world.target.count(), 19);
    world.end().await;
}

/// One life of a process that crashes as soon as a request is on the wire, or as soon as the delivery is finished.
/// Nothing is shut down: the runtime is dropped with all that runs on it.
fn live_and_crash(path: PathBuf, clock: ManualClock, delivery: Option<DeliveryId>) -> (DeliveryId, usize) {
    let (tell, told) = mpsc::channel();
    let process = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let store =
                SqliteStore::open(SqliteOptions::new(&path).clock(Arc::new(clock.clone()))).await.unwrap();
            let target = Target::new(&clock, |_| Reply::Held);
            let webhooks = engine(&store, &clock, &target, |builder| builder);
            webhooks.spawn(Workers::default()).unwrap();
            let delivery = match delivery {
                Some(delivery) => delivery,
                None => {
                    let draft = SubscriptionDraft::to(TARGET);
                    webhooks.subscriptions().create(&tenant(), &draft).await.unwrap();
                    webhooks.publish(NewEvent::json("a.b", "{}")).await.unwrap().deliveries[0].0
                }
            };
            eventually("a request, or the end", async || {
                // Whatever the wait, it is over.
                clock.advance(seconds(1));
                let state = store.delivery(None, delivery).await.unwrap().unwrap().state;
                (target.count() > 0 || state.status.is_finished()).then_some(())
            })
            .await;
            tell.send((delivery, target.count())).unwrap();
        });
        runtime.shutdown_timeout(Duration::from_secs(10));
    });
    let lived = told.recv().unwrap();
    process.join().unwrap();
    lived
}

#[tokio::test]
async fn what_crashes_its_process_ends_as_poison_after_eight_times() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhooks.db");
    let clock = ManualClock::new();
    let mut known = None;
    for life in 1..=POISON_AFTER {
        let (delivery, requests) = live_and_crash(path.clone(), clock.clone(), known);
        assert_eq!(requests, 1, "life {life}");
        known = Some(delivery);
    }
    // The ninth finds that the eighth left nothing behind either, and sends no more.
    let (delivery, requests) = live_and_crash(path.clone(), clock.clone(), known);
    assert_eq!(requests, 0);
    let store = SqliteStore::open(SqliteOptions::new(&path).clock(Arc::new(clock))).await.unwrap();
    let state = store.delivery(None, delivery).await.unwrap().unwrap().state;
    assert_eq!((state.status, state.reason), (DeliveryStatus::Exhausted, Some(StatusReason::Poison)));
    let rows: Vec<_> = store
        .attempts_of(None, delivery)
        .await
        .unwrap()
        .iter()
        .map(|attempt| (attempt.number, attempt.outcome))
        .collect();
    assert_eq!(rows, (1..=POISON_AFTER).map(|number| (number, Outcome::Unknown)).collect::<Vec<_>>());
    check(&store, &path).await;
}
