//! Reopening many deliveries, once each.

use std::collections::BTreeSet;
use std::sync::Arc;

use webhook_core::id::{DeliveryId, ReplayId};
use webhook_core::lifecycle::Input;
use webhook_core::model::{DeliveryStatus, Event, StatusReason, Subscription, Tenant};
use webhook_core::store::{DeliveryFilter, Matched, NewReplay, Record, Replay, ReplayPage, ReplayRecorded};

use crate::sample::{Desk, asked, event, subscription, tenant};
use crate::{Fixture, StoreFixture};

fn cancelled() -> DeliveryFilter {
    let (tenant, statuses) = (Some(Tenant::default()), vec![DeliveryStatus::Cancelled]);
    DeliveryFilter { tenant, statuses, ..DeliveryFilter::default() }
}

fn exactly(matched: u64) -> Matched {
    Matched { matched, more: false }
}

/// Publishes and cancels so many. Their ids in order.
async fn ended<F: StoreFixture>(
    desk: &Desk<'_, F>,
    subscription: &Arc<Subscription>,
    count: usize,
) -> Vec<DeliveryId> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        ids.insert(desk.publish(subscription).await);
    }
    for id in ids.iter().rev() {
        desk.cancel(*id).await;
    }
    ids.into_iter().collect()
}

async fn start<F: StoreFixture>(desk: &Desk<'_, F>) -> Replay {
    let new = NewReplay { id: ReplayId::new(), tenant: Tenant::default(), filter: cancelled() };
    desk.store.replay_start(&new).await.unwrap()
}

async fn progress<F: StoreFixture>(desk: &Desk<'_, F>, id: ReplayId) -> Replay {
    desk.store.replay(&Tenant::default(), id).await.unwrap().expect("it is stored")
}

async fn next<F: StoreFixture>(desk: &Desk<'_, F>, limit: u32) -> ReplayPage {
    let page = desk.store.replay_next(limit).await.unwrap().expect("one runs");
    assert!(page.deliveries.len() <= limit as usize);
    assert!(page.deliveries.iter().all(|(id, ..)| page.after.is_none_or(|after| after < *id)));
    assert!(page.deliveries.windows(2).all(|pair| pair[0].0 < pair[1].0));
    page
}

fn records(page: &ReplayPage) -> Vec<Record> {
    page.deliveries.iter().map(|(id, _, state)| asked(*id, state, &Input::Reopen)).collect()
}

async fn record<F: StoreFixture>(desk: &Desk<'_, F>, page: &ReplayPage) -> ReplayRecorded {
    let last = page.deliveries.last().map(|(id, ..)| *id);
    desk.store.replay_record(page.id, page.after, last, &records(page)).await.unwrap()
}

/// Works off everything that runs. The deliveries that were told as reopened.
async fn work<F: StoreFixture>(desk: &Desk<'_, F>, limit: u32) -> Vec<DeliveryId> {
    let mut told = Vec::new();
    while desk.store.replay_next(1).await.unwrap().is_some() {
        let page = next(desk, limit).await;
        let ReplayRecorded::Applied { reopened } = record(desk, &page).await else {
            panic!("nobody else works at it")
        };
        told.extend(reopened.into_iter().map(|(id, _)| id));
    }
    told
}

/// Finished ones by every filter, but for those of deleted subscriptions; counting changes nothing.
pub async fn a_replay_counts_what_matches<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (first, second, deleted) = (desk.subscribe().await, desk.subscribe().await, desk.subscribe().await);
    let theirs = desk.create(&Subscription { tenant: tenant("other"), ..subscription() }).await;
    for (subscription, count) in [(&first, 3), (&second, 2), (&deleted, 1), (&theirs, 1)] {
        ended(&desk, subscription, count).await;
    }
    let succeeded = desk.publish(&first).await;
    desk.succeed(succeeded).await;
    desk.publish(&first).await;
    let typed = Event { event_type: "user.created".parse().unwrap(), ..event() };
    let typed = desk.publish_event(typed, std::slice::from_ref(&first)).await.deliveries[0];
    desk.cancel(typed).await;
    desk.store.delete(&deleted.tenant, deleted.id, None).await.unwrap();

    let created = desk.delivery(typed).await.created_at;
    let cases = [
        (cancelled(), 6),
        (DeliveryFilter { subscription_id: Some(second.id), ..cancelled() }, 2),
        (DeliveryFilter { event_type: Some("user.created".parse().unwrap()), ..cancelled() }, 1),
        (DeliveryFilter { tenant: Some(tenant("other")), ..cancelled() }, 1),
        (DeliveryFilter { statuses: vec![DeliveryStatus::Succeeded], ..cancelled() }, 1),
        (DeliveryFilter { statuses: vec![DeliveryStatus::Exhausted], ..cancelled() }, 0),
        (DeliveryFilter { until: Some(created.after(<F as Fixture>::UNIT * 600)), ..cancelled() }, 6),
        (DeliveryFilter { since: Some(created.after(<F as Fixture>::UNIT * 600)), ..cancelled() }, 0),
    ];
    for (filter, count) in cases {
        assert_eq!(desk.store.replay_count(&filter).await.unwrap(), exactly(count), "{filter:?}");
    }
    assert_eq!(desk.store.replay_next(10).await.unwrap(), None, "nothing was started");
    assert_eq!(desk.status(typed).await, DeliveryStatus::Cancelled);
    let replay = start(&desk).await;
    assert_eq!((replay.matched, replay.done, replay.finished), (exactly(6), 0, false));
    assert_eq!(work(&desk, 4).await.len(), 6);
}

