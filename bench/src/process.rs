//! The server as a process of its own: started in an empty directory, watched through `/proc`, stopped by SIGTERM.
//!
//! Its database lies beside its binary, on the disk that holds the build, and not in `/tmp`: in memory an fsync costs
//! nothing and the figures would lie. A PostgreSQL is started for it there, and stopped with it. The environment's settings for the server are taken away, so that a run depends
//! on its command line alone.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use test_servers::postgres::Postgres;

use crate::Failure;

const START: Duration = Duration::from_secs(30);
/// More than the server's own grace.
const STOP: Duration = Duration::from_secs(40);
const KEPT_LINES: usize = 20;

/// Where the server keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "sqlite" => Some(Self::Sqlite),
            "postgres" => Some(Self::Postgres),
            _ => None,
        }
    }

    /// For the head of a table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL on the same machine, its CPU not counted",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    last_words: Arc<Mutex<VecDeque<String>>>,
    _directory: TempDir,
    /// Behind the server, which is dropped before.
    _postgres: Option<Postgres>,
}

impl Server {
    /// Starts it on a free port and returns once it says where it listens. Blocks.
    pub(crate) fn start(binary: &Path, backend: Backend, options: &[String]) -> Result<Self, Failure> {
        // It runs in a directory of its own, where a relative path would lead elsewhere.
        let binary = &std::path::absolute(binary)
            .map_err(|error| format!("cannot resolve {}: {error}", binary.display()))?;
        let beside = binary.parent().unwrap_or_else(|| Path::new("."));
        let directory = tempfile::Builder::new()
            .prefix("webhook-bench-")
            .tempdir_in(beside)
            .map_err(|error| format!("cannot create a directory in {}: {error}", beside.display()))?;
        let postgres = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(Postgres::start_in(Some(beside))?),
        };
        let file = || format!("sqlite://{}", directory.path().join("bench.db").display());
        let database = postgres.as_ref().map_or_else(file, |postgres| postgres.url().to_owned());
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("WEBHOOK_") || name == "DATABASE_URL" || name == "REDIS_URL" {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--database-url", &database])
            .args(["--allow-cidr", "127.0.0.0/8"])
            .args(options)
            .current_dir(directory.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let last_words = Arc::default();
        let (listening, heard) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            follow(stdout, Arc::clone(&last_words), Some(listening));
        }
        if let Some(stderr) = child.stderr.take() {
            follow(stderr, Arc::clone(&last_words), None);
        }
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server =
            Self { child, address: unknown, last_words, _directory: directory, _postgres: postgres };
        server.address = match heard.recv_timeout(START) {
            Ok(address) => address,
            Err(RecvTimeoutError::Timeout) => {
                return Err(server.complaint("did not say within 30 s where it listens"));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(server.complaint("did not start")),
        };
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn process(&self) -> Process {
        Process { id: Some(self.child.id()) }
    }

    /// An error when it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.complaint(&format!("ended by itself ({status})"))),
            Err(error) => Err(format!("cannot watch the server: {error}")),
        }
    }

    /// Asks it to stop; it must do so by itself and exit with 0. Blocks.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.check()?;
        // The shell's own `kill`: std cannot send SIGTERM.
        let kill = format!("kill -TERM {}", self.child.id());
        let asked = Command::new("sh").args(["-c", &kill]).status();
        if !asked.is_ok_and(|status| status.success()) {
            return Err("cannot send SIGTERM to the server".to_owned());
        }
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(self.complaint(&format!("stopped with {status}, not with 0")));
                }
                Err(error) => return Err(format!("cannot watch the server: {error}")),
            }
        }
        Err(self.complaint(&format!("did not stop within {STOP:?} of SIGTERM")))
    }

    fn complaint(&self, what: &str) -> Failure {
        let lines = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        format!("the server {what}; its last lines:\n    {}", lines.join("\n    "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it is gone already, and this finds nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps reading, so that the server never waits for a full pipe, and keeps the last lines.
fn follow(
    output: impl Read + Send + 'static,
    last_words: Arc<Mutex<VecDeque<String>>>,
    listening: Option<mpsc::Sender<SocketAddr>>,
) {
    std::thread::spawn(move || {
        let mut listening = listening;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(address) = listening.as_ref().and_then(|_| listening_address(&line)) {
                // The receiver is gone only when nobody waits any more.
                let _ = listening.take().map(|listening| listening.send(address));
            }
            let mut lines = last_words.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

/// The address in `… listening on http://127.0.0.1:40123 (…)`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    rest.split([' ', '/', ',']).next()?.parse().ok()
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    /// None: this one.
    id: Option<u32>,
}

impl Process {
    pub(crate) const OWN: Self = Self { id: None };

    /// User and system time of all its threads so far, ended ones too. In steps of 10 ms.
    pub(crate) fn cpu(self) -> Result<Duration, Failure> {
        let stat = self.read("stat")?;
        cpu_of(&stat).ok_or_else(|| "cannot read the CPU time in /proc".to_owned())
    }

    /// The most memory it ever held, in KiB.
    pub(crate) fn peak_memory(self) -> Result<u64, Failure> {
        self.memory("VmHWM:")
    }

    /// The memory that it holds now, in KiB.
    pub(crate) fn resident_memory(self) -> Result<u64, Failure> {
        self.memory("VmRSS:")
    }

    fn memory(self, field: &str) -> Result<u64, Failure> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.ok_or_else(|| format!("cannot read {field} in /proc"))
    }

    fn read(self, file: &str) -> Result<String, Failure> {
        let id = self.id.map_or_else(|| "self".to_owned(), |id| id.to_string());
        let path = format!("/proc/{id}/{file}");
        std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted behind the name, which may hold spaces and parentheses.
fn cpu_of(stat: &str) -> Option<Duration> {
    // USER_HZ: 100 on every Linux that Rust runs on.
    const TICK: Duration = Duration::from_millis(10);
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user + TICK * system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_line_that_the_server_prints() {
        let line = "webhook-server 0.1.0 listening on http://127.0.0.1:40123 (API: http://127.0.0.1:40123/api/v1, …)";
        assert_eq!(listening_address(line), Some(SocketAddr::from(([127, 0, 0, 1], 40123))));
        assert_eq!(listening_address("INFO listening soon"), None);
    }

    #[test]
    fn cpu_time_is_read_behind_a_name_with_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 1 1 1";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn this_process_can_be_watched() {
        assert!(Process::OWN.cpu().is_ok());
        assert!(Process::OWN.peak_memory().is_ok_and(|kib| kib > 0));
    }
}
