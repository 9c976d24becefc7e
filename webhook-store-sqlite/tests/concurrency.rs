//! Many callers at once, callers that go away, and a random history against a model.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use support::*;
use webhook_core::lane::Effect;
use webhook_core::queue::*;
use webhook_core::stats::Scope;
use webhook_core::store::*;

/// A small generator, so that a failure can be replayed by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Deliveries, jobs and turns are counted as of one moment: with nothing claimed, each delivery has its job.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_unfinished_is_counted_as_of_one_moment() {
    let f = Arc::new(Fixture::new().await);
    let subscription = f.subscribe().await;
    let config = f.config().await;
    let publisher = tokio::spawn({
        let f = Arc::clone(&f);
        async move {
            for _ in 0..150 {
                let batch: Vec<Insert> = (0..4).map(|_| new_insert(&[&subscription], config)).collect();
                f.store.insert(&batch, None).await.unwrap();
            }
        }
    });
    while !publisher.is_finished() {
        for lane in f.store.unfinished(&Scope::All, 10_000).await.unwrap().lanes {
            assert_eq!(lane.due, lane.pending);
        }
    }
    publisher.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_publishers_and_workers_deliver_each_event_once() {
    let f = Arc::new(Fixture::new().await);
    let mut subscriptions = Vec::new();
    for index in 0..6 {
        subscriptions.push(f.subscribe_with(|s| s.ordered = index % 3 == 0).await);
    }
    let config = f.config().await;
    let subscriptions = Arc::new(subscriptions);
    let total = 4 * 15 * 5;
    let mut publishers = Vec::new();
    for publisher in 0..4_usize {
        let (f, subscriptions) = (Arc::clone(&f), Arc::clone(&subscriptions));
        publishers.push(tokio::spawn(async move {
            for round in 0..15 {
                let to = &subscriptions[(publisher + round) % 6];
                let batch: Vec<Insert> = (0..5).map(|_| new_insert(&[to], config)).collect();
                let answers = f.store.insert(&batch, None).await.unwrap();
                assert!(answers.iter().all(|answer| matches!(answer, Inserted::Stored { .. })));
            }
        }));
    }
    let delivered = Arc::new(std::sync::Mutex::new(HashMap::new()));
    let mut workers = Vec::new();
    for _ in 0..4 {
        let (f, delivered) = (Arc::clone(&f), Arc::clone(&delivered));
        workers.push(tokio::spawn(async move {
            loop {
                let leases = f.claim(16).await;
                if leases.is_empty() {
                    if delivered.lock().unwrap().len() == total {
                        return;
                    }
                    f.store.wait(Duration::from_millis(20)).await;
                }
                for lease in &leases {
                    *delivered.lock().unwrap().entry(lease.id).or_insert(0) += 1;
                    assert!(is_applied(&f.succeed(lease).await));
                }
            }
        }));
    }
    for task in publishers.into_iter().chain(workers) {
        tokio::time::timeout(120 * SECOND, task).await.expect("in time").unwrap();
    }
    let delivered = delivered.lock().unwrap().clone();
    assert_eq!(delivered.len(), total);
    assert!(delivered.values().all(|times| *times == 1));
    f.check().await;
}

/// Contract: dropping any future leaves the store as if the call had happened or had not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_nothing_in_between() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let o = f.subscribe_with(|s| s.ordered = true).await;
    let config = f.config().await;
    let mut random = Random(0x5eed);
    let mut held: Vec<Lease> = Vec::new();
    for _ in 0..200 {
        let patience = Duration::from_micros(random.next(600));
        match random.next(4) {
            0 => {
                let batch: Vec<Insert> = (0..3).map(|_| new_insert(&[&s, &o], config)).collect();
                let hand_off = hand_off(4);
                if tokio::time::timeout(patience, f.store.insert(&batch, Some(&hand_off))).await.is_err() {
                    // It may be on its way; a repeat tells what became of it.
                    let again = f.store.insert(&batch, None).await.unwrap();
                    let all = |wanted: fn(&Inserted) -> bool| again.iter().all(wanted);
                    assert!(
                        all(|a| matches!(a, Inserted::Duplicate(_)))
                            || all(|a| matches!(a, Inserted::Stored { .. })),
                        "{again:?}"
                    );
                }
            }
            1 => {
                let claim = claim(5);
                match tokio::time::timeout(patience, f.store.claim(&claim)).await {
                    Ok(leases) => held.extend(leases.unwrap()),
                    // The reply is lost; asking again with the same id gives the leases.
                    Err(_) => held.extend(f.store.claim(&claim).await.unwrap()),
                }
            }
            2 if !held.is_empty() => {
                let lease = held.swap_remove(0);
                let loaded = f.load(&lease).await;
                let record = result(&loaded, &lease, &success(), Effect::Fast);
                let recording = f.store.record(std::slice::from_ref(&record));
                if tokio::time::timeout(patience, recording).await.is_err() {
                    let again = f.store.record(&[record]).await.unwrap();
                    assert!(is_applied(&again[0]), "{again:?}");
                }
            }
            _ => {
                let leases: Vec<_> = held.iter().map(|lease| (lease.id, lease.token)).collect();
                let _ = tokio::time::timeout(patience, f.store.extend(&leases, LEASE)).await;
            }
        }
    }
    f.store.ping().await.unwrap();
    f.check().await;
}

/// What the model knows of a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Open,
    Finished,
}

