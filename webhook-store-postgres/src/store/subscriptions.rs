//! Subscriptions, their tenants' configuration versions, and what their lanes must know of them.
//!
//! Every change raises the tenant's version in the same commit and stamps the subscription with it, which is
//! all that [`changes_since`] needs. It has the tenant's configuration alone from before its first look to its
//! commit, so versions become visible in their order, and no publish is under way against an older one.
//! Deleted ones stay as rows: their deliveries still name them.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use webhook_core::id::SubscriptionId;
use webhook_core::model::{EventType, Subscription, SubscriptionStatus, Tenant};
use webhook_core::queue::{Hold, LaneSettings};
use webhook_core::store::{Changed, Changes, ConfigVersion, Page, PageRequest, Snapshot, SubscriptionFilter};
use webhook_core::time::Timestamp;

use super::jobs::Part;
use crate::codec::{self, Document, Moment, signed};
use crate::connection::{begin, rollback};
use crate::error::Fault;
use crate::locks::Lock;
use crate::open::Inner;
use crate::sql;

/// Stores a new one, or answers with what is stored under its id.
pub(super) async fn create(
    conn: &mut PgConnection,
    store: &Inner,
    new: &Subscription,
) -> Result<Arc<Subscription>, Fault> {
    begin(conn).await?;
    Lock::configuration(&new.tenant).take(conn, store.connector.schema()).await?;
    let stored =
        sqlx::query(sql::SUBSCRIPTION_BY_ID).bind(new.id.as_uuid()).fetch_optional(&mut *conn).await?;
    if let Some(row) = stored {
        rollback(conn).await?;
        return codec::subscription(&row);
    }
    let (config, now) = raise(conn, &new.tenant).await?;
    let s = Subscription { version: 1, created_at: now, updated_at: now, ..new.clone() };
    let document = Document::of(&s)?;
    sqlx::query(sql::CREATE_SUBSCRIPTION)
        .bind(s.id.as_uuid())
        .bind(s.tenant.as_str())
        .bind(s.status.as_str())
        .bind(signed(config))
        .bind(Moment::from(now))
        .bind(document.settings)
        .bind(document.secrets)
        .execute(&mut *conn)
        .await?;
    let mut part = Part::new(store);
    part.set_lane(conn, &settings(&s)).await?;
    part.commit(conn).await?;
    Ok(Arc::new(s))
}

/// Replaces what is stored.
pub(super) async fn update(
    conn: &mut PgConnection,
    store: &Inner,
    new: &Subscription,
    expected: u64,
) -> Result<Changed, Fault> {
    begin(conn).await?;
    Lock::configuration(&new.tenant).take(conn, store.connector.schema()).await?;
    let Some(stored) = lock(conn, &new.tenant, new.id).await? else {
        rollback(conn).await?;
        return Ok(Changed::NotFound);
    };
    if stored.version != expected {
        rollback(conn).await?;
        return Ok(Changed::VersionMismatch { current: stored.version });
    }
    let (config, now) = raise(conn, &new.tenant).await?;
    let s =
        Subscription { version: expected + 1, created_at: stored.created_at, updated_at: now, ..new.clone() };
    let document = Document::of(&s)?;
    sqlx::query(sql::UPDATE_SUBSCRIPTION)
        .bind(s.id.as_uuid())
        .bind(s.status.as_str())
        .bind(signed(s.version))
        .bind(signed(config))
        .bind(Moment::from(now))
        .bind(document.settings)
        .bind(document.secrets)
        .execute(&mut *conn)
        .await?;
    let mut part = Part::new(store);
    part.set_lane(conn, &settings(&s)).await?;
    part.commit(conn).await?;
    Ok(Changed::Done(Arc::new(s)))
}

/// The subscription if it is this tenant's and not deleted, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: &Tenant,
    id: SubscriptionId,
) -> Result<Option<Arc<Subscription>>, Fault> {
    sqlx::query(sql::LOCK_SUBSCRIPTION)
        .bind(id.as_uuid())
        .bind(tenant.as_str())
        .fetch_optional(conn)
        .await?
        .map(|row| codec::subscription(&row))
        .transpose()
}

