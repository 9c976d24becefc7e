//! What tests of Redis share: nodes on it, a target that fails or dawdles on command, and a gate in front of Redis.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use test_servers::redis::Server;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::node;
use crate::support::api::Api;
use crate::support::process::Process;

/// The hash from job to lane.
const JOBS: &str = "{webhooks}:jobs";

pub(super) fn redis(test: &str, more: &[&str]) -> Option<Server> {
    let settings = [&["--maxmemory-policy", "noeviction"], more].concat();
    test_servers::or_skip(test, Server::start(&settings))
}

/// What Redis answers to a command.
pub(super) fn ask(port: u16, words: &[&str]) -> String {
    tokio::task::block_in_place(|| test_servers::redis::ask(port, words)).expect("Redis answers")
}

/// How many jobs Redis knows.
pub(super) fn known_jobs(port: u16) -> usize {
    ask(port, &["HLEN", JOBS]).parse().expect("a number")
}

/// One node that takes events and one that delivers them.
pub(super) struct Nodes {
    pub(super) front: Process,
    pub(super) back: Process,
    pub(super) api: Api,
    pub(super) worker: Api,
}

impl Nodes {
    pub(super) fn start(database: &str, redis_port: u16, more: &[&str]) -> Self {
        let flag = format!("--redis-url=redis://127.0.0.1:{redis_port}");
        let more = [&[flag.as_str()], more].concat();
        let (mut front, mut back) = (node(database, "api", &more), node(database, "worker", &more));
        let (api, worker) = (Api::new(front.url()), Api::new(back.url()));
        Self { front, back, api, worker }
    }

    /// What `/ready` says on the node that takes events.
    pub(super) async fn ready(&self) -> Option<Value> {
        let ready = self.api.get("/ready").await?;
        (ready.status == 200).then(|| ready.json()["status"].clone())
    }
}

/// Subscribes with more than a target.
pub(super) async fn subscribe(api: &Api, target: &Target, event_type: &str, more: Value) -> String {
    let mut body = json!({"target_url": target.url, "event_types": [event_type]});
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    let answer = api.post("/api/v1/subscriptions", &body).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Publishes events with the payloads 0, 1, 2 … in batches; all must be acknowledged.
pub(super) async fn publish_many(api: &Api, event_type: &str, events: usize) {
    for first in (0..events).step_by(1_000) {
        let batch: Vec<Value> = (first..events.min(first + 1_000))
            .map(|number| json!({"event_type": event_type, "payload": number}))
            .collect();
        let answer = api.post("/api/v1/events/batch", &json!({"events": batch})).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{:?}", answer.body);
        let items = answer.json();
        assert!(items["data"].as_array().expect("a list").iter().all(|item| item["status"] == 202));
    }
}

/// Publishes one event after another from several tasks, each of which must be acknowledged.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<(String, Instant)>>>,
    tasks: JoinSet<()>,
}

impl Flood {
    pub(super) fn start(api: &Api, tasks: usize, payload: &Value) -> Self {
        let mut flood = Self { stop: Arc::default(), acknowledged: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..tasks {
            let (api, payload) = (api.clone(), payload.clone());
            let (stop, acknowledged) = (Arc::clone(&flood.stop), Arc::clone(&flood.acknowledged));
            flood.tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let id = api.publish("flood", &payload).await.expect("acknowledged");
                    acknowledged.lock().unwrap().push((id, Instant::now()));
                    tokio::time::sleep(Duration::from_millis(25)).await; // verify: allow(sleep): a producer at its pace
                }
            });
        }
        flood
    }

    pub(super) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// The longest time between two acknowledgements since this moment.
    pub(super) fn longest_gap_since(&self, start: Instant) -> Duration {
        let mut moments: Vec<Instant> = self.acknowledged.lock().unwrap().iter().map(|(_, at)| *at).collect();
        moments.retain(|at| *at > start);
        moments.insert(0, start);
        moments.sort_unstable();
        let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(Duration::MAX)
    }

    /// Ends it, and gives the ids of what was acknowledged.
    pub(super) async fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("every publish was acknowledged");
        }
        self.acknowledged.lock().unwrap().drain(..).map(|(id, _)| id).collect()
    }
}

/// A request that a target got.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub(super) id: String,
    pub(super) at: Instant,
    pub(super) is_answered_ok: bool,
    pub(super) body: Bytes,
}

/// Answers 200, or 500 while it is told to fail, after a while; counts how many it has at once.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: String,
    state: Arc<TargetState>,
}

struct TargetState {
    takes: Duration,
    fails: AtomicBool,
    keeps_bodies: bool,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    hits: Mutex<Vec<Hit>>,
}

impl Target {
    pub(super) async fn start(takes: Duration) -> Self {
        Self::with(takes, true).await
    }

    /// One that keeps no bodies, for tests that watch memory.
    pub(super) async fn forgetful(takes: Duration) -> Self {
        Self::with(takes, false).await
    }

    async fn with(takes: Duration, keeps_bodies: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("an address"));
        let state = Arc::new(TargetState {
            takes,
            fails: AtomicBool::new(false),
            keeps_bodies,
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            hits: Mutex::default(),
        });
        let app = Router::new().fallback(receive).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, state }
    }

    pub(super) fn fail(&self, fails: bool) {
        self.state.fails.store(fails, Ordering::SeqCst);
    }

    pub(super) fn hits(&self) -> Vec<Hit> {
        self.state.hits.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.state.hits.lock().unwrap().len()
    }

    /// How many different events came.
    pub(super) fn distinct(&self) -> usize {
        self.times(|_| true).len()
    }

    /// How many different events were taken.
    pub(super) fn taken(&self) -> usize {
        self.times(|hit| hit.is_answered_ok).len()
    }

    /// How often each event came, of those requests.
    pub(super) fn times(&self, counts: impl Fn(&Hit) -> bool) -> HashMap<String, usize> {
        let mut times = HashMap::new();
        for hit in self.state.hits.lock().unwrap().iter().filter(|hit| counts(hit)) {
            *times.entry(hit.id.clone()).or_default() += 1;
        }
        times
    }

    /// How many requests came for events that had been taken before.
    pub(super) fn sent_again(&self) -> usize {
        self.times(|hit| hit.is_answered_ok).values().map(|times| times - 1).sum()
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }
}

async fn receive(State(target): State<Arc<TargetState>>, request: Request) -> StatusCode {
    let at = Instant::now();
    let now = target.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    target.most_at_once.fetch_max(now, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let id = head.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let body = to_bytes(body, 1024 * 1024).await.unwrap_or_default();
    let is_answered_ok = !target.fails.load(Ordering::SeqCst);
    let body = if target.keeps_bodies { body } else { Bytes::new() };
    target.hits.lock().unwrap().push(Hit { id, at, is_answered_ok, body });
    tokio::time::sleep(target.takes).await; // verify: allow(sleep): a target that dawdles
    target.at_once.fetch_sub(1, Ordering::SeqCst);
    if is_answered_ok { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}
