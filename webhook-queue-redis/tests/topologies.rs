//! A cluster of three nodes, Sentinel with a failover, and TLS.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::{Duration, Instant};

use support::resp::{Resp, Value};
use support::{eventually, own_server};
use test_servers::free_port;
use test_servers::redis::Server;
use webhook_core::error::BackendErrorKind;
use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::queue::{Claim, Enqueued, JobQueue, LaneSettings, NewJob, Settle, Settled, Verdict};
use webhook_queue_redis::{RedisOptions, RedisQueue};

async fn lane(queue: &RedisQueue) -> LaneId {
    let lane = LaneId::new();
    let settings = LaneSettings { lane, version: 1, max_in_flight: None, rate: None, hold: None };
    queue.lanes(&[settings]).await.unwrap();
    lane
}

fn job(lane: LaneId) -> NewJob {
    NewJob { id: DeliveryId::new(), lane, wait: Duration::ZERO, lane_version: 1, urgent: false }
}

fn wish() -> Claim {
    Claim {
        id: Token::new(),
        worker: WorkerId::new(),
        lease: Duration::from_secs(600),
        room: Room { all: 9, doubtful: 9, dead: 9 },
        max_in_flight: 64,
        avoid: Vec::new(),
    }
}

/// One job through the queue, and a wait that the bell ends.
async fn one_job(queue: &RedisQueue) {
    let lane = lane(queue).await;
    // The first claims may see what an earlier round left.
    while !queue.claim(&wish()).await.unwrap().is_empty() {}
    let job = job(lane);
    let adding = async {
        tokio::task::yield_now().await;
        assert_eq!(queue.enqueue(std::slice::from_ref(&job), None).await.unwrap(), [Enqueued::Queued]);
    };
    let waiting = tokio::time::timeout(Duration::from_secs(30), queue.wait(Duration::from_secs(60)));
    let (waited, ()) = tokio::join!(waiting, adding);
    assert!(waited.is_ok(), "the wait ended when the job came");
    let leases = queue.claim(&wish()).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [job.id]);
    let settle = Settle {
        id: job.id,
        token: leases[0].token,
        verdict: Verdict::Done,
        effect: Effect::Fast,
        mark: leases[0].mark,
    };
    assert_eq!(queue.settle(&[settle]).await.unwrap(), [Settled::Settled { strikes: 2 }]);
}

