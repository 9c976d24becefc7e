//! Child processes: each is printed before it starts, and its duration and outcome after it ended.
//!
//! Nothing here reads stdin: children get an empty one, so that no prompt can hang a gate.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::workspace::Workspace;

/// A command in the workspace's root whose output goes where ours goes.
#[derive(Debug)]
pub(crate) struct Step {
    command: Command,
    shown: String,
}

impl Step {
    pub(crate) fn new(workspace: &Workspace, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.current_dir(workspace.root()).stdin(Stdio::null());
        let name = std::path::Path::new(program).file_name().unwrap_or(program);
        Self { command, shown: name.to_string_lossy().into_owned() }
    }

    /// The cargo that runs us, so that a toolchain override holds for its children too.
    pub(crate) fn cargo(workspace: &Workspace) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut step = Self::new(workspace, cargo);
        step.shown = "cargo".to_owned();
        step
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            let argument = argument.as_ref();
            self.shown.push(' ');
            self.shown.push_str(&argument.to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.shown = format!("{name}={} {}", quoted(value.as_ref()), self.shown);
        self.command.env(name, value);
        self
    }

    pub(crate) fn in_directory(mut self, directory: &std::path::Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it to its end with our stdout and stderr.
    pub(crate) fn run(mut self) -> Result<Duration, Failure> {
        println!("\n$ {}", self.shown);
        let started = Instant::now();
        let status = self
            .command
            .status()
            .map_err(|error| Failure::new(format!("cannot run `{}`: {error}", self.shown)))?;
        let took = started.elapsed();
        if status.success() {
            println!("  ok after {}", seconds(took));
            Ok(took)
        } else {
            Err(Failure::new(format!("`{}` failed after {} ({status})", self.shown, seconds(took))))
        }
    }

    /// Runs it quietly and returns its stdout; a failure carries the end of its stderr.
    pub(crate) fn output(mut self) -> Result<String, Failure> {
        let output = self
            .command
            .output()
            .map_err(|error| Failure::new(format!("cannot run `{}`: {error}", self.shown)))?;
        if output.status.success() {
            return String::from_utf8(output.stdout)
                .map_err(|_| Failure::new(format!("`{}` printed what is not UTF-8", self.shown)));
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(Failure::new(format!("`{}` failed ({})\n{tail}", self.shown, output.status)))
    }

    /// Whether it starts and exits with 0. Says nothing.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

fn quoted(value: &OsStr) -> String {
    let value = value.to_string_lossy();
    if value.contains(' ') { format!("'{value}'") } else { value.into_owned() }
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
