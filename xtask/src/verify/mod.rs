//! `cargo xtask verify`: the rules of this repository, checked and never changed.
//!
//! Every check runs, whatever the ones before it found, so that one run tells all. A check returns what it looked at
//! (a count, so that a check which looks at nothing shows) and what is wrong, each finding with the file and line.
//! A check that cannot run here is printed as skipped with its reason; only those that need cargo-deny, systemd or
//! docker may be.
//!
//! | module | rule |
//! |---|---|
//! | [`tools`] | rustfmt, clippy, rustdoc, cargo-deny |
//! | [`law`] | who may depend on whom; one TLS stack; crates.io alone |
//! | [`layers`] | the same within core: model and decisions, traits, engine |
//! | [`promises`] | tests cite promises that exist |
//! | [`cited_tests`] | the pages of guarantees, features and failures name tests that exist |
//! | [`sources`] | length of files, unfinished code, sleeps in tests, paths of one machine |
//! | [`links`] | Markdown links lead somewhere |
//! | [`packaging`] | the systemd unit and compose.yaml are what their own tools accept |
//! | [`gate`] | `.ci/run` runs the README's test command |
//! | [`scan`] | Rust text without its strings and comments; no rule of its own |

mod cited_tests;
mod gate;
mod law;
mod layers;
mod links;
mod packaging;
mod promises;
mod scan;
mod sources;
mod tools;

use std::time::Instant;

use crate::run::seconds;
use crate::workspace::Workspace;
use crate::{Failure, no_options};

pub(crate) const HELP: &str = "\
cargo xtask verify

Checks the tree and changes nothing. Every check runs, and the findings are listed at the end.

  format, clippy, rustdoc   cargo fmt --check; clippy and rustdoc with warnings denied
  dependencies              who may depend on whom (normal dependencies), banned crates, sources
  layers                    within webhook-core: decisions know no traits, traits no engine
  promises                  every promise number cited exists; which ones tests cite
  cited tests               every test that docs/guarantees.md, features.md and failure-modes.md name exists
  sources                   no Rust file past 600 lines, no todo!(), no #[ignore], no ignored doctest, no sleep in a
                            test but under paused time or with `// verify: allow(sleep): REASON` on it or above it
  paths                     no path of one machine
  links                     Markdown links to files and headings of the repository exist
  gate                      .ci/run runs the README's test command
  unit                      systemd-analyze accepts the unit, and its exposure is low, where systemd is installed
  compose                   docker compose accepts compose.yaml, where it is installed (no engine is needed)
  deny, advisories          cargo deny check, when cargo-deny is installed and its database can be fetched
";

/// What a check saw.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// `seen` says what was looked at; it holds when nothing is `wrong`.
    Checked {
        seen: String,
        wrong: Vec<String>,
    },
    Skipped {
        reason: String,
    },
}

impl Outcome {
    /// For a tool that prints what it finds by itself.
    pub(crate) fn of_tool(result: Result<std::time::Duration, Failure>) -> Self {
        match result {
            Ok(took) => Self::Checked { seen: format!("after {}", seconds(took)), wrong: Vec::new() },
            Err(failure) => Self::Checked { seen: String::new(), wrong: vec![failure.message] },
        }
    }
}

type Check = fn(&Workspace) -> Result<Outcome, Failure>;

const CHECKS: [(&str, Check); 15] = [
    ("sources", sources::check),
    ("paths", sources::check_paths),
    ("layers", layers::check),
    ("promises", promises::check),
    ("cited tests", cited_tests::check),
    ("links", links::check),
    ("gate", gate::check),
    ("unit", packaging::unit),
    ("compose", packaging::compose),
    ("dependencies", law::check),
    ("format", tools::format),
    ("clippy", tools::clippy),
    ("rustdoc", tools::rustdoc),
    ("deny", tools::deny),
    ("advisories", tools::advisories),
];

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    no_options(arguments)?;
    let started = Instant::now();
    let mut lines = Vec::new();
    let mut findings = Vec::new();
    for (name, check) in CHECKS {
        match check(workspace) {
            Ok(Outcome::Checked { seen, wrong }) if wrong.is_empty() => {
                lines.push(format!("  ok       {name:<13} {seen}"));
            }
            Ok(Outcome::Checked { wrong, .. }) => {
                lines.push(format!("  FAILED   {name:<13} {} findings", wrong.len()));
                findings.extend(wrong.into_iter().map(|finding| format!("{name}: {finding}")));
            }
            Ok(Outcome::Skipped { reason }) => {
                lines.push(format!("  skipped  {name:<13} {reason}"));
            }
            Err(failure) => {
                lines.push(format!("  FAILED   {name:<13} could not run"));
                findings.push(format!("{name}: {}", failure.message));
            }
        }
    }
    println!("\nverify, {}:", seconds(started.elapsed()));
    println!("{}", lines.join("\n"));
    if findings.is_empty() {
        return Ok(());
    }
    println!("\nfindings:\n  {}", findings.join("\n  "));
    Err(Failure::new(format!("verify found {} things to mend", findings.len())))
}
