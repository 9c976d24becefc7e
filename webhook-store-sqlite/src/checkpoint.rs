//! Moves the log (`-wal`) into the file beside the writer.
//!
//! SQLite does it inside the commit that finds the log long: some 14 ms for 8,000 pages, in which nobody's event
//! is acknowledged. Readers and the writer go on beside a passive checkpoint of another connection, so a thread
//! with one of its own makes one every so many commits. What is left to the writer is to find, past
//! [`LOG_PAGES`], that little is missing, to move that, and to begin the log anew: a log that is written to all
//! the time would otherwise grow for ever.
//!
//! It owes nothing to anybody: a checkpoint that fails, for want of disk or because another one runs, is made up
//! for by the next or by the writer.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use futures::executor::block_on;
use sqlx::{Connection as _, SqliteConnection};

/// Length of the log, in pages of 4 KiB, from which the writer's commits see to it that it ends. Pages that change
/// again and again are written back once for so many.
pub(crate) const LOG_PAGES: &str = "8000";

/// Commits between two checkpoints. A commit of the hot path changes some ten to twenty pages.
const COMMITS: u32 = 64;

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    ring: SyncSender<()>,
    thread: JoinHandle<()>,
    commits: u32,
}

impl Checkpoints {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn spawn(conn: SqliteConnection) -> std::io::Result<Self> {
        // One that rings while it runs is enough for one more.
        let (ring, rung) = sync_channel(1);
        let thread =
            std::thread::Builder::new().name("webhook-sqlite-log".into()).spawn(move || run(conn, &rung))?;
        Ok(Self { ring, thread, commits: 0 })
    }

    /// To be told of each commit.
    pub(crate) fn committed(&mut self) {
        self.commits += 1;
        if self.commits >= COMMITS {
            self.commits = 0;
            let _ = self.ring.try_send(());
        }
    }

    /// Ends the thread and closes its connection, so that the writer's is the last one.
    pub(crate) fn end(self) {
        let Self { ring, thread, .. } = self;
        drop(ring);
        let _ = thread.join();
    }
}

fn run(mut conn: SqliteConnection, rung: &Receiver<()>) {
    while rung.recv().is_ok() {
        let done = block_on(sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut conn));
        if let Err(error) = done {
            tracing::debug!(%error, "the log was not moved into the file; the next checkpoint tries again");
        }
    }
    if let Err(error) = block_on(conn.close()) {
        tracing::debug!(%error, "the connection of the checkpoints was not closed cleanly");
    }
}
