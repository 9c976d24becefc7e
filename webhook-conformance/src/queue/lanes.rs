//! Lanes, held against the reference of [`lane`](webhook_core::lane) (promise 13).

use std::collections::BTreeSet;
use std::time::Duration;

use webhook_core::id::LaneId;
use webhook_core::lane::{Class, Effect, Health, PARKING_STRIKES, Room, limit, parking};
use webhook_core::model::RateLimit;
use webhook_core::queue::{Claim, Enqueued, Hold, LaneSettings, Lease, NewJob, Settled, Verdict};

use crate::bench::{Bench, LIMIT, ids, job, settings, wish};
use crate::{Fixture, QueueFixture};

/// Whoever has been served goes to the back.
pub async fn lanes_are_served_in_turn<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let mut lanes = BTreeSet::new();
    for _ in 0..3 {
        lanes.insert(bench.good_lane().await);
    }
    for lane in &lanes {
        bench.add_many(*lane, 5).await;
    }
    for _ in 0..3 {
        let mut served = BTreeSet::new();
        for _ in 0..lanes.len() {
            served.extend(bench.take(1).await.iter().map(|lease| lease.lane));
        }
        assert_eq!(served, lanes, "each was served once");
    }
}

/// Whatever waits in the others.
pub async fn a_full_lane_does_not_starve_the_others<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let (full, other) = (bench.good_lane().await, bench.good_lane().await);
    bench.add_many(full, 200).await;
    let wanted = bench.add(other).await;
    let leases = bench.take(20).await;
    assert!(ids(&leases).contains(&wanted), "one of twenty goes to the lane that has one job");
}

/// `max(1, max_in_flight >> strikes)`.
pub async fn a_lane_never_exceeds_its_limit<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    let most = limit(LIMIT, 4) as usize;
    bench.add_many(lane, 10).await;
    let leases = bench.take(most).await;
    bench.none("a new lane proves itself with a few at a time").await;
    assert_eq!(bench.state(lane).await.in_flight as usize, most);
    bench.settle(&leases[0], Verdict::Done, Effect::Neutral).await;
    bench.take(1).await;
    bench.none("one has ended, one has begun").await;
}

/// The subscription's own limit, else the claim's.
pub async fn the_limit_is_the_lanes_or_else_the_claims<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let own = bench.push(LaneSettings { max_in_flight: Some(2), ..settings() }).await;
    bench.prove(own).await;
    let other = bench.good_lane().await;
    bench.add_many(own, 10).await;
    bench.add_many(other, 10).await;
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.extend(bench.claim(&Claim { max_in_flight: 3, ..wish(20) }).await);
    }
    let of = |lane: LaneId| leases.iter().filter(|lease| lease.lane == lane).count();
    assert_eq!((of(own), of(other)), (2, 3));
}

/// Without an end, and what was claimed before is settled as ever.
pub async fn a_held_lane_is_not_served_until_it_is_resumed<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    for hold in [Hold::Paused, Hold::Disabled, Hold::Deleted] {
        let lane = bench.lane().await;
        let before = bench.add(lane).await;
        let lease = bench.one(before).await;
        bench.push(LaneSettings { lane, version: 2, hold: Some(hold), ..settings() }).await;
        let waiting = NewJob { lane_version: 2, ..job(lane) };
        bench.enqueue(&waiting).await;
        bench.none("the lane is held").await;
        bench.pass(2).await;
        bench.none("a hold has no end").await;
        assert_eq!(bench.state(lane).await.hold, Some(hold));
        assert_eq!(bench.settle(&lease, Verdict::Done, Effect::Fast).await, Settled::Settled { strikes: 2 });
        bench.push(LaneSettings { lane, version: 3, hold: None, ..settings() }).await;
        assert_eq!(bench.one(waiting.id).await.lane_version, 3);
        bench.queue.remove(&[waiting.id]).await.unwrap();
    }
}

/// A node that is behind cannot undo a pause.
pub async fn older_settings_change_nothing<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.push(LaneSettings { version: 5, hold: Some(Hold::Paused), ..settings() }).await;
    bench.add(lane).await;
    bench.push(LaneSettings { lane, version: 4, ..settings() }).await;
    let state = bench.state(lane).await;
    assert_eq!((state.version, state.hold), (5, Some(Hold::Paused)));
    bench.none("the lane is held").await;
}

