//! The scripts' arithmetic of lanes, held against `webhook_core::lane` with random attempts: strikes, classes,
//! marks, limits and parking, whole batches at a time.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Health, Room, limit};
use webhook_core::queue::{Claim, JobQueue, LaneSettings, NewJob, Settle, Settled, Verdict};
use webhook_queue_redis::RedisQueue;

/// One batch of attempts: how many, what each did, how long ago its mark was taken, and the time until the next.
#[derive(Debug, Clone)]
struct Batch {
    attempts: Vec<(Effect, bool)>,
    pause: Duration,
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![
        2 => Just(Effect::Fast),
        1 => Just(Effect::Slow),
        4 => Just(Effect::Unanswered),
        1 => Just(Effect::Neutral),
        1 => (0u64..90_000).prop_map(|ms| Effect::Asked(Duration::from_millis(ms))),
    ]
}

fn batches() -> impl Strategy<Value = (u32, Vec<Batch>)> {
    let batch = (prop::collection::vec((effect(), prop::bool::weighted(0.2)), 1..6), 0u64..60)
        .prop_map(|(attempts, secs)| Batch { attempts, pause: Duration::from_secs(secs) });
    (1u32..200, prop::collection::vec(batch, 1..40))
}

struct Lane {
    queue: RedisQueue,
    lane: LaneId,
    most: u32,
    health: Health,
    /// On the clock of the test, which only moves between batches.
    now: Duration,
    parked_until: Duration,
}

impl Lane {
    async fn add(&self, count: usize, urgent: bool) {
        let job = |_| NewJob {
            id: DeliveryId::new(),
            lane: self.lane,
            wait: Duration::ZERO,
            lane_version: 1,
            urgent,
        };
        self.queue.enqueue(&(0..count).map(job).collect::<Vec<_>>(), None).await.unwrap();
    }

    /// All that the lane gives at once.
    async fn claim(&self) -> Vec<webhook_core::queue::Lease> {
        let claim = Claim {
            id: Token::new(),
            worker: WorkerId::new(),
            lease: Duration::from_secs(24 * 3600),
            room: Room { all: 500, doubtful: 500, dead: 500 },
            max_in_flight: 7,
            avoid: Vec::new(),
        };
        self.queue.claim(&claim).await.unwrap()
    }

    async fn check(&self, real: Duration) {
        let state = self.queue.lane_states(&[self.lane]).await.unwrap().remove(0).unwrap();
        assert_eq!(state.health, self.health);
        // The server's clock moves a little by itself.
        let left = self.parked_until.saturating_sub(self.now);
        let parked = state.parked_for.unwrap_or_default();
        assert!(parked <= left && parked + real >= left, "parked for {parked:?}, not {left:?}");
    }

    async fn run(&mut self, batch: &Batch) {
        let began = std::time::Instant::now();
        // Urgent ones pass a parking, so each batch is attempted in full; the limit holds for them too.
        self.add(300, true).await;
        let most = limit(self.most, self.health.strikes);
        let leases = self.claim().await;
        assert_eq!(
            leases.len(),
            usize::try_from(most.min(300)).unwrap(),
            "{:?} of {}",
            self.health,
            self.most
        );
        assert!(
            leases.iter().all(|lease| lease.class == self.health.class() && lease.mark == self.health.mark)
        );
        let mut settles = Vec::new();
        let mut expected = Vec::new();
        for (lease, (effect, old)) in leases.iter().zip(&batch.attempts) {
            let mark = if *old { lease.mark.wrapping_sub(1) } else { lease.mark };
            if let Some(parking) = self.health.take(*effect, mark) {
                self.parked_until = self.parked_until.max(self.now + parking);
            }
            expected.push(Settled::Settled { strikes: self.health.strikes });
            let verdict = Verdict::Done;
            settles.push(Settle { id: lease.id, token: lease.token, verdict, effect: *effect, mark });
        }
        assert_eq!(self.queue.settle(&settles).await.unwrap(), expected);
        let rest: Vec<DeliveryId> = leases.iter().skip(settles.len()).map(|lease| lease.id).collect();
        self.queue.remove(&rest).await.unwrap();
        self.check(began.elapsed() + SLACK).await;
        // Nothing but urgent jobs while it is parked, and something when it is not.
        self.queue.advance(batch.pause);
        self.now += batch.pause;
    }
}

/// The time of the test is moved by hand; the server's own goes on beside it.
const SLACK: Duration = Duration::from_secs(5);

#[test]
fn random_attempts_leave_a_lane_as_the_reference_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Ok(url) = support::shared_url() else {
        let required = std::env::var("WEBHOOK_REQUIRE_BACKENDS").is_ok_and(|value| value == "1");
        assert!(!required, "WEBHOOK_REQUIRE_BACKENDS=1, but there is no server");
        eprintln!("skipped: there is no server");
        return;
    };
    let config = ProptestConfig {
        cases: 24,
        max_shrink_iters: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((most, batches) in batches())| {
        runtime.block_on(async {
            let queue = support::queue(&url, &support::fresh_prefix()).await;
            let lane = LaneId::new();
            let settings = LaneSettings { lane, version: 1, max_in_flight: Some(most), rate: None, hold: None };
            queue.lanes(&[settings]).await.unwrap();
            let mut lane = Lane {
                queue,
                lane,
                most,
                health: Health::default(),
                now: Duration::ZERO,
                parked_until: Duration::ZERO,
            };
            for batch in &batches {
                lane.run(batch).await;
            }
        });
    });
}
