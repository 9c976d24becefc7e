//! A reader's terminal: one shell that runs a page's commands one after the other.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const MARK: &str = "--- end of the command";
/// A page takes a few seconds in all.
const DEADLINE: Duration = Duration::from_secs(60);

/// Ended, with all that it started, when dropped.
pub(crate) struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pub(crate) directory: tempfile::TempDir,
    /// What the page says, and what stands for it here.
    ports: Vec<(&'static str, String)>,
}

impl Shell {
    /// Starts one in an empty directory. Each of `ports` stands for one that is free here.
    pub(crate) fn start(ports: &[&'static str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("WEBHOOK_") || matches!(&*text, "DATABASE_URL" | "REDIS_URL") {
                command.env_remove(&name);
            }
        }
        let mut child = command
            .current_dir(&directory)
            .env("TMPDIR", directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash is installed");
        let (line, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for read in stdout.split(b'\n').map_while(Result::ok) {
                if line.send(String::from_utf8_lossy(&read).into_owned()).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        let free: Vec<_> = ports.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let free = free.iter().map(|listener| listener.local_addr().unwrap().port().to_string());
        let ports = ports.iter().copied().zip(free).collect();
        let mut shell = Self { child, stdin, lines, directory, ports };
        // Job control, for `kill %1`, as in the reader's terminal.
        shell.write("set -m\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\ntrap 'exit 143' TERM\n");
        let binary = Path::new(env!("CARGO_BIN_EXE_webhook-server"));
        shell.write(&format!("export PATH='{}':\"$PATH\"\n", binary.parent().unwrap().display()));
        shell
    }

    fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).expect("the shell runs");
    }

    /// Runs a command to its end, or until it is in the background; gives what was printed.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let command = self.here(command);
        self.write(&format!("{{\n{command}\n}} </dev/null\necho '{MARK}'\n"));
        let end = Instant::now() + DEADLINE;
        let mut printed = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("it stopped at `{command}`: {printed}")
            };
            // What does not end with a line break has the mark behind it.
            if let Some(last) = line.strip_suffix(MARK) {
                printed.push_str(last);
                break;
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        self.ports.iter().fold(printed, |text, (shown, port)| text.replace(port, shown))
    }

    /// The command as it is run here. The server's own default is a port that the page names, so it is told of the
    /// other one.
    fn here(&self, command: &str) -> String {
        let command = command
            .replace("webhook-server --allow-cidr", "webhook-server --listen 127.0.0.1:8080 --allow-cidr");
        self.ports.iter().fold(command, |text, (shown, port)| text.replace(shown, port))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // At the end of its input it ends, and what it started with it; a command that hangs is told to.
        drop(self.stdin.take());
        let id = Pid::from_child(&self.child);
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            if let Some(signal) = signal {
                let _ = kill_process(id, signal);
            }
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}
