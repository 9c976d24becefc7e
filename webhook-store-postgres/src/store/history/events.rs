//! Events.

use bytes::Bytes;
use sqlx::PgConnection;
use webhook_core::id::EventId;
use webhook_core::model::Tenant;
use webhook_core::store::{EventFilter, EventRecord, Page, PageRequest};

use super::query::{Conditions, Statement, Value, page};
use crate::codec;
use crate::error::Fault;

const COLUMNS: &str = "e.id AS event, e.tenant, e.event_type, e.content_type, e.created_at, e.payload_size,
    e.ordering_key, e.deliver_at, e.idempotency_key, e.only_subscription";

pub(super) async fn list(
    conn: &mut PgConnection,
    filter: &EventFilter,
    request: PageRequest<EventId>,
) -> Result<Page<EventRecord, EventId>, Fault> {
    let rows = statement(filter, request).fetch(conn).await?;
    let items = rows.iter().map(codec::event_record).collect::<Result<_, _>>()?;
    Ok(page(items, request.limit, |event: &EventRecord| event.id))
}

pub(super) fn statement(filter: &EventFilter, request: PageRequest<EventId>) -> Statement {
    let mut c = Conditions::default();
    if let Some(tenant) = &filter.tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    if let Some(event_type) = &filter.event_type {
        c.and("e.event_type = ?", Value::Text(event_type.as_str().to_owned()));
    }
    c.between("e.created_at", filter.since, filter.until);
    if let Some(before) = request.before {
        c.and("e.id < ?", Value::Id(before.as_uuid()));
    }
    let limit = c.bind(Value::one_more(request.limit));
    let text =
        format!("SELECT {COLUMNS} FROM events e WHERE true{} ORDER BY e.id DESC LIMIT {limit}", c.text);
    c.statement(text)
}

pub(super) async fn get(
    conn: &mut PgConnection,
    tenant: Option<&Tenant>,
    id: EventId,
) -> Result<Option<EventRecord>, Fault> {
    let rows = one(COLUMNS, tenant, id).fetch(conn).await?;
    rows.first().map(codec::event_record).transpose()
}

pub(super) async fn payload(
    conn: &mut PgConnection,
    tenant: Option<&Tenant>,
    id: EventId,
) -> Result<Option<Bytes>, Fault> {
    let rows = one("e.payload", tenant, id).fetch(conn).await?;
    rows.first().map(|row| Ok(codec::blob(row, "payload")?.to_vec().into())).transpose()
}

fn one(columns: &str, tenant: Option<&Tenant>, id: EventId) -> Statement {
    let mut c = Conditions::default();
    c.and("e.id = ?", Value::Id(id.as_uuid()));
    if let Some(tenant) = tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    let text = format!("SELECT {columns} FROM events e WHERE true{}", c.text);
    c.statement(text)
}
