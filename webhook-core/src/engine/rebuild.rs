//! Notices that the queue's memory is another one, and fills it again.
//!
//! A queue apart from the store may lose everything, or go back to what it knew some time ago. Its epoch shows it:
//! another number is another memory. The store notes the epoch of the memory that was filled last, so that a node
//! that has just started notices too; of the nodes that notice, the one that changes the note leads, and the others
//! sweep as always.
//!
//! The leader brings the settings of all lanes first, so that no pause, limit or rate is forgotten for longer than
//! that takes, and then everything that the store owes, page by page without a pause: one page is read while the one
//! before it is offered. What it holds in memory is two pages, however much is owed (promise 16).
//!
//! Every node looks once in a reconcile period, and soon after a job met a lane that the queue does not know.
//!
//! Nothing depends on it but time: the ordinary sweep of any node finds the same jobs, at a bounded rate
//! (promise 2), and offering a job twice is harmless. So two leaders do no harm, and a leader that dies in the middle
//! has no successor and needs none. The note says by then that its memory was filled, so no other node stands for it;
//! but the next sweep of each goes through everything that the store owes, to the end, some five hundred jobs every
//! five milliseconds at most, and brings the settings of a lane with its first job. What is not brought are settings
//! of lanes that nothing is owed to, and they come with the next job. A note that is made when the filling has ended
//! would make every node that notices fill the memory at once; one that is renewed meanwhile would be an election.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::backoff::jittered;
use super::handle::Inner;
use super::worker::{Phase, Worker};
use super::{lane_settings, reconciler};
use crate::error::BackendError;
use crate::store::{Owed, PageRequest, SubscriptionFilter};

/// Subscriptions whose settings are brought at once.
const LANES: u32 = 500;
/// Deliveries read at once.
const PAGE: u32 = 4096;
/// Jobs in one call: a page is offered by several calls at once, so that the queue never waits for an answer to
/// arrive.
const CALL: usize = 1024;

/// Between two looks at least, whatever is heard: a lane that is not known may just be new.
const CALM: Duration = Duration::from_millis(500);

/// What a node has to do about the queue's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// What is owed is offered at a bounded rate, as always.
    Sweep,
    /// The memory is one that nobody has filled: be the one who notes it.
    Stand,
    /// Fill it.
    Lead,
}

/// What this node knows of its own part.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The epoch that it leads, or may lead: it does not know what became of its standing.
    leads: Option<u64>,
}

impl Watch {
    /// By the epoch that the store has noted and that of the queue.
    fn duty(&self, noted: u64, epoch: u64) -> Duty {
        if noted != epoch {
            Duty::Stand
        } else if self.leads == Some(epoch) {
            Duty::Lead
        } else {
            Duty::Sweep
        }
    }

    /// It is about to stand. The answer may be lost, and then it leads all the same: better two than none.
    fn stands_for(&mut self, epoch: u64) {
        self.leads = Some(epoch);
    }

    /// Another one leads, or nothing is left to do.
    fn rests(&mut self) {
        self.leads = None;
    }
}

/// Looks at the memory of a queue apart from the store, until the worker stops.
pub(super) async fn run(inner: Arc<Inner>, worker: Arc<Worker>) {
    let mut watch = Watch::default();
    loop {
        if let Err(error) = look(&inner, &mut watch).await {
            // What keeps a node from looking keeps it from sweeping, which says so.
            if watch.leads.is_some() {
                tracing::warn!(error = &error as &dyn Error, "the queue's memory is filled again later");
            }
        }
        let hint = async {
            tokio::time::sleep(CALM).await;
            inner.lane_unknown.notified().await;
        };
        tokio::select! {
            biased;
            () = worker.reached(Phase::Draining) => return,
            () = hint => {}
            () = tokio::time::sleep(jittered(inner.settings.reconcile_period)) => {}
        }
    }
}