/// A random history: after every step the invariants hold, and in the end everything that was stored is
/// delivered, each delivery by its turn (promises 2, 4 and 12).
async fn random_history(seed: u64, steps: u32) {
    let f = Fixture::new().await;
    let mut f = f;
    let mut random = Random(seed | 1);
    let mut subscriptions = Vec::new();
    for index in 0..5 {
        let rate = (index == 4).then_some(webhook_core::model::RateLimit { requests: 50, per: SECOND });
        let one = f.subscribe_with(|s| {
            s.ordered = index < 2;
            s.rate_limit = rate;
        });
        subscriptions.push(one.await);
    }
    let mut stages: HashMap<webhook_core::id::DeliveryId, Stage> = HashMap::new();
    let mut held: Vec<Lease> = Vec::new();
    for _ in 0..steps {
        f.clock.advance(Duration::from_millis(random.next(3000)));
        match random.next(12) {
            0..=2 => {
                let config = f.config().await;
                let hand_off =
                    (random.next(2) == 0).then(|| hand_off(u32::try_from(random.next(6)).unwrap()));
                let batch: Vec<Insert> = (0..1 + random.next(6))
                    .map(|_| {
                        let to: Vec<_> = subscriptions.iter().filter(|_| random.next(3) == 0).collect();
                        let mut event = event();
                        event.ordering_key = (random.next(2) == 0).then(|| "k".to_owned());
                        insert_of(event, &to, config)
                    })
                    .collect();
                let answers = f.store.insert(&batch, hand_off.as_ref()).await.unwrap();
                for (insert, answer) in batch.iter().zip(answers) {
                    let Inserted::Stored { leases, .. } = answer else { panic!("{answer:?}") };
                    held.extend(leases);
                    stages.extend(insert.deliveries.iter().map(|d| (d.id, Stage::Open)));
                }
            }
            3..=4 => held.extend(f.claim(u32::try_from(1 + random.next(8)).unwrap()).await),
            5..=8 if !held.is_empty() => {
                let mut records = Vec::new();
                for _ in 0..1 + random.next(4) {
                    if held.is_empty() {
                        break;
                    }
                    let at = usize::try_from(random.next(held.len() as u64)).unwrap();
                    let lease = held.swap_remove(at);
                    let loaded = f.load(&lease).await;
                    let (ending, effect) = match random.next(4) {
                        0 => (failure(), Effect::Unanswered),
                        1 => (failure(), Effect::Slow),
                        _ => (success(), Effect::Fast),
                    };
                    let mut record = result(&loaded, &lease, &ending, effect);
                    if !loaded.unrecorded.is_empty() {
                        record.attempts[0].trigger = webhook_core::model::Trigger::Schedule;
                    }
                    records.push(record);
                }
                let answers = f.store.record(&records).await.unwrap();
                for (record, answer) in records.iter().zip(answers) {
                    if is_applied(&answer) && record.state.status.is_finished() {
                        stages.insert(record.id, Stage::Finished);
                    }
                }
            }
            9 if !held.is_empty() => {
                let lease = held.swap_remove(0);
                f.store.settle(&[settle(&lease, Verdict::Release, Effect::Neutral)]).await.unwrap();
            }
            10 => {
                let open: Vec<_> =
                    stages.iter().filter(|(_, s)| **s == Stage::Open).map(|(id, _)| *id).collect();
                if let Some(id) = open.first() {
                    let reason = webhook_core::model::StatusReason::CancelledByUser;
                    f.ask(*id, webhook_core::lifecycle::Input::Cancel(reason)).await;
                    stages.insert(*id, Stage::Finished);
                }
            }
            _ if random.next(6) == 0 => {
                f = f.reopen().await;
                held.clear();
            }
            _ => f.clock.advance(LEASE),
        }
        f.check().await;
    }
    // Healing: everything that is open is delivered.
    let mut quiet = 0;
    while quiet < 60 {
        f.clock.advance(40 * SECOND);
        let leases = f.claim(64).await;
        quiet = if leases.is_empty() { quiet + 1 } else { 0 };
        let mut keys = HashSet::new();
        for lease in &leases {
            let loaded = f.load(lease).await;
            assert!(!loaded.waiting);
            let subscription = subscriptions.iter().find(|s| s.id == lease.lane).unwrap();
            if subscription.ordered {
                assert!(
                    keys.insert((lease.lane, loaded.event.ordering_key.clone())),
                    "two of one key at once"
                );
            }
        }
        for lease in &leases {
            let loaded = f.load(lease).await;
            let record = result(&loaded, lease, &success(), Effect::Fast);
            assert!(is_applied(&f.store.record(&[record]).await.unwrap()[0]));
            stages.insert(lease.id, Stage::Finished);
        }
    }
    f.check().await;
    let open: Vec<_> = stages.iter().filter(|(_, stage)| **stage == Stage::Open).collect();
    assert!(open.is_empty(), "seed {seed}: {} were never delivered", open.len());
    assert_eq!((f.count("jobs").await, f.count("turns").await), (0, 0));
    while f.store.prune(Duration::ZERO, 100).await.unwrap() > 0 {}
    f.clock.advance(SECOND);
    while f.store.prune(Duration::ZERO, 100).await.unwrap() > 0 {}
    assert_eq!((f.count("events").await, f.count("deliveries").await, f.count("attempts").await), (0, 0, 0));
}

#[tokio::test]
async fn random_histories_keep_the_invariants_and_end_with_everything_delivered() {
    for seed in 1..=8 {
        random_history(seed * 0x9e37_79b9, 120).await;
    }
}
