//! Stores that were opened with their own queue: every change does the queue's part in the same commit.
//!
//! A store without one owes none of this; its cases say so and end.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::id::{DeliveryId, ReplayId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::lifecycle::{Input, Next};
use webhook_core::model::{DeliveryStatus, Outcome, Subscription, SubscriptionStatus};
use webhook_core::queue::{Claim, HandOff, JobQueue, Lease};
use webhook_core::store::{
    DeliveryFilter, Ended, Expire, Inserted, NewDelivery, NewReplay, Record, RecordLease, Recorded,
};

use crate::bench::{LIMIT, LONG, TRIES, any_room, wish};
use crate::sample::{Desk, asked, due, event, result, subscription};
use crate::{Fixture, StoreFixture};

/// The store's queue, or a word about why the case ends here.
fn own<F: StoreFixture>(desk: &Desk<'_, F>) -> Option<Arc<dyn JobQueue>> {
    let queue = desk.store.own_queue();
    if queue.is_none() {
        eprintln!("does not apply: the store has no queue of its own");
    }
    queue
}

async fn claim(queue: &Arc<dyn JobQueue>, count: usize) -> Vec<Lease> {
    claim_for(queue, count, LONG).await
}

async fn claim_for(queue: &Arc<dyn JobQueue>, count: usize, lease: Duration) -> Vec<Lease> {
    let mut leases = Vec::new();
    for _ in 0..TRIES {
        let room = u32::try_from(count - leases.len()).unwrap();
        leases.extend(queue.claim(&Claim { lease, ..wish(room) }).await.unwrap());
        if leases.len() >= count {
            break;
        }
    }
    assert_eq!(leases.len(), count, "so many jobs are due");
    leases
}

async fn one(queue: &Arc<dyn JobQueue>, id: DeliveryId) -> Lease {
    let lease = claim(queue, 1).await.remove(0);
    assert_eq!(lease.id, id);
    lease
}

async fn none(queue: &Arc<dyn JobQueue>, why: &str) {
    for _ in 0..3 {
        assert_eq!(queue.claim(&wish(100)).await.unwrap(), [], "{why}");
    }
}

fn ending(lease: &Lease, effect: Effect) -> Option<RecordLease> {
    Some(RecordLease { token: lease.token, mark: lease.mark, effect })
}

/// No second call is needed.
pub async fn a_stored_delivery_is_claimable<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let lease = one(&queue, id).await;
    assert_eq!((lease.lane, lease.lane_version), (subscription.id, 1));
    none(&queue, "it is leased").await;
}

/// As if it had been claimed.
pub async fn a_stored_delivery_is_handed_off<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe().await;
    let insert = desk.matched(event(), &[subscription]).await;
    let to = HandOff {
        token: Token::new(),
        worker: WorkerId::new(),
        lease: LONG,
        room: any_room(5),
        max_in_flight: LIMIT,
        avoid: Vec::new(),
    };
    let answers = desk.store.insert(std::slice::from_ref(&insert), Some(&to)).await.unwrap();
    let Inserted::Stored { leases, waiting } = &answers[0] else { panic!("it is new") };
    let given: Vec<_> = leases.iter().map(|lease| (lease.id, lease.token)).collect();
    assert_eq!((given, waiting.len()), (vec![(insert.deliveries[0].id, to.token)], 0));
    none(&queue, "it is leased").await;

    let full = HandOff { token: Token::new(), room: Room::default(), ..to };
    let subscription = desk.subscribe().await;
    let insert = desk.matched(event(), &[subscription]).await;
    let answers = desk.store.insert(std::slice::from_ref(&insert), Some(&full)).await.unwrap();
    assert!(matches!(&answers[0], Inserted::Stored { leases, .. } if leases.is_empty()));
    one(&queue, insert.deliveries[0].id).await;
}

/// Promise 4: the job, the lane's count and its strikes go with the result.
pub async fn a_result_ends_its_lease<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let lease = one(&queue, id).await;
    let record = result(id, &desk.load(id).await, Outcome::Succeeded, lease.token);
    let answer = desk.record(&Record { lease: ending(&lease, Effect::Fast), ..record }).await;
    assert_eq!(answer, Recorded::Applied { released: vec![], strikes: Some(2) });
    none(&queue, "it is finished").await;
    let state = queue.lane_states(&[subscription.id]).await.unwrap().remove(0).expect("it is known");
    assert_eq!((state.in_flight, state.health.strikes), (0, 2));
    assert_eq!(queue.depth().await.unwrap().scheduled, 0);
}

