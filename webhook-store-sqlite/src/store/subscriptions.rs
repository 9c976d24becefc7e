//! Subscriptions, their tenants' configuration versions, and what their lanes must know of them.
//!
//! Every change raises the tenant's version in the same commit and stamps the subscription with it, which is
//! all that [`changes_since`] needs. Deleted ones stay as rows: their deliveries still name them.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use webhook_core::id::SubscriptionId;
use webhook_core::model::{EventType, Subscription, SubscriptionStatus, Tenant};
use webhook_core::queue::{Hold, LaneSettings};
use webhook_core::store::{Changed, Changes, ConfigVersion, Page, PageRequest, Snapshot, SubscriptionFilter};
use webhook_core::time::Timestamp;

use crate::codec::{self, Document, signed};
use crate::error::Fault;
use crate::open::SqliteStore;
use crate::sql::Bulk;
use crate::writer::Tx;

static GET: Bulk =
    Bulk::new("SELECT * FROM webhooks_subscriptions WHERE deleted_at IS NULL AND id IN (", 1, ")");

/// Stores a new one, or answers with what is stored under its id.
pub(super) async fn create(tx: &mut Tx<'_>, mut s: Subscription) -> Result<Arc<Subscription>, Fault> {
    tx.begin().await?;
    let stored = sqlx::query("SELECT * FROM webhooks_subscriptions WHERE id = ?")
        .bind(&s.id.as_bytes()[..])
        .fetch_optional(&mut *tx.conn)
        .await?;
    if let Some(row) = stored {
        return codec::subscription(&row);
    }
    s.version = 1;
    s.created_at = Timestamp::from_micros(tx.now);
    s.updated_at = s.created_at;
    let config = raise(tx, &s.tenant).await?;
    let document = Document::of(&s)?;
    sqlx::query(
        "INSERT INTO webhooks_subscriptions
             (id, tenant, status, version, config_version, created_at, updated_at, settings, secrets)
         VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?)",
    )
    .bind(&s.id.as_bytes()[..])
    .bind(s.tenant.as_str())
    .bind(s.status.as_str())
    .bind(signed(config))
    .bind(tx.now)
    .bind(tx.now)
    .bind(document.settings)
    .bind(document.secrets)
    .execute(&mut *tx.conn)
    .await?;
    tx.memory.lane_mut(s.id).configure(&settings(&s), tx.now);
    Ok(Arc::new(s))
}

/// Replaces what is stored.
pub(super) async fn update(tx: &mut Tx<'_>, mut s: Subscription, expected: u64) -> Result<Changed, Fault> {
    tx.begin().await?;
    let Some(stored) = find(tx, &s.tenant, s.id).await? else { return Ok(Changed::NotFound) };
    if stored.version != expected {
        return Ok(Changed::VersionMismatch { current: stored.version });
    }
    s.version = expected + 1;
    s.created_at = stored.created_at;
    s.updated_at = Timestamp::from_micros(tx.now);
    let config = raise(tx, &s.tenant).await?;
    let document = Document::of(&s)?;
    sqlx::query(
        "UPDATE webhooks_subscriptions
         SET status = ?, version = ?, config_version = ?, updated_at = ?, settings = ?, secrets = ?
         WHERE id = ?",
    )
    .bind(s.status.as_str())
    .bind(signed(s.version))
    .bind(signed(config))
    .bind(tx.now)
    .bind(document.settings)
    .bind(document.secrets)
    .bind(&s.id.as_bytes()[..])
    .execute(&mut *tx.conn)
    .await?;
    tx.memory.lane_mut(s.id).configure(&settings(&s), tx.now);
    Ok(Changed::Done(Arc::new(s)))
}

/// The subscription if it is this tenant's and not deleted.
pub(super) async fn find(
    tx: &mut Tx<'_>,
    tenant: &Tenant,
    id: SubscriptionId,
) -> Result<Option<Arc<Subscription>>, Fault> {
    sqlx::query("SELECT * FROM webhooks_subscriptions WHERE id = ? AND tenant = ? AND deleted_at IS NULL")
        .bind(&id.as_bytes()[..])
        .bind(tenant.as_str())
        .fetch_optional(&mut *tx.conn)
        .await?
        .map(|row| codec::subscription(&row))
        .transpose()
}

/// Raises a tenant's configuration version.
pub(super) async fn raise(tx: &mut Tx<'_>, tenant: &Tenant) -> Result<ConfigVersion, Fault> {
    let version = tx.memory.config(tenant) + 1;
    sqlx::query(
        "INSERT INTO webhooks_tenants (tenant, config_version) VALUES (?, ?)
         ON CONFLICT (tenant) DO UPDATE SET config_version = excluded.config_version",
    )
    .bind(tenant.as_str())
    .bind(signed(version))
    .execute(&mut *tx.conn)
    .await?;
    tx.memory.set_config(tenant, version);
    Ok(version)
}

