//! Deleting a subscription: at once what must be at once, the rest in batches.
//!
//! [`delete`] marks it, holds its lane and raises the configuration version in one commit: nothing starts
//! after it. Its unfinished deliveries are cancelled by [`cancel_deleted`], which is asked for until it
//! answers 0; the mark `draining` makes the work survive restarts and costs nothing when there is none.

use std::collections::HashMap;
use std::sync::Arc;

use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::model::{Subscription, Tenant};
use webhook_core::queue::Hold;
use webhook_core::store::{Changed, Ended};

use super::{insert, subscriptions};
use crate::codec::{self, Document, signed};
use crate::error::Fault;
use crate::queue::jobs;
use crate::sql::Bulk;
use crate::writer::Tx;

static CANCEL: Bulk = Bulk::new(
    "WITH p (now) AS (SELECT ?)
     UPDATE webhooks_deliveries SET status = 'cancelled', reason = 'subscription_deleted',
         revision = revision + 1, request = NULL, next_attempt_at = NULL, finished_at = (SELECT now FROM p)
     WHERE status IN ('pending', 'retrying') AND id IN (",
    1,
    ") RETURNING event",
);
static END_TURNS: Bulk = Bulk::new("DELETE FROM webhooks_turns WHERE delivery IN (", 1, ")");
static FORGET_REQUESTS: Bulk = Bulk::new(
    "UPDATE webhooks_deliveries SET request = NULL, next_attempt_at = NULL, revision = revision + 1
     WHERE request IS NOT NULL AND id IN (",
    1,
    ")",
);

pub(super) async fn delete(
    tx: &mut Tx<'_>,
    tenant: Tenant,
    id: SubscriptionId,
    expected: Option<u64>,
) -> Result<Changed, Fault> {
    tx.begin().await?;
    let Some(stored) = subscriptions::find(tx, &tenant, id).await? else { return Ok(Changed::NotFound) };
    if expected.is_some_and(|expected| expected != stored.version) {
        return Ok(Changed::VersionMismatch { current: stored.version });
    }
    let config = subscriptions::raise(tx, &tenant).await?;
    sqlx::query(
        "UPDATE webhooks_subscriptions SET deleted_at = ?, draining = 1, config_version = ?, secrets = ?,
             version = version + 1
         WHERE id = ?",
    )
    .bind(tx.now)
    .bind(signed(config))
    .bind(Document::without_secrets(&stored)?.secrets)
    .bind(&id.as_bytes()[..])
    .execute(&mut *tx.conn)
    .await?;
    let deleted = Arc::new(Subscription { version: stored.version + 1, ..(*stored).clone() });
    let mut settings = subscriptions::settings(&deleted);
    settings.hold = Some(Hold::Deleted);
    tx.memory.lane_mut(id).configure(&settings, tx.now);
    Ok(Changed::Done(deleted))
}

/// A delivery of a deleted subscription is unfinished, again or still: it will be cancelled.
pub(super) async fn drain(tx: &mut Tx<'_>, id: SubscriptionId) -> Result<(), Fault> {
    sqlx::query("UPDATE webhooks_subscriptions SET draining = 1 WHERE id = ? AND deleted_at IS NOT NULL")
        .bind(&id.as_bytes()[..])
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

pub(super) async fn cancel_deleted(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<Ended>, Fault> {
    tx.begin().await?;
    let mut ended: Vec<Ended> = Vec::new();
    let mut cancelled = 0;
    while cancelled < u64::from(limit) {
        let next = sqlx::query(
            "SELECT id, tenant FROM webhooks_subscriptions WHERE draining = 1 ORDER BY id LIMIT 1",
        )
        .fetch_optional(&mut *tx.conn)
        .await?;
        let Some(row) = next else { break };
        let subscription = codec::subscription_id(&row, "id")?;
        let left = i64::from(limit) - i64::try_from(cancelled).unwrap_or(i64::MAX);
        let ids = unfinished(tx, subscription, left).await?;
        if ids.is_empty() {
            sqlx::query("UPDATE webhooks_subscriptions SET draining = 0 WHERE id = ?")
                .bind(&subscription.as_bytes()[..])
                .execute(&mut *tx.conn)
                .await?;
            continue;
        }
        let count = cancel(tx, &ids).await?;
        cancelled += count;
        match ended.last_mut().filter(|ended| ended.subscription_id == subscription) {
            Some(ended) => ended.count += count,
            None if count > 0 => {
                let tenant = codec::tenant(&row, "tenant")?;
                ended.push(Ended { tenant, subscription_id: subscription, count });
            }
            None => {}
        }
    }
    Ok(ended)
}

/// Up to `limit` deliveries of a subscription that have a job or wait for their turn.
async fn unfinished(
    tx: &mut Tx<'_>,
    subscription: SubscriptionId,
    limit: i64,
) -> Result<Vec<DeliveryId>, Fault> {
    let mut ids = tx.memory.leased_in(subscription);
    ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let rows = sqlx::query(
        "SELECT id FROM (SELECT id FROM webhooks_jobs WHERE lane = ?1 AND leased = 0 LIMIT ?2)
         UNION SELECT delivery FROM (SELECT delivery FROM webhooks_turns WHERE subscription = ?1 LIMIT ?2)
         LIMIT ?2",
    )
    .bind(&subscription.as_bytes()[..])
    .bind(limit - i64::try_from(ids.len()).unwrap_or(limit))
    .fetch_all(&mut *tx.conn)
    .await?;
    for row in &rows {
        let id = codec::delivery_id(row, "id")?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

async fn cancel(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<u64, Fault> {
    let now = tx.now;
    let rows = CANCEL
        .fetch_with(
            tx.conn,
            |row| {
                row.add(now);
            },
            ids,
            |row, id| {
                row.add(&id.as_bytes()[..]);
            },
        )
        .await?;
    let mut events = HashMap::with_capacity(rows.len());
    for row in &rows {
        events.insert(codec::int(row, "event")?, now);
    }
    insert::finished(tx, &events.into_iter().collect::<Vec<_>>()).await?;
    FORGET_REQUESTS
        .run(tx.conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    END_TURNS
        .run(tx.conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    for id in ids {
        tx.memory.end(id);
    }
    jobs::remove(tx, ids).await?;
    Ok(rows.len() as u64)
}
