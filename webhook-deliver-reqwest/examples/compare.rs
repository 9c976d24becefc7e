//! What this deliverer costs beside hyper-util's bare client, for `docs/decisions/http-client.md`.
//!
//! `cargo run --release -p webhook-deliver-reqwest --example compare [requests]`, on Linux. The receiver is a
//! process of its own. Both clients send the same requests, 64 at once, in turns; the second part holds 1,000
//! connections idle and looks at the memory.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a tool for developers")]

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use webhook_core::deliver::{Deliverer, Request};
use webhook_core::target::TargetRules;
use webhook_deliver_reqwest::ReqwestDeliverer;

const AT_ONCE: usize = 64;
const IDLE: usize = 1000;
const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match std::env::args().nth(1).as_deref() {
        Some("serve") => runtime.block_on(serve()),
        requests => {
            let requests = requests.map_or(100_000, |text| text.parse().expect("a number of requests"));
            runtime.block_on(compare(requests));
        }
    }
}

/// Answers everything with 200; holds back what asks for it until all idle connections are there.
async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let (together, _) = tokio::sync::watch::channel(0_usize);
    let together = Arc::new(together);
    while let Ok((mut stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let together = Arc::clone(&together);
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            let mut filled = 0;
            // A request is one small segment over loopback, so its end is the end of what was read.
            while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
                filled += read;
                if !buffer[..filled].ends_with(b"}\n") {
                    continue;
                }
                if buffer.starts_with(b"POST /together") {
                    together.send_modify(|count| *count += 1);
                    together.subscribe().wait_for(|count| *count >= IDLE).await.unwrap();
                }
                filled = 0;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        });
    }
}

async fn compare(requests: usize) {
    let mut server =
        Command::new(std::env::current_exe().unwrap()).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = format!("http://127.0.0.1:{}", line.trim());
    let body = Bytes::from(format!("{{\"data\":\"{}\"}}\n", "x".repeat(440)));

    let rules = TargetRules { allow: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRules::default() };
    let deliverer =
        ReqwestDeliverer::builder().target_rules(rules).idle_connections_per_host(IDLE).build().unwrap();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let bare: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);

    let deliver = |path: &'static str| {
        let request = Request {
            url: format!("{url}{path}").parse().unwrap(),
            headers: HEADERS.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect(),
            body: body.clone(),
            deadline: Duration::from_secs(15),
        };
        let deliverer = deliverer.clone();
        async move { assert_eq!(deliverer.deliver(request).await.result.unwrap().status, 200) }
    };
    let send = |path: &'static str| {
        let mut request = hyper::Request::post(format!("{url}{path}"));
        for (name, value) in HEADERS {
            request = request.header(*name, *value);
        }
        let response = bare.request(request.body(Full::new(body.clone())).unwrap());
        async move {
            let exchange = async {
                let response = response.await.unwrap();
                assert_eq!(response.status(), 200);
                response.into_body().collect().await.unwrap().to_bytes()
            };
            tokio::time::timeout(Duration::from_secs(15), exchange).await.unwrap();
        }
    };
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let ours = flood(requests, || deliver("/")).await;
        let theirs = flood(requests, || send("/")).await;
        println!("round {round}: deliverer {ours}, hyper-util {theirs}");
        ratios.push(ours.cpu / theirs.cpu);
    }
    ratios.sort_by(f64::total_cmp);
    println!("CPU of the client process, deliverer / hyper-util, median: {:.2}", ratios[ROUNDS / 2]);

    let before = resident();
    let all: Vec<_> = (0..IDLE).map(|_| tokio::spawn(deliver("/together"))).collect();
    for one in all {
        one.await.unwrap();
    }
    let kib = resident().saturating_sub(before) / IDLE as u64;
    println!("memory of one kept connection with the receiver's first answer read: {kib} KiB of {IDLE}");
    server.kill().unwrap();
    server.wait().unwrap();
}

const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("user-agent", "webhook-server/1"),
    ("webhook-id", "0199a0c4-0000-7000-8000-000000000000"),
    ("webhook-timestamp", "1763765000"),
    ("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("webhook-event-type", "invoice.paid"),
    ("webhook-attempt", "1"),
];

struct Cost {
    cpu: f64,
    rate: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} µs CPU, {:.0}/s", self.cpu, self.rate)
    }
}

/// Sends so many, [`AT_ONCE`] at a time.
async fn flood<F, R>(requests: usize, send: F) -> Cost
where
    F: Fn() -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let (started, cpu) = (Instant::now(), cpu());
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..requests {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (one, done) = (send(), Arc::clone(&done));
        tokio::spawn(async move {
            one.await;
            done.fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
    }
    let _all = places.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
    assert_eq!(done.load(Ordering::Relaxed), requests);
    let count = u32::try_from(requests).map(f64::from).unwrap();
    Cost {
        cpu: (self::cpu() - cpu).as_secs_f64() * 1e6 / count,
        rate: count / started.elapsed().as_secs_f64(),
    }
}

/// User and system time of this process, from Linux's clock ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
