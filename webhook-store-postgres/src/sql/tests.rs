//! That the server takes every statement, and plans it as it is wanted.

use sqlx::{Executor as _, PgConnection, Row as _};

use super::*;
use crate::connection::{Connector, Role};
use crate::support::Case;

/// All statements with their names.
const ALL: &[(&str, &str)] = &[
    ("INSERT", INSERT),
    ("INSERT_PLAIN", INSERT_PLAIN),
    ("INSERT_AND_QUEUE", INSERT_AND_QUEUE),
    ("INSERT_PLAIN_AND_QUEUE", INSERT_PLAIN_AND_QUEUE),
    ("KNOWN_EVENTS", KNOWN_EVENTS),
    ("KNOWN_KEYS", KNOWN_KEYS),
    ("CONFIGURATIONS", CONFIGURATIONS),
    ("DUPLICATE", DUPLICATE),
    ("TAKE_LOCKS", TAKE_LOCKS),
    ("SHARE_AND_TAKE_LOCKS", SHARE_AND_TAKE_LOCKS),
    ("TAKE_TURNS", TAKE_TURNS),
    ("ORDER_KEYS", ORDER_KEYS),
    ("END_TURNS", END_TURNS),
    ("REOPEN_TURNS", REOPEN_TURNS),
    ("WHO_WAITS", WHO_WAITS),
    ("PROMOTE", PROMOTE),
    ("NOT_WAITING", NOT_WAITING),
    ("LOAD", LOAD),
    ("TOKENS", TOKENS),
    ("RECORD", RECORD),
    ("RECORD_SUCCESS", RECORD_SUCCESS),
    ("RECORD_AND_SETTLE", RECORD_AND_SETTLE),
    ("RECORD_SUCCESS_AND_SETTLE", RECORD_SUCCESS_AND_SETTLE),
    ("LOCK_DELIVERIES", LOCK_DELIVERIES),
    ("STANDS", STANDS),
    ("LOCK_SUBSCRIPTIONS", LOCK_SUBSCRIPTIONS),
    ("DRAIN", DRAIN),
    ("OWED", OWED),
    ("EVENT", EVENT),
    ("DELIVERIES_OF", DELIVERIES_OF),
    ("LOCK_EVENT", LOCK_EVENT),
    ("ADD", ADD),
    ("EXPIRABLE_OF_LANE", EXPIRABLE_OF_LANE),
    ("EXPIRABLE_BY_AGE", EXPIRABLE_BY_AGE),
    ("DRAINING", DRAINING),
    ("UNFINISHED", UNFINISHED),
    ("LOCK_DRAINING", LOCK_DRAINING),
    ("DRAINED", DRAINED),
    ("CANCEL", CANCEL),
    ("OLDEST_FINISHED", OLDEST_FINISHED),
    ("OVER", OVER),
    ("LOCK_EVENTS", LOCK_EVENTS),
    ("LOCK_DELIVERIES_OF", LOCK_DELIVERIES_OF),
    ("DELETE_DELIVERIES", DELETE_DELIVERIES),
    ("DELETE_EVENTS", DELETE_EVENTS),
    ("DROP_FINISHED", DROP_FINISHED),
    ("FORGET_KEYS", FORGET_KEYS),
    ("FORGET_REPLAYS", FORGET_REPLAYS),
    ("PURGE_PAGE", PURGE_PAGE),
    ("DROP_ENTRIES", DROP_ENTRIES),
    ("RAISE", RAISE),
    ("SUBSCRIPTION_BY_ID", SUBSCRIPTION_BY_ID),
    ("LOCK_SUBSCRIPTION", LOCK_SUBSCRIPTION),
    ("CREATE_SUBSCRIPTION", CREATE_SUBSCRIPTION),
    ("UPDATE_SUBSCRIPTION", UPDATE_SUBSCRIPTION),
    ("DELETE_SUBSCRIPTION", DELETE_SUBSCRIPTION),
    ("GET_SUBSCRIPTIONS", GET_SUBSCRIPTIONS),
    ("LIST_SUBSCRIPTIONS", LIST_SUBSCRIPTIONS),
    ("SNAPSHOT", SNAPSHOT),
    ("CHANGES", CHANGES),
    ("BIND_QUEUE", BIND_QUEUE),
    ("REBIND_QUEUE", REBIND_QUEUE),
    ("EPOCH", EPOCH),
    ("ADVANCE_EPOCH", ADVANCE_EPOCH),
    ("NEXT_SUBSCRIPTIONS", NEXT_SUBSCRIPTIONS),
    ("PING", PING),
    ("TRY_RELAY", TRY_RELAY),
    ("END_RELAY", END_RELAY),
    ("INBOX_TAKE", INBOX_TAKE),
    ("INBOX_PUBLISHED", INBOX_PUBLISHED),
    ("INBOX_REJECT", INBOX_REJECT),
    ("INBOX_REJECTED", INBOX_REJECTED),
    ("INBOX_DELETE", INBOX_DELETE),
    ("REPLAY", REPLAY),
    ("REPLAY_START", REPLAY_START),
    ("REPLAY_NEXT", REPLAY_NEXT),
    ("REPLAY_MOVE", REPLAY_MOVE),
    ("REPLAY_DONE", REPLAY_DONE),
    ("NOW", statistics::NOW),
    ("ADD_ROLLUPS", statistics::ADD_ROLLUPS),
    ("TOTALS_OF_TENANT", statistics::TOTALS_OF_TENANT),
    ("TOTALS_OF_SUBSCRIPTION", statistics::TOTALS_OF_SUBSCRIPTION),
    ("WORST_OF_ALL", statistics::WORST_OF_ALL),
    ("WORST_OF_TENANT", statistics::WORST_OF_TENANT),
    ("TAKE_ROLLUPS", statistics::TAKE_ROLLUPS),
    ("FORGET_ROLLUPS", statistics::FORGET_ROLLUPS),
    ("LOOK_UP_ONE_BY_ONE", statistics::LOOK_UP_ONE_BY_ONE),
    ("UNFINISHED_OF_ALL", statistics::UNFINISHED_OF_ALL),
    ("UNFINISHED_OF_TENANT", statistics::UNFINISHED_OF_TENANT),
    ("UNFINISHED_OF_SUBSCRIPTION", statistics::UNFINISHED_OF_SUBSCRIPTION),
];

