//! A throwaway server: its own port and directory, nothing saved, gone when the test process is, however that ends.

use std::io::{BufRead as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use webhook_conformance::Missing;

/// The names under which a server is looked for; `WEBHOOK_TEST_REDIS_SERVER` names another.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// The shell ends the server when its standard input does, which is when the test process ends, even by a signal
/// that cannot be caught.
const KEEPER: &str =
    r#""$@" >/dev/null 2>&1 & server=$!; echo "$server"; read -r _; kill -9 "$server"; wait"#;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) pid: u32,
    keeper: Child,
    directory: TempDir,
}

fn program() -> Option<String> {
    let named = std::env::var("WEBHOOK_TEST_REDIS_SERVER").ok();
    let runs = |name: &String| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    named.into_iter().chain(PROGRAMS.map(str::to_owned)).find(runs)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts one with these settings, such as `--maxmemory 10mb`, on top of those that all get.
    pub(crate) fn start(settings: &[&str]) -> Result<Self, Missing> {
        Self::start_on(free_port(), settings)
    }

    /// Starts a Sentinel with this file, which it rewrites.
    pub(crate) fn start_sentinel(port: u16, file: &str) -> Result<Self, Missing> {
        Self::run(port, &[file, "--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"])
    }

    pub(crate) fn start_on(port: u16, settings: &[&str]) -> Result<Self, Missing> {
        let port_text = port.to_string();
        let all = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        Self::run(port, &[&all, settings].concat())
    }

    fn run(port: u16, settings: &[&str]) -> Result<Self, Missing> {
        let program = program().ok_or_else(|| Missing::because("install redis-server or valkey-server"))?;
        let directory = tempfile::tempdir().unwrap();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &program])
            .args(settings)
            .args(["--dir", directory.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Missing::because(format!("{program} cannot be started: {error}")))?;
        let mut pid = String::new();
        std::io::BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let server = Self { port, pid: pid.trim().parse().unwrap(), keeper, directory };
        server.wait_until_it_answers();
        Ok(server)
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen; another may have taken its port");
            // verify: allow(sleep): between two looks, until a deadline
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sends the server's process a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Ends it and frees its port, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut stdin) = self.keeper.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.keeper.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
