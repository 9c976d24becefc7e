//! `cargo xtask fix`: what rustfmt and clippy can mend by themselves. The one verb that writes to the tree.

use crate::run::Step;
use crate::workspace::Workspace;
use crate::{Failure, no_options};

pub(crate) const HELP: &str = "\
cargo xtask fix

Applies the fixes that clippy is sure of, then rustfmt. Works on a tree with uncommitted changes.
";

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    no_options(arguments)?;
    Step::cargo(workspace)
        .args(["clippy", "--workspace", "--all-targets", "--all-features", "--fix"])
        .args(["--allow-dirty", "--allow-staged"])
        .run()?;
    Step::cargo(workspace).args(["fmt", "--all"]).run()?;
    Ok(())
}
