//! How much work there is.

use webhook_core::error::BackendError;
use webhook_core::queue::{Depth, Hold};

use crate::codec::{self, wait_until};
use crate::error::Fault;
use crate::lanes::{NEVER, URGENT};
use crate::open::SqliteStore;

/// Jobs are counted up to here.
const MOST: i64 = 100_000;

pub(super) async fn depth(store: &SqliteStore) -> Result<Depth, BackendError> {
    let mut depth = store
        .writer
        .look("depth", |memory, now| {
            let mut depth = Depth::default();
            for lane in memory.lanes().filter(|lane| lane.next_due != NEVER) {
                match lane.durable.hold {
                    Some(Hold::Paused) => depth.paused += 1,
                    Some(Hold::Disabled) => depth.disabled += 1,
                    Some(Hold::Deleted) => {}
                    None if lane.is_parked(now) => depth.parked += 1,
                    None if lane.permit_at() > now => depth.rate_limited += 1,
                    None => {}
                }
            }
            depth
        })
        .await?;
    count(store, &mut depth).await.map_err(|fault| fault.during("depth"))?;
    Ok(depth)
}

async fn count(store: &SqliteStore, depth: &mut Depth) -> Result<(), Fault> {
    let now = store.now();
    let mut conn = store.reader().await?;
    let row = sqlx::query(
        "SELECT
           (SELECT count(*) FROM (SELECT 1 FROM webhooks_lanes l CROSS JOIN webhooks_jobs j
              ON j.lane = l.lane AND j.leased = 0 AND j.due <= ?1
              WHERE l.hold IS NULL AND l.parked_until <= ?1
                AND (l.rate_requests IS NULL OR l.permit_at <= ?1) LIMIT ?2)) AS due,
           (SELECT count(*) FROM (SELECT 1 FROM webhooks_lanes l CROSS JOIN webhooks_jobs j
              ON j.lane = l.lane AND j.leased = 0 AND j.due > ?1 LIMIT ?2)) AS scheduled,
           (SELECT min((SELECT min(j.due) FROM webhooks_jobs j
                        WHERE j.lane = l.lane AND j.leased = 0 AND j.due > ?3))
            FROM webhooks_lanes l
            WHERE l.hold IS NULL AND l.parked_until <= ?1
              AND (l.rate_requests IS NULL OR l.permit_at <= ?1)) AS oldest",
    )
    .bind(now)
    .bind(MOST)
    .bind(URGENT)
    .fetch_one(&mut *conn)
    .await?;
    depth.due = codec::unsigned(&row, "due")?;
    depth.scheduled = codec::unsigned(&row, "scheduled")?;
    let oldest = codec::optional::<i64>(&row, "oldest")?.filter(|due| *due <= now);
    depth.oldest_due = oldest.map(|due| wait_until(now, due));
    Ok(())
}
