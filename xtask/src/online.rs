//! `cargo xtask test-online`: what needs a package registry.
//!
//! Fetches the example payloads that GitHub documents (npm package `@octokit/webhooks-examples`) into a temporary
//! directory and schemathesis (a Python package) into a virtual environment in the target directory, builds the server
//! and `webhook-online`, and has it hold a running server against both. Without a registry it fails: this verb exists to
//! be run where there is one.

use std::path::{Path, PathBuf};

use crate::run::Step;
use crate::workspace::Workspace;
use crate::{Failure, no_options};

pub(crate) const HELP: &str = "\
cargo xtask test-online

Needs npm, tar, Python 3.10 or later with venv, an npm registry and a PyPI index, and fails without. Each check starts the
server on a free port with a SQLite file.

Examples: fetches @octokit/webhooks-examples into a temporary directory (nothing is installed and nothing of it is kept)
and publishes every example payload through POST /ingest/{id} signed as GitHub signs. Each must arrive at its target byte
for byte and signed as Standard Webhooks asks.

Schema: installs what online/requirements.txt names into a virtual environment in the target directory, where it stays
until that file changes, and drives the server with the OpenAPI document that it serves, from a fixed seed: no 5xx, no
status that is not documented, no answer that its schema does not fit, no bad request that is accepted, no route that is
open without a key. It takes about a minute.

compose.yaml is held against the schema of Compose files and linted by dclint.
";

/// Schema and lints of Compose files, for machines without docker. One image for several services, which it warns of,
/// is meant.
const LINT: [&str; 8] = [
    "exec",
    "--yes",
    "--package=dclint@3.1.0",
    "--",
    "dclint",
    "compose.yaml",
    "--quiet",
    "--disable-rule=no-build-and-image",
];

/// Exact, so that a run can be repeated.
const PACKAGE: &str = "@octokit/webhooks-examples@7.6.1";

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    no_options(arguments)?;
    for needed in ["webhook-server", "webhook-online"] {
        if !workspace.has_member(needed)? {
            return Err(Failure::new(format!("the workspace has no package `{needed}` to test with")));
        }
    }
    Step::new(workspace, "npm").args(LINT).run()?;
    let binaries = workspace.target_directory()?.join("debug");
    // Both registries first: what is missing is told before anything is built.
    let scratch = Scratch::new()?;
    let schemathesis = schemathesis(workspace)?;
    let examples = fetch(workspace, scratch.path())?;
    Step::cargo(workspace)
        .args(["build", "--package", "webhook-server", "--package", "webhook-online"])
        .run()?;
    Step::new(workspace, binaries.join("webhook-online"))
        .args(["--server".as_ref(), binaries.join("webhook-server").as_os_str()])
        .args(["--examples".as_ref(), examples.as_os_str()])
        .run()?;
    Step::new(workspace, binaries.join("webhook-online"))
        .args(["--server".as_ref(), binaries.join("webhook-server").as_os_str()])
        .args(["--schemathesis".as_ref(), schemathesis.as_os_str()])
        .args(["--settings".as_ref(), workspace.root().join(SETTINGS).as_os_str()])
        .run()?;
    Ok(())
}

/// What is installed of Python packages, every version exact.
const REQUIREMENTS: &str = "online/requirements.txt";
/// The folder of what schemathesis is told.
const SETTINGS: &str = "online";

/// The program, installed if it is not there as the requirements have it.
fn schemathesis(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let home = workspace.target_directory()?.join("schemathesis");
    let wanted = workspace.text(REQUIREMENTS)?.unwrap_or_default();
    let installed = home.join("installed.txt");
    let program = home.join("bin").join("schemathesis");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) && program.is_file() {
        println!("\nschemathesis is in {}", home.display());
        return Ok(program);
    }
    Step::new(workspace, "python3").args(["-m", "venv", "--clear"]).args([home.as_os_str()]).run()?;
    Step::new(workspace, home.join("bin").join("python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            REQUIREMENTS,
        ])
        .run()?;
    // Last: what was cut off half-way is installed again.
    std::fs::write(&installed, wanted)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", installed.display())))?;
    Ok(program)
}

/// The unpacked package's folder.
fn fetch(workspace: &Workspace, into: &Path) -> Result<PathBuf, Failure> {
    Step::new(workspace, "npm").args(["pack", "--silent", PACKAGE]).in_directory(into).run()?;
    let entries = std::fs::read_dir(into)
        .map_err(|error| Failure::new(format!("cannot read the temporary directory: {error}")))?;
    let archive = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or_else(|| Failure::new(format!("`npm pack {PACKAGE}` left no archive")))?;
    Step::new(workspace, "tar").args(["-xzf".as_ref(), archive.as_os_str()]).in_directory(into).run()?;
    Ok(into.join("package"))
}

/// A directory that is removed when it is dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("webhook-online-{}", std::process::id()));
        std::fs::create_dir(&path)
            .map_err(|error| Failure::new(format!("cannot create {}: {error}", path.display())))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("xtask: {} is left behind: {error}", self.0.display());
        }
    }
}
