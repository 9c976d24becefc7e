//! Which connections are used again, and how they are set up.

use sqlx::Row as _;
use webhook_core::error::BackendErrorKind;

use super::*;
use crate::support::Case;

fn execute<'a>(conn: &'a mut PgConnection, text: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
    async move {
        conn.execute(text).await?;
        Ok(())
    }
    .boxed()
}

fn read<'a>(conn: &'a mut PgConnection, text: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
    async move {
        sqlx::query(text).fetch_all(conn).await?;
        Ok(())
    }
    .boxed()
}

/// After a switchover the server that was the primary refuses to write for as long as it stands.
#[tokio::test]
async fn a_connection_to_a_server_that_became_read_only_is_not_used_again() {
    let Some(case) = Case::create_or_skip("a switchover").await else { return };
    case.open().await;
    let connections = Connections::new(Connector::new(&case.options()), Role::Engine, 1);
    connections.run("switch", "SET default_transaction_read_only = on", execute).await.unwrap();
    let error = connections.run("write", crate::sql::PING, execute).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
    connections.run("write", crate::sql::PING, execute).await.unwrap();
    case.clean_up().await;
}

/// As left behind by another client of a pooler, or by a change of the schema.
#[tokio::test]
async fn a_connection_whose_prepared_statements_are_gone_is_not_used_again() {
    let Some(case) = Case::create_or_skip("prepared statements").await else { return };
    case.open().await;
    let connections = Connections::new(Connector::new(&case.options()), Role::Engine, 1);
    connections.run("read", "SELECT 1", read).await.unwrap();
    connections.run("forget", "DEALLOCATE ALL", execute).await.unwrap();
    let error = connections.run("read", "SELECT 1", read).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    connections.run("read", "SELECT 1", read).await.unwrap();
    case.clean_up().await;
}

#[tokio::test]
async fn settings_of_the_user_are_overruled_where_the_store_needs_others() {
    let Some(case) = Case::create_or_skip("settings").await else { return };
    let options = case.options();
    let spoilt = options.connect.clone().options([
        ("default_transaction_read_only", "on"),
        ("idle_session_timeout", "100"),
        ("synchronous_commit", "off"),
    ]);
    let connector = Connector::new(&PgOptions { connect: spoilt, ..options });
    let mut conn = connector.connect(Role::Engine).await.unwrap();
    let wanted = [
        ("default_transaction_read_only", "off"),
        ("idle_session_timeout", "0"),
        ("synchronous_commit", "on"),
        ("client_connection_check_interval", "2s"),
    ];
    for (name, value) in wanted {
        let found = conn.fetch_one(format!("SHOW {name}").as_str()).await.unwrap();
        assert_eq!(found.get::<String, _>(0), value, "{name}");
    }
}
