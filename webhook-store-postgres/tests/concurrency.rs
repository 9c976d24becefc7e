//! Two processes on one database, and everything that may happen at once.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use support::Case;
use support::desk::{
    Desk, check, claim, event, failure, hand_off, insert_of, is_applied, policy, result, subscription,
    success,
};
use webhook_core::id::{DeliveryId, ReplayId, SubscriptionId};
use webhook_core::lifecycle::{Input, step};
use webhook_core::model::{DeliveryStatus, Event, StatusReason, Subscription, Tenant};
use webhook_core::queue::JobQueue as _;
use webhook_core::store::{
    Changed, DeliveryFilter, DeliveryStore as _, Ended, Expire, History as _, Inserted, Load, NewReplay,
    PageRequest, Record, RecordLease, ReplayRecorded, ReplayStore as _, SubscriptionStore as _,
};
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _};

async fn version(store: &PgStore) -> u64 {
    store.snapshot(&Tenant::default()).await.unwrap().version
}

/// Publishes to these until it is told to stop, as if every subscription matched.
async fn publish_to(store: &PgStore, to: &[Arc<Subscription>], batches: usize) -> usize {
    let mut stored = 0;
    for batch in 0..batches {
        let version = version(store).await;
        let inserts: Vec<_> = (0..5)
            .map(|number| {
                let key = (number % 2 == 0).then(|| format!("key {}", batch % 3));
                insert_of(Event { ordering_key: key, ..event() }, &to.iter().collect::<Vec<_>>(), version)
            })
            .collect();
        let to = hand_off(3);
        for answer in store.insert(&inserts, Some(&to)).await.unwrap() {
            stored += usize::from(matches!(answer, Inserted::Stored { .. }));
        }
    }
    stored
}

/// Claims, and records one way or the other.
async fn work(store: &PgStore, rounds: usize) {
    for round in 0..rounds {
        let leases = store.claim(&claim(8)).await.unwrap();
        let wanted: Vec<Load> =
            leases.iter().map(|lease| Load { id: lease.id, unsettled: lease.unsettled.clone() }).collect();
        let loaded = store.load(&wanted).await.unwrap();
        let mut records = Vec::new();
        for (index, (lease, loaded)) in leases.iter().zip(&loaded).enumerate() {
            let Some(loaded) = loaded else { continue };
            let ending = if (round + index) % 3 == 0 { failure() } else { success() };
            if !loaded.state.status.is_finished() {
                records.push(result(lease.id, loaded, Some(lease), &ending));
            }
        }
        store.record(&records).await.unwrap();
    }
}

/// Cancels some of what is listed as unfinished, and reopens some of what is dead.
async fn meddle(store: &PgStore, rounds: usize) {
    for round in 0..rounds {
        let page = PageRequest { before: None, limit: 6 };
        let statuses = if round % 2 == 0 {
            vec![DeliveryStatus::Pending, DeliveryStatus::Retrying]
        } else {
            vec![DeliveryStatus::Exhausted, DeliveryStatus::Cancelled]
        };
        let filter = DeliveryFilter { statuses, ..DeliveryFilter::default() };
        let listed = store.deliveries(&filter, page).await.unwrap().items;
        let wanted: Vec<Load> =
            listed.iter().map(|found| Load { id: found.id, unsettled: Vec::new() }).collect();
        let mut records = Vec::new();
        for (found, loaded) in listed.iter().zip(store.load(&wanted).await.unwrap()) {
            let Some(loaded) = loaded else { continue };
            let input = match (loaded.state.status.is_finished(), round % 4) {
                (false, 0) => Input::Cancel(StatusReason::CancelledByUser),
                (false, _) => Input::Retry { force: false },
                (true, _) => Input::Reopen,
            };
            let Ok(step) = step(&loaded.state, &input, &policy(), 0.5) else { continue };
            records.push(Record {
                id: found.id,
                revision: loaded.state.revision,
                lease: None::<RecordLease>,
                attempts: Vec::new(),
                state: step.state,
                next: step.next,
                new_chain: matches!(input, Input::Reopen).then_some(Duration::from_secs(3600)),
            });
        }
        store.record(&records).await.unwrap();
    }
}

async fn sweep(store: &PgStore, lanes: &[SubscriptionId], rounds: usize) {
    for _ in 0..rounds {
        for lane in lanes {
            store.expire(Expire::Lane(*lane), 10).await.unwrap();
        }
        store.expire(Expire::OlderThan(Duration::from_millis(300)), 5).await.unwrap();
        store.prune(Duration::from_millis(200), 20).await.unwrap();
        store.cancel_deleted(50).await.unwrap();
    }
}

