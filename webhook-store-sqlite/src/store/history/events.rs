//! Events.

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use webhook_core::id::EventId;
use webhook_core::model::Tenant;
use webhook_core::store::{EventFilter, EventRecord, Page, PageRequest};

use super::query::{Conditions, Statement, Value, page};
use crate::codec;
use crate::error::Fault;
use crate::open::SqliteStore;

const COLUMNS: &str =
    "e.id AS event_id, e.tenant, e.event_type, e.content_type, e.created_at, e.payload_size,
    e.ordering_key, e.deliver_at, e.idempotency_key, e.only_subscription";

pub(super) async fn list(
    store: &SqliteStore,
    filter: &EventFilter,
    request: PageRequest<EventId>,
) -> Result<Page<EventRecord, EventId>, Fault> {
    let rows = statement(filter, request).fetch(store).await?;
    let items = rows.iter().map(codec::event_record).collect::<Result<_, _>>()?;
    Ok(page(items, request.limit, |event: &EventRecord| event.id))
}

/// A tenant's events by their index, or the newest of each tenant merged.
pub(super) fn statement(filter: &EventFilter, request: PageRequest<EventId>) -> Statement {
    let mut c = Conditions::default();
    if let Some(event_type) = &filter.event_type {
        c.and("e.event_type = ?", Value::Text(event_type.as_str().to_owned()));
    }
    c.between("e.created_at", filter.since, filter.until);
    if let Some(before) = request.before {
        c.and("e.id < ?", Value::id(before.as_bytes()));
    }
    let limit = Value::one_more(request.limit);
    if let Some(tenant) = &filter.tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
        c.values.push(limit);
        let text = format!(
            "SELECT {COLUMNS} FROM webhooks_events e WHERE true{} ORDER BY e.id DESC LIMIT ?",
            c.text
        );
        return Statement { text, values: c.values };
    }
    c.values.extend([limit.clone(), limit]);
    let text = format!(
        "SELECT {COLUMNS} FROM webhooks_tenants t CROSS JOIN webhooks_events e ON e.seq IN (
             SELECT e.seq FROM webhooks_events e WHERE e.tenant = t.tenant{} ORDER BY e.id DESC LIMIT ?)
         ORDER BY e.id DESC LIMIT ?",
        c.text
    );
    Statement { text, values: c.values }
}

pub(super) async fn get(
    store: &SqliteStore,
    tenant: Option<&Tenant>,
    id: EventId,
) -> Result<Option<EventRecord>, Fault> {
    one(store, COLUMNS, tenant, id).await?.first().map(codec::event_record).transpose()
}

pub(super) async fn payload(
    store: &SqliteStore,
    tenant: Option<&Tenant>,
    id: EventId,
) -> Result<Option<Bytes>, Fault> {
    let rows = one(store, "e.payload", tenant, id).await?;
    rows.first().map(|row| Ok(codec::blob(row, "payload")?.to_vec().into())).transpose()
}

async fn one(
    store: &SqliteStore,
    columns: &str,
    tenant: Option<&Tenant>,
    id: EventId,
) -> Result<Vec<SqliteRow>, Fault> {
    let text = format!(
        "SELECT {columns} FROM webhooks_tenants t
         CROSS JOIN webhooks_events e ON e.tenant = t.tenant AND e.id = ?1
         WHERE ?2 IS NULL OR t.tenant = ?2"
    );
    let mut conn = store.reader().await?;
    let query = sqlx::query(&text).bind(&id.as_bytes()[..]).bind(tenant.map(Tenant::as_str));
    Ok(query.fetch_all(&mut *conn).await?)
}
