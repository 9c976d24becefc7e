//! Opening a database: migrations, refusals, and two processes at once.

mod support;

use std::time::Duration;

use support::Case;
use support::desk::Desk;
use webhook_core::error::BackendErrorKind;
use webhook_core::model::Tenant;
use webhook_core::store::{DeliveryStore as _, Expire, Inbox as _, ReplayStore as _, SubscriptionStore as _};
use webhook_store_postgres::{MIGRATIONS, PgStore, sqlx};

#[tokio::test]
async fn opening_makes_the_schema_and_opening_again_changes_nothing() {
    let Some(case) = Case::create_or_skip("opening").await else { return };
    case.open().await;
    case.open().await;
    let mut conn = case.connect().await;
    let count: i64 = sqlx::query_scalar(&format!("SELECT count(*) FROM {}.migrations", case.schema))
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(usize::try_from(count).unwrap(), MIGRATIONS.len());
    case.clean_up().await;
}

#[tokio::test]
async fn processes_that_start_at_once_migrate_once() {
    let Some(case) = Case::create_or_skip("migrating").await else { return };
    let opening = (0..6).map(|_| PgStore::open(case.options()));
    for opened in futures::future::join_all(opening).await {
        opened.unwrap();
    }
    case.clean_up().await;
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    let Some(case) = Case::create_or_skip("a newer schema").await else { return };
    case.open().await;
    case.execute("INSERT INTO migrations (version, name) VALUES (1000, 'from the future')").await;
    let error = PgStore::open(case.options()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured);
    assert!(error.to_string().contains("version 1000"), "{error}");
    case.clean_up().await;
}

#[tokio::test]
async fn a_schema_that_is_behind_is_refused_when_it_may_not_be_migrated() {
    let Some(case) = Case::create_or_skip("no migration").await else { return };
    let error = PgStore::open(case.options().migrate(false)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured);
    assert!(error.to_string().contains("version 0"), "{error}");
}

/// A later version adds columns while this one still runs.
#[tokio::test]
async fn a_column_that_is_added_disturbs_nobody_who_runs() {
    let Some(case) = Case::create_or_skip("a new column").await else { return };
    let desk = Desk::new(case.open().await).await;
    let ids = desk.publish(1).await;
    let tenant = Tenant::default();
    for column in ["a", "b"] {
        desk.load(&ids).await;
        desk.store.get(&[desk.subscription.id]).await.unwrap();
        desk.store.snapshot(&tenant).await.unwrap();
        desk.store.changes_since(&tenant, 0).await.unwrap();
        desk.store.inbox_take(1).await.unwrap();
        desk.store.replay_next(1).await.unwrap();
        desk.store.expire(Expire::Lane(desk.subscription.id), 1).await.unwrap();
        desk.store.expire(Expire::OlderThan(Duration::from_secs(3600)), 1).await.unwrap();
        let event = desk.load(&ids).await[0].event.id;
        assert!(desk.store.of_event(&tenant, event).await.unwrap().is_some());
        let tables = ["deliveries", "subscriptions", "events", "inbox", "replays"];
        for table in tables {
            case.execute(&format!("ALTER TABLE {table} ADD COLUMN {column} int")).await;
        }
    }
    desk.load(&ids).await;
    case.clean_up().await;
}

/// What an application's `tokio::spawn` asks of it.
#[tokio::test]
async fn a_store_can_be_opened_and_used_on_any_task() {
    let Some(case) = Case::create_or_skip("a task").await else { return };
    let options = case.options();
    let opened = tokio::spawn(async move {
        let store = PgStore::open(options).await.unwrap();
        webhook_core::store::Store::ping(&store).await.unwrap();
    });
    opened.await.unwrap();
    case.clean_up().await;
}
