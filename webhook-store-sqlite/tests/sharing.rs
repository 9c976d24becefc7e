//! Calls that wait for the writer together share one commit, and one another's fate only where SQLite gives them no
//! other.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::path::Path;

use support::*;
use webhook_core::error::BackendErrorKind;
use webhook_core::queue::*;
use webhook_core::store::*;

/// The commits in a write-ahead log: frames that name the size of the database after them
/// (<https://sqlite.org/fileformat2.html#the_write_ahead_log>).
fn commits(database: &Path) -> usize {
    let log = std::fs::read(database.with_extension("db-wal")).unwrap();
    let page_size = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let salt = &log[16..24];
    let frames = log[32..].chunks_exact(24 + page_size);
    frames.filter(|frame| frame[4..8] != [0; 4] && &frame[8..16] == salt).count()
}

fn leases(inserted: &[Inserted]) -> &[Lease] {
    let [Inserted::Stored { leases, .. }] = inserted else { panic!("{inserted:?}") };
    leases
}

/// The writer may commit the first before the others have been sent, on a machine that is busy; not every time.
#[tokio::test]
async fn calls_that_come_together_share_a_commit() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let mut least = usize::MAX;
    for _ in 0..50 {
        let published = f.publish(&[&s], Some(&hand_off(8))).await;
        let loaded = f.load(&published.leases[0]).await;
        let result = [result(&loaded, &published.leases[0], &success(), webhook_core::lane::Effect::Fast)];
        let (one, other) = ([new_insert(&[&s], f.config().await)], [new_insert(&[&s], f.config().await)]);
        let before = commits(&f.path);
        let (recorded, one, other) =
            tokio::join!(f.store.record(&result), f.store.insert(&one, None), f.store.insert(&other, None));
        assert!(is_applied(&recorded.unwrap()[0]));
        assert!(leases(&one.unwrap()).is_empty() && leases(&other.unwrap()).is_empty());
        least = least.min(commits(&f.path) - before);
        for lease in f.claim(8).await {
            assert!(is_applied(&f.succeed(&lease).await));
        }
        if least == 1 {
            break;
        }
    }
    assert_eq!(least, 1);
    f.check().await;
}

#[tokio::test]
async fn of_calls_that_share_a_commit_one_that_fails_is_undone_alone() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let config = f.config().await;
    let (one, other) = ([new_insert(&[&s], config)], [new_insert(&[&s], config)]);
    let mut wrong = [new_insert(&[&s], config)];
    // Ids are drawn by core and never repeat.
    wrong[0].deliveries[0].id = one[0].deliveries[0].id;
    let (first, second, third) = (hand_off(8), hand_off(8), hand_off(8));
    let (one, wrong, other) = tokio::join!(
        f.store.insert(&one, Some(&first)),
        f.store.insert(&wrong, Some(&second)),
        f.store.insert(&other, Some(&third)),
    );
    assert_eq!(wrong.unwrap_err().kind(), BackendErrorKind::Internal);
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((leases(&one)[0].token, leases(&other)[0].token), (first.token, third.token));
    assert_eq!(f.count("events").await, 2);
    assert_eq!(f.lane(s.id).await.in_flight, 2, "what the failed call took from the lane is given back");
    for lease in [&leases(&one)[0], &leases(&other)[0]] {
        assert!(is_applied(&f.succeed(lease).await));
    }
    f.check().await;
}

#[tokio::test]
async fn a_call_sees_what_those_before_it_in_the_commit_did() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let insert = [new_insert(&[&s], f.config().await)];
    let (first, repeat) = tokio::join!(f.store.insert(&insert, None), f.store.insert(&insert, None));
    assert!(matches!(first.unwrap()[..], [Inserted::Stored { .. }]));
    assert!(matches!(repeat.unwrap()[..], [Inserted::Duplicate(_)]));
    let claim = claim(8);
    let (leases, again) = tokio::join!(f.store.claim(&claim), f.store.claim(&claim));
    assert_eq!(leases.unwrap(), again.unwrap());
    assert_eq!(f.lane(s.id).await.in_flight, 1);
    f.check().await;
}

/// SQLite may give up the whole transaction when it is full, and need not.
#[tokio::test]
async fn on_a_full_disk_exactly_what_was_answered_is_stored() {
    let f = Fixture::with(|options| options.max_page_count(120)).await;
    let s = f.proven().await;
    let config = f.config().await;
    let insert = |bytes: usize| {
        let mut event = event();
        event.payload = vec![b'1'; bytes].into();
        [insert_of(event, &[&s], config)]
    };
    let (small, large, last) = (insert(100), insert(1024 * 1024), insert(100));
    let (first, second, third) = (hand_off(8), hand_off(8), hand_off(8));
    let (small, large, last) = tokio::join!(
        f.store.insert(&small, Some(&first)),
        f.store.insert(&large, Some(&second)),
        f.store.insert(&last, Some(&third)),
    );
    assert_eq!(large.unwrap_err().kind(), BackendErrorKind::Full);
    let answers = [small, last];
    for answer in &answers {
        assert!(answer.as_ref().is_ok_and(|stored| leases(stored).len() == 1) || answer.as_ref().is_err());
    }
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(f.count("events").await, i64::try_from(stored).unwrap());
    assert_eq!(f.lane(s.id).await.in_flight as usize, stored);
    f.check().await;
}
