//! What this process must be told of a change when it is committed.
//!
//! A store's transaction that adds, settles or removes jobs gathers here what follows from it, and calls
//! [`After::committed`] behind its commit. Dropped instead, because the transaction was rolled back or nobody
//! knows, it gives back what was set aside and tells nothing; if the change was committed all the same, leases
//! run out and waiting jobs are found by the next look.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::id::{DeliveryId, LaneId, Token};

use super::Queue;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct After {
    queue: Arc<Queue>,
    /// Set aside for what is handed off, by lane.
    pub(super) reserved: Vec<(LaneId, u32)>,
    started: Vec<(Vec<(DeliveryId, LaneId)>, Token, Duration)>,
    ended: Vec<(DeliveryId, Option<Token>)>,
    ring: bool,
}

impl After {
    pub(super) fn new(queue: &Arc<Queue>) -> Self {
        Self {
            queue: Arc::clone(queue),
            reserved: Vec::new(),
            started: Vec::new(),
            ended: Vec::new(),
            ring: false,
        }
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// These leases, which no lane counts, began.
    pub(super) fn started(&mut self, leases: Vec<(DeliveryId, LaneId)>, token: Token, lease: Duration) {
        self.started.push((leases, token, lease));
    }

    /// These leases are over, whether or not they were still their tokens'.
    pub(crate) fn ended(&mut self, leases: impl Iterator<Item = (DeliveryId, Token)>) {
        self.ended.extend(leases.map(|(id, token)| (id, Some(token))));
    }

    /// These jobs were removed.
    pub(crate) fn removed(&mut self, ids: &[DeliveryId]) {
        self.ended.extend(ids.iter().map(|id| (*id, None)));
        self.ring = true;
    }

    /// Something may have become servable.
    pub(crate) fn ring(&mut self) {
        self.ring = true;
    }

    /// The change is committed.
    pub(crate) fn committed(mut self) {
        self.give_back();
        for (leases, token, lease) in std::mem::take(&mut self.started) {
            self.queue.local.start(leases.into_iter(), token, lease);
        }
        let freed = self.queue.local.end(std::mem::take(&mut self.ended).into_iter());
        if self.ring || freed {
            self.queue.ring();
        }
    }

    fn give_back(&mut self) {
        if !self.reserved.is_empty() {
            self.queue.local.cancel(&std::mem::take(&mut self.reserved));
        }
    }
}

impl Drop for After {
    fn drop(&mut self) {
        self.give_back();
    }
}