/// What a lane has shown of itself outlives a change of its subscription.
pub async fn new_settings_keep_strikes_and_counts<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    bench.attempt(lane, Effect::Unanswered).await;
    let added = bench.add(lane).await;
    let lease = bench.one(added).await;
    let before = bench.state(lane).await;
    bench.push(LaneSettings { lane, version: 2, max_in_flight: Some(100), ..settings() }).await;
    let after = bench.state(lane).await;
    assert_eq!((after.health, after.in_flight, after.version), (before.health, 1, 2));
    bench.done(&lease).await;
}

/// Unproven lanes fit only the doubtful share, dead ones only the dead share.
pub async fn a_claim_keeps_to_the_shares_of_its_room<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let (good, unproven, dead) = (bench.good_lane().await, bench.lane().await, bench.lane().await);
    bench.attempt(dead, Effect::Unanswered).await;
    for lane in [good, unproven, dead] {
        bench.add_many(lane, 4).await;
    }
    let mut room = Room { all: 9, doubtful: 2, dead: 1 };
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..10 {
        let more = bench.claim(&Claim { room, ..wish(0) }).await;
        for lease in &more {
            assert!(room.fits(lease.class) > 0, "no room for {:?}", lease.class);
            room.take(lease.class, 1);
        }
        leases.extend(more);
    }
    for (lane, class) in [(good, Class::Good), (unproven, Class::Doubtful), (dead, Class::Dead)] {
        assert!(leases.iter().all(|lease| lease.lane != lane || lease.class == class));
    }
    assert_eq!(leases.iter().filter(|lease| lease.lane == good).count(), 4);
    assert_eq!(leases.len(), 6, "four good ones, and two of the others");
    let nothing = Room { all: 9, doubtful: 9, dead: 0 };
    let last = bench.claim(&Claim { room: nothing, ..wish(0) }).await;
    assert!(last.iter().all(|lease| lease.lane == unproven), "no dead lane without room for one");
}

/// Slow lanes are doubtful until they answer fast again.
pub async fn a_slow_answer_makes_a_lane_doubtful<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.attempt(lane, Effect::Slow).await;
    assert!(bench.state(lane).await.health.slow);
    let added = bench.add(lane).await;
    let narrow = Claim { room: Room { all: 9, doubtful: 0, dead: 0 }, ..wish(0) };
    assert_eq!(bench.claim(&narrow).await, []);
    let lease = bench.one(added).await;
    assert_eq!(lease.class, Class::Doubtful);
    bench.settle(&lease, Verdict::Done, Effect::Fast).await;
    let added = bench.add(lane).await;
    assert_eq!(bench.one(added).await.class, Class::Good);
}

/// Every effect, from every number of strikes. The jobs are urgent, so that parking does not slow the case.
pub async fn strikes_follow_the_reference<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    let mut reference = Health::default();
    let asked = Effect::Asked(Duration::from_millis(1));
    let (fast, slow, none, neutral) = (Effect::Fast, Effect::Slow, Effect::Unanswered, Effect::Neutral);
    let mut effects = vec![none, fast, none, slow, none, asked, neutral, none, none, fast, fast, fast, fast];
    effects.extend([none; 20]);
    effects.extend([slow, asked, none, neutral, fast, none, fast, fast, fast]);
    for (step, effect) in effects.into_iter().enumerate() {
        let urgent = NewJob { urgent: true, ..job(lane) };
        assert_eq!(bench.enqueue(&urgent).await, Enqueued::Queued);
        let lease = bench.one(urgent.id).await;
        assert_eq!((lease.class, lease.mark), (reference.class(), reference.mark), "step {step}");
        reference.take(effect, lease.mark);
        let answer = bench.settle(&lease, Verdict::Done, effect).await;
        assert_eq!(answer, Settled::Settled { strikes: reference.strikes }, "step {step}: {effect:?}");
        assert_eq!(bench.state(lane).await.health, reference, "step {step}: {effect:?}");
    }
}

/// A strike counts only if the attempt was claimed after the last one.
pub async fn one_blip_of_many_time_outs_is_one_strike<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.add_many(lane, 16).await;
    let leases = bench.take(16).await;
    for lease in &leases {
        let answer = bench.settle(lease, Verdict::Done, Effect::Unanswered).await;
        assert_eq!(answer, Settled::Settled { strikes: 1 });
    }
    let health = bench.state(lane).await.health;
    assert_eq!((health.strikes, health.mark), (1, 1));
}

