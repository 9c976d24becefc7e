//! The one writer.
//!
//! A task owns the connection that writes and the queue's [memory](crate::lanes). Calls are sent to it and
//! run one after the other, each in one `BEGIN IMMEDIATE` transaction. So
//!
//! - a call runs to its end even if the future of its caller is dropped: it has happened, or, when it was
//!   dropped before it was sent, it has not;
//! - the memory changes with the commit and never without it: any failure, a panic included, rolls both back;
//! - no two writers wait for each other inside SQLite, where waiting means sleeping and trying again.
//!
//! The task ends when it is told to close or the last handle is gone; it finishes the calls that were sent,
//! closes the connection and then lets go of the file's lock.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::time::Clock;

use crate::error::{BACKEND, Fault};
use crate::lanes::Memory;
use crate::lock::FileLock;
use crate::queue::write_lanes;

/// Calls that wait for the writer before senders wait for room.
const BACKLOG: usize = 256;

type Command = Box<dyn for<'a> FnOnce(&'a mut Task) -> BoxFuture<'a, ()> + Send>;

/// One transaction: what an operation works with.
///
/// It begins with [`begin`](Self::begin), or with statements that carry the beginning along.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    /// The connection, inside the transaction.
    pub(crate) conn: &'a mut SqliteConnection,
    /// The queue's memory, which follows the transaction.
    pub(crate) memory: &'a mut Memory,
    /// The moment of the transaction, in microseconds.
    pub(crate) now: i64,
    has_begun: bool,
}

impl Tx<'_> {
    /// Begins the transaction, unless it has.
    pub(crate) async fn begin(&mut self) -> Result<(), Fault> {
        if !self.has_begun {
            execute(self.conn, "BEGIN IMMEDIATE").await?;
            self.has_begun = true;
        }
        Ok(())
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The connection, for statements that begin the transaction themselves.
    pub(crate) fn begun(&mut self) -> &mut SqliteConnection {
        debug_assert!(!self.has_begun);
        self.has_begun = true;
        self.conn
    }

    /// Takes everything back, as if the operation had only started.
    pub(crate) async fn start_again(&mut self) -> Result<(), Fault> {
        if self.has_begun {
            execute(self.conn, "ROLLBACK").await?;
            self.has_begun = false;
        }
        self.memory.undo(self.now);
        Ok(())
    }
}

/// What the writer tells those who wait for work.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Rung when a lane becomes servable.
    pub(crate) rung: Notify,
    /// When one will by time alone.
    pub(crate) next_moment: AtomicI64,
    /// There are lanes that can be served and that nobody took.
    pub(crate) passes_over: AtomicBool,
}

impl Bell {
    fn set(&self, memory: &Memory) {
        self.next_moment.store(memory.next_moment(), Ordering::Release);
        self.passes_over.store(memory.passes_over(), Ordering::Release);
    }
}

/// A handle to the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    commands: mpsc::Sender<Command>,
    bell: Arc<Bell>,
    ended: watch::Receiver<bool>,
}

struct Task {
    conn: SqliteConnection,
    memory: Memory,
    clock: Arc<dyn Clock>,
    bell: Arc<Bell>,
    closing: bool,
}

/// What an operation that failed left behind.
enum Failure {
    Fault(Fault),
    Panic(Box<dyn Any + Send>),
}

