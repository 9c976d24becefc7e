//! Redis as the queue of a PostgreSQL database: used, refused, moved; and what breaks.
//!
//! | module | what breaks |
//! |---|---|
//! | [`away`] | Redis frozen, full, read-only, loading, changed or forgetful under the nodes; answers lost |
//! | [`kills`] | the nodes |
//! | [`lost`] | Redis's memory: all of it, or the last of it |

mod away;
mod gate;
mod kills;
mod lost;
mod setup;

use rustix::process::Signal;
use serde_json::json;
use test_servers::redis::Server;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::{Process, binary};
use crate::support::receiver::Receiver;
use crate::{database, node};

fn redis(test: &str) -> Option<Server> {
    test_servers::or_skip(test, Server::start(&["--maxmemory-policy", "noeviction"]))
}

fn stopped(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0), "{:#?}", process.stderr());
}

/// It does not start, and says why.
fn says(refused: &mut Process, why: &str) {
    assert_eq!(refused.ended().code(), Some(1));
    let lines = refused.stderr();
    assert!(lines.iter().any(|line| line.contains(why)), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("no transaction in progress")), "{lines:#?}");
}

/// Promises 2 and 15: what was acknowledged while Redis was away is delivered when an empty one is there again.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_and_a_worker_share_it_and_publishing_goes_on_without_it() {
    let Some(url) = database("redis").await else { return };
    let Some(mut queue) = redis("redis") else { return };
    let flag = format!("--redis-url={}", queue.url());
    let (mut front, mut back) = (node(&url, "api", &[&flag]), node(&url, "worker", &[&flag]));
    let api = Api::new(front.url());
    back.url();
    let receiver = Receiver::start(std::time::Duration::ZERO).await;
    api.subscribe(&receiver.url, &[]).await;
    api.publish("a", &json!(1)).await.expect("acknowledged");
    eventually("it is delivered by the other node", async || (receiver.count() == 1).then_some(())).await;

    let port = queue.port;
    queue.kill();
    for number in 2..=20 {
        api.publish("a", &json!(number)).await.expect("acknowledged while the queue is away");
    }
    eventually("it says so", async || {
        let ready = api.get("/ready").await?;
        (ready.status == 200 && ready.json()["status"] == "degraded").then_some(())
    })
    .await;
    let _again = Server::start_on(port, &[]).unwrap();
    eventually("all are delivered", async || (receiver.times().len() == 20).then_some(())).await;
    api.all_finished().await;
    for process in [front, back] {
        stopped(process);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_queue_than_the_databases_is_refused_until_it_is_moved() {
    let Some(url) = database("moved").await else { return };
    let Some(queue) = redis("moved") else { return };
    let flag = format!("--redis-url={}", queue.url());
    let mut on_redis = node(&url, "all", &[&flag]);
    let api = Api::new(on_redis.url());
    let receiver = Receiver::start(std::time::Duration::ZERO).await;
    let (id, _) = api.subscribe(&receiver.url, &[]).await;
    let pause = format!("/api/v1/subscriptions/{id}/pause");
    assert_eq!(api.post(&pause, &json!({})).await.unwrap().status, 200);
    api.publish("a", &json!(1)).await.expect("acknowledged");
    stopped(on_redis);

    let mut refused = node(&url, "all", &[]);
    says(&mut refused, "another queue");

    let mut migrate =
        Process::spawn(binary(&["migrate", "--queue=database", "--log=warn"]).env("DATABASE_URL", &url));
    assert_eq!(migrate.ended().code(), Some(0), "{:#?}", migrate.stderr());
    let mut on_its_own = node(&url, "all", &[]);
    let api = Api::new(on_its_own.url());
    assert_eq!(api.post(&pause.replace("pause", "resume"), &json!({})).await.unwrap().status, 200);
    eventually("what waited is delivered", async || (receiver.count() == 1).then_some(())).await;
    api.all_finished().await;
    stopped(on_its_own);

    let mut refused = node(&url, "all", &[&flag]);
    says(&mut refused, "its own queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_evict_keys_is_refused_at_start() {
    let Some(url) = database("evicting").await else { return };
    let started = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let Some(queue) = test_servers::or_skip("evicting", started) else { return };
    let mut refused = node(&url, "all", &[&format!("--redis-url={}", queue.url())]);
    says(&mut refused, "noeviction");
    says(&mut refused, "cannot use the Redis of --redis-url");
    assert!(!refused.stderr().concat().contains("postgres://"), "{:#?}", refused.stderr());
}
