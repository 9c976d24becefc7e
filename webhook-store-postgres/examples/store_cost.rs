//! Measures what a delivery costs the store: CPU microseconds of the server's processes and of this one, and
//! the wall's, for storing an event with its delivery and for recording its result, at several sizes of batch.
//!
//! ```text
//! cargo run --release -p webhook-store-postgres --example store_cost -- postgres://USER@HOST/DATABASE [DELIVERIES]
//! ```
//!
//! Two set-ups: with the database as the queue, where each delivery is handed off as it is stored and its lease
//! ends with its result; and with jobs kept elsewhere. The one subscription has proven itself. The server must
//! run on this machine, or its CPU time reads as 0. It makes the schema `store_cost` and removes it.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use support::desk::{Desk, event, hand_off, insert_of, result, success};
use webhook_core::model::DeliveryState;
use webhook_core::model::Event;
use webhook_core::queue::{HandOff, Lease};
use webhook_core::store::{DeliveryStore as _, Insert, Inserted, Loaded, Recorded};
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _, PgConnection};
use webhook_store_postgres::{PgOptions, PgStore};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the server's URL is missing")?;
    let deliveries = arguments.next().map_or(Ok(20_000), |text| text.parse::<usize>())?;
    let mut admin = PgConnection::connect(&url).await?;
    println!("µs a delivery: server's CPU / this process's CPU / wall");
    println!("| queue | batch | insert | record |");
    println!("|---|---|---|---|");
    for own in [true, false] {
        admin.execute("DROP SCHEMA IF EXISTS store_cost CASCADE").await?;
        let options = PgOptions::from_url(&url)?.schema("store_cost")?.own_queue(own);
        let desk = Desk::new(PgStore::open(options).await?).await;
        admin.execute("UPDATE store_cost.lanes SET strikes = 0").await?;
        for batch in [1, 32, 256] {
            let rounds = (deliveries / batch).clamp(10, 2_000);
            measure(&desk, own, batch, (rounds / 5).max(3)).await?;
            find_backends(&mut admin).await?;
            let spent = measure(&desk, own, batch, rounds).await?;
            let cells: Vec<String> = spent.iter().map(|spent| spent.per(rounds * batch)).collect();
            println!("| {} | {batch} | {} |", if own { "own" } else { "other" }, cells.join(" | "));
        }
    }
    admin.execute("DROP SCHEMA store_cost CASCADE").await?;
    Ok(())
}

async fn measure(desk: &Desk, own: bool, batch: usize, rounds: usize) -> Result<[Spent; 2], Error> {
    let mut spent = [Spent::default(); 2];
    let payload = vec![b'x'; 450];
    for _ in 0..rounds {
        let fresh = |_| {
            let event = Event { payload: payload.clone().into(), ..event() };
            insert_of(event, &[&desk.subscription], 1)
        };
        let inserts: Vec<Insert> = (0..batch).map(fresh).collect();
        let to = HandOff { max_in_flight: 1_000_000, ..hand_off(1_000_000) };
        let answers = spent[0].of(desk.store.insert(&inserts, own.then_some(&to))).await?;
        let mut records = Vec::with_capacity(batch);
        for (insert, answer) in inserts.iter().zip(&answers) {
            let Inserted::Stored { leases, .. } = answer else { return Err("it is not new".into()) };
            let lease: Option<&Lease> = leases.first();
            if own && lease.is_none() {
                return Err("it was not handed off".into());
            }
            let delivery = &insert.deliveries[0];
            let loaded = Loaded {
                state: DeliveryState::new(),
                event: insert.event.clone(),
                subscription_id: delivery.subscription_id,
                subscription_version: Some(1),
                due_in: Duration::ZERO,
                waiting: false,
                unrecorded: Vec::new(),
            };
            records.push(result(delivery.id, &loaded, lease, &success()));
        }
        for answer in spent[1].of(desk.store.record(&records)).await? {
            if !matches!(answer, Recorded::Applied { .. }) {
                return Err("a result did not apply".into());
            }
        }
    }
    Ok(spent)
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    server: u64,
    here: u64,
    wall: Duration,
}

impl Spent {
    async fn of<T>(
        &mut self,
        call: impl Future<Output = Result<T, webhook_core::error::BackendError>>,
    ) -> Result<T, Error> {
        let (server, here, started) = (server_cpu(), own_cpu(), Instant::now());
        let answer = call.await?;
        self.wall += started.elapsed();
        self.server += server_cpu().saturating_sub(server);
        self.here += own_cpu().saturating_sub(here);
        Ok(answer)
    }

    fn per(&self, jobs: usize) -> String {
        let each = |nanos: f64| nanos / 1_000.0 / jobs as f64;
        format!(
            "{:.1} / {:.1} / {:.1}",
            each(self.server as f64),
            each(self.here as f64),
            each(self.wall.as_nanos() as f64)
        )
    }
}

/// What the kernel tells of the processes that serve the store: see `schedstat` in proc(5).
static BACKENDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Finds the processes that serve the store by now.
async fn find_backends(admin: &mut PgConnection) -> Result<(), Error> {
    let pids: Vec<i32> =
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = 'webhooks'")
            .fetch_all(admin)
            .await?;
    *BACKENDS.lock().unwrap() = pids.iter().map(|pid| format!("/proc/{pid}/schedstat")).collect();
    Ok(())
}

/// Nanoseconds on a CPU of those processes.
fn server_cpu() -> u64 {
    BACKENDS.lock().unwrap().iter().filter_map(|path| first_number(path)).sum()
}

fn own_cpu() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter_map(|thread| first_number(&thread.path().join("schedstat").to_string_lossy())).sum()
}

fn first_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}
