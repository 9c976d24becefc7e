//! What arrived: how often, how late, and whether it is what was sent.
//!
//! One slot for each delivery (event number × subscription), allocated before the run, so that counting costs an
//! atomic or two and never a lock. The first events of a run are its warm-up: they count as deliveries that must
//! arrive once, and not in latencies.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::payload;

#[derive(Debug)]
pub(crate) struct Tally {
    warm_up: usize,
    subscriptions: usize,
    /// The first request of each delivery is answered with 500.
    fail_first: bool,
    slots: Vec<Slot>,
    arrived: AtomicUsize,
    strange: AtomicUsize,
    last_arrival: AtomicU64,
    progress: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    requests: AtomicU32,
    latency: AtomicU64,
}

impl Tally {
    pub(crate) fn new(warm_up: usize, events: usize, subscriptions: usize, fail_first: bool) -> Self {
        let deliveries = (warm_up + events) * subscriptions;
        Self {
            warm_up,
            subscriptions,
            fail_first,
            slots: (0..deliveries).map(|_| Slot::default()).collect(),
            arrived: AtomicUsize::new(0),
            strange: AtomicUsize::new(0),
            last_arrival: AtomicU64::new(0),
            progress: Notify::new(),
        }
    }

    /// Takes one request to `/h/{subscription}` and says whether to answer it with a success.
    pub(crate) fn take(&self, path: &str, body: &[u8]) -> bool {
        let subscription = path.strip_prefix("/h/").and_then(|rest| rest.parse::<usize>().ok());
        let place =
            subscription.filter(|&subscription| subscription < self.subscriptions).and_then(|subscription| {
                let (number, sent) = payload::read(body)?;
                let slot = self.slots.get(number * self.subscriptions + subscription)?;
                Some((slot, sent))
            });
        let Some((slot, sent)) = place else {
            self.strange.fetch_add(1, Relaxed);
            return true;
        };
        let before = slot.requests.fetch_add(1, Relaxed);
        if self.fail_first && before == 0 {
            return false;
        }
        if before == u32::from(self.fail_first) {
            let now = payload::now();
            slot.latency.store(now.saturating_sub(sent), Relaxed);
            self.last_arrival.fetch_max(now, Relaxed);
            // Waiters look at the count again now and then; waking them for each arrival would cost more.
            let arrived = self.arrived.fetch_add(1, Relaxed) + 1;
            if arrived == self.slots.len() || arrived == self.warm_up * self.subscriptions {
                self.progress.notify_waiters();
            }
        }
        true
    }

    /// Deliveries that arrived at least once, warm-up included.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Relaxed)
    }

    pub(crate) fn warm_up_deliveries(&self) -> usize {
        self.warm_up * self.subscriptions
    }

    /// All deliveries, warm-up included.
    pub(crate) fn expected(&self) -> usize {
        self.slots.len()
    }

    /// Returns when something changed that a waiter for [`Self::arrived`] may wait for; or never.
    pub(crate) async fn changed(&self) {
        self.progress.notified().await;
    }

    /// [`payload::now`] of the last first arrival.
    pub(crate) fn last_arrival(&self) -> u64 {
        self.last_arrival.load(Relaxed)
    }

    pub(crate) fn missing(&self) -> usize {
        self.expected() - self.arrived()
    }

    /// Requests beyond the ones each delivery needs.
    pub(crate) fn duplicates(&self) -> usize {
        let needed = 1 + u32::from(self.fail_first);
        let extra = |slot: &Slot| slot.requests.load(Relaxed).saturating_sub(needed);
        self.slots.iter().map(|slot| extra(slot) as usize).sum()
    }

    /// Requests that are not what was published: another path, or a payload with other bytes.
    pub(crate) fn strange(&self) -> usize {
        self.strange.load(Relaxed)
    }

    /// Nanoseconds from sending to arrival, of the measured deliveries that arrived.
    pub(crate) fn latencies(&self) -> Vec<u64> {
        let measured = self.slots.iter().skip(self.warm_up_deliveries());
        measured.map(|slot| slot.latency.load(Relaxed)).filter(|&latency| latency > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: usize) -> Vec<u8> {
        let mut body = Vec::new();
        payload::write(number, 0, &mut body);
        body
    }

    #[test]
    fn missing_twice_and_strange_are_told_apart() {
        let tally = Tally::new(1, 2, 2, false);
        assert_eq!(tally.expected(), 6);
        for (path, number) in [("/h/0", 0), ("/h/1", 0), ("/h/0", 2), ("/h/0", 2)] {
            assert!(tally.take(path, &body(number)));
        }
        assert!(tally.take("/h/2", &body(0)));
        assert!(tally.take("/h/0", &body(3)));
        assert!(tally.take("/h/0", b"{}"));
        assert_eq!((tally.arrived(), tally.missing()), (3, 3));
        assert_eq!((tally.duplicates(), tally.strange()), (1, 3));
        assert_eq!(tally.latencies().len(), 1);
    }

    #[test]
    fn a_first_failure_is_no_arrival_and_its_retry_no_duplicate() {
        let tally = Tally::new(0, 1, 1, true);
        assert!(!tally.take("/h/0", &body(0)));
        assert_eq!(tally.arrived(), 0);
        assert!(tally.take("/h/0", &body(0)));
        assert_eq!((tally.missing(), tally.duplicates()), (0, 0));
        tally.take("/h/0", &body(0));
        assert_eq!(tally.duplicates(), 1);
    }
}