/// Three nodes that share the slots out.
async fn cluster() -> Option<[Server; 3]> {
    let node = || {
        let bus = free_port().unwrap().to_string();
        let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
        Some((own_server(&settings)?, bus))
    };
    let nodes = [node()?, node()?, node()?];
    let thirds = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
    for ((server, _), (from, to)) in nodes.iter().zip(thirds) {
        let mut admin = Resp::connect(server.port).await;
        assert_eq!(admin.call(&["CLUSTER", "ADDSLOTSRANGE", from, to]).await, Value::Text("OK".to_owned()));
        for (other, bus) in &nodes {
            admin.call(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), bus]).await;
        }
    }
    for (server, _) in &nodes {
        let mut admin = Resp::connect(server.port).await;
        eventually("the cluster is complete", async || {
            let info = admin.call(&["CLUSTER", "INFO"]).await.text();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    Some(nodes.map(|(server, _)| server))
}

/// All keys are on one node, whichever node the queue is told of.
#[tokio::test]
async fn a_queue_lives_on_one_node_of_a_cluster() {
    let Some(mut nodes) = cluster().await else { return };
    let ports = nodes.each_ref().map(|node| node.port);
    let mut owner = 0;
    for port in ports {
        let url = format!("redis-cluster://127.0.0.1:{port}");
        let options = RedisOptions::new(url).key_prefix("clustered").command_timeout(Duration::from_secs(3));
        let queue = RedisQueue::connect(options).await.unwrap();
        one_job(&queue).await;
        let sizes = async {
            let mut sizes = Vec::new();
            for port in ports {
                sizes.push(Resp::connect(port).await.call(&["DBSIZE"]).await.int());
            }
            sizes
        };
        let sizes = sizes.await;
        assert_eq!(sizes.iter().filter(|size| **size > 0).count(), 1, "{sizes:?}");
        owner = sizes.iter().position(|size| *size > 0).unwrap();
    }
    let url = format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}", ports[0], ports[1]);
    let options = RedisOptions::new(url).key_prefix("clustered").command_timeout(Duration::from_secs(3));
    let queue = RedisQueue::connect(options).await.unwrap();
    // A node that the queue does not use. What the driver makes of its silence may be an outage, but no other
    // error and no hang, and it ends.
    let other = (owner + 1) % 3;
    nodes[other].signal("STOP");
    for _ in 0..3 {
        let began = Instant::now();
        let answer = queue.claim(&wish()).await;
        assert!(answer.is_ok() || answer.is_err_and(|error| error.is_retryable()));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    nodes[other].signal("CONT");
    eventually("the queue works again", async || queue.claim(&wish()).await.is_ok()).await;
    nodes[owner].kill();
    let error = loop {
        if let Err(error) = queue.claim(&wish()).await {
            break error;
        }
    };
    assert!(error.is_retryable(), "{error:?}");
}

/// With the directory of its file, which it rewrites as long as it runs.
fn sentinel(primary: u16) -> Option<(Server, tempfile::TempDir)> {
    let port = free_port().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sentinel.conf");
    let settings = format!(
        "sentinel monitor main 127.0.0.1 {primary} 1\n\
         sentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 3000\n"
    );
    std::fs::write(&file, settings).unwrap();
    let server = Server::start_sentinel(port, file.to_str().unwrap()).ok()?;
    Some((server, directory))
}

/// What the replica had is there after its promotion, and work goes on without anybody's help.
#[tokio::test]
async fn a_failover_by_sentinel_is_followed() {
    let Some(mut primary) = own_server(&[]) else { return };
    let Some(replica) = own_server(&["--replicaof", "127.0.0.1", &primary.port.to_string()]) else { return };
    let Some((sentinel, _directory)) = sentinel(primary.port) else { return };
    let mut admin = Resp::connect(sentinel.port).await;
    eventually("the sentinel knows the replica", async || {
        let Value::List(replicas) = admin.call(&["SENTINEL", "REPLICAS", "main"]).await else { return false };
        !replicas.is_empty()
    })
    .await;
    let url = format!("redis-sentinel://127.0.0.1:{}/?sentinelServiceName=main", sentinel.port);
    let queue =
        RedisQueue::connect(RedisOptions::new(url).command_timeout(Duration::from_secs(1))).await.unwrap();
    one_job(&queue).await;
    let epoch = queue.epoch().await.unwrap();
    let lane = lane(&queue).await;
    let waiting = job(lane);
    queue.enqueue(std::slice::from_ref(&waiting), None).await.unwrap();
    let (mut from, mut to) = (Resp::connect(primary.port).await, Resp::connect(replica.port).await);
    let mut sent = async || from.info("replication", "master_repl_offset").await.parse::<u64>().unwrap();
    let target = sent().await;
    eventually("the replica has everything", async || {
        to.info("replication", "slave_repl_offset").await.parse::<u64>().unwrap() >= target
    })
    .await;
    primary.kill();
    let mut leases = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while leases.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no failover was followed");
        match queue.claim(&wish()).await {
            Ok(found) => leases = found,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    assert_eq!(leases[0].id, waiting.id);
    assert_eq!(queue.epoch().await.unwrap(), epoch, "nothing was lost");
}

/// The server's certificate is checked against the given authority, and against nothing else.
#[tokio::test]
async fn tls_is_checked() {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = (write("cert.pem", certificate.pem()), write("key.pem", key.serialize_pem()));
    let root = write("root.pem", authority.pem());
    let port = free_port().unwrap();
    let port_text = port.to_string();
    let settings = ["--port", "0", "--tls-port", &port_text, "--tls-auth-clients", "no"];
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &root];
    let Ok(_server) = Server::start_on(port, &[&settings[..], &files[..]].concat()) else { return };

    let options = |host: &str| {
        RedisOptions::new(format!("rediss://{host}:{port}")).command_timeout(Duration::from_secs(2))
    };
    let trusted = |host: &str| options(host).root_certificate(authority.der().to_vec());
    let queue = RedisQueue::connect(trusted("localhost")).await.unwrap();
    one_job(&queue).await;
    for refused in [options("localhost"), trusted("127.0.0.1")] {
        let error = RedisQueue::connect(refused).await.unwrap_err();
        let kinds = [
            BackendErrorKind::Unavailable,
            BackendErrorKind::Timeout,
            // A system without any authorities.
            BackendErrorKind::Misconfigured,
        ];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
}
