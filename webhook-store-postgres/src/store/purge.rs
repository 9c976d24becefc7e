//! Forgetting what is finished of one tenant, when a person asks for it.
//!
//! The entries that pruning reads do not tell whose an event is, so a purge goes through the tenant's events in
//! the order of their ids, a page at a time. What it deletes, and how it is locked, is pruning's
//! ([`prune`](super::prune)). The entries of what goes are dropped too: where nobody prunes, they would stay for
//! ever. Those of earlier ends of a delivery that was reopened are left to whoever prunes.

use std::time::Duration;

use futures::FutureExt as _;
use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::EventId;
use webhook_core::model::Tenant;
use webhook_core::store::Purged;

use super::prune::{DELIVERIES, delete};
use crate::codec::{self, Moment, micros};
use crate::connection::{begin, commit};
use crate::error::Fault;
use crate::open::Inner;
use crate::sql;

/// Events looked at in one transaction.
const STEP: u32 = 200;

/// What is asked for: whose, how old, behind which event, and how many.
type Asked<'a> = (&'a Tenant, Duration, Option<EventId>, u32);

pub(super) async fn purge(
    store: &Inner,
    tenant: &Tenant,
    older_than: Duration,
    after: Option<EventId>,
    limit: u32,
) -> Result<Purged, BackendError> {
    let asked: Asked<'_> = (tenant, older_than, after, limit.min(STEP));
    store.keeper.run("purge", &asked, |conn, asked| page(conn, asked).boxed()).await
}

async fn page(conn: &mut PgConnection, asked: &Asked<'_>) -> Result<Purged, Fault> {
    let (tenant, older_than, after, limit) = *asked;
    let from = after.map_or(Uuid::nil(), |id| id.as_uuid());
    begin(conn).await?;
    let query = sqlx::query(sql::PURGE_PAGE).bind(tenant.as_str()).bind(from);
    let rows = query.bind(micros(older_than)).bind(i64::from(limit)).fetch_all(&mut *conn).await?;
    let Some(first) = rows.first() else {
        commit(conn).await?;
        return Ok(Purged::default());
    };
    let cutoff = Moment::from(codec::moment(first, "cutoff")?);
    // The last one that was looked at, and those to be deleted if nothing keeps them.
    let (mut last, mut old, mut deliveries) = (from, Vec::with_capacity(rows.len()), 0);
    let mut all = rows.len() < limit as usize;
    for row in &rows {
        let event: Uuid = codec::get(row, "event")?;
        if codec::flag(row, "old")? {
            deliveries += u64::from(codec::get::<i32>(row, "deliveries")?.unsigned_abs());
            if !old.is_empty() && deliveries > DELIVERIES {
                all = false;
                break;
            }
            old.push(event);
        }
        last = event;
    }
    let done = delete(conn, old, cutoff).await?;
    let (at, events): (Vec<Moment>, Vec<Uuid>) = done.entries.into_iter().unzip();
    sqlx::query(sql::DROP_ENTRIES).bind(at).bind(events).execute(&mut *conn).await?;
    commit(conn).await?;
    // One that has more deliveries than a transaction deletes is looked at again, and those behind it.
    let next = match done.unfinished.iter().min() {
        Some(event) => Some(before(*event)),
        None if all => None,
        None => Some(EventId::from_uuid(last)),
    };
    Ok(Purged { deleted: done.gone, next })
}

/// The id right before this one in the order of ids.
fn before(event: Uuid) -> EventId {
    EventId::from_uuid(Uuid::from_u128(event.as_u128().saturating_sub(1)))
}
