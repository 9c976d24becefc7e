//! Which connections are used again, and how they are set up.

use futures::future::try_join_all;
use sqlx::Row as _;
use webhook_core::error::BackendErrorKind;

use super::*;
use crate::support::Case;
use crate::support::proxy::Proxy;

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

/// Promise 15: each that is asked costs its time-out, so one is asked and the others are closed with it.
#[tokio::test]
async fn of_connections_that_died_together_one_is_asked() {
    const COUNT: usize = 4;
    let Some(case) = Case::create_or_skip("dead connections").await else { return };
    case.open().await;
    let proxy = Proxy::before(&case).await;
    let options = proxy.options(&case).connect_timeout(Duration::from_secs(1));
    let connections = Connections::new(Connector::new(&options), Role::Engine, COUNT);
    let calls = (0..COUNT).map(|_| connections.run("ping", crate::sql::PING, execute));
    try_join_all(calls).await.unwrap();
    assert_eq!(connections.usage("dead").open, 4);

    proxy.forget_connections();
    // As after a call of another task that failed.
    let broken = connections.connector.broken.fetch_add(1, Ordering::Relaxed) + 1;
    connections.run("ping", crate::sql::PING, execute).await.unwrap();
    assert_eq!(connections.connector.broken.load(Ordering::Relaxed), broken + 1, "one was asked");
    assert_eq!(connections.usage("dead").open, 1, "and all were replaced");
    case.clean_up().await;
}

/// One that answers is no reason to close the others.
#[tokio::test]
async fn connections_that_live_are_kept_when_one_of_another_task_died() {
    let Some(case) = Case::create_or_skip("a living connection").await else { return };
    case.open().await;
    let connections = Connections::new(Connector::new(&case.options()), Role::Engine, 2);
    let calls = (0..2).map(|_| connections.run("ping", crate::sql::PING, execute));
    try_join_all(calls).await.unwrap();
    connections.connector.broken.fetch_add(1, Ordering::Relaxed);
    connections.run("ping", crate::sql::PING, execute).await.unwrap();
    assert_eq!(connections.usage("living").open, 2, "it answered, so nothing was closed");
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
