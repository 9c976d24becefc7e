//! What each method answers.

use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::{Class, Effect, FIRST_STRIKES};
use webhook_core::queue::{Enqueued, Hold, LaneSettings, NewJob, Settle, Settled, Verdict};

use crate::bench::{Bench, any_room, ids, job, settings, wish};
use crate::{Fixture, QueueFixture};

/// Promise 3.
pub async fn a_job_is_claimed_once<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    bench.one(added).await;
    bench.none("the one job is leased").await;
}

/// The token is the claim's id; class, mark and version are the lane's.
pub async fn a_lease_tells_what_its_worker_needs<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.push(LaneSettings { version: 7, ..settings() }).await;
    let added = bench.add(lane).await;
    let claim = wish(1);
    let mut leases = Vec::new();
    while leases.is_empty() {
        leases = bench.claim(&claim).await;
    }
    let [lease] = leases.as_slice() else { panic!("room for one gives one") };
    assert_eq!((lease.id, lease.lane, lease.token), (added, lane, claim.id));
    assert_eq!((lease.class, lease.mark, lease.lane_version), (Class::Doubtful, 0, 7));
    assert!(lease.unsettled.is_empty());
}

/// A repeat of an enqueue changes nothing, whether the job is pending or leased.
pub async fn enqueueing_again_finds_the_job_present<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let job = job(lane);
    assert_eq!(bench.enqueue(&job).await, Enqueued::Queued);
    assert_eq!(bench.enqueue(&job).await, Enqueued::Present);
    let lease = bench.one(job.id).await;
    assert_eq!(bench.enqueue(&job).await, Enqueued::Present);
    bench.none("a leased job stays leased").await;
    bench.done(&lease).await;
    bench.none("it was there once").await;
}

/// Nothing is queued for a lane that the queue has no settings of.
pub async fn a_job_of_an_unknown_lane_is_not_queued<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let unknown = LaneId::new();
    let job = job(unknown);
    assert_eq!(bench.enqueue(&job).await, Enqueued::LaneBehind);
    assert_eq!(bench.queue.lane_states(&[unknown]).await.unwrap(), [None]);
    bench.push(LaneSettings { lane: unknown, ..settings() }).await;
    bench.none("the refused job was not kept").await;
    assert_eq!(bench.enqueue(&job).await, Enqueued::Queued);
    bench.one(job.id).await;
}

/// Nothing is queued by settings that are known to be outdated; newer ones than the caller's are fine.
pub async fn a_job_that_knows_newer_settings_is_not_queued<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.push(LaneSettings { version: 2, ..settings() }).await;
    let behind = NewJob { lane_version: 3, ..job(lane) };
    assert_eq!(bench.enqueue(&behind).await, Enqueued::LaneBehind);
    bench.none("the refused job was not kept").await;
    let ahead = NewJob { lane_version: 1, ..job(lane) };
    assert_eq!(bench.enqueue(&ahead).await, Enqueued::Queued);
    bench.one(ahead.id).await;
}

/// Outcomes stand where their items stood.
pub async fn answers_come_in_input_order<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let (lane, unknown) = (bench.good_lane().await, LaneId::new());
    let (present, added, lost) = (job(lane), job(lane), job(unknown));
    bench.enqueue(&present).await;
    let answers = bench.queue.enqueue(&[lost, present.clone(), added.clone()], None).await.unwrap();
    assert_eq!(answers, [Enqueued::LaneBehind, Enqueued::Present, Enqueued::Queued]);

    let states = bench.queue.lane_states(&[unknown, lane, unknown]).await.unwrap();
    assert_eq!(states.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);

    let leases = bench.take(2).await;
    let first = leases.iter().find(|lease| lease.id == present.id).expect("it was due");
    let second = leases.iter().find(|lease| lease.id == added.id).expect("it was due");
    let held = [(first.id, Token::new()), (first.id, first.token), (DeliveryId::new(), second.token)];
    let lease = <F as Fixture>::UNIT * 60;
    assert_eq!(bench.queue.extend(&held, lease).await.unwrap(), [false, true, false]);

    let settle = |id, token| Settle { id, token, verdict: Verdict::Done, effect: Effect::Fast, mark: 0 };
    let settles = [
        settle(second.id, Token::new()),
        settle(first.id, first.token),
        settle(DeliveryId::new(), second.token),
    ];
    let answers = bench.queue.settle(&settles).await.unwrap();
    assert_eq!(answers, [Settled::Stale, Settled::Settled { strikes: 0 }, Settled::Stale]);
}

