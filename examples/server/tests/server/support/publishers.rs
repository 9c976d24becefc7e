//! Producers of events, as careful ones are: what was not acknowledged is published again, with the same idempotency
//! key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::api::Api;
use super::eventually;
use super::receiver::Receiver;

/// How many publish at the same time.
const PUBLISHERS: usize = 16;

/// Publishes a number of events from several tasks.
#[derive(Debug, Clone)]
pub(crate) struct Publishers {
    events: Arc<AtomicUsize>,
    to_do: Arc<Mutex<Vec<usize>>>,
    acknowledged: Arc<Mutex<HashMap<String, usize>>>,
    /// When a node said no.
    refused: Arc<Mutex<Vec<Instant>>>,
    last: Arc<Mutex<Option<Instant>>>,
    /// Publishes only while fewer than so many acknowledged ones have not arrived there.
    pace: Option<(Receiver, usize)>,
}

impl Publishers {
    pub(crate) fn new(events: usize) -> Self {
        Self {
            events: Arc::new(AtomicUsize::new(events)),
            to_do: Arc::new(Mutex::new((0..events).rev().collect())),
            acknowledged: Arc::default(),
            refused: Arc::default(),
            last: Arc::default(),
            pace: None,
        }
    }

    /// Publishes no faster than deliveries arrive: at most so many acknowledged events are under way.
    pub(crate) fn at_the_pace_of(mut self, receiver: &Receiver, under_way: usize) -> Self {
        self.pace = Some((receiver.clone(), under_way));
        self
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// The ids of the events that were acknowledged.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap().keys().cloned().collect()
    }

    /// How often a node answered 503.
    pub(crate) fn refused(&self) -> usize {
        self.refused.lock().unwrap().len()
    }

    /// When an event was acknowledged last.
    pub(crate) fn last_acknowledged(&self) -> Option<Instant> {
        *self.last.lock().unwrap()
    }

    /// Starts all publishers against this server; each ends when there is nothing to do or the server is gone.
    pub(crate) fn start(&self, api: &Api) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..PUBLISHERS {
            let (this, api) = (self.clone(), api.clone());
            tasks.spawn(async move {
                while let Some(n) = this.take().await {
                    let Some(id) = api.publish_once(&key(n), "order.created", &json!(n)).await else {
                        return this.to_do.lock().unwrap().push(n);
                    };
                    this.note(id, n);
                }
            });
        }
        tasks
    }

    /// Starts all publishers against these servers in turn. Each repeats an event until it is acknowledged, whatever
    /// the servers answer, and ends when there is nothing to do.
    ///
    /// # Panics
    /// In its tasks, when a server answers neither 202 nor 503 with `Retry-After`.
    pub(crate) fn start_stubborn(&self, servers: &[Api]) -> JoinSet<()> {
        self.start_stubborn_with(servers, "")
    }

    /// The same with another beginning of the keys: several sets of publishers on one database need keys of their own.
    pub(crate) fn start_stubborn_with(&self, servers: &[Api], keys: &str) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..PUBLISHERS {
            let (this, servers, keys) = (self.clone(), servers.to_vec(), keys.to_owned());
            tasks.spawn(async move {
                let mut turn = servers.iter().cycle().skip(number);
                while let Some(n) = this.take().await {
                    for api in turn.by_ref() {
                        let key = [("idempotency-key", format!("{keys}{}", key(n)))];
                        let key = key.each_ref().map(|(name, value)| (*name, value.as_str()));
                        let Some(answer) = api.try_publish(&key, "order.created", &json!(n)).await else {
                            continue;
                        };
                        let is_taken = answer.status == 202;
                        if is_taken {
                            this.note(answer.json()["id"].as_str().unwrap().to_owned(), n);
                        } else {
                            assert_eq!(answer.status, 503, "{:?}", answer.body);
                            assert_eq!(answer.json()["code"], "unavailable");
                            assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
                            this.refused.lock().unwrap().push(Instant::now());
                        }
                        // Slow enough that there is no backlog. A 503 asks to wait longer, but the test is to see when the
                        // answer changes.
                        tokio::time::sleep(Duration::from_millis(50)).await; // verify: allow(sleep): a producer at its pace
                        if is_taken {
                            break;
                        }
                    }
                }
            });
        }
        tasks
    }

    async fn take(&self) -> Option<usize> {
        if let Some((receiver, under_way)) = &self.pace {
            let end = Instant::now() + super::DEADLINE;
            while self.acknowledged() >= receiver.distinct() + under_way {
                assert!(Instant::now() < end, "deliveries do not keep up");
                tokio::time::sleep(Duration::from_millis(5)).await; // verify: allow(sleep): a poll with a deadline
            }
        }
        self.to_do.lock().unwrap().pop()
    }

    /// Publishes nothing more than what was begun.
    pub(crate) fn stop(&self) {
        let left = self.to_do.lock().unwrap().drain(..).count();
        self.events.fetch_sub(left, Ordering::SeqCst);
    }

    fn note(&self, id: String, n: usize) {
        let earlier = self.acknowledged.lock().unwrap().insert(id, n);
        assert_eq!(earlier, None, "two events with one id");
        *self.last.lock().unwrap() = Some(Instant::now());
    }

    pub(crate) async fn until_acknowledged(&self, events: usize) {
        eventually("so many are acknowledged", async || (self.acknowledged() >= events).then_some(())).await;
    }

    /// Checks that every event was acknowledged and arrived and nothing else did, and tells how many requests were
    /// more than one for an event.
    pub(crate) fn against(&self, receiver: &Receiver) -> usize {
        let times = receiver.times();
        let events = self.events.load(Ordering::SeqCst);
        let acknowledged = self.acknowledged.lock().unwrap();
        assert_eq!(acknowledged.len(), events, "acknowledged");
        let lost: Vec<_> = acknowledged.keys().filter(|id| !times.contains_key(*id)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert_eq!(times.len(), events, "events that nobody published, or published twice");
        times.values().map(|times| times - 1).sum()
    }
}

fn key(n: usize) -> String {
    format!("event-{n}")
}

pub(crate) async fn finish<T: 'static>(mut tasks: JoinSet<T>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a publisher does not panic");
    }
}
