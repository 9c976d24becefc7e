//! A directory of a server's own, and the user that it runs as.
//!
//! PostgreSQL refuses to run as root; what root starts runs as `nobody`.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The uid and gid of `nobody`, by convention.
const NOBODY: u32 = 65_534;

/// Where a server keeps its files. Its guard removes it.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    is_root: bool,
}

impl Home {
    /// Makes one below `parent`, or below the system's temporary directory.
    #[allow(clippy::disallowed_methods, reason = "only the salt of a name")]
    pub(crate) fn create(prefix: &str, parent: Option<&Path>) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let process = std::process::id();
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{prefix}{process}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Self::own(path),
                // Left by a process of the same number, or put there by somebody else: never used.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("cannot make {}: {error}", path.display())),
            }
        }
    }

    fn own(path: PathBuf) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let is_root = fs::metadata(&path).map_err(failed)?.uid() == 0;
        if is_root {
            chown(&path, Some(NOBODY), Some(NOBODY)).map_err(failed)?;
        }
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(failed)?;
        Ok(Self { path, is_root })
    }

    /// A command that runs as the server's user.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        // Wherever the tests run may be closed to that user.
        command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    // A server would keep a pipe of ours open for as long as it runs.
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

/// A port that nobody listens on at the moment.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}
