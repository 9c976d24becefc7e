//! Many callers at once.

use std::collections::BTreeSet;

use futures::future::join_all;
use webhook_core::id::DeliveryId;
use webhook_core::lane::{Effect, limit};
use webhook_core::queue::{Enqueued, LaneSettings, Settled, Verdict};

use crate::QueueFixture;
use crate::bench::{Bench, LIMIT, ids, job, settings, wish};

const CALLERS: usize = 8;

/// Promise 3.
pub async fn concurrent_claims_never_share_a_job<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let mut added = BTreeSet::new();
    for _ in 0..4 {
        let lane = bench.push(LaneSettings { max_in_flight: Some(1 << 20), ..settings() }).await;
        added.extend(bench.add_many(lane, 40).await);
    }
    let worker = || async {
        let (mut mine, mut empty) = (Vec::new(), 0);
        while empty < 5 {
            let leases = bench.claim(&wish(7)).await;
            empty = if leases.is_empty() { empty + 1 } else { 0 };
            mine.extend(leases);
            tokio::task::yield_now().await;
        }
        mine
    };
    let all: Vec<DeliveryId> =
        join_all((0..CALLERS).map(|_| worker())).await.iter().flat_map(|leases| ids(leases)).collect();
    assert_eq!(all.len(), added.len(), "each was claimed once");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), added);
}

/// Whoever counts.
pub async fn a_limit_holds_under_concurrent_claims<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    bench.add_many(lane, 50).await;
    let claims = join_all((0..CALLERS).map(|_| {
        let bench = &bench;
        async move { bench.claim(&wish(10)).await.len() }
    }));
    let first: usize = claims.await.into_iter().sum();
    let most = limit(LIMIT, 4) as usize;
    assert!(first <= most, "{first} of {most}");
    bench.take(most - first).await;
    bench.none("the lane is at its limit").await;
}

/// A client that gave up waiting repeats while its first call is still under way.
pub async fn concurrent_repeats_of_a_claim_share_its_leases<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    bench.add_many(lane, 30).await;
    let claim = wish(5);
    let answers = join_all((0..4).map(|_| bench.claim(&claim))).await;
    let given: BTreeSet<DeliveryId> = answers.iter().flat_map(|leases| ids(leases)).collect();
    assert!(given.len() <= 5, "one claim, whoever answered it");
    assert_eq!(bench.state(lane).await.in_flight as usize, given.len());
}

/// The job's id is what makes it one job.
pub async fn concurrent_enqueues_of_a_job_queue_it_once<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.good_lane().await;
    let job = job(lane);
    let answers = join_all((0..CALLERS).map(|_| bench.enqueue(&job))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Enqueued::Queued).count(), 1);
    let lease = bench.one(job.id).await;
    bench.none("it is there once").await;
    bench.done(&lease).await;
    bench.none("it is there once").await;
}

/// Promise 4.
pub async fn concurrent_settles_of_a_lease_count_once<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    let lane = bench.lane().await;
    let added = bench.add(lane).await;
    let lease = bench.one(added).await;
    let settle = || bench.settle(&lease, Verdict::Done, Effect::Fast);
    let answers = join_all((0..CALLERS).map(|_| settle())).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Settled::Settled { strikes: 2 }).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Settled::Stale).count(), CALLERS - 1);
    let state = bench.state(lane).await;
    assert_eq!((state.in_flight, state.health.strikes), (0, 2));
}
