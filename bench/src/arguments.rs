//! The command line: every number bounded, so that a typing error costs an error message and not an afternoon.

use std::path::PathBuf;
use std::time::Duration;

use crate::isolation::disturbance::Phase;
use crate::server::{Backend, Layout};
use crate::setting::Setting;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The server's binary; only the raw limit can be measured without.
    pub(crate) server: Option<PathBuf>,
    pub(crate) backend: Backend,
    /// Processes that deliver beside one that takes events; 0: one process does both.
    pub(crate) workers: u32,
    pub(crate) settings: Vec<Setting>,
    pub(crate) runs: u32,
    /// Events in a saturated run.
    pub(crate) events: usize,
    /// Requests at once.
    pub(crate) concurrency: usize,
    /// The server's `--max-in-flight`. One subscription gets all the load, so by default its limit is not what is
    /// measured.
    pub(crate) max_in_flight: u32,
    /// For one run, from the first measured request to the last delivery settled.
    pub(crate) deadline: Duration,
    pub(crate) quick: bool,
    /// Measure isolation and nothing else.
    pub(crate) isolation: bool,
    /// Of isolation.
    pub(crate) phases: Vec<Phase>,
    pub(crate) phase_seconds: u32,
    /// Measure how long a queue of so many jobs is rebuilt, and nothing else.
    pub(crate) rebuild: Option<usize>,
}

impl Arguments {
    /// Of every server that is measured.
    pub(crate) fn layout(&self) -> Layout {
        Layout { backend: self.backend, workers: self.workers }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Run(Arguments),
    Help(String),
}

const HELP: &str = "\
Usage: webhook-bench --server PATH [OPTIONS]

  --server PATH       the binary of webhook-server
  --settings A,B,…    which settings (default: one,batch,paced,fan-out,fail-first)
  --backend NAME      sqlite (default), postgres, or redis (PostgreSQL with Redis as its queue), with fresh servers of
                      its own for each run
  --workers N         so many processes deliver and one more takes events (default: one process does both; 0 to 16)
  --runs N            rounds; medians are printed (default 3, 1 to 50)
  --events N          events in a saturated run (default 30000, 100 to 1000000)
  --concurrency N     requests at once (default 64, 1 to 1024)
  --max-in-flight N   the server's --max-in-flight (default: 512; the server's own is 64)
  --deadline SECONDS  for one run (default 120, 1 to 3600)
  --quick             one round of 2000 events: to see that it works, not to quote

What a healthy subscription feels of its neighbours, in place of the settings:

  --isolation         measure that; --settings, --events and --max-in-flight mean nothing to it
  --phases A,B,…      which phases (default: all; `alone` is measured in any case)
  --seconds N         of a phase (default 30, 10 with --quick, 5 to 600)

How long it takes until a Redis that lost everything knows all jobs again, in place of the settings:

  --rebuild N         of N deliveries that are owed (1000 to 10000000; 20000 with --quick); always --backend redis

";

pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Parsed, String> {
    let mut parsed = Arguments {
        server: None,
        backend: Backend::Sqlite,
        workers: 0,
        settings: Setting::DEFAULT.to_vec(),
        runs: 3,
        events: 30_000,
        concurrency: 64,
        max_in_flight: 512,
        deadline: Duration::from_secs(120),
        quick: false,
        isolation: false,
        phases: Phase::ALL.to_vec(),
        phase_seconds: 30,
        rebuild: None,
    };
    let mut arguments = arguments;
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" | "-h" => {
                return Ok(Parsed::Help(format!("{HELP}{}\n{}", Setting::list(), Phase::list())));
            }
            "--quick" => {
                parsed.quick = true;
                (parsed.runs, parsed.events, parsed.phase_seconds) = (1, 2_000, 10);
            }
            "--isolation" => parsed.isolation = true,
            "--phases" => parsed.phases = phases(&value()?)?,
            "--seconds" => parsed.phase_seconds = bounded(&flag, &value()?, 5, 600)?,
            "--server" => parsed.server = Some(PathBuf::from(value()?)),
            "--settings" => match value()?.as_str() {
                "help" => return Ok(Parsed::Help(Setting::list())),
                names => parsed.settings = settings(names)?,
            },
            "--backend" => {
                let name = value()?;
                parsed.backend = Backend::named(&name)
                    .ok_or_else(|| format!("--backend takes sqlite, postgres or redis, not `{name}`"))?;
            }
            "--workers" => parsed.workers = bounded(&flag, &value()?, 0, 16)?,
            "--rebuild" => parsed.rebuild = Some(bounded(&flag, &value()?, 1_000, 10_000_000)?),
            "--runs" => parsed.runs = bounded(&flag, &value()?, 1, 50)?,
            "--events" => parsed.events = bounded(&flag, &value()?, 100, 1_000_000)?,
            "--concurrency" => parsed.concurrency = bounded(&flag, &value()?, 1, 1_024)?,
            "--max-in-flight" => {
                parsed.max_in_flight = bounded(&flag, &value()?, 1, 10_000)?;
            }
            "--deadline" => {
                parsed.deadline = Duration::from_secs(bounded(&flag, &value()?, 1, 3_600)?);
            }
            other => return Err(format!("unknown option {other}; see --help")),
        }
    }
    if parsed.server.is_none() && !parsed.settings.is_empty() {
        return Err(
            "--server is missing; without it only `--settings sockets` and `raw` can be measured".into()
        );
    }
    if parsed.rebuild.is_some() {
        parsed.backend = Backend::Redis;
        if parsed.quick {
            parsed.rebuild = Some(20_000);
        }
    }
    if parsed.workers > 0 && parsed.backend == Backend::Sqlite {
        return Err("--workers needs --backend postgres or redis: a file belongs to one process".into());
    }
    Ok(Parsed::Run(parsed))
}

fn settings(names: &str) -> Result<Vec<Setting>, String> {
    let named: Result<Vec<Setting>, String> = names
        .split(',')
        .map(|name| {
            Setting::named(name.trim())
                .ok_or_else(|| format!("--settings: no `{name}`; `--settings help` lists them"))
        })
        .collect();
    // The limits are measured in any case.
    Ok(named?.into_iter().filter(|setting| !Setting::LIMITS.contains(setting)).collect())
}

fn phases(names: &str) -> Result<Vec<Phase>, String> {
    // Without it there is nothing to compare with.
    let mut phases = vec![Phase::Alone];
    for name in names.split(',').map(str::trim) {
        let phase = Phase::named(name).ok_or_else(|| format!("--phases: no `{name}`; --help lists them"))?;
        if !phases.contains(&phase) {
            phases.push(phase);
        }
    }
    Ok(phases)
}

fn bounded<T>(flag: &str, value: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    let number = value.parse::<T>().ok().filter(|number| *number >= least && *number <= most);
    number.ok_or_else(|| format!("{flag} takes a number from {least} to {most}, not `{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn run(line: &str) -> Arguments {
        match parsed(line) {
            Ok(Parsed::Run(arguments)) => arguments,
            other => panic!("not a run: {other:?}"),
        }
    }

    #[test]
    fn a_number_after_quick_holds() {
        let arguments = run("--server x --quick --events 500");
        assert_eq!((arguments.runs, arguments.events), (1, 500));
    }

    #[test]
    fn numbers_out_of_bounds_and_unknown_names_are_refused() {
        assert!(parsed("--server x --runs 0").is_err());
        assert!(parsed("--server x --events many").is_err());
        assert!(parsed("--server x --settings one,two").is_err());
        assert!(parsed("--server").is_err());
    }

    #[test]
    fn a_phase_is_never_measured_without_the_healthy_one_alone() {
        let arguments = run("--server x --isolation --phases dead,burst,dead");
        assert_eq!(arguments.phases, [Phase::Alone, Phase::Dead, Phase::Burst]);
        assert!(parsed("--server x --isolation --phases all").is_err());
        assert!(parsed("--isolation").is_err());
    }

    #[test]
    fn workers_of_their_own_need_a_database_that_is_shared() {
        assert_eq!(run("--server x --backend redis --isolation --workers 4").workers, 4);
        assert!(parsed("--server x --workers 4").is_err());
        assert_eq!(run("--server x --rebuild 5000").backend, Backend::Redis);
    }

    #[test]
    fn the_raw_limit_alone_needs_no_server() {
        assert!(run("--settings raw").settings.is_empty());
        assert!(parsed("--settings one").is_err());
    }
}