/// A statement with its parameters' types, prepared on a connection of the engine's.
async fn prepare(conn: &mut PgConnection, name: &str, sql: &str) -> usize {
    let prepare = format!("PREPARE {name} AS {sql}");
    conn.execute(prepare.as_str()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let count: i64 = sqlx::query_scalar(
        "SELECT coalesce(array_length(parameter_types, 1), 0)::int8 FROM pg_prepared_statements WHERE name = $1",
    )
    .bind(name.to_lowercase())
    .fetch_one(conn)
    .await
    .unwrap();
    usize::try_from(count).unwrap()
}

/// And that plans which are made while the tables are empty are those that are wanted of full ones.
#[tokio::test]
async fn every_statement_can_be_prepared_and_reads_no_table_from_end_to_end() {
    let Some(case) = Case::create_or_skip("statements").await else { return };
    case.open().await;
    let mut conn = Connector::new(&case.options()).connect(Role::Engine).await.unwrap();
    for (name, sql) in ALL {
        let parameters = prepare(&mut conn, name, sql).await;
        let nulls = vec!["NULL"; parameters].join(", ");
        let arguments = if parameters == 0 { String::new() } else { format!("({nulls})") };
        let explain = format!("EXPLAIN EXECUTE {name}{arguments}");
        let plan = conn.fetch_all(explain.as_str()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        for line in plan.iter().map(|row| row.get::<String, _>(0)) {
            let scans = line.contains("Seq Scan on") && !line.contains("Seq Scan on numbers");
            assert!(!scans, "{name} scans a table: {line}");
        }
    }
    case.clean_up().await;
}

#[test]
fn every_statement_is_listed() {
    let texts = [include_str!("../sql.rs"), include_str!("retention.rs"), include_str!("statistics.rs")];
    let constants =
        texts.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("pub(crate) const "));
    let names: Vec<&str> =
        constants.filter_map(|line| line.strip_prefix("pub(crate) const ")?.split(':').next()).collect();
    for name in &names {
        assert!(ALL.iter().any(|(listed, _)| listed == name), "{name} is not in ALL");
    }
    assert!(names.len() > 50);
}