/// However many come at once.
pub async fn every_job_of_a_batch_is_kept<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let mut added = Vec::new();
    for _ in 0..3 {
        let lane = bench.push(LaneSettings { max_in_flight: Some(1 << 20), ..settings() }).await;
        added.extend(bench.add_many(lane, 200).await);
    }
    added.sort_unstable();
    assert_eq!(ids(&bench.take(600).await), added);
}

/// No method minds being called for nothing.
pub async fn empty_batches_are_no_error<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    assert_eq!(bench.queue.enqueue(&[], None).await.unwrap(), []);
    assert_eq!(bench.queue.settle(&[]).await.unwrap(), []);
    assert_eq!(bench.queue.extend(&[], <F as Fixture>::UNIT).await.unwrap(), [false; 0]);
    assert_eq!(bench.queue.lane_states(&[]).await.unwrap(), []);
    bench.queue.remove(&[]).await.unwrap();
    bench.queue.lanes(&[]).await.unwrap();
}

/// Promise 16: a worker gets no more than it can start.
pub async fn a_claim_gives_no_more_than_its_room<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.add_many(lane, 10).await;
    assert_eq!(bench.claim(&wish(0)).await, []);
    for _ in 0..3 {
        assert!(bench.claim(&wish(3)).await.len() <= 3);
    }
}

/// A lost reply costs nothing: the same claim gives the same leases again.
pub async fn a_repeated_claim_gives_the_same_leases<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.add_many(lane, 10).await;
    let claim = wish(4);
    let mut first = Vec::new();
    while first.is_empty() {
        first = bench.claim(&claim).await;
    }
    let again = bench.claim(&claim).await;
    assert_eq!(ids(&again), ids(&first));
    assert!(again.iter().all(|lease| lease.token == claim.id));
    assert_eq!(bench.state(lane).await.in_flight as usize, first.len(), "a repeat counts nothing twice");

    let settled = first.pop().expect("it gave some");
    bench.done(&settled).await;
    if !first.is_empty() {
        assert_eq!(ids(&bench.claim(&claim).await), ids(&first), "as far as they are still its own");
    }
}

/// Promise 4.
pub async fn a_finished_job_is_nowhere<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let lease = bench.one(added).await;
    bench.done(&lease).await;
    bench.none("it is finished").await;
    let depth = bench.queue.depth().await.unwrap();
    assert_eq!((depth.due, depth.scheduled, depth.oldest_due), (0, 0, None));
    assert_eq!(bench.state(lane).await.in_flight, 0);
    assert_eq!(bench.queue.extend(&[(lease.id, lease.token)], <F as Fixture>::UNIT).await.unwrap(), [false]);
    let again = NewJob { id: added, ..job(lane) };
    assert_eq!(bench.enqueue(&again).await, Enqueued::Queued, "the queue has forgotten it");
    bench.one(added).await;
}

/// Promise 4.
pub async fn a_retried_job_is_due_exactly_once<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let lease = bench.one(added).await;
    let retry = Verdict::RetryAfter(<F as Fixture>::UNIT * 2);
    assert!(matches!(bench.settle(&lease, retry, Effect::Neutral).await, Settled::Settled { .. }));
    assert_eq!(bench.state(lane).await.in_flight, 0);
    assert_eq!(bench.queue.depth().await.unwrap().scheduled, 1);
    bench.pass(2).await;
    let second = bench.one(added).await;
    assert!(second.unsettled.is_empty(), "the first claim was settled");
    bench.none("it is there once").await;
}

