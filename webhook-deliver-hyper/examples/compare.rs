//! What an exchange costs by each deliverer and by hyper-util's bare client, for `docs/decisions/http-client.md`.
//!
//! `cargo run --release -p webhook-deliver-hyper --example compare [requests]`, on Linux. The receiver is a
//! process of its own. All send the same requests, 64 at once, in turns; the last part holds 1,000 connections idle
//! and looks at the memory. `compare only hyper|reqwest|bare|nothing REQUESTS` sends with one of them alone on one thread:
//! the difference of two lengths of run under `valgrind --tool=callgrind` is its instructions an exchange; `nothing` sends
//! nothing, which is what the measuring itself costs.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a tool for developers")]

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;
use webhook_core::deliver::{Deliverer, Request};
use webhook_core::target::TargetRules;
use webhook_deliver_hyper::HyperDeliverer;
use webhook_deliver_reqwest::ReqwestDeliverer;

const AT_ONCE: usize = 64;
const IDLE: usize = 1000;
const ROUNDS: usize = 5;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = match std::env::args().nth(1).as_deref() {
        Some("only") => 1,
        _ => 2,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    let number =
        |text: Option<String>| text.map_or(100_000, |text| text.parse().expect("a number of requests"));
    match arguments.next().as_deref() {
        Some("serve") => runtime.block_on(serve()),
        Some("only") => {
            let which = arguments.next().expect("hyper, reqwest or bare");
            runtime.block_on(only(&which, number(arguments.next())));
        }
        requests => runtime.block_on(compare(number(requests.map(str::to_owned)))),
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

/// The receiver's process, ended with this.
struct Server {
    process: std::process::Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut serve = Command::new(std::env::current_exe().unwrap());
        let mut process = serve.arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, url: format!("http://127.0.0.1:{}", line.trim()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One way to send.
#[derive(Clone)]
enum Client {
    Deliverer(Arc<dyn Deliverer>),
    Bare(legacy::Client<HttpConnector, Full<Bytes>>),
    Nothing,
}

impl Client {
    fn named(name: &str) -> Self {
        let rules = TargetRules { allow: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRules::default() };
        match name {
            "hyper" => {
                let builder = HyperDeliverer::builder().target_rules(rules).idle_connections_per_host(IDLE);
                Self::Deliverer(Arc::new(builder.build().unwrap()))
            }
            "reqwest" => {
                let builder = ReqwestDeliverer::builder().target_rules(rules).idle_connections_per_host(IDLE);
                Self::Deliverer(Arc::new(builder.build().unwrap()))
            }
            "bare" => {
                let mut connector = HttpConnector::new();
                connector.set_nodelay(true);
                Self::Bare(legacy::Client::builder(TokioExecutor::new()).build(connector))
            }
            "nothing" => Self::Nothing,
            _ => panic!("hyper, reqwest, bare or nothing"),
        }
    }

    /// One exchange. The URL is read before, as a worker has it from its store.
    async fn send(self, url: Url, body: Bytes) {
        match self {
            Self::Deliverer(deliverer) => {
                let request = Request {
                    url,
                    headers: HEADERS
                        .iter()
                        .map(|(name, value)| ((*name).into(), (*value).to_owned()))
                        .collect(),
                    body,
                    deadline: Duration::from_secs(15),
                };
                assert_eq!(deliverer.deliver(request).await.result.unwrap().status, 200);
            }
            Self::Nothing => drop((url, body)),
            Self::Bare(client) => {
                let mut request = hyper::Request::post(url.as_str());
                for (name, value) in HEADERS {
                    request = request.header(*name, *value);
                }
                let exchange = async {
                    let response = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
                    assert_eq!(response.status(), 200);
                    response.into_body().collect().await.unwrap().to_bytes()
                };
                tokio::time::timeout(Duration::from_secs(15), exchange).await.unwrap();
            }
        }
    }
}

fn body() -> Bytes {
    Bytes::from(format!("{{\"data\":\"{}\"}}\n", "x".repeat(440)))
}

async fn only(which: &str, requests: usize) {
    let server = Server::start();
    let (client, body) = (Client::named(which), body());
    let url: Url = format!("{}/", server.url).parse().unwrap();
    let cost = flood(requests, || client.clone().send(url.clone(), body.clone())).await;
    println!("{which}: {cost}");
}

async fn compare(requests: usize) {
    let server = Server::start();
    let body = body();
    let url: Url = format!("{}/", server.url).parse().unwrap();
    let clients = ["hyper", "reqwest", "bare"].map(|name| (name, Client::named(name)));
    let mut costs = clients.each_ref().map(|_| Vec::new());
    for round in 0..ROUNDS {
        for ((name, client), costs) in clients.iter().zip(&mut costs) {
            let cost = flood(requests, || client.clone().send(url.clone(), body.clone())).await;
            println!("round {round}: {name} {cost}");
            costs.push(cost.cpu);
        }
    }
    for ((name, _), costs) in clients.iter().zip(&mut costs) {
        costs.sort_by(f64::total_cmp);
        println!("{name}: CPU of the client process, median {:.1} µs an exchange", costs[ROUNDS / 2]);
    }

    let (_, client) = &clients[0];
    let together: Url = format!("{}/together", server.url).parse().unwrap();
    let before = resident();
    let all: Vec<_> =
        (0..IDLE).map(|_| tokio::spawn(client.clone().send(together.clone(), body.clone()))).collect();
    for one in all {
        one.await.unwrap();
    }
    let kib = resident().saturating_sub(before) / IDLE as u64;
    println!("memory of one kept connection with the receiver's first answer read: {kib} KiB of {IDLE}");
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
