//! A throwaway Redis or Valkey: its own port and directory, nothing saved, gone when its process is, however that ends.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::home::{Home, free_port};

/// Names a program other than those that are looked for.
pub const PROGRAM: &str = "WEBHOOK_TEST_REDIS_SERVER";
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// The shell ends the server when its standard input does, which is when the test process ends, even by a signal
/// that cannot be caught.
const KEEPER: &str =
    r#""$@" >/dev/null 2>&1 & server=$!; echo "$server"; read -r _; kill -9 "$server"; wait"#;

/// A server of a test's own. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    keeper: Child,
    home: Home,
}

/// The program to start, when there is one.
#[must_use]
pub fn program() -> Option<String> {
    let named = std::env::var(PROGRAM).ok();
    let runs = |name: &String| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    named.into_iter().chain(PROGRAMS.map(str::to_owned)).find(runs)
}

impl Server {
    /// Starts one with these settings, such as `--maxmemory 10mb`, on top of those that all get.
    ///
    /// # Errors
    /// When there is no program, or it does not come up.
    pub fn start(settings: &[&str]) -> Result<Self, String> {
        Self::start_on(free_port()?, settings)
    }

    /// Starts a Sentinel with this file, which it rewrites.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub fn start_sentinel(port: u16, file: &str) -> Result<Self, String> {
        Self::run(port, &[file, "--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"])
    }

    /// Starts one on this port.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub fn start_on(port: u16, settings: &[&str]) -> Result<Self, String> {
        let port_text = port.to_string();
        let all = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        Self::run(port, &[&all, settings].concat())
    }

    fn run(port: u16, settings: &[&str]) -> Result<Self, String> {
        let program = program().ok_or("Redis is not installed: install redis-server or valkey-server")?;
        let home = Home::create("webhook-redis-", None)?;
        let mut keeper = home
            .command(Path::new("/bin/sh"))
            .args(["-c", KEEPER, "keeper", &program])
            .args(settings)
            .arg("--dir")
            .arg(&home.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let mut pid = String::new();
        let told = keeper.stdout.take().map(|out| std::io::BufReader::new(out).read_line(&mut pid));
        let pid = told
            .and_then(|_| pid.trim().parse().ok())
            .ok_or("the shell did not tell the server's process")?;
        let server = Self { port, pid, keeper, home };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn wait_until_it_answers(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > deadline {
                return Err("the server does not listen; another may have taken its port".to_owned());
            }
            // verify: allow(sleep): between two looks, until a deadline
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// How a client names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it answers to a command, as text; see [`ask`].
    ///
    /// # Errors
    /// When there is no answer, or it is an error.
    pub fn ask(&self, words: &[&str]) -> Result<String, String> {
        ask(self.port, words)
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.home.path
    }

    /// Sends the server's process a signal, such as `STOP`.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "SIG{name} to a server that is gone");
    }

    /// Ends it and frees its port, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut stdin) = self.keeper.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.keeper.wait();
    }
}

/// What the server on this port answers to a command, over a connection of its own: the text of a string, a status or
/// a number, and nothing for a list. Blocks, for ten seconds at most.
///
/// # Errors
/// When there is no answer in time, or it is an error: its own text.
pub fn ask(port: u16, words: &[&str]) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("no answer to {words:?}: {error}");
    let patience = Some(Duration::from_secs(10));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).map_err(failed)?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes()).map_err(failed)?;
    let mut answer = std::io::BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).map_err(failed)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        Some(("-", text)) => Err(text.to_owned()),
        Some(("$", length)) => {
            let Ok(length) = length.parse::<usize>() else { return Ok(String::new()) };
            let mut bytes = vec![0; length];
            answer.read_exact(&mut bytes).map_err(failed)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Some(("*", _)) => Ok(String::new()),
        _ => Err(format!("not an answer to {words:?}: {line:?}")),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.home.path);
    }
}
