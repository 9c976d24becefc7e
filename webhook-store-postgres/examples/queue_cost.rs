//! Measures what a job costs the queue: CPU microseconds of the server's processes and of this one, and the
//! wall's, for adding, claiming and settling, at several sizes of batch and numbers of lanes.
//!
//! ```text
//! cargo run --release -p webhook-store-postgres --example queue_cost -- postgres://USER@HOST/DATABASE [JOBS]
//! ```
//!
//! Two paths: *claimed*, where jobs are added pending, claimed and settled; and *handed off*, where they are
//! leased as they are added. All lanes have proven themselves. The server must run on this machine, or its CPU
//! time reads as 0. It makes the schema `queue_cost` and removes it.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::time::{Duration, Instant};

use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::queue::*;
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _, PgConnection};
use webhook_store_postgres::{PgOptions, PgStore};

type Error = Box<dyn std::error::Error>;

const LIMIT: u32 = 1_000_000;
const LEASE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the server's URL is missing")?;
    let jobs = arguments.next().map_or(Ok(20_000), |text| text.parse::<usize>())?;
    let mut admin = PgConnection::connect(&url).await?;
    println!("µs a job: server's CPU / this process's CPU / wall");
    println!("| lanes | batch | add | claim | settle | add, handed off | settle, handed off |");
    println!("|---|---|---|---|---|---|---|");
    for lanes in [1, 100, 10_000] {
        admin.execute("DROP SCHEMA IF EXISTS queue_cost CASCADE").await?;
        let store = PgStore::open(PgOptions::from_url(&url)?.schema("queue_cost")?).await?;
        let lanes = good_lanes(&store, &mut admin, lanes).await?;
        for batch in [1, 32, 256] {
            let rounds = (jobs / batch).clamp(10, 4_000);
            let warm = (rounds / 5).max(3);
            measure(&store, &lanes, batch, warm).await?;
            let spent = measure(&store, &lanes, batch, rounds).await?;
            let cells: Vec<String> = spent.iter().map(|spent| spent.per(rounds * batch)).collect();
            println!("| {} | {batch} | {} |", lanes.len(), cells.join(" | "));
        }
    }
    admin.execute("DROP SCHEMA queue_cost CASCADE").await?;
    Ok(())
}

/// Lanes without strikes. Proving so many by attempts would take longer than the measurement.
async fn good_lanes(store: &PgStore, admin: &mut PgConnection, count: usize) -> Result<Vec<LaneId>, Error> {
    let settings: Vec<LaneSettings> = (0..count)
        .map(|_| LaneSettings {
            lane: LaneId::new(),
            version: 1,
            max_in_flight: None,
            rate: None,
            hold: None,
        })
        .collect();
    for page in settings.chunks(1000) {
        store.lanes(page).await?;
    }
    sqlx::query("UPDATE queue_cost.lanes SET strikes = 0").execute(&mut *admin).await?;
    admin.execute("VACUUM ANALYZE queue_cost.lanes").await?;
    admin.execute("VACUUM ANALYZE queue_cost.jobs").await?;
    Ok(settings.into_iter().map(|one| one.lane).collect())
}

async fn measure(
    store: &PgStore,
    lanes: &[LaneId],
    batch: usize,
    rounds: usize,
) -> Result<[Spent; 5], Error> {
    let mut spent = [Spent::default(); 5];
    let mut next = 0;
    let mut fresh = || {
        let job = |index: usize| NewJob {
            id: DeliveryId::new(),
            lane: lanes[index % lanes.len()],
            wait: Duration::ZERO,
            lane_version: 1,
            urgent: false,
        };
        next += batch;
        (next - batch..next).map(job).collect::<Vec<_>>()
    };
    for _ in 0..rounds {
        let jobs = fresh();
        spent[0].of(store.enqueue(&jobs, None)).await?;
    }
    let mut left = rounds * batch;
    while left > 0 {
        let all = u32::try_from(batch.min(left))?;
        let claim = Claim {
            id: Token::new(),
            worker: WorkerId::new(),
            lease: LEASE,
            room: Room { all, doubtful: all, dead: all },
            max_in_flight: LIMIT,
            avoid: Vec::new(),
        };
        let leases = spent[1].of(store.claim(&claim)).await?;
        left -= leases.len();
        spent[2].of(store.settle(&done(leases))).await?;
    }
    for _ in 0..rounds {
        let jobs = fresh();
        let to = HandOff {
            token: Token::new(),
            worker: WorkerId::new(),
            lease: LEASE,
            room: Room { all: LIMIT, doubtful: LIMIT, dead: LIMIT },
            max_in_flight: LIMIT,
            avoid: Vec::new(),
        };
        let answers = spent[3].of(store.enqueue(&jobs, Some(&to))).await?;
        let leases: Vec<Lease> = answers
            .into_iter()
            .filter_map(|answer| if let Enqueued::Leased(lease) = answer { Some(lease) } else { None })
            .collect();
        if leases.len() != batch {
            return Err("not all was handed off".into());
        }
        spent[4].of(store.settle(&done(leases))).await?;
    }
    Ok(spent)
}

fn done(leases: Vec<Lease>) -> Vec<Settle> {
    let settle = |lease: Lease| Settle {
        id: lease.id,
        token: lease.token,
        verdict: Verdict::Done,
        effect: Effect::Fast,
        mark: lease.mark,
    };
    leases.into_iter().map(settle).collect()
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

/// Nanoseconds on a CPU of the processes that serve the engine's connections: see `schedstat` in proc(5).
fn server_cpu() -> u64 {
    thread_local! {
        static BACKENDS: std::cell::RefCell<(usize, Vec<String>)> = const { std::cell::RefCell::new((0, Vec::new())) };
    }
    BACKENDS.with_borrow_mut(|(age, paths)| {
        if *age % 1_000 == 0 {
            *paths = backends();
        }
        *age += 1;
        paths.iter().filter_map(|path| first_number(path)).sum()
    })
}

fn backends() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_backend = |path: &std::path::Path| {
        std::fs::read(path.join("cmdline")).is_ok_and(|line| {
            let line = String::from_utf8_lossy(&line);
            line.starts_with("postgres: ") && (line.contains('(') || line.contains("idle"))
        })
    };
    processes
        .map(|entry| entry.path())
        .filter(|path| is_backend(path))
        .map(|path| path.join("schedstat").to_string_lossy().into_owned())
        .collect()
}

fn own_cpu() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter_map(|thread| first_number(&thread.path().join("schedstat").to_string_lossy())).sum()
}

fn first_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}
