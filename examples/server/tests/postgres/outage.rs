//! PostgreSQL away: restarted under load, and frozen (promise 15).

use std::time::{Duration, Instant};

use serde_json::json;
use test_servers::postgres::Postgres;

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::publishers::{Publishers, finish};
use crate::support::receiver::Receiver;
use crate::{CONCURRENCY, node, server};

/// Work goes on so soon after the database is back.
const RESUME: Duration = Duration::from_secs(5);
const WORKERS: usize = 2;

/// Two nodes of each role on a server that is to be broken.
struct Cluster {
    _nodes: Vec<Process>,
    apis: Vec<Api>,
    workers: Vec<Api>,
    receiver: Receiver,
}

impl Cluster {
    async fn start(postgres: &Postgres) -> Self {
        let mut nodes: Vec<_> =
            ["api", "api", "worker", "worker"].map(|role| node(postgres.url(), role, &["--lease=2s"])).into();
        let mut clients: Vec<Api> = nodes.iter_mut().map(|node| Api::new(node.url())).collect();
        let workers = clients.split_off(2);
        let receiver = Receiver::start(Duration::from_millis(5)).await;
        clients[0].subscribe(&receiver.url, &[]).await;
        Self { _nodes: nodes, apis: clients, workers, receiver }
    }

    /// Every node says that it is alive and cannot serve.
    async fn until_unavailable(&self) {
        for node in self.apis.iter().chain(&self.workers) {
            let ready = eventually("a node that is not ready", async || {
                let ready = node.get("/ready").await?;
                (ready.status == 503).then_some(ready)
            })
            .await;
            assert_eq!(ready.json()["status"], "unavailable");
            assert_eq!(ready.json()["checks"]["store"]["status"], "down");
            assert_eq!(node.get("/health").await.expect("an answer").status, 200);
        }
    }

    /// Waits until an event was acknowledged and one arrived after this moment, and tells how long both took.
    async fn resumes(&self, publishers: &Publishers, back: Instant) -> (Duration, Duration) {
        let published = eventually("an event is acknowledged again", async || {
            publishers.last_acknowledged().filter(|at| *at > back)
        });
        let arrived = eventually("an event arrives again", async || {
            self.receiver.got().last().map(|got| got.at).filter(|at| *at > back)
        });
        let (published, arrived) = tokio::join!(published, arrived);
        (published.duration_since(back), arrived.duration_since(back))
    }

    /// Everything acknowledged has arrived, nothing was given up, and little was sent twice.
    async fn settles(&self, publishers: &Publishers, outages: usize) -> usize {
        self.apis[0].all_finished().await;
        let duplicates = publishers.against(&self.receiver);
        assert!(duplicates <= outages * WORKERS * CONCURRENCY, "{duplicates} sent again");
        let path = "/api/v1/deliveries?status=exhausted,cancelled&limit=1";
        let dead =
            eventually("a list", async || self.apis[1].get(path).await.filter(|answer| answer.status == 200));
        assert_eq!(dead.await.json()["data"], json!([]), "dead letters");
        duplicates
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_under_load_is_a_pause() {
    const OUTAGES: usize = 4;
    let Some(postgres) = server("a restart under load").await.map(std::sync::Arc::new) else { return };
    let cluster = Cluster::start(&postgres).await;
    let publishers = Publishers::new(3_000);
    let tasks = publishers.start_stubborn(&cluster.apis);
    publishers.until_acknowledged(300).await;

    // Away for as long as it takes everybody to notice.
    let server = std::sync::Arc::clone(&postgres);
    blocking(move || server.crash()).await.unwrap();
    let crash = Instant::now();
    let refused = publishers.refused();
    eventually("publishing is refused", async || (publishers.refused() > refused).then_some(())).await;
    let noticed = crash.elapsed();
    cluster.until_unavailable().await;
    let before = publishers.acknowledged();
    let server = std::sync::Arc::clone(&postgres);
    blocking(move || server.start_again()).await.unwrap();
    let mut longest = cluster.resumes(&publishers, Instant::now()).await;
    assert!(before < 3_000, "it was not in the middle");

    // And for as long as a restart takes, which not everybody notices.
    for outage in 1..OUTAGES {
        let more = publishers.acknowledged() + 300;
        publishers.until_acknowledged(more.min(3_000)).await;
        assert!(publishers.acknowledged() < 3_000, "outage {outage}: it was not in the middle");
        let server = std::sync::Arc::clone(&postgres);
        blocking(move || server.crash_and_restart()).await.unwrap();
        let (published, arrived) = cluster.resumes(&publishers, Instant::now()).await;
        longest = (longest.0.max(published), longest.1.max(arrived));
    }
    finish(tasks).await;
    let duplicates = cluster.settles(&publishers, OUTAGES).await;
    println!(
        "restarted (immediate) {OUTAGES} times under load: refused {noticed:?} after the first crash, {} refusals, \
         publishing resumed within {:?} and deliveries within {:?} of the server's return, {duplicates} sent again, \
         0 lost, 0 dead letters",
        publishers.refused(),
        longest.0,
        longest.1
    );
    assert!(longest.0 < 5 * RESUME && longest.1 < 5 * RESUME, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stands_still_for_ten_seconds_is_a_pause() {
    const FROZEN: Duration = Duration::from_secs(10);
    let Some(postgres) = server("a frozen database").await else { return };
    let cluster = Cluster::start(&postgres).await;
    let publishers = Publishers::new(2_000);
    let tasks = publishers.start_stubborn(&cluster.apis);
    publishers.until_acknowledged(300).await;

    postgres.freeze().unwrap();
    let start = Instant::now();
    let frozen = publishers.acknowledged();
    let watch = async {
        let refused = publishers.refused();
        eventually("publishing is refused", async || (publishers.refused() > refused).then_some(())).await;
        start.elapsed()
    };
    // The fault itself takes its time.
    let thaw = tokio::time::sleep(FROZEN); // verify: allow(sleep): the length of the fault
    let (noticed, ()) = tokio::join!(watch, async {
        thaw.await;
        assert!(publishers.acknowledged() < 2_000, "it was not in the middle");
        let acknowledged = publishers.acknowledged() - frozen;
        // What was committed and on its way when it froze may have come through.
        assert!(acknowledged <= 16, "{acknowledged} acknowledged by a database that stood still");
        postgres.thaw().unwrap();
    });
    let (published, arrived) = cluster.resumes(&publishers, start + FROZEN).await;
    finish(tasks).await;
    let duplicates = cluster.settles(&publishers, 1).await;
    println!(
        "frozen for {FROZEN:?} under load: first refusal after {noticed:?}, {} refusals, publishing resumed within \
         {published:?} and deliveries within {arrived:?} of the thaw, {duplicates} sent again, 0 lost, 0 dead letters",
        publishers.refused()
    );
    assert!(published < 5 * RESUME && arrived < 5 * RESUME, "{published:?}, {arrived:?}");
}
