//! Giving up: ending as `expired` what was unfinished for too long.
//!
//! Each of the two questions has an index over what is open, so that asking costs one look when there is
//! nothing to end. What a delivery becomes is the lifecycle's decision; that is then committed as every result
//! is, which removes its job, gives a lease's slot back to the lane and lets the next of its key follow. One
//! that moves on between the look and the commit is left alone.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::FutureExt as _;
use sqlx::PgConnection;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, SubscriptionId};
use webhook_core::lifecycle::{Input, step};
use webhook_core::model::Tenant;
use webhook_core::retry::RetryPolicy;
use webhook_core::store::{Ended, Expire, Expired, Record, Recorded};

use super::jobs::Part;
use super::record;
use crate::codec::{self, micros};
use crate::connection::begin;
use crate::error::Fault;
use crate::open::Inner;
use crate::sql;

/// Deliveries of one transaction, so that locks are held for a short time.
const STEP: u32 = 256;

pub(super) async fn expire(store: &Inner, which: Expire, limit: u32) -> Result<Expired, BackendError> {
    let mut ended: HashSet<DeliveryId> = HashSet::new();
    let mut whose: BTreeMap<SubscriptionId, Ended> = BTreeMap::new();
    let mut released = Vec::new();
    let mut left = limit;
    while left > 0 {
        let most = left.min(STEP);
        let args = (store, which, most);
        let step = store
            .keeper
            .run("expire", &args, |conn, (store, which, most)| batch(conn, store, *which, *most).boxed())
            .await?;
        let count = step.ended.len();
        for (id, tenant, subscription_id) in step.ended {
            ended.insert(id);
            let none = Ended { tenant, subscription_id, count: 0 };
            whose.entry(subscription_id).or_insert(none).count += 1;
        }
        released.extend(step.released);
        left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        if step.found < most || count == 0 {
            break;
        }
    }
    // Who was released by one step may have ended in the next.
    released.retain(|(id, _)| !ended.contains(id));
    Ok(Expired { ended: whose.into_values().collect(), released })
}

struct Step {
    found: u32,
    ended: Vec<(DeliveryId, Tenant, SubscriptionId)>,
    released: Vec<(DeliveryId, LaneId)>,
}

async fn batch(conn: &mut PgConnection, store: &Inner, which: Expire, most: u32) -> Result<Step, Fault> {
    begin(conn).await?;
    let query = match which {
        Expire::Lane(lane) => sqlx::query(sql::EXPIRABLE_OF_LANE).bind(lane.as_uuid()),
        Expire::OlderThan(age) => sqlx::query(sql::EXPIRABLE_BY_AGE).bind(micros(age)),
    };
    let rows = query.bind(i64::from(most)).fetch_all(&mut *conn).await?;
    let mut records = Vec::with_capacity(rows.len());
    let mut whose = Vec::with_capacity(rows.len());
    for row in &rows {
        let state = codec::state(row)?;
        let decided = step(&state, &Input::Expire, &NoRetries, 0.0)
            .map_err(|_| Fault::Defect("a finished delivery was found among the unfinished ones"))?;
        whose.push((codec::tenant(row, "tenant")?, codec::subscription_id(row, "subscription")?));
        records.push(Record {
            id: codec::delivery_id(row, "id")?,
            revision: state.revision,
            lease: None,
            attempts: Vec::new(),
            state: decided.state,
            next: decided.next,
            new_chain: None,
        });
    }
    let mut part = Part::new(store);
    let answers = record::apply(conn, &mut part, &records).await?;
    part.commit(conn).await?;
    let mut step = Step {
        found: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        ended: Vec::new(),
        released: Vec::new(),
    };
    for ((record, (tenant, subscription)), answer) in records.iter().zip(whose).zip(answers) {
        if let Recorded::Applied { released, .. } = answer {
            step.ended.push((record.id, tenant, subscription));
            step.released.extend(released);
        }
    }
    Ok(step)
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
