//! [`RedisQueue`]: opening it, checking the server, and what this process remembers of the server's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use webhook_core::error::{BackendError, BackendErrorKind as Kind};

use crate::bell::Bell;
use crate::client::{Answer, Client};
use crate::config::RedisOptions;
use crate::error::Fault;
use crate::script::Script;

/// The oldest server whose Lua and commands the scripts use.
const OLDEST: u32 = 7;

/// A [`JobQueue`](webhook_core::queue::JobQueue) on Redis (7.0 or later) or Valkey, shared by any number of
/// processes.
///
/// Cloning is cheap and gives the same queue. Connections are closed when the last clone is dropped.
///
/// # Losing the memory
///
/// The server's memory can be lost at any time; the store is the authority. [`epoch`] gives another number when
///
/// - the keys are gone: a flush, or a start without data;
/// - writes that this process has seen are undone: a replica was promoted that had not got them, or an older
///   snapshot was loaded. Every writing script counts in a counter that only grows, its value comes back with every
///   answer, and whoever gets a value no greater than one that it knew before it asked has seen it run backwards:
///   its next `epoch` declares the memory another one, for all processes.
///
/// A process that starts after the loss has seen nothing, so it notices by comparing the number with one that was
/// kept elsewhere.
///
/// [`epoch`]: webhook_core::queue::JobQueue::epoch
///
/// # Time
///
/// Times are the server's. When its clock is set back by some seconds, leases and waits end that much later.
#[derive(Debug, Clone)]
pub struct RedisQueue {
    client: Arc<Client>,
    pub(crate) bell: Arc<Bell>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The server was found to be fit.
    checked: AtomicBool,
    memory: Mutex<Memory>,
    /// Added to the server's clock, in microseconds.
    #[cfg(feature = "testing")]
    offset: std::sync::atomic::AtomicU64,
}

/// What this process has seen of the server's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// 0: none yet.
    pub(crate) epoch: u64,
    /// The greatest count that was seen in it.
    pub(crate) count: u64,
    /// The count has run backwards.
    pub(crate) undone: bool,
}

impl Memory {
    /// A writing call that began when `before` was known was the `count`-th; 0 if it wrote nothing.
    fn saw(&mut self, before: Self, count: u64) {
        if count == 0 || self.epoch != before.epoch {
            return;
        }
        // Answers cross each other, so only what was known before the call began can show it.
        self.undone |= count <= before.count;
        self.count = self.count.max(count);
    }

    /// The server's epoch, and its count now.
    fn remember(&mut self, epoch: u64, count: u64) {
        if self.epoch == epoch {
            self.count = self.count.max(count);
        } else {
            *self = Self { epoch, count, undone: false };
        }
    }
}

impl RedisQueue {
    /// Opens the queue and checks the server.
    ///
    /// # Errors
    /// [`Misconfigured`](Kind::Misconfigured) when the URL or the prefix cannot be used, the server is older than
    /// 7.0, refuses the credentials, or may evict keys (`maxmemory-policy` must be `noeviction`);
    /// [`Unavailable`](Kind::Unavailable) or [`Timeout`](Kind::Timeout) when it does not answer within the command
    /// time-out.
    ///
    /// # Cancel safety
    /// Dropping the future closes what it opened.
    pub async fn connect(options: RedisOptions) -> Result<Self, BackendError> {
        let queue = Self::open(options)?;
        queue.check().await.map_err(|fault| fault.during("connect"))?;
        Ok(queue)
    }

    /// Opens the queue without waiting for the server, which may be away: until it is there and was found to be
    /// fit, calls fail as they do in any outage, and then they work. What [`connect`](Self::connect) refuses is
    /// here the error of every call.
    ///
    /// # Errors
    /// [`Misconfigured`](Kind::Misconfigured) when the URL or the prefix cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[allow(clippy::needless_pass_by_value, reason = "options are given, not lent")]
    pub fn open(options: RedisOptions) -> Result<Self, BackendError> {
        options.check()?;
        let bell = Arc::new(Bell::new());
        let heard = Arc::clone(&bell);
        let client = Client::open(&options, move |what| heard.hear(what));
        let client = Arc::new(client.map_err(|fault| fault.during("connect"))?);
        Ok(Self { client, bell, shared: Arc::default() })
    }

    /// Waits until what was sent is answered, and closes the connections. Calls after it fail.
    pub async fn close(&self) {
        self.client.close().await;
    }

