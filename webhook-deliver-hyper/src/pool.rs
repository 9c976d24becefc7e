//! Connections that nobody uses at the moment, by origin.
//!
//! An origin is what stands in a URL before its path: scheme, host and port, as the URL standard normalised them. A
//! connection is taken out for an exchange and comes back only when its answer was read to the end and the peer keeps
//! it; a dropped exchange so never leaves one behind in an unknown state. The last one that came back is taken first,
//! since it is the least likely to have been closed.
//!
//! Both bounds, for each origin and in all, keep by refusing what comes back. Idle ones are not polled; a sweep, which
//! runs while there are any, closes those that stayed too long, so that an origin that is never used again holds no
//! files. Nothing is closed under the lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Connection;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) each: usize,
    pub(crate) all: usize,
    pub(crate) time: Duration,
}

pub(crate) struct Pool {
    limits: Limits,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Oldest first.
    origins: HashMap<Box<str>, Vec<(Instant, Connection)>>,
    all: usize,
    sweeping: bool,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, idle: Mutex::default() })
    }

    /// A connection to this origin that was kept, looked at when it is used.
    pub(crate) fn take(&self, origin: &str) -> Option<Connection> {
        let mut idle = self.lock();
        let (since, connection) = idle.origins.get_mut(origin)?.pop()?;
        idle.all -= 1;
        drop(idle);
        // The last one is the youngest: the sweep closes the others.
        (since.elapsed() < self.limits.time).then_some(connection)
    }

    /// Keeps a connection that is open and in use by nobody.
    pub(crate) fn keep(self: &Arc<Self>, origin: &str, connection: Connection) {
        connection.renew();
        let mut idle = self.lock();
        if idle.all >= self.limits.all || self.limits.each == 0 {
            return;
        }
        match idle.origins.get_mut(origin) {
            Some(kept) if kept.len() >= self.limits.each => return,
            Some(kept) => kept.push((Instant::now(), connection)),
            None => {
                idle.origins.insert(origin.into(), vec![(Instant::now(), connection)]);
            }
        }
        idle.all += 1;
        if !idle.sweeping {
            idle.sweeping = true;
            drop(idle);
            tokio::spawn(Sweep(Arc::downgrade(self)).run(self.limits.time));
        }
    }

    /// Takes out what stayed too long, and says whether anything is left. If not, the sweep ends.
    fn expired(&self) -> (Vec<(Instant, Connection)>, bool) {
        let mut idle = self.lock();
        let mut expired = Vec::new();
        idle.origins.retain(|_, kept| {
            let old = kept.partition_point(|(since, _)| since.elapsed() >= self.limits.time);
            expired.extend(kept.drain(..old));
            !kept.is_empty()
        });
        idle.all -= expired.len();
        idle.sweeping = idle.all > 0;
        (expired, idle.sweeping)
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sweep of a pool. When its runtime ends before it does, another one may begin.
struct Sweep(Weak<Pool>);

impl Drop for Sweep {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.lock().sweeping = false;
        }
    }
}

impl Sweep {
    async fn run(mut self, time: Duration) {
        loop {
            tokio::time::sleep(time / 4).await;
            let Some(pool) = self.0.upgrade() else { return };
            let (expired, goes_on) = pool.expired();
            drop(expired);
            if !goes_on {
                // The pool knows; by now another sweep may be at work.
                self.0 = Weak::new();
                return;
            }
        }
    }
}
