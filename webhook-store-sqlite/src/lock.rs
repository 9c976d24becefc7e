//! One process a file.
//!
//! The lock is on a file of its own beside the database: closing any descriptor of the database itself would
//! drop all of this process's POSIX locks on it, SQLite's among them
//! (<https://sqlite.org/howtocorrupt.html>, section 2.2). The operating system lets go of it when the process
//! dies, however it dies; the empty file stays and means nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use webhook_core::error::BackendError;

use crate::error;

/// A store that was just dropped, or a process that is stopping, may need a moment to let go.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The right to serve a database file, until dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

/// Where the lock of a database is.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Takes the lock of `database`, waiting up to a second for it.
pub(crate) async fn acquire(database: &Path) -> Result<FileLock, BackendError> {
    let path = path_of(database);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|source| {
        error::cannot_open(
            &path,
            "cannot be made: check that its directory exists and its rights",
            Some(source),
        )
    })?;
    for _ in 0..PATIENCE {
        match file.try_lock() {
            Ok(()) => return Ok(FileLock { _file: file }),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
            Err(TryLockError::Error(source)) => {
                return Err(error::cannot_open(&path, "cannot be locked on this file system", Some(source)));
            }
        }
    }
    Err(error::in_use(&path))
}
