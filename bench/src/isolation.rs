//! Isolation (promise 13): what a healthy subscription feels of its neighbours that hang, die, dawdle or burst.
//!
//! A run has a fresh server with its default settings and a fresh database, and one phase: a healthy subscription
//! whose target was proven first gets 100 events/s, alone or beside one disturbance ([`Phase`]), which begins with it,
//! so that the worst moment, when good targets turn bad, is inside the figures. "Alone" is measured in every round,
//! since only ratios within a round compare.
//!
//! What it owes: every delivery of the healthy subscription is accounted for, and a missing, doubled or altered one is
//! a failure; the disturbance must have been felt by the targets beside, or the run does not count. Whether the
//! latencies hold is said in the table and fails nothing: it depends on the machine too.
//! What it must never do: run without end. Every phase has a count and a time.
//!
//! | module | owes |
//! |---|---|
//! | [`disturbance`] | the phases: who is beside the healthy one |
//! | [`trap`] | targets that misbehave |
//! | [`table`] | the figures as Markdown |

pub(crate) mod disturbance;
mod table;
mod trap;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::disturbance::{Disturbance, Phase};
use self::table::Table;
use crate::Failure;
use crate::api::{Api, DEFAULT_TENANT};
use crate::arguments::Arguments;
use crate::load::{Load, Shape};
use crate::receiver::Receiver;
use crate::server::Server;
use crate::setting::{arrival, settled};
use crate::tally::Tally;

const HEALTHY: &str = "bench.healthy";
const PACE: u32 = 100;
/// Events before the measured ones, which prove the target.
const WARM_UP: usize = 1_000;

/// What the healthy subscription felt in one phase.
#[derive(Debug, Clone)]
struct Felt {
    /// Nanoseconds, sorted.
    delivered: Vec<u64>,
    acknowledged: Vec<u64>,
    /// The second of the phase in which the slowest event was sent.
    worst_second: usize,
    missing: usize,
    duplicates: usize,
    altered: usize,
    /// Requests that reached the targets beside.
    beside: usize,
    /// CPU of the server, in cores, while the healthy events were sent and delivered.
    cores: f64,
}

impl Felt {
    fn is_clean(&self) -> bool {
        self.missing == 0 && self.duplicates == 0 && self.altered == 0
    }
}

/// Rounds of all phases; prints the table.
pub(crate) async fn measure(arguments: &Arguments) -> ExitCode {
    let mut table = Table::new(arguments);
    let mut failed = false;
    for round in 1..=arguments.runs {
        for &phase in &arguments.phases {
            eprint!("round {round} of {}, {} … ", arguments.runs, phase.name());
            match run(phase, arguments).await {
                Ok(felt) => {
                    failed |= !felt.is_clean();
                    eprintln!("{}", table::in_short(&felt));
                    table.add(round, phase, felt);
                }
                Err(failure) => {
                    eprintln!("FAILED: {failure}");
                    failed = true;
                }
            }
        }
    }
    print!("{table}");
    if failed {
        eprintln!("webhook-bench: FAILED, see above");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// One phase with a server of its own, which must then stop cleanly.
async fn run(phase: Phase, arguments: &Arguments) -> Result<Felt, Failure> {
    let binary = arguments.server.as_deref().ok_or("no --server to measure")?;
    let mut server = tokio::task::block_in_place(|| Server::start(binary, arguments.layout(), &[]))?;
    let to = server.address();
    let seconds = arguments.phase_seconds;
    let events = PACE as usize * seconds as usize;

    let tally = Arc::new(Tally::new(WARM_UP, events, 1, false));
    let receiver =
        Receiver::start(Arc::clone(&tally)).await.map_err(|error| format!("cannot receive: {error}"))?;
    let mut api = Api::open(to).await?;
    let healthy = [api.subscribe(&receiver.target(0), HEALTHY).await?];
    let whole = Load {
        to,
        shape: Shape::One,
        first: 0,
        events: WARM_UP,
        concurrency: arguments.concurrency,
        pace: None,
        event_type: HEALTHY,
        tenant: None,
    };
    let until = Instant::now() + arguments.deadline;
    whole.run().await?;
    arrival(&tally, WARM_UP, until, Some(&mut server)).await?;
    if tally.arrived() < WARM_UP {
        return Err(format!("only {} deliveries of the warm-up arrived", tally.arrived()));
    }
    if !settled(DEFAULT_TENANT, &healthy, to, until).await? {
        return Err("the warm-up was not recorded before the deadline".to_owned());
    }
    let disturbance = Disturbance::prepare(phase, to, seconds, until).await?;

    let cpu_before = server.cpu()?;
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds.into()) + arguments.deadline;
    let mut beside = JoinSet::new();
    for load in disturbance.loads() {
        beside.spawn(load.run());
    }
    let measured = Load { first: WARM_UP, events, pace: Some(PACE), ..whole };
    let mut acknowledged = timeout(until - Instant::now(), measured.run())
        .await
        .map_err(|_| "the healthy load was not acknowledged before the deadline".to_owned())??;
    arrival(&tally, tally.expected(), until, Some(&mut server)).await?;
    let cpu = server.cpu()?.saturating_sub(cpu_before);
    let cores = cpu.as_secs_f64() / started.elapsed().as_secs_f64();
    let requests = disturbance.requests();
    // A publish beside that is not over yet is of no more use; one that failed is.
    while let Some(ended) = beside.try_join_next() {
        ended.map_err(|error| format!("the load beside broke: {error}"))??;
    }
    beside.shutdown().await;
    if requests == 0 && phase != Phase::Alone {
        return Err("no request reached the targets beside: nothing was measured".to_owned());
    }
    settled(DEFAULT_TENANT, &healthy, to, until).await?;
    // Requests that hang end with their targets, so that the server need not wait for them.
    drop(disturbance);
    tokio::task::block_in_place(|| server.stop())?;

    // Duplicates that came while it stopped are in.
    let mut delivered = tally.latencies();
    let slowest = delivered.iter().enumerate().max_by_key(|(_, latency)| **latency);
    let worst_second = slowest.map_or(0, |(at, _)| at / PACE as usize);
    delivered.sort_unstable();
    acknowledged.sort_unstable();
    Ok(Felt {
        delivered,
        acknowledged,
        worst_second,
        missing: tally.missing(),
        duplicates: tally.duplicates(),
        altered: tally.strange(),
        beside: requests,
        cores,
    })
}
