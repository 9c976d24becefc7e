//! Giving up: ending as `expired` what was unfinished for too long.
//!
//! Each of the two questions has a partial index over unfinished deliveries, so that asking costs one look
//! when there is nothing to end. What a delivery becomes is the lifecycle's decision; that is then committed
//! as every result is, which removes its job, gives a lease's slot back to the lane and lets the next of its
//! key follow.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::FutureExt as _;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, SubscriptionId};
use webhook_core::lifecycle::{Input, step};
use webhook_core::model::Tenant;
use webhook_core::retry::RetryPolicy;
use webhook_core::store::{Ended, Expire, Expired, Record, Recorded};

use super::record;
use crate::codec::{self, micros};
use crate::error::Fault;
use crate::open::SqliteStore;
use crate::writer::Tx;

/// Deliveries of one transaction, so that others get their turn at the writer.
const STEP: u32 = 256;

pub(super) async fn expire(store: &SqliteStore, which: Expire, limit: u32) -> Result<Expired, BackendError> {
    let mut ended: HashSet<DeliveryId> = HashSet::new();
    let mut whose: BTreeMap<SubscriptionId, Ended> = BTreeMap::new();
    let mut released = Vec::new();
    let mut left = limit;
    while left > 0 {
        let most = left.min(STEP);
        let step = store.writer.run("expire", move |tx| batch(tx, which, most).boxed()).await?;
        let found = u32::try_from(step.ended.len()).unwrap_or(u32::MAX);
        for (id, tenant, subscription_id) in step.ended {
            ended.insert(id);
            let none = Ended { tenant, subscription_id, count: 0 };
            whose.entry(subscription_id).or_insert(none).count += 1;
        }
        released.extend(step.released);
        left = left.saturating_sub(found);
        if found < most {
            break;
        }
    }
    // Who was released by one step may have ended in the next.
    released.retain(|(id, _)| !ended.contains(id));
    Ok(Expired { ended: whose.into_values().collect(), released })
}

struct Step {
    ended: Vec<(DeliveryId, Tenant, SubscriptionId)>,
    released: Vec<(DeliveryId, LaneId)>,
}

async fn batch(tx: &mut Tx<'_>, which: Expire, most: u32) -> Result<Step, Fault> {
    tx.begin().await?;
    let query = match &which {
        Expire::Lane(lane) => sqlx::query(
            "SELECT d.*, s.tenant FROM webhooks_deliveries d INDEXED BY webhooks_deliveries_open
             CROSS JOIN webhooks_subscriptions s ON s.id = d.subscription
             WHERE d.finished_at IS NULL AND d.subscription = ? AND d.give_up_at <= ?
             ORDER BY d.give_up_at, d.id LIMIT ?",
        )
        .bind(&lane.as_bytes()[..])
        .bind(tx.now),
        Expire::OlderThan(age) => sqlx::query(
            "SELECT d.*, s.tenant FROM webhooks_deliveries d INDEXED BY webhooks_deliveries_chain
             CROSS JOIN webhooks_subscriptions s ON s.id = d.subscription
             WHERE d.finished_at IS NULL AND d.chain_start < ?
             ORDER BY d.chain_start, d.id LIMIT ?",
        )
        .bind(tx.now.saturating_sub(micros(*age))),
    };
    let rows = query.bind(most).fetch_all(&mut *tx.conn).await?;
    let mut records = Vec::with_capacity(rows.len());
    let mut ended = Vec::with_capacity(rows.len());
    for row in &rows {
        let state = codec::state(row)?;
        let decided = step(&state, &Input::Expire, &NoRetries, 0.0)
            .map_err(|_| Fault::Defect("a finished delivery was found among the unfinished ones"))?;
        let id = codec::delivery_id(row, "id")?;
        ended.push((id, codec::tenant(row, "tenant")?, codec::subscription_id(row, "subscription")?));
        records.push(Record {
            id,
            revision: state.revision,
            lease: None,
            attempts: Vec::new(),
            state: decided.state,
            next: decided.next,
            new_chain: None,
        });
    }
    let mut released = Vec::new();
    for answer in record::apply(tx, &records).await? {
        match answer {
            Recorded::Applied { released: heads, .. } => released.extend(heads),
            Recorded::Stale { .. } | Recorded::Gone => {
                return Err(Fault::Defect("a delivery changed within a transaction of the one writer"));
            }
        }
    }
    Ok(Step { ended, released })
}

/// Expiring asks for no policy.
#[derive(Debug)]
struct NoRetries;

impl RetryPolicy for NoRetries {
    fn wait(&self, _failed: u32, _sample: f64) -> Option<Duration> {
        None
    }

    fn span(&self) -> Duration {
        Duration::ZERO
    }

    fn longest(&self) -> Duration {
        Duration::ZERO
    }
}
