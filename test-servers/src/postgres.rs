//! A throwaway PostgreSQL.
//!
//! - `WEBHOOK_TEST_POSTGRES_URL` names a server to be used as the shared one instead. Its user must be allowed to
//!   make schemas and databases.
//! - `WEBHOOK_TEST_POSTGRES_BIN` names the directory of `initdb` and `pg_ctl`, when it is not found by itself.
//! - `WEBHOOK_TEST_POSTGRES_FSYNC=off` trades the truth about speed for speed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::guard::Guard;
use crate::home::{Home, free_port, run};

/// The variable that names the shared server.
pub const URL: &str = "WEBHOOK_TEST_POSTGRES_URL";
/// The variable that names the directory of PostgreSQL's programs.
pub const BIN: &str = "WEBHOOK_TEST_POSTGRES_BIN";

const FSYNC: &str = "WEBHOOK_TEST_POSTGRES_FSYNC";

/// What the server's own programs read and a test must not depend on.
const FOREIGN: [&str; 6] = ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS"];

/// The URL of the server that the tests of this process share: the one that `WEBHOOK_TEST_POSTGRES_URL` names, or
/// one that the first call starts and that ends with the process.
///
/// # Errors
/// Why there is none, in a sentence.
pub fn shared() -> Result<&'static str, String> {
    static NAMED: OnceLock<Option<String>> = OnceLock::new();
    static OWN: OnceLock<Result<Postgres, String>> = OnceLock::new();
    if let Some(url) = NAMED.get_or_init(|| std::env::var(URL).ok().filter(|url| !url.is_empty())) {
        return Ok(url);
    }
    match OWN.get_or_init(Postgres::start) {
        Ok(server) => Ok(server.url()),
        Err(reason) => Err(reason.clone()),
    }
}

/// The directory with `initdb` and `pg_ctl`: the one that is named, the one of `PATH`, or the newest of those that
/// Debian's packages and Homebrew make.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    let has_all =
        |directory: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|p| directory.join(p).exists());
    if let Some(named) = std::env::var_os(BIN).filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named)).filter(has_all);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).find(has_all) {
        return Some(found);
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt"] {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().replace("postgresql@", "");
            let bin = entry.path().join("bin");
            if let Some(version) = name.parse().ok().filter(|_| has_all(&bin)) {
                found.push((version, bin));
            }
        }
    }
    found.into_iter().max().map(|(_, bin)| bin)
}

/// A running server of one's own. Stopped, and its data removed, when dropped or when the process ends.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    port: u16,
    bin: PathBuf,
    data: PathBuf,
    // After what it guards.
    _guard: Guard,
    home: Home,
}

