//! How long it takes until a Redis that lost everything knows all jobs again.
//!
//! A run: a fresh server on PostgreSQL and Redis; [`LANES`] subscriptions; so many deliveries that are due in an hour,
//! written by SQL (`backlog.sql`); a wait until Redis knows them; then `FLUSHALL`. Measured is what passes until the
//! first job is there again, which is how long the loss takes to be noticed, and until the last one is.
//!
//! What it owes: every job is counted in Redis, and a run in which one is missing at the deadline fails.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use test_servers::postgres;
use test_servers::redis::Server as Redis;

use crate::Failure;
use crate::api::Api;
use crate::arguments::Arguments;
use crate::report::{machine, median, number};
use crate::server::{Backends, Server};

const BACKLOG: &str = include_str!("backlog.sql");
const EVENT: &str = "bench.backlog";
const LANES: usize = 100;
/// The hash from job to lane.
const JOBS: &str = "{webhooks}:jobs";

/// What one rebuild took.
#[derive(Debug, Clone, Copy)]
struct Rebuilt {
    /// From the loss to the first job.
    noticed: Duration,
    /// From the first job to the last.
    filled: Duration,
    /// CPU from the loss to the last job.
    server: Duration,
    backends: Backends<Duration>,
    /// Of all its processes, at the most.
    memory_kib: u64,
}

/// Prints a table of all rounds.
pub(crate) async fn measure(jobs: usize, arguments: &Arguments) -> ExitCode {
    let mut rounds = Vec::new();
    let mut failed = false;
    for round in 1..=arguments.runs {
        eprint!("round {round} of {}, {jobs} jobs … ", arguments.runs);
        match run(jobs, arguments).await {
            Ok(rebuilt) => {
                eprintln!("noticed after {:.2?}, filled in {:.2?}", rebuilt.noticed, rebuilt.filled);
                rounds.push(rebuilt);
            }
            Err(failure) => {
                eprintln!("FAILED: {failure}");
                failed = true;
            }
        }
    }
    print!("{}", table(jobs, arguments, &rounds));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn run(jobs: usize, arguments: &Arguments) -> Result<Rebuilt, Failure> {
    let binary = arguments.server.as_deref().ok_or("no --server to measure")?;
    let mut server = tokio::task::block_in_place(|| Server::start(binary, arguments.layout(), &[]))?;
    let mut api = Api::open(server.address()).await?;
    for number in 0..LANES {
        // A port that nobody is sent to.
        api.subscribe(&format!("http://127.0.0.1:9000/h/{number}"), EVENT).await?;
    }
    tokio::task::block_in_place(|| {
        fill(&server, jobs)?;
        let rebuilt = rebuild(&mut server, jobs, arguments.deadline)?;
        server.stop()?;
        Ok(rebuilt)
    })
}

/// Loses everything and watches it come back. Blocks.
fn rebuild(server: &mut Server, jobs: usize, deadline: Duration) -> Result<Rebuilt, Failure> {
    until(server, jobs, Instant::now() + deadline)?;
    let (server_before, before) = (server.cpu()?, server.backends_cpu()?);
    let lost = Instant::now();
    redis(server)?.ask(&["FLUSHALL"])?;
    let first = until(server, 1, lost + deadline)?;
    let last = until(server, jobs, lost + deadline)?;
    let now = server.backends_cpu()?;
    let since = |now: Option<Duration>, before: Option<Duration>| {
        now.unwrap_or_default().saturating_sub(before.unwrap_or_default())
    };
    Ok(Rebuilt {
        noticed: first - lost,
        filled: last - first,
        server: server.cpu()?.saturating_sub(server_before),
        backends: Backends {
            postgres: since(now.postgres, before.postgres),
            redis: since(now.redis, before.redis),
        },
        memory_kib: server.peak_memory()?,
    })
}

/// Waits until Redis knows so many jobs, and tells when that was.
fn until(server: &mut Server, jobs: usize, deadline: Instant) -> Result<Instant, Failure> {
    loop {
        let known = redis(server)?.ask(&["HLEN", JOBS])?;
        let now = Instant::now();
        match known.parse::<usize>() {
            Ok(known) if known >= jobs => return Ok(now),
            _ if now > deadline => return Err(format!("only {known} of {jobs} jobs at the deadline")),
            _ => server.check()?,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn redis(server: &Server) -> Result<&Redis, Failure> {
    server.redis().ok_or_else(|| "a rebuild needs Redis".to_owned())
}

/// Writes the deliveries by `psql`. Blocks.
fn fill(server: &Server, jobs: usize) -> Result<(), Failure> {
    let database = server.postgres().ok_or("a rebuild needs PostgreSQL")?;
    let programs = postgres::programs().ok_or("the programs of PostgreSQL are not there")?;
    let beside = programs.join("psql");
    let psql = if beside.exists() { beside } else { "psql".into() };
    let failed = |error: std::io::Error| format!("{}: {error}", psql.display());
    let mut child = Command::new(&psql)
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", database.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let script = BACKLOG.replace("{COUNT}", &jobs.to_string());
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", psql.display())) }
}

fn table(jobs: usize, arguments: &Arguments, rounds: &[Rebuilt]) -> String {
    let figure = |of: &dyn Fn(&Rebuilt) -> f64, digits| {
        number(median(&rounds.iter().map(of).collect::<Vec<_>>()), digits)
    };
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / jobs as f64;
    let slowest = rounds.iter().map(|rebuilt| rebuilt.filled.as_secs_f64()).fold(0.0, f64::max);
    let mut out = String::new();
    // A String takes everything.
    let _ = writeln!(
        out,
        "{}\n{} round(s), medians; {jobs} jobs of {LANES} subscriptions, `FLUSHALL`; {}.{}\n\n\
         | jobs | noticed after, s | filled in, s (slowest) | server CPU µs a job | PostgreSQL | Redis | server memory MiB |\n\
         |---|---|---|---|---|---|---|\n\
         | {jobs} | {} | {} ({slowest:.2}) | {} | {} | {} | {} |",
        machine(),
        rounds.len(),
        arguments.layout().title(),
        if arguments.quick { " A quick run: not to be quoted." } else { "" },
        figure(&|rebuilt| rebuilt.noticed.as_secs_f64(), 2),
        figure(&|rebuilt| rebuilt.filled.as_secs_f64(), 2),
        figure(&|rebuilt| each(rebuilt.server), 1),
        figure(&|rebuilt| each(rebuilt.backends.postgres), 1),
        figure(&|rebuilt| each(rebuilt.backends.redis), 1),
        figure(&|rebuilt| rebuilt.memory_kib as f64 / 1024.0, 0),
    );
    out
}
