//! Lanes: turns, limits, strikes, parking, rates, leases. Promise 13 unless said otherwise.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use support::*;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::lane::{Class, Effect, Health, Room};
use webhook_core::model::*;
use webhook_core::queue::*;

async fn fill(f: &Fixture, lane: SubscriptionId, jobs: usize) -> Vec<DeliveryId> {
    let version = f.lane(lane).await.version;
    let new: Vec<NewJob> = (0..jobs)
        .map(|_| NewJob {
            id: DeliveryId::new(),
            lane,
            wait: Duration::ZERO,
            lane_version: version,
            urgent: false,
        })
        .collect();
    let answers = f.store.enqueue(&new, None).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Enqueued::Queued));
    new.into_iter().map(|job| job.id).collect()
}

fn by_lane(leases: &[Lease]) -> HashMap<SubscriptionId, usize> {
    let mut counts = HashMap::new();
    for lease in leases {
        *counts.entry(lease.lane).or_default() += 1;
    }
    counts
}

async fn done(f: &Fixture, leases: &[Lease], effect: Effect) {
    let settles: Vec<Settle> = leases.iter().map(|lease| settle(lease, Verdict::Done, effect)).collect();
    let answers = f.store.settle(&settles).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Settled::Settled { .. })));
}

#[tokio::test]
async fn lanes_are_served_in_turn_however_much_waits_in_each() {
    let f = Fixture::new().await;
    let (a, b, c) = (f.proven().await.id, f.proven().await.id, f.proven().await.id);
    fill(&f, a, 300).await;
    fill(&f, b, 10).await;
    fill(&f, c, 10).await;
    let leases = f.claim(30).await;
    assert_eq!(leases.len(), 30);
    let counts = by_lane(&leases);
    assert_eq!((counts[&a], counts[&b], counts[&c]), (10, 10, 10));
    // One at a time: each lane gets its turn.
    fill(&f, b, 3).await;
    fill(&f, c, 3).await;
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(f.claim(1).await.remove(0).lane);
    }
    assert_eq!(order[..3], order[3..]);
    assert_eq!(order[..3].iter().collect::<std::collections::HashSet<_>>().len(), 3);
    f.check().await;
}

#[tokio::test]
async fn a_lane_is_served_in_the_order_in_which_its_jobs_were_due() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(fill(&f, lane, 1).await);
        f.clock.advance(SECOND);
    }
    let claimed: Vec<DeliveryId> = f.claim(5).await.iter().map(|lease| lease.id).collect();
    assert_eq!(claimed, ids);
}

#[tokio::test]
async fn no_lane_has_more_in_flight_than_its_strikes_leave_it() {
    let f = Fixture::new().await;
    let unproven = f.subscribe().await.id;
    let own = f.subscribe_with(|s| s.max_in_flight = Some(32)).await.id;
    fill(&f, unproven, 100).await;
    fill(&f, own, 100).await;
    let leases = f.claim(500).await;
    let counts = by_lane(&leases);
    assert_eq!((counts[&unproven], counts[&own]), (64 >> 4, 32 >> 4));
    assert!(f.claim(500).await.is_empty());
    done(&f, &leases[..1], Effect::Neutral).await;
    assert_eq!(f.claim(500).await.len(), 1);
    f.check().await;
}

#[tokio::test]
async fn the_default_limit_is_the_callers() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    fill(&f, lane, 100).await;
    let narrow = Claim { max_in_flight: 3, ..claim(500) };
    assert_eq!(f.store.claim(&narrow).await.unwrap().len(), 3);
    assert!(f.store.claim(&Claim { max_in_flight: 3, ..claim(500) }).await.unwrap().is_empty());
    assert_eq!(f.store.claim(&Claim { max_in_flight: 10, ..claim(500) }).await.unwrap().len(), 7);
    f.check().await;
}

