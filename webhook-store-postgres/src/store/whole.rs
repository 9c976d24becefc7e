//! Whole events: what was made of one, and more deliveries of it.
//!
//! Deliveries that are added later get numbers of their own: ordered ones take their turns behind what was
//! published before, a replay that is running leaves them alone, and a repeat of the publish, which answers
//! without those that were added, is answered as at first. The event's row is locked while it is looked up
//! which subscriptions have one, so that an event has one delivery for each.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::id::{DeliveryId, EventId};
use webhook_core::model::Tenant;
use webhook_core::queue::NewJob;
use webhook_core::store::{Added, ConfigVersion, EventDelivery, NewDelivery, OfEvent};

use super::jobs::Part;
use super::turns;
use crate::codec::{self, Moment, micros};
use crate::connection::{begin, rollback};
use crate::error::Fault;
use crate::locks::{self, Lock};
use crate::open::Inner;
use crate::sql;

pub(super) async fn of_event(
    conn: &mut PgConnection,
    tenant: &Tenant,
    id: EventId,
) -> Result<Option<OfEvent>, Fault> {
    let row =
        sqlx::query(sql::EVENT).bind(tenant.as_str()).bind(id.as_uuid()).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(None) };
    let event = codec::event(&row)?;
    let rows = sqlx::query(sql::DELIVERIES_OF).bind(id.as_uuid()).fetch_all(conn).await?;
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
    conn: &mut PgConnection,
    store: &Inner,
    event: EventId,
    deliveries: &[NewDelivery],
    config_version: ConfigVersion,
) -> Result<Added, Fault> {
    begin(conn).await?;
    let mut part = Part::new(store);
    let added = add_to(conn, &mut part, event, deliveries, config_version).await?;
    match added {
        Added::Stored { .. } => part.commit(conn).await?,
        Added::Outdated | Added::Gone => rollback(conn).await?,
    }
    Ok(added)
}

async fn add_to(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    event: EventId,
    deliveries: &[NewDelivery],
    config_version: ConfigVersion,
) -> Result<Added, Fault> {
    let row = sqlx::query(sql::LOCK_EVENT).bind(event.as_uuid()).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(Added::Gone) };
    let tenant = codec::tenant(&row, "tenant")?;
    let key = codec::optional::<String>(&row, "ordering_key")?.unwrap_or_default();
    let deliver_at = codec::optional_moment(&row, "deliver_at")?;
    let shared = [Lock::configuration(&tenant)];
    let ordered = || deliveries.iter().filter(|delivery| delivery.ordered);
    let alone: Vec<Lock> = ordered().map(|new| Lock::order(&new.subscription_id, &key)).collect();
    locks::take_all(conn, part.schema(), &shared, &alone).await?;
    let rows = sqlx::query(sql::CONFIGURATIONS).bind(vec![tenant.as_str()]).fetch_all(&mut *conn).await?;
    let version = rows.first().map_or(Ok(0), |row| codec::unsigned(row, "config_version"))?;
    if version != config_version {
        return Ok(Added::Outdated);
    }
    let mut served: HashSet<Uuid> = HashSet::new();
    for row in sqlx::query(sql::DELIVERIES_OF).bind(event.as_uuid()).fetch_all(&mut *conn).await? {
        served.insert(codec::get(&row, "subscription")?);
    }
    let missing: Vec<&NewDelivery> =
        deliveries.iter().filter(|new| served.insert(new.subscription_id.as_uuid())).collect();
    if missing.is_empty() {
        return Ok(Added::Stored { added: Vec::new(), waiting: Vec::new() });
    }
    let row = sqlx::query(sql::ADD)
        .bind(event.as_uuid())
        .bind(deliver_at.map(Moment::from))
        .bind(missing.iter().map(|new| new.id.as_uuid()).collect::<Vec<_>>())
        .bind(missing.iter().map(|new| new.subscription_id.as_uuid()).collect::<Vec<_>>())
        .bind(missing.iter().map(|new| new.ordered).collect::<Vec<_>>())
        .bind(missing.iter().map(|new| micros(new.give_up_after)).collect::<Vec<_>>())
        .fetch_one(&mut *conn)
        .await?;
    let now = codec::moment(&row, "now")?;
    let wait = deliver_at.map_or(Duration::ZERO, |at| at.since(now));
    queue(conn, part, &missing, &key, wait).await
}

/// Gives those that need not wait their jobs.
async fn queue(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    new: &[&NewDelivery],
    key: &str,
    wait: Duration,
) -> Result<Added, Fault> {
    let line: Vec<turns::Waiting<'_>> = new
        .iter()
        .filter(|delivery| delivery.ordered)
        .map(|delivery| turns::Waiting { id: delivery.id, subscription: delivery.subscription_id, key })
        .collect();
    let heads = turns::take_places(conn, &line).await?;
    let mut wanted: Vec<NewJob> = new
        .iter()
        .filter(|delivery| !delivery.ordered)
        .map(|delivery| NewJob {
            id: delivery.id,
            lane: delivery.subscription_id,
            wait,
            lane_version: 0,
            urgent: false,
        })
        .collect();
    wanted.extend(heads.iter().map(turns::Head::job));
    part.add(conn, &wanted, None).await?;
    // An embedder may name a subscription that is deleted; then this is work for its deletion.
    super::record::drain_lanes(conn, new.iter().map(|new| new.subscription_id.as_uuid()).collect()).await?;
    let leads = |id: DeliveryId| heads.iter().any(|head| head.id == id);
    Ok(Added::Stored {
        added: new.iter().map(|delivery| delivery.id).collect(),
        waiting: line.iter().map(|waiting| waiting.id).filter(|id| !leads(*id)).collect(),
    })
}
