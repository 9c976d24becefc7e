//! Forgetting what finished long ago.
//!
//! `finished` holds an entry for each moment at which deliveries of an event finished. The oldest entries are
//! taken: an event with nothing unfinished and nothing that finished later goes, with all that belongs to it.
//! An entry of any other event is dropped, because the delivery that keeps the event has an entry of its own,
//! or will have one when it finishes. So every entry is read once, and when nothing is old enough one look at
//! the first entry says so.
//!
//! Events and deliveries are locked before it is decided, so that none goes that is reopened or added to.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::FutureExt as _;
use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::error::BackendError;

use crate::codec::{self, micros};
use crate::connection::{begin, commit};
use crate::error::Fault;
use crate::open::Inner;
use crate::sql;

/// Entries looked at in one transaction.
const STEP: i64 = 200;
/// A transaction takes no more events once it has so many deliveries to delete.
const DELIVERIES: i64 = 2_000;
/// Keys forgotten in one transaction.
const KEYS: i64 = 1_000;

pub(super) async fn prune(store: &Inner, retention: Duration, limit: u32) -> Result<u64, BackendError> {
    let mut pruned = 0;
    let mut entries = STEP;
    loop {
        let left = i64::from(limit) - i64::try_from(pruned).unwrap_or(i64::MAX);
        let args = (retention, left.min(entries));
        let step = store
            .keeper
            .run("prune", &args, |conn, (retention, most)| events(conn, *retention, *most).boxed())
            .await?;
        pruned += step.events;
        // Few entries may stand for many deliveries.
        let too_many = step.deliveries > DELIVERIES;
        entries = if too_many { (entries / 4).max(1) } else { (entries * 2).min(STEP) };
        if step.entries == 0 || pruned >= u64::from(limit) {
            break;
        }
    }
    while store.keeper.run("prune", &(), |conn, ()| keys(conn).boxed()).await? {}
    Ok(pruned)
}

struct Step {
    entries: usize,
    events: u64,
    deliveries: i64,
}

async fn events(conn: &mut PgConnection, retention: Duration, most: i64) -> Result<Step, Fault> {
    begin(conn).await?;
    let rows =
        sqlx::query(sql::TAKE_FINISHED).bind(micros(retention)).bind(most).fetch_all(&mut *conn).await?;
    let Some(first) = rows.first() else {
        commit(conn).await?;
        return Ok(Step { entries: 0, events: 0, deliveries: 0 });
    };
    let cutoff = codec::moment(first, "cutoff")?;
    let mut asked: Vec<Uuid> = rows.iter().map(|row| codec::get(row, "event")).collect::<Result<_, _>>()?;
    asked.sort_unstable();
    asked.dedup();
    let locked = sqlx::query(sql::LOCK_EVENTS).bind(asked).fetch_all(&mut *conn).await?;
    let mut over: HashSet<Uuid> = HashSet::with_capacity(locked.len());
    for row in &locked {
        over.insert(codec::get(row, "event")?);
    }
    let ids: Vec<Uuid> = over.iter().copied().collect();
    let mut of: HashMap<Uuid, Vec<Uuid>> = HashMap::with_capacity(ids.len());
    for row in sqlx::query(sql::LOCK_DELIVERIES_OF).bind(ids).fetch_all(&mut *conn).await? {
        let event: Uuid = codec::get(&row, "event")?;
        let finished = codec::optional_moment(&row, "finished_at")?;
        if finished.is_none_or(|at| at > cutoff) || codec::flag(&row, "asked")? {
            over.remove(&event);
        }
        of.entry(event).or_default().push(codec::get(&row, "id")?);
    }
    let deliveries: Vec<Uuid> = over.iter().filter_map(|event| of.get(event)).flatten().copied().collect();
    let count = i64::try_from(deliveries.len()).unwrap_or(i64::MAX);
    let ids: Vec<Uuid> = over.into_iter().collect();
    let done = sqlx::query(sql::DELETE_EVENTS).bind(ids).bind(deliveries).execute(&mut *conn).await?;
    commit(conn).await?;
    Ok(Step { entries: rows.len(), events: done.rows_affected(), deliveries: count })
}

/// Forgets keys whose time is over. Answers whether there may be more.
async fn keys(conn: &mut PgConnection) -> Result<bool, Fault> {
    let done = sqlx::query(sql::FORGET_KEYS).bind(KEYS).execute(conn).await?;
    Ok(i64::try_from(done.rows_affected()).is_ok_and(|forgotten| forgotten == KEYS))
}