/// Promises 4, 5, 7, 10 and 12, under everything at once from two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_torn_when_everything_happens_at_once() {
    let Some(case) = Case::create_or_skip("everything at once").await else { return };
    let stores = [case.open().await, case.open().await];
    let mut to = Vec::new();
    for ordered in [false, true, true] {
        to.push(stores[0].create(&Subscription { ordered, ..subscription() }).await.unwrap());
    }
    let doomed = stores[0].create(&Subscription { ordered: true, ..subscription() }).await.unwrap();
    let all: Vec<_> = to.iter().cloned().chain([doomed.clone()]).collect();
    let lanes: Vec<SubscriptionId> = to.iter().map(|one| one.id).collect();

    let mut tasks = Vec::new();
    for store in &stores {
        let (a, b, c, d) = (store.clone(), store.clone(), store.clone(), store.clone());
        let (all, lanes) = (all.clone(), lanes.clone());
        tasks.push(tokio::spawn(async move {
            publish_to(&a, &all, 20).await;
        }));
        tasks.push(tokio::spawn(async move {
            work(&b, 60).await;
        }));
        tasks.push(tokio::spawn(async move {
            meddle(&c, 30).await;
        }));
        tasks.push(tokio::spawn(async move {
            sweep(&d, &lanes, 12).await;
        }));
    }
    let (store, id) = (stores[1].clone(), doomed.id);
    tasks.push(tokio::spawn(async move {
        tokio::task::yield_now().await;
        let gone = store.delete(&Tenant::default(), id, None).await.unwrap();
        assert!(matches!(gone, Changed::Done(_)));
    }));
    try_join_all(tasks).await.unwrap();

    while Ended::total(&stores[0].cancel_deleted(100).await.unwrap()) > 0 {}
    // Wakes that were left are folded in.
    stores[0].claim(&claim(0)).await.unwrap();
    check(&case).await;
    case.clean_up().await;
}

/// Promise 10, and what a deletion owes: a publish that was under way when its subscription was deleted leaves
/// nothing behind that nobody would cancel.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_publish_beside_a_deletion_leaves_nothing_unfinished() {
    let Some(case) = Case::create_or_skip("a deletion").await else { return };
    let (one, other) = (case.open().await, case.open().await);
    for _ in 0..20 {
        let doomed = one.create(&subscription()).await.unwrap();
        let version = version(&one).await;
        let inserts: Vec<_> = (0..4).map(|_| insert_of(event(), &[&doomed], version)).collect();
        let publishing = async {
            for insert in &inserts {
                one.insert(std::slice::from_ref(insert), None).await.unwrap();
            }
        };
        let deleting = async {
            other.delete(&Tenant::default(), doomed.id, None).await.unwrap();
            while Ended::total(&other.cancel_deleted(100).await.unwrap()) > 0 {}
        };
        futures::future::join(publishing, deleting).await;
        check(&case).await;
    }
    case.clean_up().await;
}

/// Promise 11, across processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_in_two_processes_stores_one_event() {
    let Some(case) = Case::create_or_skip("keys").await else { return };
    let stores = [case.open().await, case.open().await];
    let subscription = stores[0].create(&subscription()).await.unwrap();
    for round in 0..20 {
        let publish = |store: PgStore| {
            let event = Event { idempotency_key: Some(format!("k{round}")), ..event() };
            let insert = insert_of(event, &[&subscription], 1);
            async move { store.insert(&[insert], None).await.unwrap().remove(0) }
        };
        let calls = (0..6).map(|number| publish(stores[number % 2].clone()));
        let answers = join_all(calls).await;
        let stored = answers.iter().filter(|answer| matches!(answer, Inserted::Stored { .. })).count();
        let known = answers.iter().filter(|answer| matches!(answer, Inserted::Duplicate(_))).count();
        assert_eq!((stored, known), (1, 5), "{answers:?}");
    }
    case.clean_up().await;
}

/// An id is there once; of another tenant's event nothing is told.
#[tokio::test]
async fn an_id_of_another_tenants_event_is_refused() {
    let Some(case) = Case::create_or_skip("ids").await else { return };
    let desk = Desk::new(case.open().await).await;
    let first = insert_of(event(), &[&desk.subscription], 1);
    desk.store.insert(std::slice::from_ref(&first), None).await.unwrap();
    let theirs = Event { tenant: "acme".parse().unwrap(), ..(*first.event).clone() };
    let answer = desk.store.insert(&[insert_of(theirs, &[], 0)], None).await.unwrap();
    assert_eq!(answer, [Inserted::KeyReused]);
    case.clean_up().await;
}

/// Two processes work on one replay, and each delivery is reopened once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_do_a_page_of_a_replay_once() {
    let Some(case) = Case::create_or_skip("replays").await else { return };
    let desk = Desk::new(case.open().await).await;
    let other = case.open().await;
    let ids: Vec<DeliveryId> = desk.publish(30).await;
    assert!(desk.record(&ids, &success()).await.iter().all(is_applied));
    let filter = DeliveryFilter { statuses: vec![DeliveryStatus::Succeeded], ..DeliveryFilter::default() };
    let replay = NewReplay { id: ReplayId::new(), tenant: Tenant::default(), filter };
    desk.store.replay_start(&replay).await.unwrap();
    let reopened = join_all([&desk.store, &other].map(work_off)).await;
    assert_eq!(reopened.iter().sum::<usize>(), 30);
    check(&case).await;
    case.clean_up().await;
}