#[tokio::test]
async fn fast_answers_prove_a_lane_and_slow_ones_make_it_doubtful() {
    let f = Fixture::new().await;
    let lane = f.subscribe().await.id;
    fill(&f, lane, 10).await;
    let mut reference = Health::default();
    for effect in
        [Effect::Fast, Effect::Fast, Effect::Slow, Effect::Neutral, Effect::Fast, Effect::Unanswered]
    {
        let lease = f.claim(1).await.remove(0);
        assert_eq!((lease.class, lease.mark), (reference.class(), reference.mark));
        let strikes = f.store.settle(&[settle(&lease, Verdict::Done, effect)]).await.unwrap();
        reference.take(effect, lease.mark);
        assert_eq!(strikes, [Settled::Settled { strikes: reference.strikes }]);
        assert_eq!(f.lane(lane).await.health, reference);
    }
    f.check().await;
}

#[tokio::test]
async fn one_blip_of_many_time_outs_is_one_strike() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    fill(&f, lane, 64).await;
    let leases = f.claim(64).await;
    assert_eq!(leases.len(), 64);
    done(&f, &leases, Effect::Unanswered).await;
    assert_eq!(f.lane(lane).await.health, Health { strikes: 1, slow: false, mark: 1 });
    f.check().await;
}

#[tokio::test]
async fn a_dead_lane_is_parked_and_probed_one_at_a_time() {
    let f = Fixture::new().await;
    let lane = f.subscribe().await.id;
    fill(&f, lane, 100).await;
    let mut parked = Vec::new();
    for _ in 0..10 {
        let leases = f.claim(100).await;
        done(&f, &leases, Effect::Unanswered).await;
        let state = f.lane(lane).await;
        if let Some(wait) = state.parked_for {
            assert_eq!(leases.len(), 1, "a probe");
            parked.push(wait.as_secs());
            assert!(f.claim(100).await.is_empty());
            assert_eq!(f.store.depth().await.unwrap().parked, 1);
            f.clock.advance(wait);
        }
    }
    assert_eq!(parked, [1, 2, 4, 8, 16, 30, 30]);
    f.check().await;
}

#[tokio::test]
async fn doubtful_and_dead_lanes_stay_within_their_shares_of_the_room() {
    let f = Fixture::new().await;
    let mut dead = Vec::new();
    for _ in 0..8 {
        let lane = f.subscribe().await.id;
        fill(&f, lane, 3).await;
        let this = Claim { avoid: dead.clone(), ..claim(1) };
        done(&f, &f.store.claim(&this).await.unwrap(), Effect::Unanswered).await;
        assert_eq!(f.lane(lane).await.health.class(), Class::Dead);
        dead.push(lane);
    }
    for _ in 0..8 {
        let lane = f.subscribe().await.id;
        fill(&f, lane, 3).await;
    }
    let good = f.proven().await.id;
    fill(&f, good, 64).await;
    let leases = f.store.claim(&Claim { room: Room::of(40), ..claim(0) }).await.unwrap();
    let count = |class| leases.iter().filter(|lease| lease.class == class).count();
    assert_eq!(count(Class::Dead) + count(Class::Doubtful) + count(Class::Good), 40);
    assert!(count(Class::Dead) <= 10, "{}", count(Class::Dead));
    assert!(count(Class::Dead) + count(Class::Doubtful) <= 20);
    assert!(count(Class::Good) >= 20);
    let none = Room { all: 10, doubtful: 0, dead: 0 };
    let leases = f.store.claim(&Claim { room: none, ..claim(0) }).await.unwrap();
    assert!(leases.iter().all(|lease| lease.class == Class::Good));
    assert_eq!(leases.len(), 10);
    f.check().await;
}

#[tokio::test]
async fn a_rate_never_gives_more_than_the_limit_and_one_in_any_window() {
    let f = Fixture::new().await;
    let rate = RateLimit { requests: 5, per: SECOND };
    let s = f.subscribe_with(|s| s.rate_limit = Some(rate)).await;
    f.prove_slowly(s.id).await;
    fill(&f, s.id, 100).await;
    let mut times = Vec::new();
    let config = f.config().await;
    for step in 0..300 {
        if step % 7 == 0 {
            // Handed-off jobs use the same permits.
            let insert = new_insert(&[&s], config);
            let published = f.publish_this(insert, Some(&hand_off(8))).await;
            times.extend(published.leases.iter().map(|_| step));
            done(&f, &published.leases, Effect::Fast).await;
        }
        let leases = f.claim(8).await;
        times.extend(leases.iter().map(|_| step));
        done(&f, &leases, Effect::Fast).await;
        f.clock.advance(Duration::from_millis(10));
    }
    for window in times.windows(7) {
        assert!(window[6] - window[0] >= 100, "seven within a second: {times:?}");
    }
    assert!(times.len() >= 15, "3 seconds at 5 a second: {}", times.len());
    f.check().await;
}