    /// Moves this handle's clock, and that of its clones, ahead of the server's. For tests.
    ///
    /// The span travels with each call and is added to the server's time by the script. Nothing of it is kept in
    /// the server, so no key can move another process's clock.
    #[cfg(feature = "testing")]
    pub fn advance(&self, span: std::time::Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.shared.offset.fetch_add(micros, Ordering::AcqRel);
    }

    fn offset(&self) -> Bytes {
        #[cfg(feature = "testing")]
        return crate::codec::text(self.shared.offset.load(Ordering::Acquire));
        #[cfg(not(feature = "testing"))]
        Bytes::from_static(b"0")
    }

    /// Runs a script of the queue on a server that was found to be fit.
    pub(crate) async fn run(&self, script: Script, mut args: Vec<Bytes>) -> Result<Answer, Fault> {
        if !self.shared.checked.load(Ordering::Acquire) {
            self.check().await?;
        }
        args.insert(0, self.offset());
        self.client.run(script, args).await
    }

    async fn check(&self) -> Result<(), Fault> {
        let items = self.client.run(Script::Check, Vec::new()).await?.reply.list()?;
        let texts = items.into_iter().map(crate::client::Reply::bytes).collect::<Result<Vec<_>, _>>()?;
        let checked = fit(&texts);
        self.shared.checked.store(checked.is_ok(), Ordering::Release);
        checked
    }

    /// Looks once more: a policy can be changed while the server runs.
    pub(crate) async fn check_again(&self) -> Result<(), Fault> {
        self.check().await
    }

    /// What this process has seen of the server's memory.
    pub(crate) fn memory(&self) -> Memory {
        *self.locked()
    }

    /// A writing call that began when `before` was known was the `count`-th.
    pub(crate) fn saw(&self, before: Memory, count: u64) {
        self.locked().saw(before, count);
    }

    /// The server's epoch, and its count now.
    pub(crate) fn remember(&self, epoch: u64, count: u64) {
        self.locked().remember(epoch, count);
    }

    fn locked(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server can carry the queue, by its INFO.
fn fit(info: &[Bytes]) -> Result<(), Fault> {
    let field = |name: &str| {
        info.iter().filter_map(|text| std::str::from_utf8(text).ok()).flat_map(str::lines).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim().to_owned())
        })
    };
    let version = field("redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        return Err(Fault::new(Kind::Misconfigured, "the server is too old: Redis 7.0 or Valkey is needed"));
    }
    if field("maxmemory_policy").is_some_and(|policy| policy != "noeviction") {
        return Err(Fault::new(
            Kind::Misconfigured,
            "the server may evict the queue's keys when its memory is full: set maxmemory-policy to noeviction",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &'static str) -> Result<(), Kind> {
        fit(&[Bytes::from_static(text.as_bytes())]).map_err(|fault| fault.kind)
    }

    /// Calls cross each other on their way, and their answers too.
    #[test]
    fn answers_that_cross_each_other_are_no_loss() {
        let mut memory = Memory::default();
        memory.remember(1, 10);
        let both_began = memory;
        memory.saw(both_began, 12);
        memory.saw(both_began, 11);
        let wrote_nothing = memory;
        memory.saw(wrote_nothing, 0);
        assert_eq!(memory, Memory { epoch: 1, count: 12, undone: false });
    }

    /// Though the count has caught up before anybody asked for the epoch.
    #[test]
    fn a_count_that_ran_backwards_is_remembered_until_the_memory_is_another_one() {
        let mut memory = Memory::default();
        memory.remember(1, 10);
        memory.saw(memory, 10);
        assert!(memory.undone, "this value was known before it was asked for");
        memory.saw(memory, 300);
        memory.remember(1, 300);
        assert!(memory.undone);
        let began_in_the_old_one = memory;
        memory.remember(2, 20);
        memory.saw(began_in_the_old_one, 21);
        assert_eq!(memory, Memory { epoch: 2, count: 20, undone: false });
    }

    #[test]
    fn an_old_server_and_one_that_evicts_are_refused() {
        assert_eq!(info("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n"), Ok(()));
        assert_eq!(info("redis_version:6.2.7\r\n"), Err(Kind::Misconfigured));
        assert_eq!(info("redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n"), Ok(()));
        assert_eq!(info("maxmemory_policy:allkeys-lru\r\n"), Err(Kind::Misconfigured));
    }
}