async fn work_off(store: &PgStore) -> usize {
    let mut done = 0;
    while let Some(page) = store.replay_next(7).await.unwrap() {
        let record = |(id, _, state): &(DeliveryId, SubscriptionId, _)| {
            let step = step(state, &Input::Reopen, &policy(), 0.5).unwrap();
            Record {
                id: *id,
                revision: state.revision,
                lease: None,
                attempts: Vec::new(),
                state: step.state,
                next: step.next,
                new_chain: Some(Duration::from_secs(3600)),
            }
        };
        let records: Vec<Record> = page.deliveries.iter().map(record).collect();
        let last = page.deliveries.last().map(|(id, ..)| *id);
        let moved = store.replay_record(page.id, page.after, last, &records).await.unwrap();
        if let ReplayRecorded::Applied { reopened } = moved {
            done += reopened.len();
        }
    }
    done
}

/// Two batches that name the same keys, or ids, in other orders wait for each other only one way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_ids_of_a_batch_are_taken_in_their_order() {
    let Some(case) = Case::create_or_skip("sorted keys").await else { return };
    let desk = Desk::new(case.open().await).await;
    let (low, high) = (event(), event());
    assert!(low.id < high.id);
    let keyed = |event: &Event, key: &str| Event { idempotency_key: Some(key.to_owned()), ..event.clone() };
    let insert_key = "INSERT INTO keys (tenant, key, fingerprint, event, delivery_count, expires_at)
        SELECT 'default', $1, '', gen_random_uuid(), 0, now() + interval '1 hour'";
    let insert_id = "INSERT INTO events (id, tenant, event_type, content_type, created_at, delivery_count,
        payload_size, payload) SELECT $1::uuid, 'default', 'a', 'b', now(), 0, 0, ''";
    let batches = [
        (insert_key, ["k1".to_owned(), "k2".to_owned()], [keyed(&event(), "k2"), keyed(&event(), "k1")]),
        (insert_id, [low.id.as_uuid().to_string(), high.id.as_uuid().to_string()], [high, low]),
    ];
    for (sql, taken, events) in batches {
        let mut holder = case.connect().await;
        let begin = format!("SET search_path = {}; SET lock_timeout = 100; BEGIN", case.schema);
        holder.execute(begin.as_str()).await.unwrap();
        let sql = sql.replace("$1", "$1::text");
        sqlx::query(&sql).bind(&taken[0]).execute(&mut holder).await.unwrap();
        let inserts = events.map(|event| insert_of(event, &[&desk.subscription], 1));
        let store = desk.store.clone();
        let inserting = tokio::spawn(async move { store.insert(&inserts, None).await.unwrap() });
        case.wait_until_blocked_by(&mut holder).await;
        // The batch waits for the first and has not got the second yet.
        sqlx::query(&sql).bind(&taken[1]).execute(&mut holder).await.unwrap();
        holder.execute("ROLLBACK").await.unwrap();
        let answers = inserting.await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Inserted::Stored { .. })), "{answers:?}");
        holder.close().await.unwrap();
    }
    case.clean_up().await;
}

/// A forced attempt that was asked for while its subscription was being deleted is taken back, and what it
/// belongs to can be pruned.
#[tokio::test]
async fn a_forced_attempt_of_a_deleted_subscription_is_taken_back() {
    let Some(case) = Case::create_or_skip("a forced attempt").await else { return };
    let desk = Desk::new(case.open().await).await;
    let ids = desk.publish(1).await;
    assert!(desk.record(&ids, &success()).await.iter().all(is_applied));
    let loaded = desk.load(&ids).await.remove(0);
    desk.store.delete(&Tenant::default(), desk.subscription.id, None).await.unwrap();
    while Ended::total(&desk.store.cancel_deleted(100).await.unwrap()) > 0 {}

    let step = step(&loaded.state, &Input::Retry { force: true }, &policy(), 0.5).unwrap();
    assert!(step.state.request.is_some());
    let asked = Record {
        id: ids[0],
        revision: loaded.state.revision,
        lease: None,
        attempts: Vec::new(),
        state: step.state,
        next: step.next,
        new_chain: None,
    };
    assert!(is_applied(&desk.store.record(&[asked]).await.unwrap()[0]));
    desk.store.cancel_deleted(100).await.unwrap();
    assert_eq!(desk.load(&ids).await[0].state.request, None);
    check(&case).await;
    assert_eq!(desk.store.prune(Duration::ZERO, 10).await.unwrap(), 1);
    case.clean_up().await;
}
