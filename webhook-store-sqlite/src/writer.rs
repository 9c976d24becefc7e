//! The one writer.
//!
//! A thread owns the connection that writes and the queue's [memory](crate::lanes). Calls are sent to it and
//! run one after the other. It is a thread and not a task, since a task that becomes ready stands behind every
//! request that became ready before it, while all of them wait for it: it idled for a fifth of the time. Calls
//! that come before the commit begins share one `BEGIN IMMEDIATE` transaction, since a commit costs a sync of the
//! disk, many times what a call costs; each is set apart by a savepoint. So
//!
//! - a call runs to its end even if the future of its caller is dropped: it has happened, or, when it was
//!   dropped before it was sent, it has not;
//! - a caller is answered after the commit;
//! - a call that fails, by a panic too, is undone by itself. Where SQLite gave up the whole transaction (a
//!   full disk), every call of it has failed;
//! - the memory changes with the commit and never without it: any failure rolls both back;
//! - no two writers wait for each other inside SQLite, where waiting means sleeping and trying again.
//!
//! The thread ends when it is told to close or the last handle is gone; it finishes the calls that were sent,
//! closes the connection and then lets go of the file's lock.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::time::Clock;

use crate::checkpoint::Checkpoints;
use crate::error::{BACKEND, Fault};
use crate::lanes::Memory;
use crate::lock::FileLock;
use crate::queue::write_lanes;

/// Calls that wait for the writer before senders wait for room.
const BACKLOG: usize = 256;

/// Calls that share a commit at most: a bound on how long the first of them waits for the last.
const SHARED: usize = 16;

/// What is asked of the thread.
enum Command {
    Look(Look),
    Call(Call),
    Close,
}

/// Runs between transactions.
type Look = Box<dyn FnOnce(&mut Memory, i64) + Send>;

/// Runs inside a transaction. `Err` when it failed, and its part is to be undone.
type Call = Box<dyn for<'a> FnOnce(&'a mut Tx<'_>) -> BoxFuture<'a, Result<Answer, Answer>> + Send>;

/// Tells the caller, once the fate of the transaction is known.
type Answer = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// A transaction as one call sees it.
///
/// The call's part begins with [`begin`](Self::begin), or with statements that carry the
/// [beginning](Self::beginning) along.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    /// The connection, inside the transaction.
    pub(crate) conn: &'a mut SqliteConnection,
    /// The queue's memory, which follows the transaction.
    pub(crate) memory: &'a mut Memory,
    /// The moment of the call, in microseconds.
    pub(crate) now: i64,
    is_open: bool,
    part: Part,
}

/// How far a call's part of the transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    NotBegun,
    /// It opened the transaction.
    First,
    /// It stands behind others, from a savepoint on.
    Behind,
}

