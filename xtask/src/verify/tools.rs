//! The checks that a tool makes: its output goes straight to the terminal. They keep going behind a crate that fails,
//! so that one run tells all.

use super::Outcome;
use crate::Failure;
use crate::run::Step;
use crate::workspace::Workspace;

pub(crate) fn format(workspace: &Workspace) -> Result<Outcome, Failure> {
    Ok(Outcome::of_tool(Step::cargo(workspace).args(["fmt", "--all", "--check"]).run()))
}

pub(crate) fn clippy(workspace: &Workspace) -> Result<Outcome, Failure> {
    let step = Step::cargo(workspace)
        .args(["clippy", "--workspace", "--all-targets", "--all-features", "--keep-going"])
        .args(["--", "-D", "warnings"]);
    Ok(Outcome::of_tool(step.run()))
}

pub(crate) fn rustdoc(workspace: &Workspace) -> Result<Outcome, Failure> {
    let step = Step::cargo(workspace)
        .args(["doc", "--workspace", "--all-features", "--no-deps", "--keep-going"])
        .env("RUSTDOCFLAGS", "-D warnings");
    Ok(Outcome::of_tool(step.run()))
}

/// Licences and advisories need cargo-deny and its database; bans and sources are also checked in [`super::law`].
pub(crate) fn deny(workspace: &Workspace) -> Result<Outcome, Failure> {
    if !Step::cargo(workspace).args(["deny", "--version"]).succeeds() {
        let reason = "cargo-deny is not installed (`cargo install --locked cargo-deny`): licences and advisories \
                      were not checked";
        return Ok(Outcome::Skipped { reason: reason.to_owned() });
    }
    let step = Step::cargo(workspace).args(["deny", "--all-features", "check", "--hide-inclusion-graph"]);
    Ok(Outcome::of_tool(step.run()))
}
