//! That the server takes every statement, and plans it as it is wanted.

use sqlx::{Executor as _, PgConnection, Row as _};

use super::ALL;
use crate::connection::{Connector, Role};
use crate::support::Case;

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
    let constants = include_str!("../sql.rs").lines().filter(|line| line.starts_with("pub(crate) const "));
    let names: Vec<&str> = constants
        .filter_map(|line| line.strip_prefix("pub(crate) const ")?.split(':').next())
        .filter(|name| *name != "ALL")
        .collect();
    for name in &names {
        assert!(ALL.iter().any(|(listed, _)| listed == name), "{name} is not in ALL");
    }
    assert!(names.len() > 50);
}
