//! A throwaway PgBouncer before a PostgreSQL: its own port and directory, gone when its process is, however that ends.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::home::{Home, free_port};

/// The shell ends the pooler when its standard input does, which is when the test process ends, even by a signal that
/// cannot be caught.
const KEEPER: &str = r#""$@" >/dev/null 2>&1 & pooler=$!; read -r _; kill -9 "$pooler"; wait"#;

/// A pooler of a test's own. Dropping it stops it.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    keeper: Child,
    home: Home,
}

/// The program: Debian puts it where only root looks.
#[must_use]
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join("pgbouncer")).find(|program| program.exists())
}

impl PgBouncer {
    /// Starts one before the server of this URL, as its user, with these settings, such as `pool_mode = session`, one
    /// a line.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    pub fn start(url: &str, settings: &str) -> Result<Self, String> {
        let program = program().ok_or("PgBouncer is not installed: install the package pgbouncer")?;
        let server = url.split_once('@').and_then(|(_, server)| server.split('/').next());
        let (host, server_port) = server
            .and_then(|server| server.split_once(':'))
            .ok_or("a pooler needs a URL such as postgres://postgres@127.0.0.1:5432/postgres")?;
        let home = Home::create("webhook-pgbouncer-", None)?;
        let port = free_port()?;
        let file = home.path.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={host} port={server_port} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             ignore_startup_parameters = extra_float_digits\n{settings}\n"
        );
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        fs::write(&file, text).map_err(failed)?;
        fs::set_permissions(&file, Permissions::from_mode(0o644)).map_err(failed)?;
        let keeper = home
            .command(Path::new("/bin/sh"))
            .args(["-c", KEEPER, "keeper"])
            .arg(&program)
            .arg("-q")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let pooler = Self { port, keeper, home };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err("the pooler does not listen".to_owned());
            }
            // verify: allow(sleep): between two looks, until a deadline
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(pooler)
    }

    /// The server's database `postgres` through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = fs::remove_dir_all(&self.home.path);
    }
}

/// Whether the program can be run.
#[must_use]
pub fn runs() -> bool {
    program().is_some_and(|program| {
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}
