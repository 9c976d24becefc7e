//! The queue's part of the store's changes, in the same transaction. In a store that was opened for another
//! queue there is none, and each of these does nothing.

use sqlx::PgConnection;
use webhook_core::id::{DeliveryId, Token};
use webhook_core::queue::{Enqueued, HandOff, LaneSettings, NewJob, Settle, Settled};

use crate::error::Fault;
use crate::open::Inner;

/// Adds jobs. Answers them in input order; nothing without a queue.
pub(super) async fn add(
    _conn: &mut PgConnection,
    store: &Inner,
    jobs: &[NewJob],
    _hand_off: Option<&HandOff>,
) -> Result<Vec<Enqueued>, Fault> {
    if !store.own_queue || jobs.is_empty() {
        return Ok(Vec::new());
    }
    Err(Fault::Defect("the queue is not there yet"))
}

/// Ends leases. Answers them in input order; nothing without a queue.
pub(super) async fn settle(
    _conn: &mut PgConnection,
    store: &Inner,
    items: &[Settle],
) -> Result<Vec<Settled>, Fault> {
    if !store.own_queue || items.is_empty() {
        return Ok(Vec::new());
    }
    Err(Fault::Defect("the queue is not there yet"))
}

/// Whether each lease is still its token's; it stays so to the end of the transaction.
pub(super) async fn hold(
    _conn: &mut PgConnection,
    store: &Inner,
    leases: &[(DeliveryId, Token)],
) -> Result<Vec<bool>, Fault> {
    if !store.own_queue || leases.is_empty() {
        return Ok(vec![true; leases.len()]);
    }
    Err(Fault::Defect("the queue is not there yet"))
}

/// Removes jobs, whoever holds them.
pub(super) async fn remove(_conn: &mut PgConnection, store: &Inner, ids: &[DeliveryId]) -> Result<(), Fault> {
    if !store.own_queue || ids.is_empty() {
        return Ok(());
    }
    Err(Fault::Defect("the queue is not there yet"))
}

/// Sets what a lane must know of its subscription.
pub(super) async fn set_lane(
    _conn: &mut PgConnection,
    store: &Inner,
    _settings: &LaneSettings,
) -> Result<(), Fault> {
    if !store.own_queue {
        return Ok(());
    }
    Err(Fault::Defect("the queue is not there yet"))
}
