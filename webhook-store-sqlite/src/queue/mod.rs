//! The queue's trait on [`SqliteStore`].

mod claim;
mod depth;
mod enqueue;
pub(crate) mod jobs;
mod settle;

pub(crate) use settle::take_effect;

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::queue::{
    Claim, Depth, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled,
};

use crate::codec::{hold_name, micros, signed, wait_until};
use crate::error::Fault;
use crate::lanes::{Durable, Lane, Memory};
use crate::open::SqliteStore;
use crate::sql::Bulk;
use crate::writer::Tx;

/// Lanes that were passed over may be another worker's, or this one's when slots become free; nobody is to
/// spin on them.
const PASSED_OVER: Duration = Duration::from_millis(20);

#[async_trait]
impl JobQueue for SqliteStore {
    async fn enqueue(
        &self,
        jobs: &[NewJob],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Enqueued>, BackendError> {
        let (jobs, hand_off) = (jobs.to_vec(), hand_off.cloned());
        self.writer.run("enqueue", move |tx| enqueue::enqueue(tx, jobs, hand_off).boxed()).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Lease>, BackendError> {
        let (claim, look) = (claim.clone(), claim.clone());
        // A look costs a tenth of a transaction.
        let idle = self.writer.look("claim", move |memory, now| {
            memory.use_default(look.max_in_flight, now);
            memory.is_idle(now, &look.room, &look.avoid) && !memory.knows_claim(look.id)
        });
        if idle.await? {
            return Ok(Vec::new());
        }
        self.writer.run("claim", move |tx| claim::claim(tx, claim).boxed()).await
    }

    async fn settle(&self, jobs: &[Settle]) -> Result<Vec<Settled>, BackendError> {
        let jobs = jobs.to_vec();
        self.writer.run("settle", move |tx| settle::settle(tx, jobs).boxed()).await
    }

    async fn extend(
        &self,
        leases: &[(DeliveryId, Token)],
        lease: Duration,
    ) -> Result<Vec<bool>, BackendError> {
        let (leases, span) = (leases.to_vec(), micros(lease));
        let asked = leases.clone();
        let (extended, lapsed) = self
            .writer
            .look("extend", move |memory, now| {
                let mut lapsed = false;
                let mut extended = Vec::with_capacity(asked.len());
                for (id, token) in &asked {
                    let held = memory.extend(id, *token, now.saturating_add(span));
                    lapsed |= !held && memory.lease_of(id, *token).is_some();
                    extended.push(held);
                }
                (extended, lapsed)
            })
            .await?;
        if !lapsed {
            return Ok(extended);
        }
        self.writer.run("extend", move |tx| settle::revive(tx, leases, span).boxed()).await
    }

    async fn remove(&self, ids: &[DeliveryId]) -> Result<(), BackendError> {
        let ids = ids.to_vec();
        self.writer.run("remove", move |tx| settle::remove(tx, ids).boxed()).await
    }

    async fn lanes(&self, settings: &[LaneSettings]) -> Result<(), BackendError> {
        let settings = settings.to_vec();
        self.writer
            .run("lanes", move |tx| {
                async move {
                    for settings in &settings {
                        tx.memory.lane_mut(settings.lane).configure(settings, tx.now);
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    async fn lane_states(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError> {
        let asked = lanes.to_vec();
        let seen = self.writer.look("lane_states", move |memory, now| {
            (!memory.may_have_run_out(now)).then(|| states(memory, &asked, now))
        });
        if let Some(states) = seen.await? {
            return Ok(states);
        }
        // What is in flight are live leases: those whose time is over are found first.
        let asked = lanes.to_vec();
        self.writer
            .run("lane_states", move |tx| {
                async move {
                    claim::return_lapsed(tx).await?;
                    Ok(states(tx.memory, &asked, tx.now))
                }
                .boxed()
            })
            .await
    }

    /// Waits for a change that makes a lane servable, or for the moment at which one becomes so by time. While
    /// there are lanes that the last claim passed over, for want of room or because it avoided them, it
    /// returns after 20 ms.
    async fn wait(&self, timeout: Duration) {
        let bell = self.writer.bell();
        let mut next = wait_until(bell.next_moment.load(Ordering::Acquire), self.now());
        if bell.passes_over.load(Ordering::Acquire) {
            next = next.min(PASSED_OVER);
        }
        // A ring that came since the last claim is kept, so none is lost between the two.
        let _ = tokio::time::timeout(timeout.min(next), bell.rung.notified()).await;
    }

    async fn depth(&self) -> Result<Depth, BackendError> {
        depth::depth(self).await
    }

    async fn epoch(&self) -> Result<u64, BackendError> {
        let mut conn = self.reader().await.map_err(|fault| fault.during("epoch"))?;
        let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM webhooks_meta WHERE id = 1")
            .fetch_one(&mut *conn)
            .await
            .map_err(|error| Fault::from(error).during("epoch"))?;
        Ok(epoch.unsigned_abs())
    }
}

fn states(memory: &Memory, lanes: &[LaneId], now: i64) -> Vec<Option<LaneState>> {
    lanes.iter().map(|id| memory.lane(id).and_then(|lane| state(lane, now))).collect()
}

fn state(lane: &Lane, now: i64) -> Option<LaneState> {
    let durable = &lane.durable;
    let left = |at: i64| (at > now).then(|| wait_until(at, now));
    Some(LaneState {
        version: durable.version?,
        health: durable.health,
        in_flight: lane.in_flight,
        parked_for: left(durable.parked_until),
        rate_limited_for: left(lane.permit_at()),
        hold: durable.hold,
    })
}

static LANES: Bulk = Bulk::new(
    "INSERT OR REPLACE INTO webhooks_lanes (lane, version, hold, max_in_flight, rate_requests, rate_per,
         strikes, slow, mark, parked_until, permit_at)
     SELECT * FROM (VALUES ",
    11,
    ") WHERE column1 IS NOT NULL",
);

/// Writes what the transaction changed in lanes and must outlive a restart.
pub(crate) async fn write_lanes(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let changed: Vec<(LaneId, Durable)> = tx.memory.to_be_written();
    if changed.is_empty() {
        return Ok(());
    }
    tx.begin().await?;
    LANES
        .run(tx.conn, &changed, |row, (id, lane)| {
            row.add(&id.as_bytes()[..])
                .add(lane.version.map(signed))
                .add(lane.hold.map(hold_name))
                .add(lane.max_in_flight)
                .add(lane.rate.map(|rate| rate.requests))
                .add(lane.rate.map(|rate| micros(rate.per)))
                .add(i64::from(lane.health.strikes))
                .add(lane.health.slow)
                .add(signed(lane.health.mark))
                .add(lane.parked_until)
                .add(lane.permit_at);
        })
        .await?;
    Ok(())
}
