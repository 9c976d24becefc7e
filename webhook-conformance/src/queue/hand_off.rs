//! Fresh jobs that a worker of the publishing process takes at once.

use std::time::Duration;

use webhook_core::lane::{Effect, Room};
use webhook_core::queue::{Enqueued, HandOff, Hold, LaneSettings, NewJob, Settled, Verdict};

use crate::bench::{Bench, any_room, hand_off, job, settings};
use crate::{Fixture, QueueFixture};

fn leased(answers: &[Enqueued]) -> usize {
    answers.iter().filter(|answer| matches!(answer, Enqueued::Leased(_))).count()
}

/// As if it had been claimed: the token is the hand-off's, and the lane counts it.
pub async fn a_fresh_job_is_handed_off<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let (job, to) = (job(lane), hand_off(5));
    let Enqueued::Leased(lease) = bench.enqueue_for(&job, Some(&to)).await else {
        panic!("it is due, its lane is good and the worker has room")
    };
    assert_eq!((lease.id, lease.lane, lease.token), (job.id, lane, to.token));
    assert!(lease.unsettled.is_empty());
    bench.none("it is leased").await;
    assert_eq!(bench.state(lane).await.in_flight, 1);
    assert_eq!(bench.enqueue_for(&job, Some(&to)).await, Enqueued::Present, "a repeat finds it");
    let answer = bench.settle(&lease, Verdict::Done, Effect::Fast).await;
    assert_eq!(answer, Settled::Settled { strikes: 0 });
    assert_eq!(bench.state(lane).await.in_flight, 0);
}

/// The lease of a crashed worker ends as any other.
pub async fn a_handed_off_job_is_claimed_when_its_lease_has_run_out<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let job = job(lane);
    let to = HandOff { lease: <F as Fixture>::UNIT, ..hand_off(1) };
    assert!(matches!(bench.enqueue_for(&job, Some(&to)).await, Enqueued::Leased(_)));
    bench.pass(1).await;
    assert_eq!(bench.one(job.id).await.unsettled, [to.token]);
}

/// Of each class.
pub async fn a_hand_off_gives_no_more_than_its_room<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let (good, unproven) = (bench.good_lane().await, bench.lane().await);
    let jobs: Vec<NewJob> = [good, good, good, unproven, unproven].map(job).into();
    let to = HandOff { room: Room { all: 3, doubtful: 1, dead: 0 }, ..hand_off(0) };
    let answers = bench.queue.enqueue(&jobs, Some(&to)).await.unwrap();
    assert!(leased(&answers[..3]) <= 3 && leased(&answers[3..]) <= 1 && leased(&answers) <= 3);
    let rest = jobs.len() - leased(&answers);
    assert_eq!(bench.take(rest).await.len(), rest, "the others are queued");
}

/// By its lane's limit.
pub async fn a_hand_off_keeps_its_lanes_limit<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.push(LaneSettings { max_in_flight: Some(2), ..settings() }).await;
    bench.prove(lane).await;
    let jobs: Vec<NewJob> = (0..5).map(|_| job(lane)).collect();
    let answers = bench.queue.enqueue(&jobs, Some(&hand_off(10))).await.unwrap();
    assert_eq!(leased(&answers), 2);
    bench.none("the lane is at its limit").await;
}

/// Lanes that this worker does not want now are left to others.
pub async fn a_hand_off_avoids_the_lanes_that_it_names<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let (avoided, other) = (bench.good_lane().await, bench.good_lane().await);
    let jobs = [job(avoided), job(other)];
    let to = HandOff { avoid: vec![avoided], ..hand_off(10) };
    let answers = bench.queue.enqueue(&jobs, Some(&to)).await.unwrap();
    assert_eq!(answers[0], Enqueued::Queued);
    assert!(matches!(&answers[1], Enqueued::Leased(lease) if lease.lane == other));
    bench.one(jobs[0].id).await;
}

/// What may not be claimed is not handed off either.
pub async fn what_waits_is_not_handed_off<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let (scheduled, parked) = (bench.good_lane().await, bench.lane().await);
    let paused = bench.push(LaneSettings { hold: Some(Hold::Paused), ..settings() }).await;
    bench.attempt(parked, Effect::Asked(unit * 60)).await;
    let jobs = [NewJob { wait: unit * 60, ..job(scheduled) }, job(parked), job(paused)];
    let to = HandOff { room: any_room(10), ..hand_off(0) };
    let answers = bench.queue.enqueue(&jobs, Some(&to)).await.unwrap();
    assert_eq!(answers, [Enqueued::Queued, Enqueued::Queued, Enqueued::Queued]);
    bench.none("they wait").await;
    for lane in [scheduled, parked, paused] {
        assert_eq!(bench.state(lane).await.in_flight, 0);
    }
    assert_eq!(bench.queue.depth().await.unwrap().oldest_due.unwrap_or_default(), Duration::ZERO);
}
