//! The binary as a child process: what it prints, the signals it gets, how it ends.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running process of the binary. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: Printed,
    stderr: Printed,
}

/// The lines of one of its streams so far.
#[derive(Debug)]
struct Printed {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Printed {
    fn follow(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }
}

/// The binary with these arguments.
pub(crate) fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webhook-server"));
    command.args(arguments);
    command
}

/// Keeps this process's own settings from the child.
fn without_settings(command: &mut Command) {
    let given: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_setting = text.starts_with("WEBHOOK_") || matches!(&*text, "DATABASE_URL" | "REDIS_URL");
        if is_setting && !given.contains(&name) {
            command.env_remove(&name);
        }
    }
}

impl Process {
    /// Starts the binary.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut binary(arguments))
    }

    /// Starts what was prepared.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        without_settings(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = Printed::follow(child.stdout.take().expect("piped"));
        let stderr = Printed::follow(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// What it printed to stdout so far.
    pub(crate) fn stdout(&self) -> Vec<String> {
        self.stdout.lines.lock().unwrap().clone()
    }

    /// What it printed to stderr so far.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.lines.lock().unwrap().clone()
    }

    /// The first line of stdout with this in it.
    ///
    /// # Panics
    /// When there is none in time, or the process ends without it.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        let end = Instant::now() + super::DEADLINE;
        loop {
            if let Some(line) = self.stdout().into_iter().find(|line| line.contains(text)) {
                return line;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < end,
                "no line with {text:?}; ended: {ended:?}, stdout: {:#?}, stderr: {:#?}",
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5)); // verify: allow(sleep): a poll with a deadline
        }
    }

    /// The URL that it says it listens on.
    pub(crate) fn url(&mut self) -> String {
        let line = self.line_with("http://");
        let start = line.find("http://").expect("a URL");
        let rest = &line[start..];
        let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
        rest[..end].trim_end_matches("/api/v1").to_owned()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// The memory that it holds now, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The CPU time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let (_, behind_name) = stat.rsplit_once(')').expect("a name");
        let ticks = behind_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number"));
        // In hundredths of a second on every Linux that Rust runs on.
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is there");
        self.child.wait().expect("a child");
    }

    /// Waits for the end, and for all that was printed.
    ///
    /// # Panics
    /// When it does not end in time.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + super::DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < end, "it does not end; stderr: {:#?}", self.stderr());
            std::thread::sleep(Duration::from_millis(5)); // verify: allow(sleep): a poll with a deadline
        };
        for stream in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = stream.reader.take() {
                reader.join().expect("reading does not panic");
            }
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
