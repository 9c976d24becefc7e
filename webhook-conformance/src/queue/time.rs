//! Waits, leases and wake-ups, by the queue's own clock.

use std::time::Duration;

use webhook_core::lane::Effect;
use webhook_core::queue::{Enqueued, NewJob, Settled, Verdict};

use crate::bench::{Bench, LONG, job};
use crate::{Fixture, QueueFixture};

/// Longer than any wait in these cases should take, in real time or in moved time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Promise 6.
pub async fn a_job_is_never_claimed_early<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add_in(lane, <F as Fixture>::UNIT * 4).await;
    bench.none("it has just begun to wait").await;
    bench.pass(2).await;
    bench.none("it waits yet").await;
    bench.pass(2).await;
    bench.one(added).await;
}

/// Promise 6.
pub async fn a_retry_is_never_claimed_early<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let lease = bench.one(added).await;
    bench.settle(&lease, Verdict::RetryAfter(<F as Fixture>::UNIT * 4), Effect::Fast).await;
    bench.none("it has just begun to wait").await;
    bench.pass(2).await;
    bench.none("it waits yet").await;
    bench.pass(2).await;
    bench.one(added).await;
}

/// The earlier of both times counts, whichever came first.
pub async fn enqueueing_again_only_makes_a_job_due_earlier<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let unit = <F as Fixture>::UNIT;
    let pulled = NewJob { wait: LONG, ..job(lane) };
    assert_eq!(bench.enqueue(&pulled).await, Enqueued::Queued);
    assert_eq!(bench.enqueue(&NewJob { wait: unit * 4, ..pulled.clone() }).await, Enqueued::Present);
    assert_eq!(bench.enqueue(&NewJob { wait: LONG, ..pulled.clone() }).await, Enqueued::Present);
    bench.pass(2).await;
    bench.none("it waits yet").await;
    bench.pass(2).await;
    let lease = bench.one(pulled.id).await;
    bench.done(&lease).await;
    bench.none("it is there once").await;
}

/// Promise 3: while a worker is in its time, nobody else gets the job.
pub async fn a_lease_holds_for_its_whole_time<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    bench.one_for(added, <F as Fixture>::UNIT * 4).await;
    for _ in 0..3 {
        bench.none("its lease holds").await;
        bench.pass(1).await;
    }
    if F::MOVES_TIME {
        bench.none("its lease holds").await;
    }
    bench.pass(1).await;
    bench.one(added).await;
}

/// Promise 7: the next worker learns that something may have been sent.
pub async fn a_lapsed_lease_is_claimed_again_and_its_token_is_unsettled<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let unit = <F as Fixture>::UNIT;
    let first = bench.one_for(added, unit).await;
    bench.pass(1).await;
    let second = bench.one_for(added, unit).await;
    assert_eq!(second.unsettled, [first.token]);
    assert_eq!(bench.state(lane).await.in_flight, 1, "only the second is in flight");
    bench.pass(1).await;
    let third = bench.one_for(added, LONG).await;
    let mut unsettled = third.unsettled.clone();
    unsettled.sort_unstable();
    assert_eq!(unsettled, [first.token, second.token], "until one settles");
    bench.settle(&third, Verdict::RetryAfter(Duration::ZERO), Effect::Fast).await;
    assert!(bench.one(added).await.unsettled.is_empty(), "one has settled");
}

/// A release settles its own token. Those of others may still stand for unrecorded requests.
pub async fn a_release_keeps_the_unsettled_tokens_of_others<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let crashed = bench.one_for(added, <F as Fixture>::UNIT).await;
    bench.pass(1).await;
    let released = bench.one(added).await;
    bench.settle(&released, Verdict::Release, Effect::Neutral).await;
    assert_eq!(bench.one(added).await.unsettled, [crashed.token]);
}

/// Promise 3: running past its time alone does not cancel a token.
pub async fn a_token_is_good_until_another_worker_claims<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let late = bench.one_for(added, <F as Fixture>::UNIT).await;
    bench.pass(2).await;
    let answer = bench.settle(&late, Verdict::Done, Effect::Fast).await;
    assert!(matches!(answer, Settled::Settled { .. }), "nobody has claimed it since");
    bench.none("it is finished").await;
    assert_eq!(bench.state(lane).await.in_flight, 0, "the lapse and the settle count once");
}

/// Renewed leases end later.
pub async fn an_extended_lease_holds_on<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let unit = <F as Fixture>::UNIT;
    let lease = bench.one_for(added, unit * 4).await;
    bench.pass(2).await;
    let extended = bench.queue.extend(&[(added, lease.token)], unit * 8).await.unwrap();
    assert_eq!(extended, [true]);
    bench.pass(4).await;
    bench.none("the renewed lease holds").await;
    assert_eq!(bench.state(lane).await.in_flight, 1, "it is one lease still");
    bench.pass(4).await;
    assert_eq!(bench.one(added).await.unsettled, [lease.token]);
}

/// Whatever a renewal in the last moment answers, it is true.
pub async fn extending_a_lapsed_lease_tells_the_truth<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let added = bench.add(lane).await;
    let lease = bench.one_for(added, <F as Fixture>::UNIT).await;
    bench.pass(2).await;
    if bench.queue.extend(&[(added, lease.token)], LONG).await.unwrap() == [true] {
        bench.none("it was renewed").await;
        assert_eq!(bench.state(lane).await.in_flight, 1);
        bench.done(&lease).await;
    } else {
        bench.one(added).await;
    }
    assert!(bench.state(lane).await.in_flight <= 1);
}

/// A worker that waits hears of a new job.
pub async fn a_wait_ends_when_a_job_is_added<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.none("nothing was added yet").await;
    let adding = async {
        tokio::task::yield_now().await;
        bench.add(lane).await
    };
    let waiting = tokio::time::timeout(PATIENCE / 2, bench.queue.wait(PATIENCE));
    let (added, waited) = futures::future::join(adding, waiting).await;
    assert!(waited.is_ok(), "the wait ended long before its time-out");
    bench.one(added).await;
}

/// No wake-up is lost between an empty claim and the wait.
pub async fn a_wait_ends_at_once_when_a_job_came_before_it<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.none("nothing was added yet").await;
    let added = bench.add(lane).await;
    let waited = tokio::time::timeout(PATIENCE / 2, bench.queue.wait(PATIENCE)).await;
    assert!(waited.is_ok(), "the wait ended long before its time-out");
    bench.one(added).await;
}

/// And of one whose time has come.
pub async fn a_wait_ends_when_a_job_becomes_due<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let unit = <F as Fixture>::UNIT;
    let added = bench.add_in(lane, unit).await;
    bench.none("it is not due yet").await;
    let until_due = async {
        loop {
            bench.queue.wait(PATIENCE).await;
            if bench.queue.depth().await.unwrap().due > 0 {
                return;
            }
        }
    };
    let passing = async {
        fixture.advance(unit).await;
        // With a clock that only a test moves, this is where the rest of the time-out would pass.
        tokio::time::timeout(PATIENCE / 2, std::future::pending::<()>()).await
    };
    let (until_due, passing) = (std::pin::pin!(until_due), std::pin::pin!(passing));
    let woken = futures::future::select(until_due, passing).await;
    assert!(matches!(woken, futures::future::Either::Left(_)), "the wait ended when the job was due");
    bench.one(added).await;
}

/// A worker that waits for nothing gets its turn back.
pub async fn a_wait_ends_at_its_time_out<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    bench.none("nothing was added").await;
    let waited = tokio::time::timeout(PATIENCE, bench.queue.wait(<F as Fixture>::UNIT)).await;
    assert!(waited.is_ok());
}
