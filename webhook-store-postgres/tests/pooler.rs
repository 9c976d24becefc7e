//! What stands between the store and the server: a pooler that shares connections is refused, one that does not is
//! served.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use support::Case;
use support::desk::{Desk, check, success};
use test_servers::pgbouncer::PgBouncer;
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::store::Store as _;
use webhook_store_postgres::{PgOptions, PgStore};

/// A schema, and a pooler before its server; `None`, and a word about it, when one of them is missing.
async fn behind(test: &str, settings: &'static str) -> Option<(Case, PgBouncer)> {
    let case = Case::create_or_skip(test).await?;
    let url = case.url.clone();
    let started = tokio::task::spawn_blocking(move || PgBouncer::start(&url, settings)).await.unwrap();
    Some((case, test_servers::or_skip(test, started)?))
}

async fn open(case: &Case, pooler: &PgBouncer) -> Result<PgStore, BackendError> {
    PgStore::open(PgOptions::from_url(&pooler.url()).unwrap().schema(&case.schema).unwrap()).await
}

async fn assert_refused(test: &str, settings: &'static str) {
    let Some((case, pooler)) = behind(test, settings).await else { return };
    for _ in 0..5 {
        let error = open(&case, &pooler).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Misconfigured, "{error}");
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("pool_mode = session"), "{error}");
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused() {
    assert_refused("a pooler", "pool_mode = transaction").await;
}

/// One that lends its connections in turn has lent each of the first few by then.
#[tokio::test]
async fn a_pooler_in_transaction_mode_that_lends_in_turn_is_refused() {
    assert_refused("a pooler in turn", "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 2")
        .await;
}

#[tokio::test]
async fn a_pooler_in_statement_mode_is_refused() {
    assert_refused("a pooler by statement", "pool_mode = statement").await;
}

#[tokio::test]
async fn a_pooler_that_does_not_let_start_up_parameters_through_says_what_to_set() {
    let test = "a pooler's parameters";
    let settings = "pool_mode = session\nignore_startup_parameters = search_path";
    let Some((case, pooler)) = behind(test, settings).await else { return };
    let error = open(&case, &pooler).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("extra_float_digits"), "{error}");
}

/// It lets every client in, and has the statement of one that gets no connection wait for two minutes.
#[tokio::test]
async fn a_pool_with_too_few_connections_fails_the_start_in_time() {
    let settings = "pool_mode = session\ndefault_pool_size = 1";
    let Some((case, pooler)) = behind("a small pool", settings).await else { return };
    let options = PgOptions::from_url(&pooler.url()).unwrap().schema(&case.schema).unwrap();
    let began = Instant::now();
    let error = PgStore::open(options.statement_timeout(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for {:?}", began.elapsed());
}

#[tokio::test]
async fn a_pooler_in_session_mode_is_served() {
    let settings = "pool_mode = session\ndefault_pool_size = 100";
    let Some((case, pooler)) = behind("a pooler by session", settings).await else { return };
    let desk = Desk::new(open(&case, &pooler).await.unwrap()).await;
    let ids = desk.publish(3).await;
    assert_eq!(desk.claim(10).await.len(), 3);
    desk.record(&ids, &success()).await;
    desk.store.ping().await.unwrap();
    check(&case).await;
    desk.store.close().await;
    case.clean_up().await;
}