/// A target that does not answer gets one probe at a time, further and further apart.
pub async fn a_lane_with_many_strikes_is_parked<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    while bench.attempt(lane, Effect::Unanswered).await < PARKING_STRIKES {}
    bench.add_many(lane, 2).await;
    bench.none("the lane is parked").await;
    let parked = bench.state(lane).await.parked_for.expect("it says so");
    let most = parking(PARKING_STRIKES).unwrap();
    assert!(parked <= most, "{parked:?}");
    fixture.advance(most).await;
    let probe = bench.take(1).await;
    bench.none("one probe at a time").await;
    assert_eq!(bench.state(lane).await.parked_for, None);
    bench.settle(&probe[0], Verdict::Done, Effect::Unanswered).await;
    let parked = bench.state(lane).await.parked_for.expect("parked again");
    assert!(parked > most && parked <= most * 2, "{parked:?}");
}

/// 429 and 503 with `Retry-After`.
pub async fn a_lane_that_asked_for_time_is_parked<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.attempt(lane, Effect::Asked(<F as Fixture>::UNIT * 4)).await;
    let added = bench.add(lane).await;
    bench.none("the lane is parked").await;
    bench.pass(2).await;
    bench.none("the lane is parked yet").await;
    bench.pass(2).await;
    bench.one(added).await;
}

/// A person's request does not wait for a parking, but for everything else.
pub async fn urgent_jobs_ignore_parking_and_no_other_limit<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let one = LaneSettings { max_in_flight: Some(1), ..settings() };
    let lane = bench.push(one.clone()).await;
    bench.attempt(lane, Effect::Asked(<F as Fixture>::UNIT * 3600)).await;
    let waiting = bench.add(lane).await;
    bench.none("the lane is parked").await;
    let urgent = NewJob { urgent: true, ..job(lane) };
    bench.enqueue(&urgent).await;
    let lease = bench.one(urgent.id).await;
    let becomes_urgent = NewJob { id: waiting, urgent: true, ..job(lane) };
    assert_eq!(bench.enqueue(&becomes_urgent).await, Enqueued::Present);
    bench.none("the lane is at its limit").await;
    bench.done(&lease).await;
    let lease = bench.one(waiting).await;
    bench.done(&lease).await;
    bench.push(LaneSettings { version: 2, hold: Some(Hold::Paused), ..one }).await;
    let urgent = NewJob { urgent: true, lane_version: 2, ..job(lane) };
    bench.enqueue(&urgent).await;
    bench.none("the lane is paused").await;
}

/// One job every gap.
pub async fn a_lane_keeps_its_rate<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let lane = bench.good_lane().await;
    let rate = Some(RateLimit { requests: 1, per: unit * 4 });
    bench.push(LaneSettings { lane, version: 2, rate, ..settings() }).await;
    bench.add_many(lane, 3).await;
    bench.take(1).await;
    bench.none("the next permit is four units away").await;
    assert!(bench.state(lane).await.rate_limited_for.is_some_and(|wait| wait <= unit * 4));
    let depth = bench.queue.depth().await.unwrap();
    assert_eq!((depth.due, depth.rate_limited), (0, 1));
    bench.pass(2).await;
    bench.none("the next permit is two units away").await;
    bench.pass(2).await;
    bench.take(1).await;
    bench.none("one at a time").await;
    bench.push(LaneSettings { lane, version: 3, rate: None, ..settings() }).await;
    bench.take(1).await;
}

/// However an attempt ends, its lane has the place back.
pub async fn no_end_of_an_attempt_leaks_the_lanes_count<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let lane = bench.push(LaneSettings { max_in_flight: Some(8), ..settings() }).await;
    bench.prove(lane).await;
    bench.add_many(lane, 8).await;
    let leases = bench.take_for(8, unit * 2).await;
    bench.none("the lane is at its limit").await;
    bench.settle(&leases[0], Verdict::Done, Effect::Neutral).await;
    bench.settle(&leases[1], Verdict::RetryAfter(Duration::ZERO), Effect::Neutral).await;
    bench.settle(&leases[2], Verdict::Release, Effect::Neutral).await;
    bench.queue.remove(&[leases[3].id]).await.unwrap();
    bench.queue.extend(&[(leases[4].id, leases[4].token)], unit * 3).await.unwrap();
    bench.pass(3).await;
    bench.settle(&leases[5], Verdict::Done, Effect::Neutral).await;
    bench.queue.remove(&[leases[6].id]).await.unwrap();
    let rest = bench.take(4).await;
    assert_eq!(bench.state(lane).await.in_flight, 4);
    for lease in &rest {
        bench.done(lease).await;
    }
    assert_eq!(bench.state(lane).await.in_flight, 0);
    bench.none("all are finished or removed").await;
    bench.add_many(lane, 10).await;
    bench.take(8).await;
    bench.none("the limit is what it was").await;
}
