//! Promises 15 and 17 on a file that another program holds.

use std::time::Instant;

use sqlx::SqliteConnection;
use webhook_core::id::DeliveryId;
use webhook_core::model::{DeliveryStatus, NewEvent, Outcome};
use webhook_core::testing::Scripted;
use webhook_core::{PublishError, SubscriptionDraft, Workers};
use webhook_store_sqlite::sqlx;

use crate::support::raw_writer;
use crate::target::{Reply, attempt};
use crate::world::{TARGET, World, engine, seconds};

async fn run(conn: &mut SqliteConnection, sql: &str) {
    sqlx::query(sql).execute(conn).await.unwrap();
}

/// An attempt on the wire, whose answer comes while nobody can write.
async fn answered_while_held() -> (World, DeliveryId, SqliteConnection) {
    let world =
        World::running(|request| if attempt(request) == 1 { Reply::Held } else { Reply::status(200) }).await;
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await;
    world.requested(1).await;
    let mut other = raw_writer(&world.path).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    world.target.release(Scripted::status(200));
    let refused = world.webhooks.publish(NewEvent::json("a.b", "{}")).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    (world, delivery, other)
}

#[tokio::test]
async fn while_another_program_holds_the_file_publishing_fails_clearly_and_results_wait() {
    let (world, delivery, mut other) = answered_while_held().await;
    assert_eq!((world.delivery(delivery).await.state.attempts, world.webhooks.in_flight()), (0, 1));
    run(&mut other, "ROLLBACK").await;
    let state = world.finished(delivery).await.state;
    assert_eq!((state.status, state.attempts), (DeliveryStatus::Succeeded, 1));
    assert_eq!(world.target.count(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_stop_while_another_program_holds_the_file_ends_with_its_grace_and_loses_nothing() {
    let (world, delivery, mut other) = answered_while_held().await;
    let start = Instant::now();
    world.webhooks.shutdown(seconds(1)).await;
    assert!(start.elapsed() < seconds(5), "{:?}", start.elapsed());
    run(&mut other, "ROLLBACK").await;
    let elsewhere = engine(&world.store, &world.clock, &world.target, |builder| builder);
    elsewhere.spawn(Workers::default()).unwrap();
    world.clock.advance(seconds(30));
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    let rows: Vec<_> = world.attempts(delivery).await.iter().map(|row| row.outcome).collect();
    assert_eq!(rows, [Outcome::Unknown, Outcome::Succeeded], "what could not be recorded is known of");
    elsewhere.shutdown(seconds(1)).await;
    world.end().await;
}
