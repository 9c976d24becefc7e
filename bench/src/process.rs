//! One process of the server: started in a directory of its own, watched through `/proc`, stopped by SIGTERM. The
//! environment's settings for the server are taken away, so that a run depends on its command line alone.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Failure;

const START: Duration = Duration::from_secs(30);
/// More than the server's own grace.
const STOP: Duration = Duration::from_secs(40);
const KEPT_LINES: usize = 20;

#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    address: SocketAddr,
    last_words: Arc<Mutex<VecDeque<String>>>,
}

impl Node {
    /// Starts it on a free port and returns once it says where it listens. Blocks.
    pub(crate) fn start(
        binary: &Path,
        directory: &Path,
        database: &str,
        options: &[String],
    ) -> Result<Self, Failure> {
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("WEBHOOK_") || name == "DATABASE_URL" || name == "REDIS_URL" {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--database-url", database])
            .args(["--allow-cidr", "127.0.0.0/8"])
            .args(options)
            .current_dir(directory)
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
        let mut node = Self { child, address: unknown, last_words };
        node.address = match heard.recv_timeout(START) {
            Ok(address) => address,
            Err(RecvTimeoutError::Timeout) => {
                return Err(node.complaint("did not say within 30 s where it listens"));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(node.complaint("did not start")),
        };
        Ok(node)
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

impl Drop for Node {
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
    pub(crate) id: Option<u32>,
}

impl Process {
    pub(crate) const OWN: Self = Self { id: None };

    /// User and system time of all its threads so far, ended ones too. In steps of 10 ms.
    pub(crate) fn cpu(self) -> Result<Duration, Failure> {
        self.cpu_fields(2)
    }

    /// The same with that of the processes that it started and that have ended.
    pub(crate) fn cpu_with_ended(self) -> Result<Duration, Failure> {
        self.cpu_fields(4)
    }

    fn cpu_fields(self, fields: usize) -> Result<Duration, Failure> {
        let stat = self.read("stat")?;
        cpu_of(&stat, fields).ok_or_else(|| "cannot read the CPU time in /proc".to_owned())
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

/// The sum of so many fields of `/proc/PID/stat` from the 14th on (its own user and system time, then that of its ended
/// children), counted behind the name, which may hold spaces and parentheses.
fn cpu_of(stat: &str, fields: usize) -> Option<Duration> {
    // USER_HZ: 100 on every Linux that Rust runs on.
    const TICK: Duration = Duration::from_millis(10);
    let (_, behind_name) = stat.rsplit_once(')')?;
    let ticks: Vec<u32> =
        behind_name.split_whitespace().skip(11).take(fields).map_while(|field| field.parse().ok()).collect();
    (ticks.len() == fields).then(|| TICK * ticks.into_iter().sum())
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
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 80 20 20 0 4 0 1 1 1";
        assert_eq!(cpu_of(stat, 2), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of(stat, 4), Some(Duration::from_secs(4)));
    }

    #[test]
    fn this_process_can_be_watched() {
        assert!(Process::OWN.cpu().is_ok());
        assert!(Process::OWN.peak_memory().is_ok_and(|kib| kib > 0));
    }
}