/// Promises 4 and 6.
pub async fn a_retried_delivery_is_claimable_after_its_wait<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let lease = one(&queue, id).await;
    let record = result(id, &desk.load(id).await, Outcome::Failed, lease.token);
    let record = due(record, Next::After(<F as Fixture>::UNIT * 4));
    desk.apply(&Record { lease: ending(&lease, Effect::Fast), ..record }).await;
    none(&queue, "it has just begun to wait").await;
    desk.pass(2).await;
    none(&queue, "it waits yet").await;
    desk.pass(2).await;
    assert!(one(&queue, id).await.unsettled.is_empty());
}

/// Promise 3: whoever lost the lease changes neither delivery nor job.
pub async fn a_result_under_a_stale_lease_changes_nothing<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let stale = claim_for(&queue, 1, <F as Fixture>::UNIT).await.remove(0);
    desk.pass(1).await;
    let live = one(&queue, id).await;
    assert_eq!(live.unsettled, [stale.token]);
    let before = desk.load(id).await;
    let record = result(id, &before, Outcome::Succeeded, stale.token);
    let answer = desk.record(&Record { lease: ending(&stale, Effect::Fast), ..record }).await;
    assert!(matches!(answer, Recorded::Stale { .. }));
    assert_eq!(desk.load(id).await, before);
    assert_eq!(desk.attempts(id).await, []);
    none(&queue, "the live lease holds").await;
    let record = result(id, &before, Outcome::Succeeded, live.token);
    desk.apply(&Record { lease: ending(&live, Effect::Fast), ..record }).await;
    none(&queue, "it is finished").await;
}

/// A person's request: at once, urgent, and by the same commit.
pub async fn a_request_makes_its_job_due<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let lease = one(&queue, id).await;
    let record = due(result(id, &desk.load(id).await, Outcome::Failed, lease.token), Next::After(LONG));
    let parks = Effect::Asked(LONG);
    desk.apply(&Record { lease: ending(&lease, parks), ..record }).await;
    none(&queue, "it waits, and its lane is parked").await;
    desk.ask(id, &Input::Retry { force: false }).await;
    let lease = one(&queue, id).await;
    let record = result(id, &desk.load(id).await, Outcome::Succeeded, lease.token);
    desk.apply(&Record { lease: ending(&lease, Effect::Fast), ..record }).await;
    none(&queue, "it is finished").await;
    desk.ask(id, &Input::Reopen).await;
    one(&queue, id).await;
}

/// Promise 5: with the end goes the job, pending or leased.
pub async fn a_cancelled_delivery_has_no_job<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe().await;
    let leased = desk.publish(&subscription).await;
    one(&queue, leased).await;
    let pending = desk.publish(&subscription).await;
    desk.cancel(leased).await;
    desk.cancel(pending).await;
    none(&queue, "both are cancelled").await;
    let state = queue.lane_states(&[subscription.id]).await.unwrap().remove(0).expect("it is known");
    assert_eq!(state.in_flight, 0);
}

/// A pause and a resume are in force when they return.
pub async fn a_paused_subscription_holds_its_lane<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let created = desk.subscribe().await;
    let paused = Subscription { status: SubscriptionStatus::Paused, ..(*created).clone() };
    desk.store.update(&paused, 1).await.unwrap();
    let id = desk.publish(&created).await;
    none(&queue, "the subscription is paused").await;
    desk.store.update(&created, 2).await.unwrap();
    assert_eq!(one(&queue, id).await.lane_version, 3);
}

/// And so is a deletion, before its deliveries are cancelled.
pub async fn a_deleted_subscription_holds_its_lane<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let created = desk.subscribe().await;
    desk.publish(&created).await;
    desk.store.delete(&created.tenant, created.id, None).await.unwrap();
    none(&queue, "the subscription is deleted").await;
    assert_eq!(Ended::total(&desk.store.cancel_deleted(10).await.unwrap()), 1);
    none(&queue, "its deliveries are cancelled").await;
    assert_eq!(queue.depth().await.unwrap().due, 0);
}

