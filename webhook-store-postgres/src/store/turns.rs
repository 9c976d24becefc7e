//! Turns of ordered deliveries (promise 12).
//!
//! An unfinished ordered delivery has a row in `turns`, numbered in the order of publishing. One of each key is
//! the head: it alone has a job. It stays the head until it ends, even when an earlier one is reopened
//! meanwhile; only a key without a head gets one, and then the lowest. A partial unique index makes two heads
//! impossible; so that none is missed, whoever changes a line holds the key's lock to the end of the
//! transaction, and looks only after it has it.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::queue::NewJob;

use crate::codec::{self, wait_until};
use crate::error::Fault;
use crate::locks::{self, Lock};
use crate::sql;

/// A delivery that takes its place in the line.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) id: DeliveryId,
    pub(super) subscription: SubscriptionId,
    pub(super) key: &'a str,
}

/// A delivery whose turn has come and that needs a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) id: DeliveryId,
    pub(super) lane: SubscriptionId,
    wait: Duration,
    urgent: bool,
}

impl Head {
    /// Its job. The store sets lanes itself, so no version of theirs can be behind.
    pub(super) fn job(&self) -> NewJob {
        NewJob { id: self.id, lane: self.lane, wait: self.wait, lane_version: 0, urgent: self.urgent }
    }
}

type Key = (Uuid, String);

/// Fresh deliveries take their places; their keys are locked already. Returns the heads that this made.
pub(super) async fn take_places(conn: &mut PgConnection, line: &[Waiting<'_>]) -> Result<Vec<Head>, Fault> {
    if line.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = line.iter().map(|new| new.id.as_uuid()).collect();
    let keys: Vec<&str> = line.iter().map(|new| new.key).collect();
    sqlx::query(sql::TAKE_TURNS).bind(ids).bind(keys).execute(&mut *conn).await?;
    promote(conn, line.iter().map(|new| (new.subscription.as_uuid(), new.key.to_owned())).collect()).await
}

/// What a change of deliveries does to their lines.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Those whose turn has come by it.
    pub(super) heads: Vec<Head>,
    /// Those of the unfinished ones whose turn it is not.
    pub(super) waiting: Vec<DeliveryId>,
}

/// Of these ordered deliveries some have `ended` and others are, still or again, `unfinished`.
pub(super) async fn change(
    conn: &mut PgConnection,
    schema: &str,
    ended: &[DeliveryId],
    unfinished: &[DeliveryId],
) -> Result<Moved, Fault> {
    if ended.is_empty() && unfinished.is_empty() {
        return Ok(Moved::default());
    }
    let uuids = |ids: &[DeliveryId]| ids.iter().map(DeliveryId::as_uuid).collect::<Vec<_>>();
    let all: Vec<Uuid> = ended.iter().chain(unfinished).map(DeliveryId::as_uuid).collect();
    let mut keys: Vec<Key> = Vec::with_capacity(all.len());
    for row in sqlx::query(sql::ORDER_KEYS).bind(all).fetch_all(&mut *conn).await? {
        keys.push((codec::get(&row, "subscription")?, codec::text(&row, "ordering_key")?.to_owned()));
    }
    let wanted: Vec<Lock> =
        keys.iter().map(|(lane, key)| Lock::order(&SubscriptionId::from_uuid(*lane), key)).collect();
    locks::take_alone(conn, schema, &wanted).await?;
    if !ended.is_empty() {
        sqlx::query(sql::END_TURNS).bind(uuids(ended)).execute(&mut *conn).await?;
    }
    if !unfinished.is_empty() {
        sqlx::query(sql::REOPEN_TURNS).bind(uuids(unfinished)).execute(&mut *conn).await?;
    }
    let heads = promote(conn, keys).await?;
    let mut waiting = Vec::new();
    if !unfinished.is_empty() {
        for row in sqlx::query(sql::WHO_WAITS).bind(uuids(unfinished)).fetch_all(conn).await? {
            waiting.push(codec::delivery_id(&row, "id")?);
        }
    }
    Ok(Moved { heads, waiting })
}

/// Makes the lowest of each key its head, unless it has one.
async fn promote(conn: &mut PgConnection, mut keys: Vec<Key>) -> Result<Vec<Head>, Fault> {
    keys.sort_unstable();
    keys.dedup();
    let (subscriptions, names): (Vec<Uuid>, Vec<String>) = keys.into_iter().unzip();
    let rows = sqlx::query(sql::PROMOTE).bind(subscriptions).bind(names).fetch_all(&mut *conn).await?;
    let mut heads = Vec::with_capacity(rows.len());
    for row in &rows {
        let now = codec::moment(row, "now")?;
        let urgent = codec::optional::<&str>(row, "request")?.is_some();
        let at = codec::optional_moment(row, "next_attempt_at")?;
        heads.push(Head {
            id: codec::delivery_id(row, "id")?,
            lane: codec::subscription_id(row, "subscription")?,
            wait: at.filter(|_| !urgent).map_or(Duration::ZERO, |at| wait_until(at, now)),
            urgent,
        });
    }
    // In the order of publishing, as their jobs are to be.
    heads.sort_unstable_by_key(|head| head.id);
    Ok(heads)
}
