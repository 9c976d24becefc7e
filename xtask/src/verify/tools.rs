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

/// Licences, bans and sources. The last two are also checked in [`super::law`], without cargo-deny.
pub(crate) fn deny(workspace: &Workspace) -> Result<Outcome, Failure> {
    if !has_deny(workspace) {
        return Ok(Outcome::Skipped { reason: format!("{NO_DENY}: licences were not checked") });
    }
    let step = Step::cargo(workspace)
        .args(["deny", "--all-features", "check", "--hide-inclusion-graph"])
        .args(["licenses", "bans", "sources"]);
    Ok(Outcome::of_tool(step.run()))
}

/// Advisories are the one check whose answer comes from elsewhere and changes without us.
pub(crate) fn advisories(workspace: &Workspace) -> Result<Outcome, Failure> {
    if !has_deny(workspace) {
        return Ok(Outcome::Skipped { reason: NO_DENY.to_owned() });
    }
    let step = Step::cargo(workspace).args(["deny", "--all-features", "check", "advisories"]);
    match step.output() {
        Err(failure) if failure.message.contains("failed to fetch advisory database") => {
            let reason = "the advisory database cannot be fetched here".to_owned();
            Ok(Outcome::Skipped { reason })
        }
        Err(failure) => Ok(Outcome::Checked { seen: String::new(), wrong: vec![failure.message] }),
        Ok(_) => Ok(Outcome::Checked { seen: "none applies".to_owned(), wrong: Vec::new() }),
    }
}

const NO_DENY: &str = "cargo-deny is not installed (`cargo install --locked cargo-deny`)";

fn has_deny(workspace: &Workspace) -> bool {
    Step::cargo(workspace).args(["deny", "--version"]).succeeds()
}