impl Fixture {
    async fn prove_slowly(&self, lane: SubscriptionId) {
        for _ in 0..3 {
            fill(self, lane, 1).await;
            self.clock.advance(SECOND);
            done(self, &self.claim(1).await, Effect::Fast).await;
        }
        self.clock.advance(SECOND);
    }
}

#[tokio::test]
async fn a_held_lane_waits_and_goes_on_where_it_was() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    fill(&f, s.id, 3).await;
    let hold = |version, hold| LaneSettings { lane: s.id, version, max_in_flight: None, rate: None, hold };
    for reason in [Hold::Paused, Hold::Disabled] {
        let version = f.lane(s.id).await.version + 1;
        f.store.lanes(&[hold(version, Some(reason))]).await.unwrap();
        assert!(f.claim(8).await.is_empty());
        // Older settings change nothing.
        f.store.lanes(&[hold(version - 1, None)]).await.unwrap();
        assert_eq!(f.lane(s.id).await.hold, Some(reason));
        let depth = f.store.depth().await.unwrap();
        assert_eq!(depth.paused + depth.disabled, 1);
        assert_eq!(depth.due, 0);
        f.store.lanes(&[hold(version + 1, None)]).await.unwrap();
        assert_eq!(f.claim(1).await.len(), 1);
    }
    f.check().await;
}

#[tokio::test]
async fn a_lane_without_settings_takes_no_job() {
    let f = Fixture::new().await;
    let unknown = SubscriptionId::new();
    let job = |lane, lane_version| NewJob {
        id: DeliveryId::new(),
        lane,
        wait: Duration::ZERO,
        lane_version,
        urgent: false,
    };
    assert_eq!(f.store.enqueue(&[job(unknown, 1)], None).await.unwrap(), [Enqueued::LaneBehind]);
    assert_eq!(f.store.lane_states(&[unknown]).await.unwrap(), [None]);
    let known = f.subscribe().await.id;
    assert_eq!(f.store.enqueue(&[job(known, 2)], None).await.unwrap(), [Enqueued::LaneBehind]);
    assert_eq!(f.count("jobs").await, 0);
    f.check().await;
}

#[tokio::test]
async fn a_job_that_is_enqueued_again_is_due_at_the_earlier_time() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    let later = |wait, urgent| NewJob { id: DeliveryId::new(), lane, wait, lane_version: 1, urgent };
    let job = later(60 * SECOND, false);
    assert_eq!(f.store.enqueue(std::slice::from_ref(&job), None).await.unwrap(), [Enqueued::Queued]);
    for wait in [120, 30] {
        let again = NewJob { wait: wait * SECOND, ..job.clone() };
        assert_eq!(f.store.enqueue(&[again], None).await.unwrap(), [Enqueued::Present]);
    }
    f.clock.advance(30 * SECOND);
    let leases = f.claim(1).await;
    assert_eq!(leases.len(), 1);
    // A leased one stays leased.
    let again = NewJob { urgent: true, ..job.clone() };
    assert_eq!(
        f.store.enqueue(&[again.clone(), again], None).await.unwrap(),
        [Enqueued::Present, Enqueued::Present]
    );
    assert!(f.claim(1).await.is_empty());
    f.check().await;
}

#[tokio::test]
async fn a_repeated_claim_gives_the_same_leases_as_far_as_they_are_held() {
    // Promise 3.
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    fill(&f, lane, 10).await;
    let claim = claim(5);
    let sorted = |mut leases: Vec<Lease>| {
        leases.sort_by_key(|lease| lease.id);
        leases
    };
    let first = sorted(f.store.claim(&claim).await.unwrap());
    assert_eq!(first.len(), 5);
    assert_eq!(sorted(f.store.claim(&claim).await.unwrap()), first);
    done(&f, &first[..2], Effect::Neutral).await;
    assert_eq!(sorted(f.store.claim(&claim).await.unwrap()), first[2..]);
    f.check().await;
}

