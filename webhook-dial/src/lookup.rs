//! The system's name lookup, bounded and shared.
//!
//! `getaddrinfo` blocks a thread, cannot be interrupted, and takes many seconds when a name server is dead. Left to
//! itself, a few hundred dead names would take every blocking thread of the runtime, which stores need too, and
//! keep the process from ending. So:
//!
//! - Lookups run on threads of their own, at most 160 of them ([`Limits`]).
//! - Dials of one name at the same time share one lookup. Nothing is kept once it is answered: the system caches,
//!   if the operator wants it.
//! - A lookup still unanswered after a second makes its name *slow* and gives its place up to the next. A slow
//!   name waits for one of a few places, apart from all others, until it is answered in time again. Dead
//!   name servers so hold up the names that they serve, and others only while they are being found out: a second for
//!   each lot of lookups that finds no free place.
//!
//! Whoever waits is dropped at the deadline; a lookup that nobody waits for any more is not begun.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::resolver::Lookup;

/// How many lookups run at once, and how long one counts as quick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Places for lookups that are expected to be quick.
    pub(crate) quick: usize,
    /// Places for names that were slow the last time.
    pub(crate) slow: usize,
    /// Places for lookups that began as quick ones and turned out slow.
    pub(crate) moved: usize,
    /// From here on a lookup is slow.
    pub(crate) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { quick: 64, slow: 32, moved: 64, patience: Duration::from_secs(1) }
    }
}

/// So many slow names are remembered.
const MAX_SLOW_NAMES: usize = 4096;

type Answer = Result<Arc<[IpAddr]>, LookupError>;
type Pending = BoxFuture<'static, Answer>;

/// Why a name has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// With what the system says about it, which names no address.
    #[error("the host name could not be resolved: {0}")]
    Failed(String),
    /// No thread, or a lookup that panicked.
    #[error("the lookup of the host name could not be run")]
    NotRun,
}

/// The system's own lookup: `getaddrinfo`, with the hosts file and whatever else is set up there.
pub(crate) fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect())
}

pub(crate) struct Lookups {
    inner: Arc<Inner>,
}

struct Inner {
    lookup: Lookup,
    patience: Duration,
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    moved: Arc<Semaphore>,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    next_id: u64,
    running: HashMap<Arc<str>, (u64, WeakShared<Pending>)>,
    slow: HashSet<Arc<str>>,
}

impl Lookups {
    pub(crate) fn new(lookup: Lookup, limits: Limits) -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self {
            inner: Arc::new(Inner {
                lookup,
                patience: limits.patience,
                quick: semaphore(limits.quick),
                slow: semaphore(limits.slow),
                moved: semaphore(limits.moved),
                names: Mutex::default(),
            }),
        }
    }

    /// The addresses of `name`, possibly none, from a lookup that another caller may have begun.
    ///
    /// Cancel safe: the lookup goes on for whoever else waits for it.
    pub(crate) async fn resolve(&self, name: &str) -> Answer {
        let lookup = self.inner.join(name);
        lookup.await
    }

    #[cfg(test)]
    pub(crate) fn is_slow(&self, name: &str) -> bool {
        self.inner.names().slow.contains(name)
    }

    /// How many lookups can be joined.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.inner.names().running.len()
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

impl Inner {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, name: &str) -> Shared<Pending> {
        let mut names = self.names();
        if let Some(running) = names.running.get(name).and_then(|(_, running)| running.upgrade()) {
            return running;
        }
        let name: Arc<str> = name.into();
        let id = names.next_id;
        names.next_id += 1;
        let entry = Entry { inner: Arc::clone(self), name: Arc::clone(&name), id };
        let lookup = run(entry).boxed().shared();
        if let Some(weak) = lookup.downgrade() {
            names.running.insert(name, (id, weak));
        }
        lookup
    }

    fn set_slow(&self, name: &Arc<str>, slow: bool) {
        let mut names = self.names();
        if !slow {
            names.slow.remove(name);
        } else if names.slow.len() < MAX_SLOW_NAMES {
            names.slow.insert(Arc::clone(name));
        }
    }
}

/// A line of [`Names::running`], taken out when the lookup ends or nobody waits for it.
struct Entry {
    inner: Arc<Inner>,
    name: Arc<str>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut names = self.inner.names();
        if names.running.get(&self.name).is_some_and(|(id, _)| *id == self.id) {
            names.running.remove(&self.name);
        }
    }
}

async fn run(entry: Entry) -> Answer {
    let (places, itself) = {
        let names = entry.inner.names();
        let places = if names.slow.contains(&entry.name) { &entry.inner.slow } else { &entry.inner.quick };
        (Arc::clone(places), names.running.get(&entry.name).map(|(_, weak)| weak.clone()))
    };
    let place = places.acquire_owned().await.map_err(|_| LookupError::NotRun)?;
    // From here on it is finished even if nobody waits, and can be joined until then: a thread is at work on it.
    let itself = itself.and_then(|weak| weak.upgrade());
    let (sender, answer) = oneshot::channel();
    tokio::spawn(async move {
        let result = supervise(&entry, place).await;
        drop(entry);
        // An error says that nobody waits.
        let _ = sender.send(result);
        drop(itself);
    });
    answer.await.unwrap_or(Err(LookupError::NotRun))
}

/// Runs the lookup on a thread and sees to its place until the thread has ended.
async fn supervise(entry: &Entry, mut place: OwnedSemaphorePermit) -> Answer {
    let (sender, mut answer) = oneshot::channel();
    let lookup = Arc::clone(&entry.inner.lookup);
    let name = Arc::clone(&entry.name);
    thread::Builder::new()
        .name("webhook-lookup".to_owned())
        .spawn(move || {
            let _ = sender.send(lookup(&name));
        })
        .map_err(|_| LookupError::NotRun)?;
    let result = match tokio::time::timeout(entry.inner.patience, &mut answer).await {
        Ok(result) => {
            entry.inner.set_slow(&entry.name, false);
            result
        }
        Err(_elapsed) => {
            entry.inner.set_slow(&entry.name, true);
            // When even these places are taken it keeps the one it has, so that threads stay bounded.
            if !Arc::ptr_eq(place.semaphore(), &entry.inner.slow)
                && let Ok(moved) = Arc::clone(&entry.inner.moved).try_acquire_owned()
            {
                place = moved;
            }
            answer.await
        }
    };
    drop(place);
    match result {
        Ok(Ok(addrs)) => Ok(addrs.into()),
        Ok(Err(error)) => Err(LookupError::Failed(reason(&error))),
        Err(_panicked) => Err(LookupError::NotRun),
    }
}

/// What the system says, without the words that Rust puts before it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}