/// Raises a tenant's configuration version. Answers with it and with what time it is.
pub(super) async fn raise(
    conn: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(ConfigVersion, Timestamp), Fault> {
    let row = sqlx::query(sql::RAISE).bind(tenant.as_str()).fetch_one(conn).await?;
    Ok((codec::unsigned(&row, "config_version")?, codec::moment(&row, "now")?))
}

/// What a lane must know of its subscription.
pub(super) fn settings(s: &Subscription) -> LaneSettings {
    LaneSettings {
        lane: s.id,
        version: s.version,
        max_in_flight: s.max_in_flight,
        rate: s.rate_limit,
        hold: match s.status {
            SubscriptionStatus::Active => None,
            SubscriptionStatus::Paused => Some(Hold::Paused),
            SubscriptionStatus::Disabled => Some(Hold::Disabled),
        },
    }
}

/// What the lane of a stored subscription, deleted or not, must know of it.
pub(crate) fn lane_settings(row: &PgRow) -> Result<LaneSettings, Fault> {
    let mut settings = settings(&*codec::subscription(row)?);
    if codec::optional_moment(row, "deleted_at")?.is_some() {
        settings.hold = Some(Hold::Deleted);
    }
    Ok(settings)
}

pub(super) async fn get(
    conn: &mut PgConnection,
    ids: &[SubscriptionId],
) -> Result<Vec<Option<Arc<Subscription>>>, Fault> {
    let wanted: Vec<Uuid> = ids.iter().map(SubscriptionId::as_uuid).collect();
    let rows = sqlx::query(sql::GET_SUBSCRIPTIONS).bind(wanted).fetch_all(conn).await?;
    let found = rows.iter().map(codec::subscription).collect::<Result<Vec<_>, _>>()?;
    Ok(ids.iter().map(|id| found.iter().find(|s| s.id == *id).cloned()).collect())
}

/// A page, newest first. Whether one takes an event type is decided here and not by the server, so rows are
/// read on until the page is full.
pub(super) async fn list(
    conn: &mut PgConnection,
    filter: &SubscriptionFilter,
    page: PageRequest<SubscriptionId>,
) -> Result<Page<Arc<Subscription>, SubscriptionId>, Fault> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    let mut before = page.before.map_or(Uuid::max(), |id| id.as_uuid());
    let step = i64::from(page.limit).saturating_add(1).max(64);
    let mut items: Vec<Arc<Subscription>> = Vec::new();
    loop {
        let rows = sqlx::query(sql::LIST_SUBSCRIPTIONS)
            .bind(filter.tenant.as_ref().map(Tenant::as_str))
            .bind(&statuses)
            .bind(before)
            .bind(step)
            .fetch_all(&mut *conn)
            .await?;
        for row in &rows {
            let subscription = codec::subscription(row)?;
            before = subscription.id.as_uuid();
            if filter.event_type.as_ref().is_none_or(|wanted| takes(&subscription, wanted)) {
                items.push(subscription);
            }
        }
        if rows.len() < usize::try_from(step).unwrap_or(usize::MAX) || items.len() > limit {
            break;
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(|s| s.id) } else { None };
    Ok(Page { items, next })
}

fn takes(subscription: &Subscription, event_type: &EventType) -> bool {
    subscription.event_types.is_empty()
        || subscription.event_types.iter().any(|pattern| codec::takes(pattern, event_type))
}

pub(super) async fn snapshot(conn: &mut PgConnection, tenant: &Tenant) -> Result<Snapshot, Fault> {
    let rows = sqlx::query(sql::SNAPSHOT).bind(tenant.as_str()).fetch_all(conn).await?;
    let (version, rows) = with_version(rows)?;
    let subscriptions = rows.iter().map(codec::subscription).collect::<Result<_, _>>()?;
    Ok(Snapshot { version, subscriptions })
}

pub(super) async fn changes_since(
    conn: &mut PgConnection,
    tenant: &Tenant,
    since: ConfigVersion,
) -> Result<Option<Changes>, Fault> {
    let query = sqlx::query(sql::CHANGES).bind(tenant.as_str()).bind(signed(since));
    let (version, rows) = with_version(query.fetch_all(conn).await?)?;
    if since > version {
        // There never was such a version: what its holder knows is of another database.
        return Ok(None);
    }
    let mut changes = Changes { version, changed: Vec::new(), deleted: Vec::new() };
    for row in &rows {
        if codec::optional_moment(row, "deleted_at")?.is_some() {
            changes.deleted.push(codec::subscription_id(row, "id")?);
        } else {
            changes.changed.push(codec::subscription(row)?);
        }
    }
    Ok(Some(changes))
}

/// The version and the rows as of one moment, from the rows of one statement.
fn with_version(rows: Vec<PgRow>) -> Result<(ConfigVersion, Vec<PgRow>), Fault> {
    let version = match rows.first() {
        Some(row) => codec::unsigned(row, "tenant_version")?,
        None => 0,
    };
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
            kept.push(row);
        }
    }
    Ok((version, kept))
}
