//! Turns of ordered deliveries (promise 12).
//!
//! An unfinished ordered delivery has a row in `webhooks_turns`, numbered in the order of publishing. One of
//! each key is the head: it alone has a job. It stays the head until it ends, even when an earlier one is
//! reopened meanwhile; only a key without a head gets one, and then the lowest. A partial unique index makes
//! two heads impossible.

use std::collections::HashSet;

use webhook_core::id::{DeliveryId, SubscriptionId};

use crate::codec;
use crate::error::Fault;
use crate::lanes::URGENT;
use crate::sql::Bulk;
use crate::writer::Tx;

static TAKE: Bulk = Bulk::new(
    "INSERT INTO webhooks_turns (delivery, subscription, ordering_key, turn, head)
     SELECT *, 0 FROM (VALUES ",
    4,
    ") WHERE column1 IS NOT NULL",
);
static END: Bulk =
    Bulk::new("DELETE FROM webhooks_turns WHERE delivery IN (", 1, ") RETURNING subscription, ordering_key");
static REOPEN: Bulk = Bulk::new(
    "INSERT INTO webhooks_turns (delivery, subscription, ordering_key, turn, head)
     SELECT d.id, d.subscription, coalesce(e.ordering_key, ''), d.turn, 0
     FROM (VALUES ",
    1,
    ") v CROSS JOIN webhooks_deliveries d ON d.id = v.column1 JOIN webhooks_events e ON e.seq = d.event
     WHERE true ON CONFLICT DO NOTHING RETURNING subscription, ordering_key, delivery",
);
static PROMOTE: Bulk = Bulk::new(
    "UPDATE webhooks_turns SET head = 1 WHERE delivery IN (
         SELECT (SELECT t.delivery FROM webhooks_turns t
                 WHERE t.subscription = v.column1 AND t.ordering_key = v.column2 ORDER BY t.turn LIMIT 1)
         FROM (VALUES ",
    2,
    ") v WHERE v.column1 IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM webhooks_turns h
             WHERE h.subscription = v.column1 AND h.ordering_key = v.column2 AND h.head = 1)
     ) RETURNING delivery",
);
static HEADS: Bulk = Bulk::new(
    "SELECT d.id, d.subscription, d.request, d.next_attempt_at
     FROM (VALUES ",
    1,
    ") v CROSS JOIN webhooks_deliveries d ON d.id = v.column1",
);
static WHOSE_TURN: Bulk =
    Bulk::new("SELECT delivery FROM webhooks_turns WHERE head = 1 AND delivery IN (", 1, ")");
/// Whether the delivery `d` waits behind another one of its key.
macro_rules! waiting {
    () => {
        "(d.turn IS NOT NULL AND d.finished_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM webhooks_turns t WHERE t.delivery = d.id AND t.head = 1))"
    };
}
pub(super) use waiting;

/// A delivery that takes its place in the line.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) id: DeliveryId,
    pub(super) subscription: SubscriptionId,
    pub(super) key: &'a str,
    pub(super) turn: i64,
}

/// A delivery whose turn has come and that needs a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) id: DeliveryId,
    pub(super) lane: SubscriptionId,
    /// When its job is due.
    pub(super) due: i64,
}

type Key = (Vec<u8>, String);

/// Fresh deliveries take their places. Returns the heads that this made.
pub(super) async fn take_places(tx: &mut Tx<'_>, rows: &[Waiting<'_>]) -> Result<Vec<Head>, Fault> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    TAKE.run(tx.conn, rows, |row, new| {
        row.add(&new.id.as_bytes()[..]).add(&new.subscription.as_bytes()[..]).add(new.key).add(new.turn);
    })
    .await?;
    let keys = rows.iter().map(|row| (row.subscription.as_bytes().to_vec(), row.key.to_owned())).collect();
    promote(tx, keys).await
}

/// These deliveries ended. Returns the heads that follow them.
pub(super) async fn end(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<Vec<Head>, Fault> {
    let rows = END
        .fetch(tx.conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        keys.push((codec::blob(row, "subscription")?.to_vec(), codec::text(row, "ordering_key")?.to_owned()));
    }
    promote(tx, keys).await
}

/// These deliveries, finished before, are unfinished again and take back their places. Returns the heads that
/// this made and the ones that must wait.
pub(super) async fn reopen(
    tx: &mut Tx<'_>,
    ids: &[DeliveryId],
) -> Result<(Vec<Head>, Vec<DeliveryId>), Fault> {
    let rows = REOPEN
        .fetch(tx.conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    let mut keys = Vec::with_capacity(rows.len());
    let mut waiting = Vec::with_capacity(rows.len());
    for row in &rows {
        keys.push((codec::blob(row, "subscription")?.to_vec(), codec::text(row, "ordering_key")?.to_owned()));
        waiting.push(codec::delivery_id(row, "delivery")?);
    }
    let heads = promote(tx, keys).await?;
    waiting.retain(|id| heads.iter().all(|head| head.id != *id));
    Ok((heads, waiting))
}

/// Those of these deliveries whose turn it is.
pub(super) async fn heads(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<HashSet<DeliveryId>, Fault> {
    let rows = WHOSE_TURN
        .fetch(tx.conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    rows.iter().map(|row| codec::delivery_id(row, "delivery")).collect()
}

/// Makes the lowest of each key its head, unless it has one.
async fn promote(tx: &mut Tx<'_>, mut keys: Vec<Key>) -> Result<Vec<Head>, Fault> {
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = PROMOTE
        .fetch(tx.conn, &keys, |row, (subscription, key)| {
            row.add(&subscription[..]).add(&key[..]);
        })
        .await?;
    let ids = rows.iter().map(|row| codec::delivery_id(row, "delivery")).collect::<Result<Vec<_>, _>>()?;
    let rows = HEADS
        .fetch(tx.conn, &ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    let mut heads = Vec::with_capacity(rows.len());
    for row in &rows {
        let at = codec::optional::<i64>(row, "next_attempt_at")?.map_or(tx.now, |at| at.max(tx.now));
        let asked = codec::optional::<&str>(row, "request")?.is_some();
        heads.push(Head {
            id: codec::delivery_id(row, "id")?,
            lane: codec::lane_id(row, "subscription")?,
            due: if asked { URGENT } else { at },
        });
    }
    // In the order of publishing, as their jobs are to be.
    heads.sort_unstable_by_key(|head| head.id);
    Ok(heads)
}