/// A lost reply.
pub async fn starting_again_returns_what_is_stored<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    ended(&desk, &subscription, 2).await;
    let new = NewReplay { id: ReplayId::new(), tenant: Tenant::default(), filter: cancelled() };
    let first = desk.store.replay_start(&new).await.unwrap();
    record(&desk, &next(&desk, 1).await).await;
    let again = desk.store.replay_start(&new).await.unwrap();
    assert_eq!((first.id, first.done), (new.id, 0));
    assert_eq!(again, Replay { done: 1, ..first });
    assert_eq!(work(&desk, 10).await.len(), 1);
}

/// In pages, by committed steps, and it says when it is done.
pub async fn a_replay_reopens_each_match_once<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let ids = ended(&desk, &subscription, 5).await;
    let other = desk.publish(&subscription).await;
    desk.succeed(other).await;
    let replay = start(&desk).await;
    let mut done = Vec::new();
    for size in [2, 2, 1, 0] {
        let page = next(&desk, 2).await;
        let shown: Vec<DeliveryId> = page.deliveries.iter().map(|(id, ..)| *id).collect();
        assert_eq!((page.id, page.after, shown.len()), (replay.id, done.last().copied(), size));
        for (id, lane, state) in &page.deliveries {
            assert_eq!((*lane, state), (subscription.id, &desk.load(*id).await.state));
        }
        let reopened = shown.iter().map(|id| (*id, subscription.id)).collect();
        assert_eq!(record(&desk, &page).await, ReplayRecorded::Applied { reopened });
        done.extend(shown);
        let now = progress(&desk, replay.id).await;
        assert_eq!((now.done, now.finished), (done.len() as u64, size == 0));
    }
    assert_eq!(done, ids);
    assert_eq!(desk.store.replay_next(2).await.unwrap(), None);
    assert_eq!(progress(&desk, replay.id).await.matched, exactly(5));
    for id in &ids {
        let loaded = desk.load(*id).await;
        let (status, chain) = (loaded.state.status, loaded.state.chain);
        assert_eq!((status, chain, loaded.due_in.is_zero()), (DeliveryStatus::Pending, 1, true));
        assert_eq!(desk.delivery(*id).await.finished_at, None);
    }
    assert_eq!(desk.status(other).await, DeliveryStatus::Succeeded);
    if desk.owes_a_queue() {
        let owed: Vec<_> = desk.owed().await.iter().map(|owed| owed.id).collect();
        assert_eq!(owed, ids);
    }
}

/// The fence: whoever comes second with a page changes nothing, even if its deliveries could be reopened once
/// more.
pub async fn a_page_is_done_once<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let ids = ended(&desk, &subscription, 3).await;
    let replay = start(&desk).await;
    let page = next(&desk, 2).await;
    assert!(matches!(record(&desk, &page).await, ReplayRecorded::Applied { .. }));
    assert_eq!(record(&desk, &page).await, ReplayRecorded::Stale, "a repeat");
    desk.cancel(ids[0]).await;
    let mut fresh = page.clone();
    fresh.deliveries[0].2 = desk.load(ids[0]).await.state;
    fresh.deliveries.truncate(1);
    assert_eq!(record(&desk, &fresh).await, ReplayRecorded::Stale, "another worker's");
    assert_eq!(desk.status(ids[0]).await, DeliveryStatus::Cancelled);
    let now = progress(&desk, replay.id).await;
    assert_eq!((now.done, now.finished), (2, false));
    assert_eq!(next(&desk, 2).await.deliveries.len(), 1, "it has not moved back");

    work(&desk, 2).await;
    let end = ReplayPage { id: replay.id, after: ids.last().copied(), deliveries: Vec::new() };
    assert_eq!(record(&desk, &end).await, ReplayRecorded::Stale, "it is finished");
    let unknown = ReplayPage { id: ReplayId::new(), after: None, deliveries: fresh.deliveries };
    assert_eq!(record(&desk, &unknown).await, ReplayRecorded::Stale, "there is none");
    assert_eq!(desk.status(ids[0]).await, DeliveryStatus::Cancelled);
    assert_eq!(progress(&desk, replay.id).await.done, 3);
}

