//! Forgetting what finished long ago.
//!
//! `finished` holds an entry for each moment at which deliveries of an event finished. The oldest entries are
//! taken: an event with nothing unfinished and nothing that finished later goes, with all that belongs to it.
//! An entry of any other event is dropped, because the delivery that keeps the event has an entry of its own,
//! or will have one when it finishes. When nothing is old enough, one look at the first entry says so.
//!
//! However many deliveries an event has, a transaction deletes [`DELIVERIES`] of them at most, and the event
//! with the last of them: what is cut off by a limit of time is little, and the next step goes on behind what was
//! committed. An entry stays until its event is gone or is kept, so nothing is forgotten half-way.
//!
//! That an event is kept is seen without locks. One that is to go is locked with those of its deliveries that
//! go, and these are looked at again, so that none goes that is reopened or added to.

use std::collections::HashSet;
use std::time::Duration;

use futures::FutureExt as _;
use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::error::BackendError;

use crate::codec::{self, Moment, micros};
use crate::connection::{begin, commit};
use crate::error::Fault;
use crate::open::Inner;
use crate::sql;

/// Entries looked at in one transaction.
const STEP: i64 = 200;
/// Deliveries deleted in one transaction, at most.
pub(super) const DELIVERIES: u64 = 2_000;
/// Keys, or replays, forgotten in one transaction.
const KEYS: i64 = 1_000;

pub(super) async fn prune(store: &Inner, retention: Duration, limit: u32) -> Result<u64, BackendError> {
    let mut pruned = 0;
    while pruned < u64::from(limit) {
        let args = (retention, u64::from(limit) - pruned);
        let step = store
            .keeper
            .run("prune", &args, |conn, (retention, most)| events(conn, *retention, *most).boxed())
            .await?;
        match step {
            Step::Pruned(events) => pruned += events,
            Step::Nothing => break,
        }
    }
    store.keeper.run("prune", &retention, |conn, retention| replays(conn, *retention).boxed()).await?;
    while store.keeper.run("prune", &(), |conn, ()| keys(conn).boxed()).await? {}
    Ok(pruned)
}

enum Step {
    /// So many events, or at least some of what belongs to one or speaks of one.
    Pruned(u64),
    Nothing,
}

/// Prunes the oldest events, at most so many.
async fn events(conn: &mut PgConnection, retention: Duration, most: u64) -> Result<Step, Fault> {
    begin(conn).await?;
    let query = sqlx::query(sql::OLDEST_FINISHED).bind(micros(retention)).bind(STEP);
    let rows = query.fetch_all(&mut *conn).await?;
    let Some(first) = rows.first() else {
        commit(conn).await?;
        return Ok(Step::Nothing);
    };
    let cutoff = Moment::from(codec::moment(first, "cutoff")?);
    let mut entries: Vec<(Uuid, &str)> = Vec::with_capacity(rows.len());
    let mut chosen: HashSet<Uuid> = HashSet::new();
    let mut deliveries = 0;
    for row in &rows {
        let event: Uuid = codec::get(row, "event")?;
        if !chosen.contains(&event) {
            // One is looked at however many it has. One that is gone has none.
            let more = codec::optional::<i32>(row, "deliveries")?.unwrap_or(0).unsigned_abs();
            deliveries += u64::from(more);
            if !chosen.is_empty() && (deliveries > DELIVERIES || chosen.len() as u64 >= most) {
                break;
            }
            chosen.insert(event);
        }
        entries.push((event, codec::text(row, "place")?));
    }
    let left = delete(conn, chosen.into_iter().collect(), cutoff).await?;
    let settled = entries.iter().filter(|(event, _)| !left.unfinished.contains(event));
    let places: Vec<&str> = settled.map(|(_, place)| *place).collect();
    sqlx::query(sql::DROP_FINISHED).bind(places).execute(&mut *conn).await?;
    commit(conn).await?;
    Ok(Step::Pruned(left.gone))
}

/// What was made of events.
pub(super) struct Deleted {
    pub(super) gone: u64,
    /// Those that go, but have more deliveries than one transaction deletes.
    pub(super) unfinished: HashSet<Uuid>,
    /// Entries that speak of nothing any more, or never were: when something of which event finished.
    pub(super) entries: Vec<(Moment, Uuid)>,
}

/// Deletes those of these events that nothing keeps, or some of what belongs to them.
pub(super) async fn delete(
    conn: &mut PgConnection,
    events: Vec<Uuid>,
    cutoff: Moment,
) -> Result<Deleted, Fault> {
    let ids = |rows: Vec<sqlx::postgres::PgRow>| -> Result<Vec<Uuid>, Fault> {
        rows.iter().map(|row| codec::get(row, "event")).collect()
    };
    let over = ids(sqlx::query(sql::OVER).bind(events).bind(cutoff).fetch_all(&mut *conn).await?)?;
    let over = ids(sqlx::query(sql::LOCK_EVENTS).bind(over).fetch_all(&mut *conn).await?)?;
    let query = sqlx::query(sql::LOCK_DELIVERIES_OF).bind(&over).bind(cutoff).bind(codec::signed(DELIVERIES));
    let mut found: Vec<(Uuid, Uuid, Option<Moment>)> = Vec::new();
    let mut over: HashSet<Uuid> = over.iter().copied().collect();
    for row in &query.fetch_all(&mut *conn).await? {
        let event = codec::get(row, "event")?;
        if codec::flag(row, "stays")? {
            over.remove(&event);
        }
        found.push((event, codec::get(row, "id")?, codec::optional(row, "finished_at")?));
    }
    found.retain(|(event, ..)| over.contains(event));
    if !found.is_empty() {
        let deliveries: Vec<Uuid> = found.iter().map(|(_, id, _)| *id).collect();
        sqlx::query(sql::DELETE_DELIVERIES).bind(deliveries).execute(&mut *conn).await?;
    }
    let mut entries: Vec<(Moment, Uuid)> =
        found.iter().filter_map(|(event, _, at)| at.map(|at| (at, *event))).collect();
    let query = sqlx::query(sql::DELETE_EVENTS).bind(over.iter().copied().collect::<Vec<_>>());
    let gone = query.fetch_all(&mut *conn).await?;
    for row in &gone {
        let event = codec::get(row, "event")?;
        over.remove(&event);
        // One without deliveries finished when it was published.
        entries.push((codec::get(row, "created_at")?, event));
    }
    entries.sort_unstable();
    entries.dedup();
    Ok(Deleted { gone: gone.len() as u64, unfinished: over, entries })
}

/// Forgets replays that finished long ago; what is left over goes the next time.
async fn replays(conn: &mut PgConnection, retention: Duration) -> Result<(), Fault> {
    sqlx::query(sql::FORGET_REPLAYS).bind(micros(retention)).bind(KEYS).execute(conn).await?;
    Ok(())
}

/// Forgets keys whose time is over. Answers whether there may be more.
async fn keys(conn: &mut PgConnection) -> Result<bool, Fault> {
    let done = sqlx::query(sql::FORGET_KEYS).bind(KEYS).execute(conn).await?;
    Ok(i64::try_from(done.rows_affected()).is_ok_and(|forgotten| forgotten == KEYS))
}