#[tokio::test]
async fn tokens_of_claims_that_vanished_are_given_until_one_settles() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    fill(&f, lane, 1).await;
    let mut vanished = Vec::new();
    for _ in 0..3 {
        let lease = f.claim(1).await.remove(0);
        assert_eq!(lease.unsettled, vanished);
        vanished.push(lease.token);
        f.clock.advance(LEASE);
        f.check().await;
    }
    let released = f.claim(1).await.remove(0);
    f.store.settle(&[settle(&released, Verdict::Release, Effect::Neutral)]).await.unwrap();
    let lease = f.claim(1).await.remove(0);
    assert_eq!(lease.unsettled, vanished, "a release settles its own token only");
    f.store.settle(&[settle(&lease, Verdict::RetryAfter(SECOND), Effect::Neutral)]).await.unwrap();
    f.clock.advance(SECOND);
    assert!(f.claim(1).await[0].unsettled.is_empty());
    f.check().await;
}

#[tokio::test]
async fn an_extended_lease_holds_and_one_that_ran_out_holds_again() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    fill(&f, lane, 2).await;
    let leases = f.claim(2).await;
    let both: Vec<_> = leases.iter().map(|lease| (lease.id, lease.token)).collect();
    f.clock.advance(LEASE - SECOND);
    assert_eq!(f.store.extend(&both[..1], LEASE).await.unwrap(), [true]);
    f.clock.advance(2 * SECOND);
    let avoiding = Claim { avoid: vec![lane], ..claim(1) };
    assert!(f.store.claim(&avoiding).await.unwrap().is_empty());
    assert_eq!(f.lane(lane).await.in_flight, 1, "one ran out");
    assert_eq!(f.store.extend(&both, LEASE).await.unwrap(), [true, true]);
    assert_eq!(f.lane(lane).await.in_flight, 2);
    f.check().await;
    assert!(f.claim(2).await.is_empty());
    f.clock.advance(LEASE);
    let next = f.claim(2).await;
    assert_eq!(next.len(), 2);
    assert_eq!(f.store.extend(&both, LEASE).await.unwrap(), [false, false]);
    f.check().await;
}

#[tokio::test]
async fn settling_with_a_stale_token_changes_nothing() {
    // Promise 4.
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    fill(&f, lane, 1).await;
    let first = f.claim(1).await.remove(0);
    f.clock.advance(LEASE);
    let second = f.claim(1).await.remove(0);
    let before = f.lane(lane).await;
    let stale = f.store.settle(&[settle(&first, Verdict::Done, Effect::Unanswered)]).await.unwrap();
    assert_eq!(stale, [Settled::Stale]);
    assert_eq!(f.lane(lane).await, before);
    done(&f, &[second], Effect::Fast).await;
    assert_eq!(f.count("jobs").await, 0);
    f.check().await;
}

#[tokio::test]
async fn removed_jobs_are_nowhere() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    let ids = fill(&f, lane, 3).await;
    let lease = f.claim(1).await.remove(0);
    f.store.remove(&ids).await.unwrap();
    f.store.remove(&ids).await.unwrap();
    assert_eq!((f.count("jobs").await, f.lane(lane).await.in_flight), (0, 0));
    assert!(f.claim(3).await.is_empty());
    assert_eq!(
        f.store.settle(&[settle(&lease, Verdict::Done, Effect::Fast)]).await.unwrap(),
        [Settled::Stale]
    );
    f.check().await;
}

#[tokio::test]
async fn strikes_parking_and_permits_outlive_a_restart() {
    let f = Fixture::new().await;
    let rate = RateLimit { requests: 1, per: 60 * SECOND };
    let s = f.subscribe_with(|s| s.rate_limit = Some(rate)).await;
    fill(&f, s.id, 2).await;
    done(&f, &f.claim(1).await, Effect::Asked(300 * SECOND)).await;
    let before = f.lane(s.id).await;
    assert!(before.parked_for.is_some() && before.rate_limited_for.is_some());
    let f = f.reopen().await;
    assert_eq!(f.lane(s.id).await, before);
    assert!(f.claim(1).await.is_empty());
    f.clock.advance(300 * SECOND);
    assert_eq!(f.claim(1).await.len(), 1);
    f.check().await;
}

