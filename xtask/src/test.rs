//! `cargo xtask test`: the one command that sets up and runs all tests.
//!
//! Plain `cargo test`, so that a newcomer needs nothing but cargo. What tests need from outside is set up here, in
//! [`Surroundings`], and taken down when it is dropped; tests find it by environment variables.
//! `WEBHOOK_REQUIRE_BACKENDS=1` makes a missing backend a failure: here nothing is skipped silently.

use std::time::Instant;

use crate::run::{Step, seconds};
use crate::workspace::Workspace;
use crate::{Failure, no_options};

pub(crate) const HELP: &str = "\
cargo xtask test

Sets up and runs every test of the workspace with all features: unit and integration tests, then doctests. Nothing
has to be installed besides cargo. WEBHOOK_REQUIRE_BACKENDS=1 is set, so a test that misses its backend fails.
One crate alone: cargo test -p webhook-core --all-features
";

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    no_options(arguments)?;
    let started = Instant::now();
    let surroundings = Surroundings::start();

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
///
/// The backends in the workspace today live in files and in memory, so there is nothing to start yet. A throwaway
/// PostgreSQL or Redis becomes a field whose `Drop` stops it, and a variable that says where it listens.
#[derive(Debug)]
struct Surroundings {
    variables: Vec<(&'static str, String)>,
}

impl Surroundings {
    fn start() -> Self {
        Self { variables: vec![("WEBHOOK_REQUIRE_BACKENDS", "1".to_owned())] }
    }

    fn apply(&self, step: Step) -> Step {
        self.variables.iter().fold(step, |step, (name, value)| step.env(name, value))
    }
}
