//! A throwaway PostgreSQL: made in a temporary directory by the first test that asks, shared by all tests of the
//! process, gone with it.
//!
//! - `WEBHOOK_TEST_POSTGRES_URL` names a server to be used instead. Its user must be allowed to make schemas.
//! - `WEBHOOK_TEST_POSTGRES_BIN` names the directory of `initdb` and `pg_ctl`, when it is not found by itself.
//! - `WEBHOOK_TEST_POSTGRES_FSYNC=off` trades the truth about speed for speed.
//!
//! Whatever happens to the process, its server is stopped: a shell waits at the other end of a pipe, and when
//! that closes, which even SIGKILL does, it stops the server and removes the directory. PostgreSQL refuses to
//! run as root; the server of a test that runs as root runs as `nobody`.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The uid and gid of `nobody`, by convention.
const NOBODY: u32 = 65_534;

/// The URL of the tests' server, or why there is none.
pub fn url() -> Result<&'static str, &'static str> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    match SERVER.get_or_init(Server::start) {
        Ok(server) => Ok(&server.url),
        Err(reason) => Err(reason),
    }
}

struct Server {
    url: String,
    /// Holds the pipe open whose end stops the server.
    _guard: Option<Child>,
}

impl Server {
    fn start() -> Result<Self, String> {
        if let Ok(url) = std::env::var("WEBHOOK_TEST_POSTGRES_URL") {
            return Ok(Self { url, _guard: None });
        }
        let bin = find_bin().ok_or(
            "PostgreSQL is not installed: install it, or name its programs' directory in \
             WEBHOOK_TEST_POSTGRES_BIN or a server in WEBHOOK_TEST_POSTGRES_URL",
        )?;
        let directory =
            tempfile::Builder::new().prefix("webhook-pg-").tempdir().map_err(|e| e.to_string())?.keep();
        let user = Identity::of(&directory)?;
        user.hand_over(&directory)?;
        let data = directory.join("data");
        let guard = guard(&bin, &directory, &data, user)?;
        run(user.command(&bin.join("initdb")).arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-instructions",
        ]))?;
        // Another process may take the port between the look and the start.
        let mut failure = String::new();
        for _ in 0..5 {
            let port = free_port()?;
            let options = format!(
                "-p {port} -k {} -c listen_addresses=127.0.0.1 -c max_connections=400 -c shared_buffers=128MB \
                 -c fsync={} -c log_min_messages=warning",
                directory.display(),
                std::env::var("WEBHOOK_TEST_POSTGRES_FSYNC").unwrap_or_else(|_| "on".to_owned()),
            );
            let started = run(user
                .command(&bin.join("pg_ctl"))
                .arg("-D")
                .arg(&data)
                .arg("-l")
                .arg(directory.join("log"))
                .args(["-w", "-t", "60", "-o", &options, "start"]));
            match started {
                Ok(()) => {
                    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
                    return Ok(Self { url, _guard: Some(guard) });
                }
                Err(error) => failure = error,
            }
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        Err(format!("the server does not start: {failure}\n{log}"))
    }
}

/// As whom the server runs.
#[derive(Clone, Copy)]
struct Identity {
    is_root: bool,
}

impl Identity {
    fn of(directory: &Path) -> Result<Self, String> {
        let owner = std::fs::metadata(directory).map_err(|error| error.to_string())?.uid();
        Ok(Self { is_root: owner == 0 })
    }

    fn hand_over(self, directory: &Path) -> Result<(), String> {
        if self.is_root {
            chown(directory, Some(NOBODY), Some(NOBODY)).map_err(|error| error.to_string())?;
        }
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory, private).map_err(|error| error.to_string())
    }

    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        // Wherever the tests run may be closed to that user, and settings of ours are none of its business.
        command.current_dir("/").env_remove("PGDATA").env_remove("PGPORT").env("LC_ALL", "C");
        command.stdin(Stdio::null());
        command
    }
}

/// Starts the shell that outlives this process by as long as it takes to clean up.
fn guard(bin: &Path, directory: &Path, data: &Path, user: Identity) -> Result<Child, String> {
    let script = "trap '' INT TERM HUP
        cat > /dev/null
        for again in 1 2 3 4 5; do
            \"$1/pg_ctl\" -D \"$3\" -m immediate -w stop > /dev/null 2>&1
            [ -e \"$3/postmaster.pid\" ] || break
        done
        rm -rf \"$2\"";
    let mut command = user.command(Path::new("/bin/sh"));
    command.args(["-c", script, "guard"]).arg(bin).arg(directory).arg(data);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("/bin/sh: {error}"))
}

fn run(command: &mut Command) -> Result<(), String> {
    // The server would keep a pipe of ours open for as long as it runs.
    let done = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if done.success() {
        Ok(())
    } else {
        Err(format!("{} ended with {done}", command.get_program().display()))
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

/// The directory with `initdb` and `pg_ctl`: the one that is named, the one of `PATH`, or the newest of those
/// that Debian's packages and Homebrew make.
fn find_bin() -> Option<PathBuf> {
    let has_all =
        |directory: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|p| directory.join(p).exists());
    if let Ok(named) = std::env::var("WEBHOOK_TEST_POSTGRES_BIN") {
        return Some(PathBuf::from(named)).filter(has_all);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).find(has_all) {
        return Some(found);
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt"] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
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
