//! What the README and docs/operations.md say a user needs is enough, and nothing of it can be left out: to run the
//! engine, and to publish from an application.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::Case;
use support::desk::check;
use webhook_core::error::BackendErrorKind;
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::store::{DeliveryStore as _, History as _, Inbox as _};
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Webhooks};
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _};
use webhook_store_postgres::{PgOptions, PgStore};

const README: &str = include_str!("../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The statements of the README that grant `engine` its rights.
fn grants() -> Vec<&'static str> {
    let lines: Vec<_> = README.lines().filter(|line| line.ends_with(" TO engine;")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in &lines {
        assert!(OPERATIONS.contains(line), "docs/operations.md does not have: {line}");
    }
    lines
}

/// The statements of the page that grant `application` its rights.
fn grants_of_applications() -> Vec<&'static str> {
    let lines: Vec<_> = OPERATIONS.lines().filter(|line| line.ends_with(" TO application;")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    lines
}

/// A case whose schema is there, and a user with those of the documented rights that are not `left_out`.
async fn user(case: &Case, name: &str, left_out: Option<usize>) -> PgOptions {
    let mut conn = case.connect().await;
    conn.execute(format!("CREATE ROLE {name} LOGIN NOSUPERUSER").as_str()).await.unwrap();
    for (index, grant) in grants().iter().enumerate() {
        if left_out != Some(index) {
            let grant = grant.replace("SCHEMA webhooks", &format!("SCHEMA {}", case.schema));
            conn.execute(grant.replace("TO engine", &format!("TO {name}")).as_str()).await.unwrap();
        }
    }
    let url = case.url.replace("postgres://postgres@", &format!("postgres://{name}@"));
    PgOptions::from_url(&url).unwrap().schema(&case.schema).unwrap().migrate(false)
}

async fn drop_user(case: &Case, name: &str) {
    case.execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await;
}

/// Everything that an engine does: publishing, delivering, the inbox, replays, purging and pruning.
#[tokio::test]
async fn the_documented_grants_are_enough_to_publish_and_deliver() {
    let Some(case) = Case::create_or_skip("grants").await else { return };
    if !case.url.contains("postgres://postgres@") {
        eprintln!("skipped: needs a superuser of the tests' own server");
        return;
    }
    case.open().await.close().await;
    let name = format!("{}_engine", case.schema);
    let store = PgStore::open(user(&case, &name, None).await).await.unwrap();
    let target = RecordingDeliverer::new();
    let builder = Webhooks::builder(Arc::new(store.clone())).deliverer(Arc::new(target.clone()));
    let webhooks = builder.build().unwrap();
    let tenant = Tenant::default();
    let draft = SubscriptionDraft::to("https://example.com/hook");
    let subscription = webhooks.subscriptions().create(&tenant, &draft).await.unwrap();
    let published = webhooks.publish(NewEvent::json("order.created", "1")).await.unwrap();
    let mut application = case.connect().await;
    let inboxed = NewEvent::json("order.created", "2");
    PgStore::publish_in_schema(&mut application, &case.schema, inboxed).await.unwrap();
    webhooks.spawn(webhook_core::Workers::default()).unwrap();
    webhooks.wake();
    tokio::time::timeout(Duration::from_secs(60), target.wait_for(2)).await.unwrap();
    webhooks.run_until_idle().await.unwrap();
    let replayed = webhooks.replay_event(&tenant, published.id, &[]).await.unwrap();
    assert_eq!(replayed.len(), 1);
    tokio::time::timeout(Duration::from_secs(60), target.wait_for(3)).await.unwrap();
    webhooks.run_until_idle().await.unwrap();
    webhooks.subscriptions().delete(&tenant, subscription.id, None).await.unwrap();
    webhooks.depth().await.unwrap();
    webhooks.shutdown(Duration::from_secs(10)).await;
    check(&case).await;
    assert_eq!(webhooks.purge(&tenant, Duration::ZERO).await.unwrap(), 2);
    store.prune(Duration::ZERO, 10).await.unwrap();
    assert_eq!(store.event(None, published.id).await.unwrap(), None);
    store.close().await;

    // It may not change the schema.
    let migrating =
        PgOptions::from_url(&case.url.replace("postgres://postgres@", &format!("postgres://{name}@")));
    let elsewhere = migrating.unwrap().schema(format!("{}_new", case.schema)).unwrap();
    let error = PgStore::open(elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured, "{error}");
    drop_user(&case, &name).await;
    case.clean_up().await;
}

/// An application publishes in its own transaction, with the page's two rights, by the function and by the documented
/// statement; with one of them alone it cannot, and with both it can do nothing else.
#[tokio::test]
async fn the_grants_of_applications_are_enough_to_publish_and_for_nothing_else() {
    let Some(case) = Case::create_or_skip("an application's grants").await else { return };
    if !case.url.contains("postgres://postgres@") {
        eprintln!("skipped: needs a superuser of the tests' own server");
        return;
    }
    let store = case.open().await;
    let grants = grants_of_applications();
    for left_out in [Some(0), Some(1), None] {
        let name = format!("{}_application", case.schema);
        case.execute(&format!("CREATE ROLE {name} LOGIN NOSUPERUSER")).await;
        for (index, grant) in grants.iter().enumerate() {
            if left_out != Some(index) {
                let grant = grant.replace("webhooks", &case.schema);
                case.execute(&grant.replace("TO application", &format!("TO {name}"))).await;
            }
        }
        let url = case.url.replace("postgres://postgres@", &format!("postgres://{name}@"));
        let mut application = sqlx::PgConnection::connect(&url).await.unwrap();
        let event = NewEvent::json("order.created", "1");
        let published = PgStore::publish_in_schema(&mut application, &case.schema, event).await;
        let inbox = format!("{}.inbox", case.schema);
        let plain = format!("INSERT INTO {inbox} (event_type, payload) VALUES ('order.created', '2')");
        let inserted = application.execute(plain.as_str()).await;
        assert_eq!(published.is_ok(), left_out.is_none(), "{left_out:?}: {published:?}");
        assert_eq!(inserted.is_ok(), left_out.is_none(), "{left_out:?}: {inserted:?}");
        let others = [
            "SELECT FROM {inbox}",
            "UPDATE {inbox} SET tenant = 'x'",
            "DELETE FROM {inbox}",
            "SELECT FROM {events}",
        ];
        for other in others {
            let other =
                other.replace("{inbox}", &inbox).replace("{events}", &format!("{}.events", case.schema));
            assert!(application.execute(other.as_str()).await.is_err(), "{other}");
        }
        application.close().await.unwrap();
        drop_user(&case, &name).await;
    }
    assert_eq!(store.inbox_take(10).await.unwrap().len(), 2);
    store.close().await;
    case.clean_up().await;
}

#[tokio::test]
async fn without_one_of_the_grants_a_store_says_that_a_right_is_missing() {
    let Some(case) = Case::create_or_skip("missing grants").await else { return };
    if !case.url.contains("postgres://postgres@") {
        eprintln!("skipped: needs a superuser of the tests' own server");
        return;
    }
    case.open().await.close().await;
    for left_out in 0..2 {
        let name = format!("{}_{left_out}", case.schema);
        let error = PgStore::open(user(&case, &name, Some(left_out)).await).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Misconfigured, "{left_out}: {error}");
        drop_user(&case, &name).await;
    }
    // The sequences are needed by the first publish, not before.
    let name = format!("{}_2", case.schema);
    let store = PgStore::open(user(&case, &name, Some(2)).await).await.unwrap();
    let desk = support::desk::Desk::new(store).await;
    let insert = support::desk::insert_of(support::desk::event(), &[&desk.subscription], 1);
    let error = desk.store.insert(&[insert], None).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured, "{error}");
    desk.store.close().await;
    drop_user(&case, &name).await;
    case.clean_up().await;
    let mut conn = case.connect().await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname LIKE $1")
        .bind(format!("{}%", case.schema))
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

/// What the page tells operators to run can be run, as it stands.
#[tokio::test]
async fn every_statement_of_the_operations_page_runs() {
    let Some(case) = Case::create_or_skip("the page of operations").await else { return };
    let desk = support::desk::Desk::new(case.open().await).await;
    desk.publish(2).await;
    let mut statements = 0;
    for block in OPERATIONS.split("```sql").skip(1) {
        let block = block.split("```").next().unwrap();
        if block.contains("GRANT") {
            continue;
        }
        let sql = block.replace("webhooks.", &format!("{}.", case.schema));
        case.execute(&sql).await;
        statements += 1;
    }
    assert!(statements >= 7, "{statements}");
    case.clean_up().await;
}
