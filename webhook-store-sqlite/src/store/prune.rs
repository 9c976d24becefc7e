//! Forgetting what finished long ago.
//!
//! `webhooks_finished` holds an entry for each moment at which deliveries of an event finished. The oldest
//! entries are read: an event with nothing unfinished and nothing that finished later goes, with all that
//! belongs to it. An entry of any other event is dropped, because the delivery that keeps the event has an
//! entry of its own, or will have one when it finishes. So every entry is read once, and when nothing is old
//! enough one look at the first entry says so. Replays that finished and keys whose time is over go by indexes of
//! their own.
//!
//! A purge is about one tenant, which the entries do not tell: it goes through the tenant's events instead, and
//! deletes the entries of those that go, so that none is left where nobody prunes.

use std::time::Duration;

use futures::FutureExt as _;
use webhook_core::error::BackendError;
use webhook_core::id::EventId;
use webhook_core::model::Tenant;
use webhook_core::store::Purged;

use super::whole;
use crate::codec::{self, micros};
use crate::error::Fault;
use crate::open::SqliteStore;
use crate::sql::Bulk;
use crate::writer::Tx;

/// Events looked at in one transaction, so that others get their turn at the writer.
const STEP: i64 = 100;
/// A transaction takes no more events once it has so many deliveries to delete.
const DELIVERIES: i64 = 2_000;
/// Keys forgotten in one transaction.
const KEYS: i64 = 1_000;

static ATTEMPTS: Bulk = Bulk::new(
    "DELETE FROM webhooks_attempts WHERE delivery IN (SELECT id FROM webhooks_deliveries WHERE event IN (",
    1,
    "))",
);
static DELIVERIES_OF: Bulk = Bulk::new("DELETE FROM webhooks_deliveries WHERE event IN (", 1, ")");
static EVENTS: Bulk = Bulk::new("DELETE FROM webhooks_events WHERE seq IN (", 1, ")");
static ENTRIES: Bulk = Bulk::new(
    "DELETE FROM webhooks_finished WHERE (at, event) IN (SELECT * FROM (VALUES ",
    2,
    ") WHERE column1 IS NOT NULL)",
);

