//! `cargo xtask test`: the one command that sets up and runs all tests.
//!
//! Plain `cargo test`, so that a newcomer needs nothing but cargo. What tests need from outside is set up here, in
//! [`Surroundings`], and taken down when it is dropped; tests find it by environment variables. A server that is not
//! installed is installed where that may be done ([`packages`]).
//! `WEBHOOK_REQUIRE_BACKENDS=1` makes a missing backend a failure: here nothing is skipped silently.

use std::time::Instant;

use test_servers::postgres::{self, Postgres};

use crate::packages;
use crate::run::{Step, seconds};
use crate::workspace::Workspace;
use crate::{Failure, no_options};

pub(crate) const HELP: &str = "\
cargo xtask test

Sets up and runs every test of the workspace with all features: unit and integration tests, then doctests. They
share a throwaway PostgreSQL on a free port of 127.0.0.1, with its data in a temporary directory; it is stopped
whatever happens. Those that need a Redis or a PgBouncer start their own. Where one of them is not installed, root on
Debian or Ubuntu gets the package (its own service is not started), and others are told what to install.
WEBHOOK_REQUIRE_BACKENDS=1 is set, so a test that misses its backend fails.

  WEBHOOK_TEST_POSTGRES_URL   a server to use instead: its user must be allowed to make schemas and databases
  WEBHOOK_TEST_POSTGRES_BIN   where initdb and pg_ctl are, when they are not found

One crate alone: cargo test -p webhook-core --all-features (a backend that is missing is then skipped, with a word)
";

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    no_options(arguments)?;
    let started = Instant::now();
    let surroundings = Surroundings::start(workspace)?;

    // Built apart from the run, so that the two durations tell a slow compiler from a slow test.
    let build = Step::cargo(workspace).args(["test", "--workspace", "--all-features", "--no-run"]).run()?;
    // Every failing target is shown, not the first alone.
    let tests = surroundings
        .apply(Step::cargo(workspace))
        .args(["test", "--workspace", "--all-features", "--no-fail-fast"])
        .run()?;
    println!(
        "\nall tests passed in {}: build {}, tests and doctests {}",
        seconds(started.elapsed()),
        seconds(build),
        seconds(tests)
    );
    Ok(())
}

/// What the tests need from outside this process, for as long as this value lives.
#[derive(Debug)]
struct Surroundings {
    variables: Vec<(&'static str, String)>,
    /// Stopped when dropped; none when the environment names one.
    _postgres: Option<Postgres>,
}

impl Surroundings {
    fn start(workspace: &Workspace) -> Result<Self, Failure> {
        let mut variables = vec![("WEBHOOK_REQUIRE_BACKENDS", "1".to_owned())];
        let is_named = std::env::var_os(postgres::URL).is_some_and(|url| !url.is_empty());
        // Needed even beside a server that is named: tests of outages break servers of their own.
        packages::provide(workspace, "PostgreSQL", "postgresql", || postgres::programs().is_some())?;
        // Each test program of the queue on Redis starts servers of its own.
        packages::provide(workspace, "Redis", "redis-server", || {
            Step::new(workspace, "redis-server").args(["--version"]).succeeds()
        })?;
        packages::provide(workspace, "PgBouncer", "pgbouncer", test_servers::pgbouncer::runs)?;
        if let Some(bin) = postgres::programs() {
            variables.push((postgres::BIN, bin.to_string_lossy().into_owned()));
        }
        let postgres = (!is_named).then(Postgres::start).transpose().map_err(Failure::new)?;
        if let Some(postgres) = &postgres {
            println!("PostgreSQL for all tests: {}", postgres.url());
            variables.push((postgres::URL, postgres.url().to_owned()));
        }
        Ok(Self { variables, _postgres: postgres })
    }

    fn apply(&self, step: Step) -> Step {
        self.variables.iter().fold(step, |step, (name, value)| step.env(name, value))
    }
}