/// Looks at the queue's memory, and fills it if that is this node's to do.
async fn look(inner: &Inner, watch: &mut Watch) -> Result<(), BackendError> {
    let epoch = inner.queue.epoch().await?;
    let noted = inner.store.queue_epoch().await?;
    match watch.duty(noted, epoch) {
        Duty::Sweep => return Ok(()),
        Duty::Stand => {
            watch.stands_for(epoch);
            if !inner.store.advance_epoch(noted, epoch).await? {
                watch.rests();
                return Ok(());
            }
        }
        Duty::Lead => {}
    }
    let begun = Instant::now();
    tracing::info!(epoch, "the queue's memory is another one: this node fills it");
    let filling = Filling::of(inner);
    let (lanes, jobs) = fill(inner).await?;
    drop(filling);
    watch.rests();
    tracing::info!(epoch, lanes, jobs, took = ?begun.elapsed(), "the queue's memory is filled");
    Ok(())
}

/// Tells the sweep of this node, for as long as it lives, that it has nothing to add.
#[derive(Debug)]
struct Filling<'a>(&'a Inner);

impl<'a> Filling<'a> {
    fn of(inner: &'a Inner) -> Self {
        inner.filling.store(true, Ordering::Release);
        Self(inner)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.0.filling.store(false, Ordering::Release);
    }
}

/// Brings every lane's settings, then every owed job. Answers how many.
async fn fill(inner: &Inner) -> Result<(usize, usize), BackendError> {
    let lanes = fill_lanes(inner).await?;
    let mut jobs = 0;
    let mut page = inner.store.owed(None, PAGE).await?;
    while let Some(last) = page.last().map(|owed| owed.id) {
        jobs += page.len();
        // Jobs of one lane together: a queue looks at each lane of a call once.
        page.sort_unstable_by_key(|owed| owed.lane);
        let (next, ()) = tokio::try_join!(inner.store.owed(Some(last), PAGE), offer(inner, &page))?;
        page = next;
    }
    Ok((lanes, jobs))
}

/// New ones may come meanwhile: the queue asks for the settings of a lane that it does not know.
async fn fill_lanes(inner: &Inner) -> Result<usize, BackendError> {
    let filter = SubscriptionFilter::default();
    let (mut lanes, mut before) = (0, None);
    loop {
        let page = inner.store.list(&filter, PageRequest { before, limit: LANES }).await?;
        let settings: Vec<_> = page.items.iter().map(|subscription| lane_settings(subscription)).collect();
        if !settings.is_empty() {
            inner.queue.lanes(&settings).await?;
        }
        lanes += settings.len();
        before = page.next;
        if before.is_none() {
            return Ok(lanes);
        }
    }
}

async fn offer(inner: &Inner, page: &[Owed]) -> Result<(), BackendError> {
    try_join_all(page.chunks(CALL).map(|jobs| reconciler::offer(inner, jobs))).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_that_was_filled_is_swept() {
        assert_eq!(Watch::default().duty(7, 7), Duty::Sweep);
    }

    #[test]
    fn a_memory_that_nobody_noted_is_stood_for_whichever_number_is_greater() {
        assert_eq!(Watch::default().duty(7, 8), Duty::Stand, "a flush, or writes that were undone");
        assert_eq!(Watch::default().duty(7, 6), Duty::Stand, "an old snapshot, or another server");
    }

    #[test]
    fn who_stood_leads_until_it_has_filled_the_memory() {
        let mut watch = Watch::default();
        watch.stands_for(8);
        // Whether it heard that it won or not: what the store has noted is what it stood for.
        assert_eq!(watch.duty(8, 8), Duty::Lead);
        assert_eq!(watch.duty(8, 8), Duty::Lead, "it failed in the middle, and begins again");
        watch.rests();
        assert_eq!(watch.duty(8, 8), Duty::Sweep);
    }

    #[test]
    fn who_stood_for_a_memory_that_is_gone_stands_again() {
        let mut watch = Watch::default();
        watch.stands_for(8);
        assert_eq!(watch.duty(8, 9), Duty::Stand);
        assert_eq!(watch.duty(7, 8), Duty::Stand, "its standing had no effect");
        watch.stands_for(9);
        assert_eq!(watch.duty(9, 9), Duty::Lead);
        assert_eq!(watch.duty(9, 10), Duty::Stand);
    }

    #[test]
    fn whom_another_one_beat_sweeps() {
        let mut watch = Watch::default();
        watch.stands_for(8);
        watch.rests();
        assert_eq!(watch.duty(8, 8), Duty::Sweep);
    }
}