/// By the rules of a result: on the revision that was seen.
pub async fn what_has_moved_on_is_left_alone<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let ids = ended(&desk, &subscription, 2).await;
    let replay = start(&desk).await;
    let page = next(&desk, 10).await;
    desk.ask(ids[0], &Input::Reopen).await;
    desk.cancel(ids[0]).await;
    let before = desk.load(ids[0]).await;
    let reopened = vec![(ids[1], subscription.id)];
    assert_eq!(record(&desk, &page).await, ReplayRecorded::Applied { reopened });
    assert_eq!(desk.load(ids[0]).await, before);
    assert_eq!(work(&desk, 10).await, [], "it goes on behind them");
    assert_eq!(progress(&desk, replay.id).await.done, 1);
}

/// Nor what does not match any more.
pub async fn what_comes_after_the_start_is_no_part_of_it<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (kept, deleted) = (desk.subscribe().await, desk.subscribe().await);
    let ids = ended(&desk, &kept, 2).await;
    let gone = ended(&desk, &deleted, 1).await;
    let replay = start(&desk).await;
    assert_eq!(replay.matched, exactly(3));
    let later = ended(&desk, &kept, 2).await;
    desk.ask(ids[0], &Input::Reopen).await;
    desk.store.delete(&deleted.tenant, deleted.id, None).await.unwrap();
    assert_eq!(work(&desk, 10).await, ids[1..]);
    for id in gone.into_iter().chain(later) {
        assert_eq!(desk.status(id).await, DeliveryStatus::Cancelled);
    }
    assert_eq!(desk.load(ids[0]).await.state.chain, 1);
}

/// Promise 12: only the head of each key is told, and the others follow by their numbers.
pub async fn replayed_deliveries_wait_for_their_turn<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe_ordered().await;
    let ids = ended(&desk, &subscription, 3).await;
    start(&desk).await;
    assert_eq!(work(&desk, 2).await, ids[..1]);
    for pair in ids.windows(2) {
        assert!(desk.load(pair[1]).await.waiting);
        assert_eq!(desk.succeed(pair[0]).await, pair[1..]);
    }
}

/// One after another, and each tenant sees its own.
pub async fn the_oldest_replay_is_worked_off_first<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let theirs = desk.create(&Subscription { tenant: tenant("other"), ..subscription() }).await;
    let ours = desk.subscribe().await;
    ended(&desk, &ours, 1).await;
    let other = ended(&desk, &theirs, 1).await;
    let first = start(&desk).await;
    let filter = DeliveryFilter { tenant: Some(theirs.tenant.clone()), ..cancelled() };
    let second = NewReplay { id: ReplayId::new(), tenant: theirs.tenant.clone(), filter };
    desk.store.replay_start(&second).await.unwrap();
    for expected in [first.id, first.id, second.id, second.id] {
        let page = next(&desk, 10).await;
        assert_eq!(page.id, expected);
        record(&desk, &page).await;
    }
    assert_eq!(desk.store.replay_next(10).await.unwrap(), None);
    assert_eq!(desk.load(other[0]).await.state.reason, None::<StatusReason>);
    assert_eq!(desk.store.replay(&Tenant::default(), second.id).await.unwrap(), None);
    assert!(desk.store.replay(&theirs.tenant, second.id).await.unwrap().is_some_and(|seen| seen.finished));
    assert_eq!(desk.store.replay(&theirs.tenant, ReplayId::new()).await.unwrap(), None);
}

/// Counted from its end; one that runs stays, however old it is.
pub async fn a_finished_replay_leaves_after_the_retention<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    ended(&desk, &subscription, 1).await;
    let finished = start(&desk).await;
    let prune = async |units| desk.store.prune(F::UNIT * units, 10).await.unwrap();
    fixture.advance(F::UNIT * 4).await;
    work(&desk, 10).await;
    let running = start(&desk).await;
    fixture.advance(F::UNIT * 2).await;
    assert_eq!(prune(4).await, 0, "its event is unfinished again");
    assert!(progress(&desk, finished.id).await.finished);

    fixture.advance(F::UNIT * 3).await;
    assert_eq!(prune(4).await, 0, "replays are not counted");
    assert_eq!(desk.store.replay(&Tenant::default(), finished.id).await.unwrap(), None);
    assert!(!progress(&desk, running.id).await.finished);
    assert_eq!(next(&desk, 10).await.id, running.id);
    let repeat = ReplayPage { id: finished.id, after: None, deliveries: Vec::new() };
    assert_eq!(record(&desk, &repeat).await, ReplayRecorded::Stale, "it is gone");
}
