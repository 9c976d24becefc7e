//! Measures what a delivery costs this store: CPU microseconds of the whole process, and deliveries a second.
//!
//! ```text
//! cargo run --release -p webhook-store-sqlite --example cost -- [batch=64] [batches=2000] [lanes=1] [backlog=0] [claimed=batches/2]
//! ```
//!
//! Two paths: *handed off*, where the insert leases the delivery to its publisher and the result is recorded;
//! and *claimed*, where it is inserted pending, claimed, loaded and recorded. Every call is durable, so the
//! rates depend on the disk; the CPU time does not. `backlog` is a number of deliveries that wait in a lane
//! of their own, paused; `claimed` is the number of batches on the second path.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use webhook_core::id::{AttemptId, DeliveryId, EventId, SubscriptionId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::lifecycle::Next;
use webhook_core::model::*;
use webhook_core::queue::*;
use webhook_core::signature::SignatureScheme;
use webhook_core::store::*;
use webhook_core::time::Timestamp;
use webhook_store_sqlite::{SqliteOptions, SqliteStore};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default: usize| numbers.next().unwrap_or(Ok(default));
    let (batch, batches, lanes, backlog) = (number(64)?, number(2000)?, number(1)?, number(0)?);
    let claimed = number(batches / 2)?;
    let directory = tempfile::tempdir_in(".")?;
    let store = SqliteStore::open(SqliteOptions::new(directory.path().join("cost.db"))).await?;
    let mut bench = Bench { store, lanes: Vec::new(), batch, config: 0 };
    if backlog > 0 {
        bench.wait_behind(backlog).await?;
    }
    for _ in 0..lanes {
        let lane = bench.subscribe(SubscriptionStatus::Active).await?;
        bench.lanes.push(lane);
    }
    bench.handed_off(20 + 8 * lanes / batch).await?;
    let started = Cpu::now()?;
    let spent = bench.handed_off(batches).await?;
    started
        .report(&format!("handed off, insert {:.0} % record {:.0} %", spent.0, spent.1), batches * batch)?;
    let started = Cpu::now()?;
    bench.claimed(claimed).await?;
    started.report("claimed", claimed * batch)?;
    Ok(())
}

struct Bench {
    store: SqliteStore,
    lanes: Vec<SubscriptionId>,
    batch: usize,
    config: u64,
}

impl Bench {
    async fn subscribe(&mut self, status: SubscriptionStatus) -> Result<SubscriptionId, Error> {
        let subscription = Subscription {
            id: SubscriptionId::new(),
            tenant: Tenant::default(),
            target_url: "https://example.com/hook".parse()?,
            description: None,
            event_types: Vec::new(),
            filter: None,
            headers: BTreeMap::new(),
            metadata: BTreeMap::new(),
            status,
            disabled_reason: None,
            retry: None,
            timeout: None,
            max_in_flight: Some(100_000),
            rate_limit: None,
            ordered: false,
            signature: SignatureScheme::Standard,
            verify: None,
            secrets: Vec::new(),
            version: 1,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        };
        self.store.create(&subscription).await?;
        self.config += 1;
        Ok(subscription.id)
    }

    fn events(&self, first: usize, lanes: &[SubscriptionId]) -> Vec<Insert> {
        let payload = vec![b'x'; 450];
        let insert = |index: usize| Insert {
            event: Arc::new(Event {
                id: EventId::new(),
                tenant: Tenant::default(),
                event_type: "order.created".parse().unwrap(),
                content_type: Arc::from("application/json"),
                payload: payload.clone().into(),
                ordering_key: None,
                deliver_at: None,
                idempotency_key: None,
                only: None,
                traceparent: None,
            }),
            deliveries: vec![NewDelivery {
                id: DeliveryId::new(),
                subscription_id: lanes[(first + index) % lanes.len()],
                ordered: false,
                give_up_after: Duration::from_secs(3600),
            }],
            config_version: self.config,
            fingerprint: [0; 32],
        };
        (0..self.batch).map(insert).collect()
    }

    async fn wait_behind(&mut self, backlog: usize) -> Result<(), Error> {
        let lane = self.subscribe(SubscriptionStatus::Paused).await?;
        for _ in 0..backlog / self.batch {
            self.store.insert(&self.events(0, &[lane]), None).await?;
        }
        Ok(())
    }

