//! The queue's part of the store's changes, in the same transaction.
//!
//! In a store that was opened for another queue there is none, and each of these does nothing. The store sets
//! its lanes itself, in the commits that change subscriptions, so no version of theirs can be behind.

use sqlx::PgConnection;
use webhook_core::id::{DeliveryId, Token};
use webhook_core::queue::{Enqueued, HandOff, LaneSettings, NewJob, Settle, Settled};

use crate::connection::commit;
use crate::error::Fault;
use crate::open::Inner;
use crate::queue::{self, Adding, After, Settling};

/// What a transaction of the store does in the queue.
pub(super) struct Part<'a> {
    store: &'a Inner,
    /// What this process's side of the queue is to be told behind the commit.
    after: Option<After>,
}

impl<'a> Part<'a> {
    /// For a transaction that begins.
    pub(super) fn new(store: &'a Inner) -> Self {
        Self { store, after: store.own_queue.then(|| store.queue.after()) }
    }

    /// Whether the queue is in this database.
    pub(super) fn is_own(&self) -> bool {
        self.after.is_some()
    }

    pub(super) fn schema(&self) -> &'a str {
        self.store.connector.schema()
    }

    /// Commits the transaction.
    pub(super) async fn commit(self, conn: &mut PgConnection) -> Result<(), Fault> {
        commit(conn).await?;
        if let Some(after) = self.after {
            after.committed();
        }
        Ok(())
    }

    /// Jobs that are to be added by the statement that stores their deliveries.
    pub(super) fn adding(&self, hand_off: Option<&HandOff>) -> Option<Adding> {
        self.is_own().then(|| Adding::new(hand_off))
    }

    /// Leases that are to be ended by the statement that records what they led to.
    pub(super) fn settling(&self) -> Option<Settling> {
        self.is_own().then(Settling::default)
    }

    pub(super) fn after(&mut self) -> Result<&mut After, Fault> {
        self.after.as_mut().ok_or(Fault::Defect("there is no queue here"))
    }

    /// Adds jobs. Answers them in input order; nothing without a queue.
    pub(super) async fn add(
        &mut self,
        conn: &mut PgConnection,
        jobs: &[NewJob],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Enqueued>, Fault> {
        let Some(after) = self.after.as_mut().filter(|_| !jobs.is_empty()) else { return Ok(Vec::new()) };
        let answers = queue::add(conn, jobs, hand_off, after).await?;
        if answers.contains(&Enqueued::LaneBehind) {
            return Err(Fault::Defect("a delivery is for a subscription that never was"));
        }
        Ok(answers)
    }

    /// Ends leases. Answers them in input order; nothing without a queue.
    pub(super) async fn settle(
        &mut self,
        conn: &mut PgConnection,
        items: &[Settle],
    ) -> Result<Vec<Settled>, Fault> {
        match self.after.as_mut().filter(|_| !items.is_empty()) {
            Some(after) => queue::end_leases(conn, items, after).await,
            None => Ok(Vec::new()),
        }
    }

    /// Whether each lease is still its token's; it stays so to the end of the transaction.
    pub(super) async fn hold(
        &mut self,
        conn: &mut PgConnection,
        leases: &[(DeliveryId, Token)],
    ) -> Result<Vec<bool>, Fault> {
        if !self.is_own() || leases.is_empty() {
            return Ok(vec![true; leases.len()]);
        }
        queue::hold(conn, leases).await
    }

    /// Locks the jobs of leases that are to be ended and of others that are to be removed, and the lanes of all: with
    /// both in one transaction, neither may wait for what the other has made it hold.
    pub(super) async fn lock(
        &mut self,
        conn: &mut PgConnection,
        settles: &[Settle],
        removed: &[DeliveryId],
    ) -> Result<(), Fault> {
        if !self.is_own() || settles.is_empty() || removed.is_empty() {
            return Ok(());
        }
        let ids: Vec<DeliveryId> =
            settles.iter().map(|settle| settle.id).chain(removed.iter().copied()).collect();
        queue::lock(conn, &ids).await
    }

    /// Removes jobs, whoever holds them.
    pub(super) async fn remove(&mut self, conn: &mut PgConnection, ids: &[DeliveryId]) -> Result<(), Fault> {
        if let Some(after) = self.after.as_mut().filter(|_| !ids.is_empty()) {
            queue::remove_jobs(conn, ids).await?;
            after.removed(ids);
        }
        Ok(())
    }

    /// Sets what a lane must know of its subscription.
    pub(super) async fn set_lane(
        &mut self,
        conn: &mut PgConnection,
        settings: &LaneSettings,
    ) -> Result<(), Fault> {
        if let Some(after) = &mut self.after {
            let default = self.store.queue.default_limit();
            queue::configure(conn, std::slice::from_ref(settings), default).await?;
            after.ring();
        }
        Ok(())
    }
}