impl Tx<'_> {
    /// Begins the call's part, unless it has.
    pub(crate) async fn begin(&mut self) -> Result<(), Fault> {
        if !self.has_begun() {
            execute(self.conn, self.beginning()).await?;
            self.begun();
        }
        Ok(())
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.part != Part::NotBegun
    }

    /// Whether other calls' parts stand before this one.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_open && self.part != Part::First
    }

    /// The statement that begins the call's part, for a text that carries it along.
    pub(crate) fn beginning(&self) -> &'static str {
        if self.is_behind() { "SAVEPOINT call" } else { "BEGIN IMMEDIATE" }
    }

    /// The connection, for statements that carry the beginning along.
    pub(crate) fn begun(&mut self) -> &mut SqliteConnection {
        debug_assert!(!self.has_begun());
        self.part = if self.is_open { Part::Behind } else { Part::First };
        self.is_open = true;
        self.conn
    }

    /// Takes the call's part back, as if it had only started.
    ///
    /// # Errors
    /// The parts before it are lost as well.
    pub(crate) async fn start_again(&mut self) -> Result<(), Fault> {
        match self.part {
            Part::NotBegun => {}
            Part::First => {
                // After some errors SQLite has rolled back by itself, and refuses to do it again.
                let _ = execute(self.conn, "ROLLBACK").await;
                self.is_open = false;
            }
            Part::Behind => execute(self.conn, "ROLLBACK TO call").await?,
        }
        self.part = Part::NotBegun;
        self.memory.undo_call(self.now);
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
    checkpoints: Checkpoints,
    closing: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn spawn(
        conn: SqliteConnection,
        memory: Memory,
        clock: Arc<dyn Clock>,
        lock: FileLock,
        checkpoints: Checkpoints,
    ) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::channel::<Command>(BACKLOG);
        let bell = Arc::new(Bell {
            rung: Notify::new(),
            next_moment: AtomicI64::new(0),
            passes_over: AtomicBool::new(false),
        });
        bell.set(&memory);
        let task = Task { conn, memory, clock, bell: Arc::clone(&bell), checkpoints, closing: false };
        let (end, ended) = watch::channel(false);
        std::thread::Builder::new().name("webhook-sqlite-writer".into()).spawn(move || {
            block_on(task.run(inbox));
            drop(lock);
            end.send_replace(true);
        })?;
        Ok(Self { commands, bell, ended })
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Runs `operation` in a transaction, alone or with the calls beside it, and answers when what it did is
    /// committed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the store as if the call had happened or had not.
    pub(crate) async fn run<T, F>(&self, name: &'static str, operation: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Tx<'_>) -> BoxFuture<'a, Result<T, Fault>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call: Call = Box::new(move |tx| {
            async move {
                let done = AssertUnwindSafe(operation(tx)).catch_unwind().await.unwrap_or_else(|panic| {
                    let what = panic.downcast_ref::<&str>().copied().unwrap_or("no message");
                    tracing::error!(panic = what, "an operation of the store panicked and was undone");
                    Err(Fault::Defect("the operation panicked and was undone"))
                });
                let failed = done.is_err();
                let answer: Answer = Box::new(move |fate| {
                    // The caller may be gone; its call has happened all the same.
                    let _ = reply.send(done.and_then(|done| fate.map(|()| done)));
                });
                if failed { Err(answer) } else { Ok(answer) }
            }
            .boxed()
        });
        self.send(name, Command::Call(call), answer).await?.map_err(|fault| fault.during(name))
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
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |memory: &mut Memory, now| {
            let _ = reply.send(look(memory, now));
        });
        self.send(name, Command::Look(look), answer).await
    }

    /// Lets the thread end, and waits until it has let go of the file.
    pub(crate) async fn close(&self) {
        // Closing or closed already: there is the end to wait for, here too.
        let _ = self.commands.send(Command::Close).await;
        // A thread that ended without a word has let go as well.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    async fn send<T>(
        &self,
        name: &'static str,
        command: Command,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, BackendError> {
        let closed =
            || BackendError::new(BackendErrorKind::Unavailable, BACKEND, name, "the store is closed");
        self.commands.send(command).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        while let Some(command) = inbox.recv().await {
            self.serve(command, &mut inbox).await;
            if self.closing {
                // What was sent before is still received, and nothing else.
                inbox.close();
            }
        }
        self.checkpoints.end();
        if let Err(error) = self.conn.close().await {
            tracing::warn!(%error, "the database was not closed cleanly; nothing committed is lost");
        }
    }

    /// Serves a command, and those that come before its commit begins.
    async fn serve(&mut self, first: Command, inbox: &mut mpsc::Receiver<Command>) {
        let Self { conn, memory, clock, bell, checkpoints, closing } = self;
        let now = clock.now().as_micros();
        let mut tx = Tx { conn, memory, now, is_open: false, part: Part::NotBegun };
        let (mut looks, mut done) = (Vec::new(), Vec::new());
        let mut calls = 0;
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Call(call) => {
                    calls += 1;
                    tx.serve(call, clock.now().as_micros(), &mut done).await;
                }
                Command::Look(look) => looks.push(look),
                Command::Close => *closing = true,
            }
            if calls < SHARED {
                next = inbox.try_recv().ok();
            }
        }
        if calls > 0 {
            if let Err(fault) = tx.commit().await {
                tx.give_up(fault, &mut done).await;
            } else {
                if tx.memory.keep() {
                    bell.rung.notify_one();
                }
                checkpoints.committed();
            }
        }
        for look in looks {
            look(memory, clock.now().as_micros());
        }
        bell.set(memory);
        for answer in done {
            answer(Ok(()));
        }
    }
}

impl Tx<'_> {
    /// Runs a call's part. Who is to be told of the transaction's fate joins `done`.
    async fn serve(&mut self, call: Call, now: i64, done: &mut Vec<Answer>) {
        self.now = now;
        self.part = Part::NotBegun;
        match call(self).await {
            Ok(answer) => {
                self.memory.keep_call(self.now);
                done.push(answer);
            }
            Err(answer) => {
                if let Err(fault) = self.start_again().await {
                    self.give_up(fault, done).await;
                }
                answer(Ok(()));
            }
        }
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        self.part = if self.is_open { Part::First } else { Part::NotBegun };
        write_lanes(self).await?;
        if self.is_open {
            execute(self.conn, "COMMIT").await?;
        }
        Ok(())
    }

    /// Undoes everything, and tells those who thought that they were done.
    async fn give_up(&mut self, fault: Fault, done: &mut Vec<Answer>) {
        let _ = execute(self.conn, "ROLLBACK").await;
        self.is_open = false;
        self.part = Part::NotBegun;
        self.memory.undo(self.now);
        for answer in done.drain(..) {
            answer(Err(fault.clone()));
        }
    }
}

async fn execute(conn: &mut SqliteConnection, sql: &'static str) -> Result<(), Fault> {
    // A bound statement is cached; a raw one would be compiled every time.
    sqlx::query(sql).execute(conn).await?;
    Ok(())
}
