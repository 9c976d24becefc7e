//! Every case of the public suite for queues, each behind a key prefix of its own.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use webhook_conformance::{Fixture, Missing, QueueFixture};
use webhook_core::queue::JobQueue;
use webhook_queue_redis::RedisQueue;

struct Keys {
    queue: RedisQueue,
    url: String,
    prefix: String,
}

impl Fixture for Keys {
    async fn create() -> Result<Self, Missing> {
        let url = support::shared_url()?;
        let prefix = support::fresh_prefix();
        let queue = support::queue(&url, &prefix).await;
        Ok(Self { queue, url, prefix })
    }

    /// The span travels with this handle's calls; see [`RedisQueue::advance`].
    async fn advance(&self, span: Duration) {
        self.queue.advance(span);
    }

    async fn clean_up(self) {
        let port = self.url.rsplit(':').next().and_then(|port| port.split('/').next()?.parse().ok());
        let Some(port) = port else { return };
        let script = "for _, k in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', k) end";
        let mut server = support::resp::Resp::connect(port).await;
        server.call(&["EVAL", script, "0", &format!("{{{}}}:*", self.prefix)]).await;
    }
}

impl QueueFixture for Keys {
    fn queue(&self) -> Arc<dyn JobQueue> {
        Arc::new(self.queue.clone())
    }
}

webhook_conformance::queue_tests!(Keys);