/// Nothing was sent under the released claim, so its token stands for nothing.
pub async fn a_released_job_is_due_at_once_and_its_token_is_settled<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let lease = bench.one(added).await;
    let answer = bench.settle(&lease, Verdict::Release, Effect::Neutral).await;
    assert!(matches!(answer, Settled::Settled { .. }));
    assert_eq!(bench.state(lane).await.in_flight, 0);
    assert!(bench.one(added).await.unsettled.is_empty());
}

/// Also when it is leased: its lane's place is free again.
pub async fn a_removed_job_is_nowhere<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.push(LaneSettings { max_in_flight: Some(1), ..settings() }).await;
    let (leased, pending) = (bench.add(lane).await, DeliveryId::new());
    let lease = bench.one(leased).await;
    bench.enqueue(&NewJob { id: pending, ..job(lane) }).await;
    bench.none("the lane is at its limit").await;
    bench.queue.remove(&[leased, DeliveryId::new(), pending]).await.unwrap();
    assert_eq!(bench.state(lane).await.in_flight, 0);
    assert_eq!(bench.settle(&lease, Verdict::Done, Effect::Fast).await, Settled::Stale);
    assert_eq!(bench.state(lane).await.health.strikes, FIRST_STRIKES, "a stale settle has no effect");
    bench.none("both are removed").await;
    bench.queue.remove(&[leased]).await.unwrap();
    assert_eq!(bench.state(lane).await.in_flight, 0, "a repeat is harmless");
    let next = bench.add(lane).await;
    bench.one(next).await;
}

/// For people and metrics.
pub async fn depth_tells_due_scheduled_and_held<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let due = bench.lane().await;
    bench.add_many(due, 2).await;
    bench.add_in(due, unit * 3600).await;
    for hold in [Hold::Paused, Hold::Disabled] {
        let held = bench.push(LaneSettings { hold: Some(hold), ..settings() }).await;
        bench.add(held).await;
    }
    let parked = bench.lane().await;
    bench.add(parked).await;
    bench.pass(1).await;
    let leases = bench.take(3).await;
    let effect = |lane| if lane == parked { Effect::Asked(unit * 3600) } else { Effect::Neutral };
    for lease in &leases {
        bench.settle(lease, Verdict::RetryAfter(std::time::Duration::ZERO), effect(lease.lane)).await;
    }
    bench.pass(1).await;
    let depth = bench.queue.depth().await.unwrap();
    assert_eq!((depth.due, depth.scheduled), (2, 1), "what is held is not due");
    assert_eq!((depth.paused, depth.disabled, depth.parked, depth.rate_limited), (1, 1, 1, 0));
    assert!(depth.oldest_due.is_some_and(|age| age >= unit && age < unit * 60));
}

/// Another number would make every engine rebuild the queue.
pub async fn the_epoch_stays_while_nothing_is_lost<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let before = bench.queue.epoch().await.unwrap();
    let lane = bench.lane().await;
    bench.attempt(lane, Effect::Fast).await;
    bench.pass(1).await;
    assert_eq!(bench.queue.epoch().await.unwrap(), before);
}

/// Lanes that this worker does not want now are left to others.
pub async fn a_claim_avoids_the_lanes_that_it_names<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let (avoided, other) = (bench.good_lane().await, bench.good_lane().await);
    let hidden = bench.add(avoided).await;
    let wanted = bench.add(other).await;
    let mut claim = wish(10);
    claim.avoid = vec![avoided];
    let mut leases = Vec::new();
    while leases.is_empty() {
        leases = bench.claim(&claim).await;
    }
    assert_eq!(ids(&leases), [wanted]);
    claim = wish(10);
    claim.room = any_room(1);
    let mut leases = Vec::new();
    while leases.is_empty() {
        leases = bench.claim(&claim).await;
    }
    assert_eq!(ids(&leases), [hidden]);
}
