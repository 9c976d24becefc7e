//! Rows of the inbox whose transactions commit in another order than they began in.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use support::Case;
use webhook_core::model::NewEvent;
use webhook_core::store::{Inbox as _, InboxOutcome};
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx::{Connection as _, PgConnection};

async fn publish(case: &Case, conn: &mut PgConnection, event_type: &str) {
    PgStore::publish_in_schema(conn, &case.schema, NewEvent::json(event_type, "{}")).await.unwrap();
}

/// The first two types that are taken.
async fn taken(store: &PgStore) -> Vec<String> {
    store.inbox_take(2).await.unwrap().into_iter().map(|event| event.event_type).collect()
}

#[tokio::test]
async fn a_row_that_commits_late_is_taken_though_others_never_stop_coming() {
    let Some(case) = Case::create_or_skip("a late row").await else { return };
    let store = case.open().await;
    let (mut slow, mut fast) = (case.connect().await, case.connect().await);
    let mut late = slow.begin().await.unwrap();
    publish(&case, &mut late, "late").await;
    publish(&case, &mut fast, "early").await;
    assert_eq!(taken(&store).await, ["early"]);
    assert_eq!(taken(&store).await, ["early"], "what is not settled is taken again");
    late.commit().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while taken(&store).await != ["late", "early"] {
        assert!(Instant::now() < deadline, "it is passed over");
    }
    case.clean_up().await;
}

#[tokio::test]
async fn a_row_that_commits_late_is_taken_at_once_when_nothing_else_waits() {
    let Some(case) = Case::create_or_skip("a late row alone").await else { return };
    let store = case.open().await;
    let (mut slow, mut fast) = (case.connect().await, case.connect().await);
    let mut late = slow.begin().await.unwrap();
    publish(&case, &mut late, "late").await;
    publish(&case, &mut fast, "early").await;
    let rows = store.inbox_take(1).await.unwrap();
    store.inbox_settle(&[(rows[0].row, InboxOutcome::Published)]).await.unwrap();
    late.commit().await.unwrap();
    assert_eq!(taken(&store).await, ["late"]);
    case.clean_up().await;
}
