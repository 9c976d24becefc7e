//! Calls that are given up half-way: dropping a future leaves the queue as if the call had happened or had
//! not, never in between.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::FutureExt as _;
use webhook_core::id::DeliveryId;
use webhook_core::lane::Effect;
use webhook_core::queue::{Enqueued, Settle, Verdict};

use crate::QueueFixture;
use crate::bench::{Bench, ids, job, wish};

/// Futures are dropped after each of so many polls.
const POLLS: usize = 6;

/// Polls a future so often, then drops it.
async fn give_up_after<T>(polls: usize, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        if call.as_mut().now_or_never().is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// What a dropped claim took comes with a repeat of it; the rest is there for others.
pub async fn a_dropped_claim_loses_nothing<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    for polls in 1..=POLLS {
        let lane = bench.good_lane().await;
        let added: BTreeSet<DeliveryId> = bench.add_many(lane, 10).await.into_iter().collect();
        let claim = wish(4);
        give_up_after(polls, bench.queue.claim(&claim)).await;
        let mut leases = bench.claim(&claim).await;
        leases.extend(bench.take(10 - leases.len()).await);
        assert_eq!(ids(&leases).into_iter().collect::<BTreeSet<_>>(), added);
        assert_eq!(bench.state(lane).await.in_flight, 10);
    }
}

/// A repeat queues it, or finds it.
pub async fn a_dropped_enqueue_can_be_repeated<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    for polls in 1..=POLLS {
        let lane = bench.good_lane().await;
        let job = job(lane);
        give_up_after(polls, bench.queue.enqueue(std::slice::from_ref(&job), None)).await;
        let again = bench.enqueue(&job).await;
        assert!(matches!(again, Enqueued::Queued | Enqueued::Present));
        bench.one(job.id).await;
        bench.none("it is there once").await;
    }
}

/// A repeat settles it, or is stale.
pub async fn a_dropped_settle_can_be_repeated<F: QueueFixture>(fixture: &F) {
    let bench = Bench::new(fixture);
    for polls in 1..=POLLS {
        let lane = bench.lane().await;
        let added = bench.add(lane).await;
        let lease = bench.one(added).await;
        let settle = Settle {
            id: lease.id,
            token: lease.token,
            verdict: Verdict::Done,
            effect: Effect::Fast,
            mark: lease.mark,
        };
        give_up_after(polls, bench.queue.settle(std::slice::from_ref(&settle))).await;
        bench.queue.settle(&[settle]).await.unwrap();
        let state = bench.state(lane).await;
        assert_eq!((state.in_flight, state.health.strikes), (0, 2), "it counted once");
        bench.none("it is finished").await;
    }
}
