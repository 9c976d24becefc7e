//! Many callers at once.

use futures::future::{join, join_all};
use webhook_core::id::Token;
use webhook_core::model::{Event, Outcome, Subscription};
use webhook_core::store::{Changed, Inserted, Recorded};

use crate::StoreFixture;
use crate::sample::{Desk, event, result, subscription};

const CALLERS: usize = 8;

/// Promise 11.
pub async fn concurrent_publishes_with_one_key_store_one_event<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let mut inserts = Vec::new();
    for _ in 0..CALLERS {
        let event = Event { idempotency_key: Some("k".to_owned()), ..event() };
        inserts.push(desk.matched(event, std::slice::from_ref(&subscription)).await);
    }
    let answers = join_all(inserts.iter().map(|insert| desk.insert(insert))).await;
    let stored: Vec<usize> =
        (0..CALLERS).filter(|index| matches!(answers[*index], Inserted::Stored { .. })).collect();
    let [winner] = stored.as_slice() else { panic!("one is stored: {answers:?}") };
    let id = inserts[*winner].event.id;
    let same = |answer: &&Inserted| matches!(answer, Inserted::Duplicate(found) if found.event_id == id);
    assert_eq!(answers.iter().filter(same).count(), CALLERS - 1);
}

/// The fence of `record`.
pub async fn concurrent_results_on_one_revision_apply_once<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let loaded = desk.load(id).await;
    let records: Vec<_> = (0..CALLERS).map(|_| result(id, &loaded, Outcome::Failed, Token::new())).collect();
    let answers = join_all(records.iter().map(|record| desk.record(record))).await;
    let applied = answers.iter().filter(|answer| matches!(answer, Recorded::Applied { .. })).count();
    let stale = answers.iter().filter(|answer| matches!(answer, Recorded::Stale { .. })).count();
    assert_eq!((applied, stale), (1, CALLERS - 1));
    assert_eq!(desk.attempts(id).await.len(), 1);
}

/// Promise 10: a publish that was stored after a subscription was created knew it.
pub async fn a_publish_never_misses_a_subscription_created_before_it<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    for _ in 0..CALLERS {
        let insert = desk.matched(event(), &[]).await;
        let (before, new) = (insert.config_version, subscription());
        let (created, inserted) = join(desk.create(&new), desk.insert(&insert)).await;
        assert_eq!(desk.version(&created.tenant).await, before + 1);
        // Whichever came first: afterwards the outdated version is refused.
        let again = desk.matched(event(), &[]).await;
        let stale = webhook_core::store::Insert { config_version: before, ..again };
        assert_eq!(desk.insert(&stale).await, Inserted::Outdated);
        assert!(matches!(inserted, Inserted::Stored { .. } | Inserted::Outdated));
    }
}

/// Of those who expect one version, one changes it.
pub async fn concurrent_updates_of_one_version_apply_once<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let created = desk.subscribe().await;
    let update = |index: usize| {
        let change = Subscription { description: Some(index.to_string()), ..(*created).clone() };
        let store = &desk.store;
        async move { store.update(&change, 1).await.unwrap() }
    };
    let answers = join_all((0..CALLERS).map(update)).await;
    let done = answers.iter().filter(|answer| matches!(answer, Changed::Done(_))).count();
    let refused = answers.iter().filter(|answer| **answer == Changed::VersionMismatch { current: 2 }).count();
    assert_eq!((done, refused), (1, CALLERS - 1));
    assert_eq!(desk.version(&created.tenant).await, 2);
}

/// Promise 12: one head, however many publish and finish at once.
pub async fn concurrent_publishes_of_a_key_make_one_head<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let mut ids = join_all((0..CALLERS).map(|_| desk.publish(&subscription))).await;
    while !ids.is_empty() {
        let mut heads = Vec::new();
        for id in &ids {
            if !desk.load(*id).await.waiting {
                heads.push(*id);
            }
        }
        let [head] = heads.as_slice() else { panic!("one head, not {heads:?}") };
        ids.retain(|id| id != head);
        let released = desk.succeed(*head).await;
        assert_eq!(released.len(), usize::from(!ids.is_empty()));
    }
}