impl Writer {
    /// Starts the task on the current runtime.
    pub(crate) fn spawn(
        conn: SqliteConnection,
        memory: Memory,
        clock: Arc<dyn Clock>,
        lock: FileLock,
    ) -> Self {
        let (commands, mut inbox) = mpsc::channel::<Command>(BACKLOG);
        let bell = Arc::new(Bell {
            rung: Notify::new(),
            next_moment: AtomicI64::new(0),
            passes_over: AtomicBool::new(false),
        });
        bell.set(&memory);
        let mut task = Task { conn, memory, clock, bell: Arc::clone(&bell), closing: false };
        let (end, ended) = watch::channel(false);
        tokio::spawn(async move {
            while let Some(command) = inbox.recv().await {
                command(&mut task).await;
                if task.closing {
                    // What was sent before is still received, and nothing else.
                    inbox.close();
                }
            }
            if let Err(error) = task.conn.close().await {
                tracing::warn!(%error, "the database was not closed cleanly; nothing committed is lost");
            }
            drop(lock);
            end.send_replace(true);
        });
        Self { commands, bell, ended }
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Runs `operation` in a transaction of its own and commits what it did.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the store as if the call had happened or had not.
    pub(crate) async fn run<T, F>(&self, name: &'static str, operation: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Tx<'_>) -> BoxFuture<'a, Result<T, Fault>> + Send + 'static,
    {
        self.send(name, move |task| {
            async move {
                task.transaction(operation).await.map_err(|failure| match failure {
                    Failure::Fault(fault) => fault.during(name),
                    Failure::Panic(_) => Fault::Defect("the operation panicked and was undone").during(name),
                })
            }
            .boxed()
        })
        .await
    }

    /// Runs `look` on the memory, between transactions.
    ///
    /// # Cancel safety
    /// As of [`run`](Self::run).
    pub(crate) async fn look<T, F>(&self, name: &'static str, look: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Memory, i64) -> T + Send + 'static,
    {
        self.send(name, move |task| {
            async move {
                let now = task.clock.now().as_micros();
                let seen = look(&mut task.memory, now);
                task.bell.set(&task.memory);
                Ok(seen)
            }
            .boxed()
        })
        .await
    }

    /// Lets the task end, and waits until it has let go of the file.
    pub(crate) async fn close(&self) {
        let command: Command = Box::new(|task| {
            task.closing = true;
            async {}.boxed()
        });
        // Closing or closed already: there is the end to wait for, here too.
        let _ = self.commands.send(command).await;
        // A task that was dropped with its runtime has let go as well.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    async fn send<T, F>(&self, name: &'static str, call: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Task) -> BoxFuture<'a, Result<T, BackendError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |task| {
            async move {
                // The caller may be gone; its call has happened all the same.
                let _ = reply.send(call(task).await);
            }
            .boxed()
        });
        let closed =
            || BackendError::new(BackendErrorKind::Unavailable, BACKEND, name, "the store is closed");
        self.commands.send(command).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Task {
    async fn transaction<T, F>(&mut self, operation: F) -> Result<T, Failure>
    where
        F: for<'a> FnOnce(&'a mut Tx<'_>) -> BoxFuture<'a, Result<T, Fault>>,
    {
        let now = self.clock.now().as_micros();
        let mut tx = Tx { conn: &mut self.conn, memory: &mut self.memory, now, has_begun: false };
        let done = AssertUnwindSafe(async {
            let done = operation(&mut tx).await?;
            write_lanes(&mut tx).await?;
            if tx.has_begun {
                execute(tx.conn, "COMMIT").await?;
            }
            Ok::<T, Fault>(done)
        })
        .catch_unwind()
        .await;
        let done = match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(fault)) => Err(Failure::Fault(fault)),
            Err(panic) => Err(Failure::Panic(panic)),
        };
        match done {
            Ok(done) => {
                if self.memory.keep(now) {
                    self.bell.rung.notify_one();
                }
                self.bell.set(&self.memory);
                Ok(done)
            }
            Err(failure) => {
                // After some errors SQLite has rolled back by itself, and refuses to do it again.
                let _ = execute(&mut self.conn, "ROLLBACK").await;
                self.memory.undo(now);
                self.bell.set(&self.memory);
                if let Failure::Panic(panic) = &failure {
                    let what = panic.downcast_ref::<&str>().copied().unwrap_or("no message");
                    tracing::error!(panic = what, "an operation of the store panicked and was undone");
                }
                Err(failure)
            }
        }
    }
}

async fn execute(conn: &mut SqliteConnection, sql: &'static str) -> Result<(), Fault> {
    // A bound statement is cached; a raw one would be compiled every time.
    sqlx::query(sql).execute(conn).await?;
    Ok(())
}
