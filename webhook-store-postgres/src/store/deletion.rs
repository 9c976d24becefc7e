//! Deleting a subscription: at once what must be at once, the rest in batches.
//!
//! [`delete`] marks it, holds its lane and raises the configuration version in one commit: nothing starts
//! after it. It has the tenant's configuration alone, so every publish before it has committed and every one
//! after it is outdated. Its unfinished deliveries are cancelled by [`cancel_deleted`], which is asked for
//! until it answers 0; the mark `draining` makes the work survive restarts and costs nothing when there is
//! none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use futures::FutureExt as _;
use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, SubscriptionId};
use webhook_core::model::{Subscription, Tenant};
use webhook_core::queue::Hold;
use webhook_core::store::{Changed, Ended};

use super::jobs::Part;
use super::subscriptions;
use crate::codec::{self, Document, Moment, signed};
use crate::connection::{begin, commit, rollback};
use crate::error::Fault;
use crate::locks::Lock;
use crate::open::Inner;
use crate::sql;

/// Deliveries of one transaction, so that locks are held for a short time.
const STEP: u64 = 500;

pub(super) async fn delete(
    conn: &mut PgConnection,
    store: &Inner,
    tenant: &Tenant,
    id: SubscriptionId,
    expected: Option<u64>,
) -> Result<Changed, Fault> {
    begin(conn).await?;
    Lock::configuration(tenant).take(conn, store.connector.schema()).await?;
    let Some(stored) = subscriptions::lock(conn, tenant, id).await? else {
        rollback(conn).await?;
        return Ok(Changed::NotFound);
    };
    if expected.is_some_and(|expected| expected != stored.version) {
        rollback(conn).await?;
        return Ok(Changed::VersionMismatch { current: stored.version });
    }
    let (config, now) = subscriptions::raise(conn, tenant).await?;
    sqlx::query(sql::DELETE_SUBSCRIPTION)
        .bind(id.as_uuid())
        .bind(Moment::from(now))
        .bind(signed(config))
        .bind(Document::without_secrets(&stored)?.secrets)
        .execute(&mut *conn)
        .await?;
    let deleted = Arc::new(Subscription { version: stored.version + 1, ..(*stored).clone() });
    let mut settings = subscriptions::settings(&deleted);
    settings.hold = Some(Hold::Deleted);
    let mut part = Part::new(store);
    part.set_lane(conn, &settings).await?;
    part.commit(conn).await?;
    Ok(Changed::Done(deleted))
}

pub(super) async fn cancel_deleted(store: &Inner, limit: u32) -> Result<Vec<Ended>, BackendError> {
    let mut ended: BTreeMap<SubscriptionId, Ended> = BTreeMap::new();
    let mut cancelled = 0;
    let mut from = Uuid::nil();
    while cancelled < u64::from(limit) {
        let args = (store, from, STEP.min(u64::from(limit) - cancelled));
        let step = store
            .keeper
            .run("cancel_deleted", &args, |conn, (store, from, most)| {
                batch(conn, store, *from, *most).boxed()
            })
            .await?;
        match step {
            Step::Cancelled(step) => {
                cancelled += step.count;
                match ended.entry(step.subscription_id) {
                    Entry::Occupied(mut known) => known.get_mut().count += step.count,
                    Entry::Vacant(new) if step.count > 0 => {
                        new.insert(step);
                    }
                    Entry::Vacant(_) => {}
                }
            }
            Step::Drained(subscription) => from = subscription,
            Step::Nothing => break,
        }
    }
    Ok(ended.into_values().collect())
}

enum Step {
    Cancelled(Ended),
    /// Nothing is left of this one.
    Drained(Uuid),
    Nothing,
}

async fn batch(conn: &mut PgConnection, store: &Inner, from: Uuid, most: u64) -> Result<Step, Fault> {
    begin(conn).await?;
    let next = sqlx::query(sql::DRAINING).bind(from).fetch_optional(&mut *conn).await?;
    let Some(row) = next else {
        rollback(conn).await?;
        return Ok(Step::Nothing);
    };
    let subscription: Uuid = codec::get(&row, "id")?;
    let subscription_id = SubscriptionId::from_uuid(subscription);
    let cancelled = Ended { tenant: codec::tenant(&row, "tenant")?, subscription_id, count: 0 };
    let rows =
        sqlx::query(sql::UNFINISHED).bind(subscription).bind(signed(most)).fetch_all(&mut *conn).await?;
    if rows.is_empty() {
        // Whoever reopens one of its deliveries holds this row to the commit, so the look that counts comes
        // behind the lock.
        sqlx::query(sql::LOCK_DRAINING).bind(subscription).execute(&mut *conn).await?;
        let done = sqlx::query(sql::DRAINED).bind(subscription).execute(&mut *conn).await?;
        commit(conn).await?;
        return Ok(if done.rows_affected() > 0 {
            Step::Drained(subscription)
        } else {
            Step::Cancelled(cancelled)
        });
    }
    let mut ids: Vec<DeliveryId> =
        rows.iter().map(|row| codec::delivery_id(row, "id")).collect::<Result<_, _>>()?;
    ids.sort_unstable();
    let uuids: Vec<Uuid> = ids.iter().map(DeliveryId::as_uuid).collect();
    let mut unfinished = 0;
    for row in sqlx::query(sql::LOCK_DELIVERIES).bind(&uuids).fetch_all(&mut *conn).await? {
        unfinished += u64::from(!codec::flag(&row, "finished")?);
    }
    sqlx::query(sql::CANCEL).bind(&uuids).execute(&mut *conn).await?;
    let mut part = Part::new(store);
    part.remove(conn, &ids).await?;
    part.commit(conn).await?;
    Ok(Step::Cancelled(Ended { count: unfinished, ..cancelled }))
}