/// The entries of what keeps an event until it goes.
static ENTRIES_OF: Bulk = Bulk::new(
    "DELETE FROM webhooks_finished WHERE (at, event) IN (
         SELECT finished_at, event FROM webhooks_deliveries WHERE event IN (",
    1,
    "))",
);
/// The entry of an event without deliveries.
static ENTRY_OF: Bulk = Bulk::new(
    "DELETE FROM webhooks_finished WHERE (at, event) IN (
         SELECT created_at, seq FROM webhooks_events WHERE seq IN (",
    1,
    "))",
);

pub(super) async fn prune(store: &SqliteStore, retention: Duration, limit: u32) -> Result<u64, BackendError> {
    let mut pruned = 0;
    loop {
        let left = i64::from(limit) - i64::try_from(pruned).unwrap_or(i64::MAX);
        let step = store.writer.run("prune", move |tx| events(tx, retention, left.min(STEP)).boxed()).await?;
        pruned += step.events;
        if !step.more || pruned >= u64::from(limit) {
            break;
        }
    }
    store.writer.run("prune", move |tx| replays(tx, retention, limit).boxed()).await?;
    store.writer.run("prune", |tx| keys(tx).boxed()).await?;
    Ok(pruned)
}

struct Step {
    events: u64,
    more: bool,
}

async fn events(tx: &mut Tx<'_>, retention: Duration, limit: i64) -> Result<Step, Fault> {
    tx.begin().await?;
    let cutoff = tx.now.saturating_sub(micros(retention));
    let rows = sqlx::query(
        "SELECT f.at, f.event, coalesce(e.delivery_count, 0) AS deliveries,
             NOT EXISTS (SELECT 1 FROM webhooks_deliveries d WHERE d.event = f.event AND (
                 d.finished_at IS NULL OR d.finished_at > ?1 OR d.request IS NOT NULL)) AS over
         FROM webhooks_finished f LEFT JOIN webhooks_events e ON e.seq = f.event
         WHERE f.at <= ?1 ORDER BY f.at, f.event LIMIT ?2",
    )
    .bind(cutoff)
    .bind(limit)
    .fetch_all(&mut *tx.conn)
    .await?;
    let (mut entries, mut over) = (Vec::with_capacity(rows.len()), Vec::new());
    let mut deliveries = 0;
    for row in &rows {
        if deliveries > DELIVERIES {
            break;
        }
        let event = codec::int(row, "event")?;
        entries.push((codec::int(row, "at")?, event));
        if codec::int(row, "over")? != 0 {
            over.push(event);
            deliveries += codec::int(row, "deliveries")?;
        }
    }
    ENTRIES
        .run(tx.conn, &entries, |row, (at, event)| {
            row.add(*at).add(*event);
        })
        .await?;
    let events = delete(tx, &[&ATTEMPTS, &DELIVERIES_OF, &EVENTS], &over).await?;
    Ok(Step { events, more: !rows.is_empty() })
}

/// Runs statements over events. Returns how many rows the last one changed.
async fn delete(tx: &mut Tx<'_>, statements: &[&'static Bulk], events: &[i64]) -> Result<u64, Fault> {
    let mut changed = 0;
    for statement in statements {
        changed = statement
            .run(tx.conn, events, |row, event| {
                row.add(*event);
            })
            .await?;
    }
    Ok(changed)
}

pub(super) async fn purge(
    store: &SqliteStore,
    tenant: &Tenant,
    older_than: Duration,
    after: Option<EventId>,
    limit: u32,
) -> Result<Purged, BackendError> {
    let tenant = tenant.clone();
    let limit = i64::from(limit).min(STEP);
    store.writer.run("purge", move |tx| page(tx, tenant, older_than, after, limit).boxed()).await
}

/// Purges a page of a tenant's events in one transaction.
async fn page(
    tx: &mut Tx<'_>,
    tenant: Tenant,
    older_than: Duration,
    after: Option<EventId>,
    limit: i64,
) -> Result<Purged, Fault> {
    tx.begin().await?;
    let rows = sqlx::query(
        "SELECT e.seq, e.id, e.delivery_count, e.created_at <= ?1 AND NOT EXISTS (
             SELECT 1 FROM webhooks_deliveries d WHERE d.event = e.seq AND (
                 d.finished_at IS NULL OR d.finished_at > ?1 OR d.request IS NOT NULL)) AS over
         FROM webhooks_events e WHERE e.tenant = ?2 AND e.id > ?3 ORDER BY e.id LIMIT ?4",
    )
    .bind(tx.now.saturating_sub(micros(older_than)))
    .bind(tenant.as_str())
    .bind(after.map_or(Vec::new(), |id| id.as_bytes().to_vec()))
    .bind(limit)
    .fetch_all(&mut *tx.conn)
    .await?;
    let mut next = None;
    let (mut looked, mut over, mut deliveries) = (0, Vec::new(), 0);
    for row in &rows {
        if deliveries > DELIVERIES {
            break;
        }
        looked += 1;
        next = Some(codec::event_id(row, "id")?);
        if codec::int(row, "over")? != 0 {
            over.push(codec::int(row, "seq")?);
            deliveries += codec::int(row, "delivery_count")?;
        }
    }
    if looked < limit && looked == codec::signed(rows.len() as u64) {
        next = None;
    }
    if over.is_empty() {
        return Ok(Purged { deleted: 0, next });
    }
    let all = [&ENTRIES_OF, &ENTRY_OF, &ATTEMPTS, &DELIVERIES_OF, &EVENTS];
    let deleted = delete(tx, &all, &over).await?;
    // The last event may be among them, whose number must not come again.
    whole::note_number(tx).await?;
    Ok(Purged { deleted, next })
}

async fn replays(tx: &mut Tx<'_>, retention: Duration, limit: u32) -> Result<(), Fault> {
    tx.begin().await?;
    sqlx::query(
        "DELETE FROM webhooks_replays WHERE id IN (
             SELECT id FROM webhooks_replays WHERE finished = 1 AND finished_at <= ? LIMIT ?)",
    )
    .bind(tx.now.saturating_sub(micros(retention)))
    .bind(i64::from(limit))
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

async fn keys(tx: &mut Tx<'_>) -> Result<(), Fault> {
    tx.begin().await?;
    sqlx::query(
        "DELETE FROM webhooks_keys WHERE (tenant, key) IN (
             SELECT tenant, key FROM webhooks_keys WHERE expires_at <= ? LIMIT ?)",
    )
    .bind(tx.now)
    .bind(KEYS)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}
