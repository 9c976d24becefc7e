//! `cargo xtask bench`: builds the server and the load generator in release and runs the one against the other.
//!
//! The measuring itself is in the package `webhook-bench`; here is only what needs cargo.

use crate::Failure;
use crate::run::Step;
use crate::workspace::Workspace;

pub(crate) const HELP: &str = "\
cargo xtask bench [OPTIONS]

Builds `webhook-server` and `webhook-bench` in release, then measures: first the raw limit of this machine (load
generator straight to receiver), then the server, in a process of its own with a SQLite file in a temporary
directory, a PostgreSQL of its own, or that and a Redis. Prints tables for docs/performance.md. A missing or duplicate delivery, or a run past its deadline, is a
failure. Options go to webhook-bench:

  --quick             one short run of each setting, to see that it works
  --backend NAME      sqlite (default), postgres, or redis (on postgres); they must be installed
  --workers N         N processes deliver and one more takes events (default: one process does both)
  --isolation         what a healthy subscription feels of its neighbours, in place of the settings
  --rebuild N         how long a Redis that lost N jobs is without them, in place of the settings
  --runs N            runs of each setting; medians are printed (default 3, at most 50)
  --events N          events in a saturated run (default 30000, at most 1000000)
  --settings A,B,…    which settings; `cargo xtask bench --settings help` lists them
  --max-in-flight N   the server's --max-in-flight (default: the server's own)
  --deadline SECONDS  for one run (default 120)
";

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    for needed in ["webhook-server", "webhook-bench"] {
        if !workspace.has_member(needed)? {
            return Err(Failure::new(format!("the workspace has no package `{needed}` to measure")));
        }
    }
    Step::cargo(workspace)
        .args(["build", "--release", "--package", "webhook-server", "--package", "webhook-bench"])
        .run()?;
    let release = workspace.target_directory()?.join("release");
    Step::new(workspace, release.join("webhook-bench"))
        .args(["--server".as_ref(), release.join("webhook-server").as_os_str()])
        .args(arguments)
        .run()?;
    Ok(())
}
