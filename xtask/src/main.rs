//! The workspace's own commands, run as `cargo xtask VERB`.
//!
//! What it owes: to a newcomer, one command that sets up and runs all tests; to a reviewer, one that says whether the
//! tree keeps its rules; to CI, exit codes that mean it. It is std only (as is `test-servers`, which it uses), so that it builds in a moment on a machine
//! that has nothing but cargo.
//!
//! | module | owes |
//! |---|---|
//! | [`run`] | child processes with their command line, duration and outcome printed |
//! | [`workspace`] | the root, its members and its files |
//! | [`mod@test`] | `test`: every test, with what the tests need |
//! | [`packages`] | Debian packages of servers that the tests need |
//! | [`online`] | `test-online`: what needs a package registry |
//! | [`verify`] | `verify`: the rules, read-only |
//! | [`fix`] | `fix`: what tools can mend |
//! | [`mod@bench`] | `bench`: a release build and the load generator |
//!
//! Exit codes: 0 all passed, 1 something failed, 2 the command line was wrong.

#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod bench;
mod fix;
mod online;
mod packages;
mod run;
mod test;
mod verify;
mod workspace;

use std::process::ExitCode;

use crate::workspace::Workspace;

const HELP: &str = "\
The workspace's own commands.

Usage: cargo xtask VERB [OPTIONS]

  test         set up and run all tests of the workspace, doctests included
  test-online  the tests that need package registries (npm, PyPI): every example payload that GitHub documents
               through a running server, and schemathesis against its OpenAPI document
  verify       check the tree, change nothing: format, clippy, rustdoc, who may depend on whom, promises and tests cited,
               sources, Markdown links, .ci/run, dependencies
  fix          rustfmt and the fixes that clippy is sure of
  bench        release build, then deliveries a second, CPU and latencies against the raw limit of this machine

`cargo xtask VERB --help` says more. Exit code 0: passed; 1: something failed; 2: wrong usage.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let wants_help = rest.iter().any(|argument| argument == "--help" || argument == "-h");
    let (help, command): (&str, Command) = match verb.as_deref() {
        Some("test") => (test::HELP, test::run),
        Some("test-online") => (online::HELP, online::run),
        Some("verify") => (verify::HELP, verify::run),
        Some("fix") => (fix::HELP, fix::run),
        Some("bench") => (bench::HELP, bench::run),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprint!("unknown verb `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
        None => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    if wants_help {
        print!("{help}");
        return ExitCode::SUCCESS;
    }
    let outcome = Workspace::find().and_then(|workspace| command(&workspace, &rest));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nxtask: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

type Command = fn(&Workspace, &[String]) -> Result<(), Failure>;

/// Why a verb did not pass, in one line for a person.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The command line was wrong; nothing ran.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }
}

/// For verbs without options.
pub(crate) fn no_options(arguments: &[String]) -> Result<(), Failure> {
    arguments.first().map_or(Ok(()), |first| Err(Failure::usage(format!("unexpected `{first}`; see --help"))))
}
