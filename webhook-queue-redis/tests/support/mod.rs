//! A server of the tests' own, and ways to look at it that owe nothing to the crate under test.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

pub(crate) mod proxy;
pub(crate) mod resp;

use std::sync::OnceLock;
use std::time::Duration;

use webhook_conformance::Missing;
use webhook_core::id::DeliveryId;
use webhook_queue_redis::{RedisOptions, RedisQueue};

use test_servers::redis::Server;

/// Where the server is that this process's tests share: the one that `WEBHOOK_TEST_REDIS_URL` names, or one that
/// is started for them.
pub(crate) fn shared_url() -> Result<String, Missing> {
    static SERVER: OnceLock<Result<Server, Missing>> = OnceLock::new();
    if let Ok(url) = std::env::var("WEBHOOK_TEST_REDIS_URL") {
        return Ok(url);
    }
    SERVER
        .get_or_init(|| Server::start(&[]).map_err(Missing::because))
        .as_ref()
        .map(Server::url)
        .map_err(Clone::clone)
}

/// A key prefix that no other test has.
pub(crate) fn fresh_prefix() -> String {
    format!("test-{}", DeliveryId::new())
}

/// A queue on this server.
pub(crate) async fn queue(url: &str, prefix: &str) -> RedisQueue {
    let options = RedisOptions::new(url).key_prefix(prefix).command_timeout(Duration::from_secs(5));
    RedisQueue::connect(options).await.unwrap()
}

/// A server of one test's own. `None`, with a word about it, when there is none to start.
///
/// # Panics
/// When there is none and `WEBHOOK_REQUIRE_BACKENDS` is `1`.
pub(crate) fn own_server(settings: &[&str]) -> Option<Server> {
    test_servers::or_skip("a test of faults", Server::start(settings))
}

/// Repeats until it is so, at most for ten seconds.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "within ten seconds: {what}");
        // verify: allow(sleep): between two looks, until a deadline
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
