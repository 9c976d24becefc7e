//! What a job costs the server: CPU microseconds of its process for enqueue, claim and settle, by the size of the
//! batch and the number of lanes. Run it in release mode on a machine that does little else:
//!
//! ```text
//! cargo run --release -p webhook-queue-redis --example redis-cost [jobs]
//! ```
//!
//! It starts a server of its own, or uses the one that `WEBHOOK_TEST_REDIS_URL` names.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::resp::Resp;
use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::queue::{Claim, JobQueue, LaneSettings, NewJob, Settle, Verdict};
use webhook_queue_redis::RedisQueue;

struct Meter {
    server: Resp,
}

impl Meter {
    /// CPU microseconds that the server has used.
    async fn now(&mut self) -> f64 {
        let text = self.server.call(&["INFO", "cpu"]).await.text();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            value.unwrap()
        };
        (field("used_cpu_user:") + field("used_cpu_sys:")) * 1e6
    }
}

#[tokio::main]
async fn main() {
    let jobs: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let url = support::shared_url().unwrap();
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let mut meter = Meter { server: Resp::connect(port).await };
    println!(
        "{jobs} jobs; CPU µs of the server a job: enqueue claim settle = sum (jobs/s through one caller)"
    );
    for lanes in [1, 100, 10_000] {
        for batch in [1, 32, 256] {
            let jobs = if batch == 1 { jobs / 4 } else { jobs };
            let queue = support::queue(&url, &support::fresh_prefix()).await;
            measure(&queue, &mut meter, lanes, batch, jobs).await;
        }
    }
}

async fn measure(queue: &RedisQueue, meter: &mut Meter, lanes: usize, batch: usize, jobs: usize) {
    let settings: Vec<LaneSettings> = (0..lanes)
        .map(|_| LaneSettings {
            lane: LaneId::new(),
            version: 1,
            max_in_flight: Some(1 << 24),
            rate: None,
            hold: None,
        })
        .collect();
    queue.lanes(&settings).await.unwrap();
    let new: Vec<NewJob> = (0..jobs)
        .map(|number| NewJob {
            id: DeliveryId::new(),
            lane: settings[number % lanes].lane,
            wait: Duration::ZERO,
            lane_version: 1,
            urgent: false,
        })
        .collect();
    let began = Instant::now();
    let start = meter.now().await;
    for jobs in new.chunks(batch) {
        queue.enqueue(jobs, None).await.unwrap();
    }
    let enqueued = meter.now().await;
    let room = u32::try_from(batch).unwrap();
    let mut claims = Vec::new();
    let mut left = jobs;
    while left > 0 {
        let leases = queue.claim(&wish(room)).await.unwrap();
        assert!(!leases.is_empty(), "{left} are left");
        left -= leases.len();
        claims.push(leases);
    }
    let claimed = meter.now().await;
    for leases in &claims {
        let settles: Vec<Settle> = leases
            .iter()
            .map(|lease| Settle {
                id: lease.id,
                token: lease.token,
                verdict: Verdict::Done,
                effect: Effect::Fast,
                mark: lease.mark,
            })
            .collect();
        queue.settle(&settles).await.unwrap();
    }
    let settled = meter.now().await;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let jobs = jobs as f64;
    let each = [enqueued - start, claimed - enqueued, settled - claimed].map(|span| span / jobs);
    println!(
        "lanes {lanes:>6}  batch {batch:>3}:  {:>6.2} {:>6.2} {:>6.2} = {:>6.2}   ({:.0}/s)",
        each[0],
        each[1],
        each[2],
        each.iter().sum::<f64>(),
        jobs / began.elapsed().as_secs_f64()
    );
}

fn wish(room: u32) -> Claim {
    Claim {
        id: Token::new(),
        worker: WorkerId::new(),
        lease: Duration::from_secs(600),
        room: Room { all: room, doubtful: room, dead: room },
        max_in_flight: 64,
        avoid: Vec::new(),
    }
}
