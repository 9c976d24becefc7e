//! Whoever lost its claim changes nothing.

use std::time::Duration;

use webhook_core::id::Token;
use webhook_core::lane::Effect;
use webhook_core::queue::{Settled, Verdict};

use crate::bench::{Bench, LONG};
use crate::{Fixture, QueueFixture};

/// Neither the job, nor its lane's count, nor its strikes.
pub async fn settle_with_a_stale_token_changes_nothing<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    let added = bench.add(lane).await;
    let stale = bench.one_for(added, <F as Fixture>::UNIT).await;
    bench.pass(1).await;
    let live = bench.one(added).await;
    let before = bench.state(lane).await;
    for verdict in [Verdict::Done, Verdict::RetryAfter(Duration::ZERO), Verdict::Release] {
        assert_eq!(bench.settle(&stale, verdict, Effect::Fast).await, Settled::Stale);
    }
    assert_eq!(bench.state(lane).await, before);
    bench.none("the live lease holds").await;
    bench.done(&live).await;
    assert_eq!(bench.state(lane).await.in_flight, 0);
}

/// Promise 4: what a repeat finds is nothing, or another's.
pub async fn a_settle_does_not_count_twice<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    let added = bench.add(lane).await;
    let lease = bench.one(added).await;
    let first = bench.settle(&lease, Verdict::RetryAfter(Duration::ZERO), Effect::Fast).await;
    assert_eq!(first, Settled::Settled { strikes: 2 });
    let again = bench.settle(&lease, Verdict::RetryAfter(Duration::ZERO), Effect::Fast).await;
    assert_eq!(again, Settled::Stale);
    assert_eq!(bench.state(lane).await.health.strikes, 2);
    let second = bench.one(added).await;
    assert_eq!(bench.settle(&lease, Verdict::Done, Effect::Fast).await, Settled::Stale);
    bench.done(&second).await;
}

/// A renewal with a token that was settled, replaced or never given.
pub async fn extend_with_a_stale_token_changes_nothing<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let unit = <F as Fixture>::UNIT;
    let stale = bench.one_for(added, unit).await;
    bench.pass(1).await;
    let live = bench.one_for(added, unit * 2).await;
    let extended = bench.queue.extend(&[(added, stale.token), (added, Token::new())], LONG).await.unwrap();
    assert_eq!(extended, [false, false]);
    bench.pass(2).await;
    let next = bench.one(added).await;
    assert!(next.unsettled.contains(&live.token), "the live lease ended in its own time");
    bench.done(&next).await;
    assert_eq!(bench.queue.extend(&[(added, next.token)], LONG).await.unwrap(), [false]);
}

/// A crash behind `record` and before `settle`: the next claim settles for both.
pub async fn a_stale_worker_cannot_finish_what_another_retries<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let unit = <F as Fixture>::UNIT;
    let stale = bench.one_for(added, unit).await;
    bench.pass(1).await;
    let live = bench.one(added).await;
    bench.settle(&live, Verdict::RetryAfter(unit * 2), Effect::Fast).await;
    assert_eq!(bench.settle(&stale, Verdict::Done, Effect::Fast).await, Settled::Stale);
    bench.none("it waits for its retry").await;
    bench.pass(2).await;
    bench.one(added).await;
}