/// Notes that there is such a tenant, whose configuration has not changed yet.
pub(super) async fn note_tenant(tx: &mut Tx<'_>, tenant: &Tenant) -> Result<(), Fault> {
    sqlx::query("INSERT OR IGNORE INTO webhooks_tenants (tenant, config_version) VALUES (?, 0)")
        .bind(tenant.as_str())
        .execute(&mut *tx.conn)
        .await?;
    tx.memory.set_config(tenant, 0);
    Ok(())
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

/// Writes without changing anything: what [`Store::ping`](webhook_core::store::Store::ping) asks.
pub(super) async fn touch(tx: &mut Tx<'_>) -> Result<(), Fault> {
    tx.begin().await?;
    sqlx::query("UPDATE webhooks_meta SET epoch = epoch WHERE id = 1").execute(&mut *tx.conn).await?;
    Ok(())
}

pub(super) async fn get(
    store: &SqliteStore,
    ids: &[SubscriptionId],
) -> Result<Vec<Option<Arc<Subscription>>>, Fault> {
    let mut conn = store.reader().await?;
    let rows = GET
        .fetch(&mut conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    let found = rows.iter().map(codec::subscription).collect::<Result<Vec<_>, _>>()?;
    Ok(ids.iter().map(|id| found.iter().find(|s| s.id == *id).cloned()).collect())
}

/// A page, newest first. Whether one takes an event type is decided here and not by SQLite, so rows are read
/// on until the page is full.
pub(super) async fn list(
    store: &SqliteStore,
    filter: &SubscriptionFilter,
    page: PageRequest<SubscriptionId>,
) -> Result<Page<Arc<Subscription>, SubscriptionId>, Fault> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let statuses = filter.statuses.iter().map(|s| format!("'{}'", s.as_str())).collect::<Vec<_>>().join(",");
    let sql = format!(
        "SELECT * FROM webhooks_subscriptions WHERE deleted_at IS NULL{}{} AND id < ? ORDER BY id DESC LIMIT ?",
        if filter.tenant.is_some() { " AND tenant = ?" } else { "" },
        if statuses.is_empty() { String::new() } else { format!(" AND status IN ({statuses})") },
    );
    let mut conn = store.reader().await?;
    let mut before = page.before.map_or_else(|| vec![0xff; 17], |id| id.as_bytes().to_vec());
    let mut items: Vec<Arc<Subscription>> = Vec::new();
    loop {
        let step = i64::from(page.limit).saturating_add(1).max(64);
        let mut query = sqlx::query(&sql);
        if let Some(tenant) = &filter.tenant {
            query = query.bind(tenant.as_str());
        }
        let rows = query.bind(before.clone()).bind(step).fetch_all(&mut *conn).await?;
        let last = rows.len() < usize::try_from(step).unwrap_or(usize::MAX);
        for row in &rows {
            let subscription = codec::subscription(row)?;
            before = subscription.id.as_bytes().to_vec();
            if filter.event_type.as_ref().is_none_or(|wanted| takes(&subscription, wanted)) {
                items.push(subscription);
            }
        }
        if last || items.len() > limit {
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

pub(super) async fn snapshot(store: &SqliteStore, tenant: &Tenant) -> Result<Snapshot, Fault> {
    let rows = with_version(
        store,
        tenant,
        "SELECT t.config_version AS tenant_version, s.* FROM webhooks_tenants t
         LEFT JOIN webhooks_subscriptions s ON s.tenant = t.tenant AND s.deleted_at IS NULL
         WHERE t.tenant = ? AND 0 <= ? ORDER BY s.id",
        0,
    )
    .await?;
    let (version, rows) = rows;
    let subscriptions = rows.iter().map(codec::subscription).collect::<Result<_, _>>()?;
    Ok(Snapshot { version, subscriptions })
}

pub(super) async fn changes_since(
    store: &SqliteStore,
    tenant: &Tenant,
    since: ConfigVersion,
) -> Result<Option<Changes>, Fault> {
    let (version, rows) = with_version(
        store,
        tenant,
        "SELECT t.config_version AS tenant_version, s.* FROM webhooks_tenants t
         LEFT JOIN webhooks_subscriptions s ON s.tenant = t.tenant AND s.config_version > ?2
         WHERE t.tenant = ?1 ORDER BY s.id",
        since,
    )
    .await?;
    if since > version {
        // There never was such a version: what its holder knows is of another file.
        return Ok(None);
    }
    let mut changes = Changes { version, changed: Vec::new(), deleted: Vec::new() };
    for row in &rows {
        if codec::optional::<i64>(row, "deleted_at")?.is_some() {
            changes.deleted.push(codec::subscription_id(row, "id")?);
        } else {
            changes.changed.push(codec::subscription(row)?);
        }
    }
    Ok(Some(changes))
}

/// The version and the rows as of one moment, by one statement.
async fn with_version(
    store: &SqliteStore,
    tenant: &Tenant,
    sql: &'static str,
    since: ConfigVersion,
) -> Result<(ConfigVersion, Vec<SqliteRow>), Fault> {
    let mut conn = store.reader().await?;
    let mut rows = sqlx::query(sql).bind(tenant.as_str()).bind(signed(since)).fetch_all(&mut *conn).await?;
    let version = match rows.first() {
        Some(row) => codec::unsigned(row, "tenant_version")?,
        None => 0,
    };
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        if row.try_get::<Option<&[u8]>, _>("id")?.is_some() {
            kept.push(row);
        }
    }
    Ok((version, kept))
}