#[tokio::test]
async fn leases_of_a_process_that_is_gone_end_when_the_file_is_opened() {
    // Promise 2.
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    fill(&f, lane, 3).await;
    let leases = f.claim(2).await;
    let f = f.reopen().await;
    assert_eq!(f.lane(lane).await.in_flight, 0);
    f.check().await;
    let next = f.claim(3).await;
    assert_eq!(next.len(), 3);
    for lease in &next {
        let old = leases.iter().find(|old| old.id == lease.id).map(|old| old.token);
        assert_eq!(lease.unsettled, old.into_iter().collect::<Vec<_>>());
    }
    f.check().await;
}

#[tokio::test]
async fn the_depth_counts_what_is_due_what_is_not_and_what_is_held() {
    let f = Fixture::new().await;
    let (a, b) = (f.proven().await, f.proven().await);
    fill(&f, a.id, 3).await;
    fill(&f, b.id, 2).await;
    f.clock.advance(5 * SECOND);
    let job = NewJob { id: DeliveryId::new(), lane: a.id, wait: SECOND, lane_version: 1, urgent: false };
    f.store.enqueue(&[job], None).await.unwrap();
    let depth = f.store.depth().await.unwrap();
    assert_eq!((depth.due, depth.scheduled, depth.oldest_due), (5, 1, Some(5 * SECOND)));
    let paused = Subscription { status: SubscriptionStatus::Paused, ..(*b).clone() };
    f.subscriptions_update(&paused).await;
    let depth = f.store.depth().await.unwrap();
    assert_eq!((depth.due, depth.scheduled, depth.paused), (3, 1, 1));
}

impl Fixture {
    async fn subscriptions_update(&self, s: &Subscription) {
        use webhook_core::store::SubscriptionStore as _;
        self.store.update(s, s.version).await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_ends_when_work_comes_even_if_it_came_before_the_wait() {
    let f = Fixture::new().await;
    let lane = f.proven().await.id;
    assert!(f.claim(1).await.is_empty());
    fill(&f, lane, 1).await;
    let long = 600 * SECOND;
    tokio::time::timeout(5 * SECOND, f.store.wait(long)).await.expect("the wake-up came before the wait");
    let leases = f.claim(1).await;
    assert_eq!(leases.len(), 1);
    let store = f.store.clone();
    let waiting = tokio::spawn(async move {
        // A bell that rang for what was claimed meanwhile may end a wait for nothing.
        loop {
            store.wait(long).await;
            let leases = store.claim(&claim(1)).await.unwrap();
            if !leases.is_empty() {
                return leases;
            }
        }
    });
    fill(&f, lane, 1).await;
    let leases = tokio::time::timeout(5 * SECOND, waiting).await.expect("woken").unwrap();
    assert_eq!(leases.len(), 1);
    // And it ends at its time-out when nothing comes.
    tokio::time::timeout(5 * SECOND, f.store.wait(Duration::from_millis(1))).await.expect("at its time-out");
}

#[tokio::test]
async fn a_wait_ends_when_a_jobs_time_comes() {
    let f =
        Fixture::with(|options| options.clock(std::sync::Arc::new(webhook_core::time::SystemClock))).await;
    let lane = f.subscribe().await.id;
    let wait = Duration::from_millis(50);
    let job = NewJob { id: DeliveryId::new(), lane, wait, lane_version: 1, urgent: false };
    f.store.enqueue(&[job], None).await.unwrap();
    let claimed = async {
        loop {
            f.store.wait(600 * SECOND).await;
            let leases = f.claim(1).await;
            if !leases.is_empty() {
                return leases;
            }
        }
    };
    assert_eq!(tokio::time::timeout(10 * SECOND, claimed).await.expect("its time came").len(), 1);
}