impl Postgres {
    /// Starts one in a temporary directory.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    pub fn start() -> Result<Self, String> {
        Self::start_in(None)
    }

    /// Starts one with its data below `parent`: on a disk that is to be measured, say.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    pub fn start_in(parent: Option<&Path>) -> Result<Self, String> {
        let bin = programs().ok_or_else(|| {
            format!(
                "PostgreSQL is not installed: install it, or name its programs' directory in {BIN} or a server in \
                 {URL}"
            )
        })?;
        let home = Home::create("webhook-pg-", parent)?;
        let data = home.path.join("data");
        // It may have been frozen by a test that was then killed.
        let stop = "{ kill -s CONT \"$(head -n 1 \"$2/postmaster.pid\")\"
            \"$1/pg_ctl\" -D \"$2\" -m immediate -w stop; [ ! -e \"$2/postmaster.pid\" ]; }";
        let guard = Guard::start(&home, stop, &[bin.as_os_str(), data.as_os_str()])?;
        let mut initdb = command(&home, &bin.join("initdb"));
        initdb.arg("-D").arg(&data);
        initdb.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-instructions",
            "--no-sync",
        ]);
        // Below a directory that is closed to the server's user, it cannot be.
        let where_to = |error| format!("{error}; its data was to be in {}", home.path.display());
        run(&mut initdb).map_err(where_to)?;
        // Another process may take the port between the look and the start.
        let mut failure = String::new();
        for _ in 0..5 {
            let port = free_port()?;
            let mut start = pg_ctl(&home, &bin, &data);
            match run(start.args(["-o", &options(&home, port), "start"])) {
                Ok(()) => {
                    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
                    return Ok(Self { url, port, bin, data, _guard: guard, home });
                }
                Err(error) => failure = error,
            }
        }
        let log = fs::read_to_string(home.path.join("log")).unwrap_or_default();
        Err(format!("the server does not start: {failure}\n{log}"))
    }

    /// Its database `postgres`, as its superuser, who needs no password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it as a crash does, without a word to anybody, and starts it again on the same port. Returns when it
    /// answers again.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash_and_restart(&self) -> Result<(), String> {
        self.crash()?;
        self.start_again()
    }

    /// Ends it as a crash does; its data stays.
    ///
    /// # Errors
    /// When it does not end.
    pub fn crash(&self) -> Result<(), String> {
        run(pg_ctl(&self.home, &self.bin, &self.data).args(["-m", "immediate", "stop"]))
    }

    /// Starts it after [`crash`](Self::crash), on the same port. Returns when it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&self) -> Result<(), String> {
        let options = options(&self.home, self.port);
        run(pg_ctl(&self.home, &self.bin, &self.data).args(["-o", &options, "start"]))
    }

    /// Stops all its processes where they stand, until [`thaw`](Self::thaw). Its connections stay open and nothing
    /// answers.
    ///
    /// # Errors
    /// When they cannot be found or signalled.
    pub fn freeze(&self) -> Result<(), String> {
        // The parent first, so that it starts no more of them.
        let parent = self.postmaster()?;
        signal("STOP", &[parent])?;
        signal("STOP", &children(parent)?)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When they cannot be found or signalled.
    pub fn thaw(&self) -> Result<(), String> {
        let parent = self.postmaster()?;
        let mut all = children(parent)?;
        all.push(parent);
        signal("CONT", &all)
    }

    /// The ids of its processes; the first one started the others.
    ///
    /// # Errors
    /// When they cannot be found.
    pub fn processes(&self) -> Result<Vec<u32>, String> {
        let parent = self.postmaster()?;
        Ok([vec![parent], children(parent)?].concat())
    }

    fn postmaster(&self) -> Result<u32, String> {
        let file = self.data.join("postmaster.pid");
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let id = text.lines().next().and_then(|line| line.trim().parse().ok());
        id.ok_or_else(|| format!("{} names no process", file.display()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What is frozen cannot be stopped. When it is not there any more, nothing is frozen either.
        let _ = self.thaw();
    }
}

fn command(home: &Home, program: &Path) -> Command {
    let mut command = home.command(program);
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}

fn pg_ctl(home: &Home, bin: &Path, data: &Path) -> Command {
    let mut command = command(home, &bin.join("pg_ctl"));
    command.arg("-D").arg(data).arg("-l").arg(home.path.join("log")).args(["-w", "-t", "60"]);
    command
}

fn options(home: &Home, port: u16) -> String {
    format!(
        "-p {port} -k {} -c listen_addresses=127.0.0.1 -c max_connections=400 -c shared_buffers=128MB -c fsync={} \
         -c log_min_messages=warning",
        home.path.display(),
        std::env::var(FSYNC).unwrap_or_else(|_| "on".to_owned()),
    )
}

/// Sends a signal, by the shell's own `kill`.
fn signal(name: &str, processes: &[u32]) -> Result<(), String> {
    let mut kill = Command::new("/bin/sh");
    // One may have ended since it was listed.
    kill.args(["-c", "for p in \"$@\"; do kill -s \"$0\" \"$p\" 2>/dev/null; done; true", name]);
    run(kill.args(processes.iter().map(u32::to_string)))
}

/// The processes that `parent` started.
fn children(parent: u32) -> Result<Vec<u32>, String> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output();
    if let Some(listed) = listed.ok().filter(|listed| listed.status.success()) {
        let pair = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        let parents: HashMap<u32, u32> =
            String::from_utf8_lossy(&listed.stdout).lines().filter_map(pair).collect();
        return Ok(parents.into_iter().filter(|(_, of)| *of == parent).map(|(child, _)| child).collect());
    }
    // Minimal images have no `ps`, and Linux tells it all the same.
    let entries = fs::read_dir("/proc").map_err(|error| format!("neither ps nor /proc: {error}"))?;
    let is_child = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.strip_prefix("PPid:").is_some_and(|of| of.trim() == parent.to_string()))
    };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.filter(is_child).collect())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpStream};

    use super::*;
    use crate::or_skip;

    #[test]
    fn a_server_listens_survives_a_crash_and_is_gone_with_its_data_when_dropped() {
        let Some(server) = or_skip("a throwaway server", Postgres::start()) else { return };
        let address = SocketAddr::from(([127, 0, 0, 1], server.port));
        assert!(TcpStream::connect(address).is_ok());
        server.crash_and_restart().unwrap();
        assert!(TcpStream::connect(address).is_ok());
        server.freeze().unwrap();
        server.thaw().unwrap();
        let home = server.home.path.clone();
        assert!(home.exists());
        server.freeze().unwrap();
        drop(server);
        assert!(!home.exists());
        let refused = TcpStream::connect(address).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    }
}
