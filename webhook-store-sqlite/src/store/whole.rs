//! Whole events: what was made of one, and more deliveries of it.
//!
//! Deliveries that are added later get a number of their own, from the same row as events: ordered ones take
//! their turns behind what was published before, a replay that is running leaves them alone, and a repeat of
//! the publish, which answers with what has no such number, is answered as at first. That an event has one
//! delivery for each subscription is looked up in the adding transaction: there is one writer.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::Connection as _;
use webhook_core::id::{EventId, SubscriptionId};
use webhook_core::model::Tenant;
use webhook_core::queue::Hold;
use webhook_core::store::{Added, ConfigVersion, EventDelivery, NewDelivery, OfEvent};

use super::insert::Desk;
use super::{deletion, turns};
use crate::codec::{self, micros};
use crate::error::Fault;
use crate::open::SqliteStore;
use crate::queue::jobs;
use crate::sql::Bulk;
use crate::writer::Tx;

static ADD: Bulk = Bulk::new(
    "INSERT INTO webhooks_deliveries (id, event, subscription, created_at, added, turn, next_attempt_at,
         chain_start, give_up_at, revision, status, attempts, failed, unknowns, chain)
     SELECT *, 0, 'pending', 0, 0, 0, 0 FROM (VALUES ",
    9,
    ") WHERE column1 IS NOT NULL",
);

pub(super) async fn of_event(
    store: &SqliteStore,
    tenant: &Tenant,
    id: EventId,
) -> Result<Option<OfEvent>, Fault> {
    let mut conn = store.reader().await?;
    // Both statements see the same moment.
    let mut moment = conn.begin().await?;
    let row =
        sqlx::query("SELECT e.*, e.id AS event_id FROM webhooks_events e WHERE e.tenant = ? AND e.id = ?")
            .bind(tenant.as_str())
            .bind(&id.as_bytes()[..])
            .fetch_optional(&mut *moment)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let event = codec::event(&row)?;
    let rows = sqlx::query("SELECT d.* FROM webhooks_deliveries d WHERE d.event = ? ORDER BY d.id")
        .bind(codec::int(&row, "seq")?)
        .fetch_all(&mut *moment)
        .await?;
    moment.rollback().await?;
    let delivery = |row| {
        Ok(EventDelivery {
            id: codec::delivery_id(row, "id")?,
            subscription_id: codec::subscription_id(row, "subscription")?,
            state: codec::state(row)?,
        })
    };
    let deliveries = rows.iter().map(delivery).collect::<Result<_, Fault>>()?;
    Ok(Some(OfEvent { event: Arc::new(event), deliveries }))
}

pub(super) async fn add(
    tx: &mut Tx<'_>,
    event: EventId,
    deliveries: Vec<NewDelivery>,
    config_version: ConfigVersion,
) -> Result<Added, Fault> {
    tx.begin().await?;
    // Two tenants may have events of one id: the subscriptions tell whose is meant.
    let row = sqlx::query(
        "SELECT e.seq, e.tenant, e.ordering_key, e.deliver_at
         FROM webhooks_tenants t CROSS JOIN webhooks_events e ON e.tenant = t.tenant AND e.id = ?
         ORDER BY e.tenant = (SELECT s.tenant FROM webhooks_subscriptions s WHERE s.id = ?) DESC LIMIT 1",
    )
    .bind(&event.as_bytes()[..])
    .bind(deliveries.first().map(|delivery| delivery.subscription_id.as_bytes().to_vec()))
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = row else { return Ok(Added::Gone) };
    if config_version != tx.memory.config(&codec::tenant(&row, "tenant")?) {
        return Ok(Added::Outdated);
    }
    let seq = codec::int(&row, "seq")?;
    let mut served = served(tx, seq).await?;
    let missing: Vec<NewDelivery> =
        deliveries.into_iter().filter(|delivery| served.insert(delivery.subscription_id)).collect();
    if missing.is_empty() {
        return Ok(Added::Stored { added: Vec::new(), waiting: Vec::new() });
    }
    let key = codec::optional::<String>(&row, "ordering_key")?.unwrap_or_default();
    let due = codec::optional::<i64>(&row, "deliver_at")?.map_or(tx.now, |at| at.max(tx.now));
    let number = take_number(tx).await?;
    let now = tx.now;
    ADD.run(tx.conn, &missing, |row, new| {
        row.add(&new.id.as_bytes()[..])
            .add(seq)
            .add(&new.subscription_id.as_bytes()[..])
            .add(now)
            .add(number)
            .add(new.ordered.then_some(number))
            .add(due)
            .add(due)
            .add(due.saturating_add(micros(new.give_up_after)));
    })
    .await?;
    queue(tx, &missing, &key, number, due).await
}

/// Gives those that need not wait their jobs.
async fn queue(
    tx: &mut Tx<'_>,
    new: &[NewDelivery],
    key: &str,
    number: i64,
    due: i64,
) -> Result<Added, Fault> {
    let ordered = || new.iter().filter(|delivery| delivery.ordered);
    let line: Vec<turns::Waiting<'_>> = ordered()
        .map(|delivery| turns::Waiting {
            id: delivery.id,
            subscription: delivery.subscription_id,
            key,
            turn: number,
        })
        .collect();
    let heads = turns::take_places(tx, &line).await?;
    let mut desk = Desk::new(None);
    for head in &heads {
        desk.take(tx, head.id, head.lane, head.due, true);
    }
    for delivery in new {
        let lane = delivery.subscription_id;
        if !delivery.ordered {
            desk.take(tx, delivery.id, lane, due, false);
        }
        if tx.memory.lane(&lane).is_some_and(|lane| lane.durable.hold == Some(Hold::Deleted)) {
            deletion::drain(tx, lane).await?;
        }
    }
    jobs::add(tx, &desk.jobs).await?;
    let waits = |delivery: &&NewDelivery| heads.iter().all(|head| head.id != delivery.id);
    Ok(Added::Stored {
        added: new.iter().map(|delivery| delivery.id).collect(),
        waiting: ordered().filter(waits).map(|delivery| delivery.id).collect(),
    })
}

async fn served(tx: &mut Tx<'_>, seq: i64) -> Result<HashSet<SubscriptionId>, Fault> {
    let rows = sqlx::query("SELECT d.subscription FROM webhooks_deliveries d WHERE d.event = ?")
        .bind(seq)
        .fetch_all(&mut *tx.conn)
        .await?;
    rows.iter().map(|row| codec::subscription_id(row, "subscription")).collect()
}

async fn take_number(tx: &mut Tx<'_>) -> Result<i64, Fault> {
    let number = tx.memory.take_seq();
    note_number(tx).await?;
    Ok(number)
}

/// Keeps the last number that was given over a restart, though no event may have it: what an event is given
/// is kept by the event itself.
pub(super) async fn note_number(tx: &mut Tx<'_>) -> Result<(), Fault> {
    sqlx::query("UPDATE webhooks_meta SET last_number = ? WHERE id = 1")
        .bind(tx.memory.last_seq())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