/// Promise 12: the next has its job by the commit that ended the head.
pub async fn the_next_of_an_order_gets_its_job_when_the_head_ends<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe_ordered().await;
    let first = desk.publish(&subscription).await;
    let second = desk.publish(&subscription).await;
    let third = desk.publish(&subscription).await;
    let lease = one(&queue, first).await;
    none(&queue, "the others wait for their turn").await;
    let record = result(first, &desk.load(first).await, Outcome::Succeeded, lease.token);
    desk.apply(&Record { lease: ending(&lease, Effect::Fast), ..record }).await;
    one(&queue, second).await;
    none(&queue, "the third waits for its turn").await;
    desk.cancel(second).await;
    one(&queue, third).await;
}

/// With an expiry go the jobs, pending or leased, and whoever is released has its own.
pub async fn an_expired_delivery_has_no_job<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    for ordered in [false, true] {
        let subscription = desk.create(&Subscription { ordered, ..subscription() }).await;
        let leased = desk.publish(&subscription).await;
        let lease = one(&queue, leased).await;
        let pending = desk.publish(&subscription).await;
        desk.pass(2).await;
        let which = Expire::OlderThan(<F as Fixture>::UNIT);
        assert_eq!(Ended::total(&desk.store.expire(which, 1).await.unwrap().ended), 1);
        if ordered {
            let next = one(&queue, pending).await;
            assert_eq!(
                queue.extend(&[(leased, lease.token), (pending, next.token)], LONG).await.unwrap(),
                [false, true]
            );
        }
        assert_eq!(Ended::total(&desk.store.expire(which, 10).await.unwrap().ended), 1);
        none(&queue, "both are expired").await;
        let state = queue.lane_states(&[subscription.id]).await.unwrap().remove(0).expect("it is known");
        assert_eq!(state.in_flight, 0);
    }
}

/// As those of its publish had.
pub async fn an_added_delivery_is_claimable<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let published = desk.publish_event(event(), &[]).await;
    let subscription = desk.subscribe().await;
    let id = DeliveryId::new();
    let new = NewDelivery { id, subscription_id: subscription.id, ordered: false, give_up_after: LONG };
    let version = desk.version(&subscription.tenant).await;
    desk.store.add_deliveries(published.event.id, &[new], version).await.unwrap();
    one(&queue, id).await;
    none(&queue, "it is leased").await;
}

/// By the commit that reopened them.
pub async fn replayed_deliveries_are_claimable<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let Some(queue) = own(&desk) else { return };
    let subscription = desk.subscribe_ordered().await;
    let first = desk.publish(&subscription).await;
    let second = desk.publish(&subscription).await;
    desk.cancel(second).await;
    desk.cancel(first).await;
    none(&queue, "both are cancelled").await;
    let statuses = vec![DeliveryStatus::Cancelled];
    let tenant = subscription.tenant.clone();
    let filter = DeliveryFilter { tenant: Some(tenant.clone()), statuses, ..DeliveryFilter::default() };
    desk.store.replay_start(&NewReplay { id: ReplayId::new(), tenant, filter }).await.unwrap();
    let page = desk.store.replay_next(10).await.unwrap().expect("it runs");
    let reopen = |(id, _, state): &(_, _, _)| asked(*id, state, &Input::Reopen);
    let records: Vec<Record> = page.deliveries.iter().map(reopen).collect();
    let last = page.deliveries.last().map(|(id, ..)| *id);
    desk.store.replay_record(page.id, page.after, last, &records).await.unwrap();
    one(&queue, first).await;
    none(&queue, "the second waits for its turn").await;
}

/// Nobody but the store fills a queue of its own.
pub async fn its_epoch_is_nobody_elses_to_change<F: StoreFixture>(fixture: &F) {
    let store = Desk::new(fixture).store;
    let Some(queue) = store.own_queue() else { return };
    let epoch = store.queue_epoch().await.unwrap();
    assert_eq!(epoch, queue.epoch().await.unwrap());
    assert!(!store.advance_epoch(epoch, epoch + 1).await.unwrap());
    assert_eq!(store.queue_epoch().await.unwrap(), epoch);
    assert_eq!(queue.epoch().await.unwrap(), epoch);
}