    async fn handed_off(&self, batches: usize) -> Result<(f64, f64), Error> {
        let (mut inserting, mut recording) = (Duration::ZERO, Duration::ZERO);
        for round in 0..batches {
            let events = self.events(round * self.batch, &self.lanes);
            let started = Instant::now();
            let inserted = self.store.insert(&events, Some(&hand_off())).await?;
            inserting += started.elapsed();
            let records: Vec<Record> = events
                .iter()
                .zip(inserted)
                .filter_map(|(insert, inserted)| match inserted {
                    Inserted::Stored { mut leases, .. } => Some(success(&insert.event, &leases.pop()?)),
                    _ => None,
                })
                .collect();
            let started = Instant::now();
            self.store.record(&records).await?;
            recording += started.elapsed();
            if records.len() < self.batch {
                self.drain().await?;
            }
        }
        let all = (inserting + recording).as_secs_f64() / 100.0;
        Ok((inserting.as_secs_f64() / all, recording.as_secs_f64() / all))
    }

    async fn claimed(&self, batches: usize) -> Result<(), Error> {
        for round in 0..batches {
            self.store.insert(&self.events(round * self.batch, &self.lanes), None).await?;
            self.drain().await?;
        }
        Ok(())
    }

    async fn drain(&self) -> Result<(), Error> {
        loop {
            let room = Room::of(4 * u32::try_from(self.batch)?);
            let claim = Claim {
                id: Token::new(),
                worker: WorkerId::new(),
                lease: Duration::from_secs(30),
                room,
                max_in_flight: 64,
                avoid: Vec::new(),
            };
            let leases = self.store.claim(&claim).await?;
            if leases.is_empty() {
                return Ok(());
            }
            let loads: Vec<Load> =
                leases.iter().map(|lease| Load { id: lease.id, unsettled: Vec::new() }).collect();
            let loaded = self.store.load(&loads).await?;
            let records: Vec<Record> = leases
                .iter()
                .zip(loaded)
                .filter_map(|(lease, loaded)| Some(success(&loaded?.event, lease)))
                .collect();
            self.store.record(&records).await?;
        }
    }
}

fn hand_off() -> HandOff {
    HandOff {
        token: Token::new(),
        worker: WorkerId::new(),
        lease: Duration::from_secs(30),
        room: Room { all: 100_000, doubtful: 100_000, dead: 100_000 },
        max_in_flight: 64,
        avoid: Vec::new(),
    }
}

fn success(event: &Event, lease: &Lease) -> Record {
    let state = DeliveryState {
        revision: 1,
        status: DeliveryStatus::Succeeded,
        attempts: 1,
        last_status_code: Some(200),
        ..DeliveryState::new()
    };
    let attempt = Attempt {
        id: AttemptId::new(),
        tenant: event.tenant.clone(),
        delivery_id: lease.id,
        event_id: event.id,
        subscription_id: lease.lane,
        number: 1,
        token: lease.token,
        trigger: Trigger::Schedule,
        started_at: Timestamp::EPOCH,
        duration: Duration::from_millis(3),
        outcome: Outcome::Succeeded,
        status_code: Some(200),
        error: None,
        response_headers: vec![
            ("content-type".to_owned(), "text/plain".to_owned()),
            ("date".to_owned(), "Sat, 21 Nov 2026 10:00:00 GMT".to_owned()),
        ],
        response_body: b"ok".to_vec().into(),
        target_url: "https://example.com/hook".to_owned(),
    };
    Record {
        id: lease.id,
        revision: 0,
        lease: Some(RecordLease { token: lease.token, mark: lease.mark, effect: Effect::Fast }),
        attempts: vec![attempt],
        state,
        next: Next::Never,
        new_chain: None,
    }
}

/// The process's CPU time and the wall's.
struct Cpu {
    ticks: u64,
    wall: Instant,
}

impl Cpu {
    fn now() -> Result<Self, Error> {
        // utime and stime, in hundredths of a second; see proc(5).
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        Ok(Self { ticks: fields[11].parse::<u64>()? + fields[12].parse::<u64>()?, wall: Instant::now() })
    }

    fn report(&self, what: &str, deliveries: usize) -> Result<(), Error> {
        let spent = (Self::now()?.ticks - self.ticks) as f64 * 10_000.0;
        if deliveries == 0 {
            return Ok(());
        }
        let rate = deliveries as f64 / self.wall.elapsed().as_secs_f64();
        println!("{what}: {:.1} µs CPU a delivery, {rate:.0} deliveries/s", spent / deliveries as f64);
        Ok(())
    }
}
