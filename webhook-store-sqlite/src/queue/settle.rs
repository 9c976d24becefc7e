//! Ending leases: of a queue that is used by itself. In the store, `record` does it.

use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::Effect;
use webhook_core::queue::{Settle, Settled, Verdict};

use super::jobs;
use crate::codec::micros;
use crate::error::Fault;
use crate::lanes::Held;
use crate::writer::Tx;

pub(super) async fn settle(tx: &mut Tx<'_>, items: Vec<Settle>) -> Result<Vec<Settled>, Fault> {
    tx.begin().await?;
    let (mut done, mut retried, mut released) = (Vec::new(), Vec::new(), Vec::new());
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let Some(held) = tx.memory.lease_of(&item.id, item.token) else {
            answers.push(Settled::Stale);
            continue;
        };
        tx.memory.end(&item.id);
        let strikes = take_effect(tx, held.lane, item.effect, item.mark);
        match item.verdict {
            Verdict::Done => done.push(item.id),
            Verdict::RetryAfter(wait) => {
                let due = tx.now.saturating_add(micros(wait));
                tx.memory.pending(held.lane, due);
                retried.push((item.id, due));
            }
            Verdict::Release => {
                tx.memory.pending(held.lane, held.due);
                released.push(item.id);
            }
        }
        answers.push(Settled::Settled { strikes });
    }
    jobs::remove(tx, &done).await?;
    jobs::rearm(tx, &retried).await?;
    jobs::release(tx, &released).await?;
    Ok(answers)
}

/// Applies what an attempt did to its lane. Returns the strikes after it.
pub(crate) fn take_effect(tx: &mut Tx<'_>, lane: LaneId, effect: Effect, mark: u64) -> u8 {
    let now = tx.now;
    let lane = tx.memory.lane_mut(lane);
    if let Some(parking) = lane.durable.health.take(effect, mark) {
        let until = now.saturating_add(micros(parking));
        lane.durable.parked_until = lane.durable.parked_until.max(until);
    }
    lane.durable.health.strikes
}

/// Extends leases of which some have run out and were not claimed by another: those hold again.
pub(super) async fn revive(
    tx: &mut Tx<'_>,
    leases: Vec<(DeliveryId, Token)>,
    span: i64,
) -> Result<Vec<bool>, Fault> {
    tx.begin().await?;
    let until = tx.now.saturating_add(span);
    let mut revived = Vec::new();
    let mut answers = Vec::with_capacity(leases.len());
    for (id, token) in leases {
        let held = tx.memory.lease_of(&id, token);
        if let Some(held) = held.filter(|held| !held.live) {
            tx.memory.lane_mut(held.lane).in_flight += 1;
            tx.memory.grant(id, Held { live: true, until, ..held });
            revived.push(id);
        }
        answers.push(held.is_some());
    }
    jobs::revive(tx, &revived).await?;
    Ok(answers)
}

/// Forgets jobs, leased or not.
pub(super) async fn remove(tx: &mut Tx<'_>, ids: Vec<DeliveryId>) -> Result<(), Fault> {
    tx.begin().await?;
    for id in &ids {
        tx.memory.end(id);
    }
    jobs::remove(tx, &ids).await
}
