//! Lists and look-ups for people.
//!
//! A list is one statement whose first condition is the narrowest index that the filter names, and whose
//! order is the id's, newest first, which every such index has as its last column. Across all tenants it is
//! merged from the newest of each, so that no table needs one more index for the administrator's view.

use std::fmt::Write as _;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use webhook_core::error::BackendError;
use webhook_core::id::{AttemptId, DeliveryId, EventId};
use webhook_core::model::{Attempt, Delivery, DeliveryStatus, Tenant};
use webhook_core::store::{
    AttemptFilter, DeliveryFilter, EventFilter, EventRecord, History, Page, PageRequest,
};
use webhook_core::time::Timestamp;

use crate::codec;
use crate::error::Fault;
use crate::open::SqliteStore;

const EVENT: &str = "e.id AS event_id, e.tenant, e.event_type, e.content_type, e.created_at, e.payload_size,
    e.ordering_key, e.deliver_at, e.idempotency_key, e.only_subscription";
const DELIVERY: &str = "d.*, e.id AS event_id, e.event_type";

/// A value of a condition.
enum Value {
    Blob(Vec<u8>),
    Text(String),
    Int(i64),
}

/// A statement that grows by conditions.
#[derive(Default)]
struct Conditions {
    text: String,
    values: Vec<Value>,
}

impl Conditions {
    fn and(&mut self, condition: &str, value: Value) {
        let _ = write!(self.text, " AND {condition}");
        self.values.push(value);
    }

    fn and_in(&mut self, column: &str, names: &[&str]) {
        if !names.is_empty() {
            let _ = write!(self.text, " AND {column} IN ('{}')", names.join("','"));
        }
    }

    fn moments(&mut self, column: &str, since: Option<Timestamp>, until: Option<Timestamp>) {
        if let Some(since) = since {
            self.and(&format!("{column} >= ?"), Value::Int(since.as_micros()));
        }
        if let Some(until) = until {
            self.and(&format!("{column} < ?"), Value::Int(until.as_micros()));
        }
    }

    async fn fetch(self, store: &SqliteStore, sql: &str) -> Result<Vec<SqliteRow>, Fault> {
        let mut query = sqlx::query(sql);
        for value in self.values {
            query = match value {
                Value::Blob(bytes) => query.bind(bytes),
                Value::Text(text) => query.bind(text),
                Value::Int(int) => query.bind(int),
            };
        }
        let mut conn = store.reader().await?;
        Ok(query.fetch_all(&mut *conn).await?)
    }
}

/// The rows of a page as `T`, with where the next one starts.
fn paged<T, Id>(
    rows: &[SqliteRow],
    limit: u32,
    read: impl Fn(&SqliteRow) -> Result<T, Fault>,
    id: impl Fn(&T) -> Id,
) -> Result<Page<T, Id>, Fault> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let items = rows.iter().take(limit).map(read).collect::<Result<Vec<T>, Fault>>()?;
    let next = if rows.len() > limit { items.last().map(id) } else { None };
    Ok(Page { items, next })
}

/// One row more than the page has tells whether there is another page.
fn one_more(limit: u32) -> Value {
    Value::Int(i64::from(limit) + 1)
}

fn blob(id: &[u8; 16]) -> Value {
    Value::Blob(id.to_vec())
}

async fn events(
    store: &SqliteStore,
    filter: &EventFilter,
    page: PageRequest<EventId>,
) -> Result<Page<EventRecord, EventId>, Fault> {
    let mut c = Conditions::default();
    if let Some(tenant) = &filter.tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    if let Some(event_type) = &filter.event_type {
        c.and("e.event_type = ?", Value::Text(event_type.as_str().to_owned()));
    }
    c.moments("e.created_at", filter.since, filter.until);
    if let Some(before) = page.before {
        c.and("e.id < ?", blob(before.as_bytes()));
    }
    c.values.push(one_more(page.limit));
    let sql =
        format!("SELECT {EVENT} FROM webhooks_events e WHERE true{} ORDER BY e.id DESC LIMIT ?", c.text);
    let rows = c.fetch(store, &sql).await?;
    paged(&rows, page.limit, codec::event_record, |event| event.id)
}

async fn deliveries(
    store: &SqliteStore,
    filter: &DeliveryFilter,
    page: PageRequest<DeliveryId>,
) -> Result<Page<Delivery, DeliveryId>, Fault> {
    let sql = delivery_list(filter, page);
    let (c, sql) = sql;
    let rows = c.fetch(store, &sql).await?;
    paged(&rows, page.limit, codec::delivery, |delivery| delivery.id)
}

fn delivery_list(filter: &DeliveryFilter, page: PageRequest<DeliveryId>) -> (Conditions, String) {
    let mut c = Conditions::default();
    if let Some(event) = filter.event_id {
        c.and("d.event = (SELECT seq FROM webhooks_events WHERE id = ?)", blob(event.as_bytes()));
    }
    if let Some(subscription) = filter.subscription_id {
        c.and("d.subscription = ?", blob(subscription.as_bytes()));
    }
    if let Some(tenant) = &filter.tenant {
        c.and("d.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    if let Some(event_type) = &filter.event_type {
        c.and("e.event_type = ?", Value::Text(event_type.as_str().to_owned()));
    }
    let names: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    c.and_in("d.status", &names);
    c.moments("d.created_at", filter.since, filter.until);
    if let Some(before) = page.before {
        c.and("d.id < ?", blob(before.as_bytes()));
    }
    c.values.push(one_more(page.limit));
    // Few are unfinished and few are dead letters, however many have succeeded: their own indexes.
    let all = |wanted: fn(DeliveryStatus) -> bool| {
        !filter.statuses.is_empty() && filter.statuses.iter().all(|status| wanted(*status))
    };
    let only = if all(|status| !status.is_finished()) {
        " AND d.status IN ('pending', 'retrying')"
    } else if all(|status| matches!(status, DeliveryStatus::Exhausted | DeliveryStatus::Cancelled)) {
        " AND d.status IN ('exhausted', 'cancelled')"
    } else {
        ""
    };
    let sql = format!(
        "SELECT {DELIVERY} FROM webhooks_deliveries d CROSS JOIN webhooks_events e ON e.seq = d.event
         WHERE true{only}{} ORDER BY d.id DESC LIMIT ?",
        c.text
    );
    (c, sql)
}

async fn attempts(
    store: &SqliteStore,
    filter: &AttemptFilter,
    page: PageRequest<AttemptId>,
) -> Result<Page<Attempt, AttemptId>, Fault> {
    let mut c = Conditions::default();
    if let Some(delivery) = filter.delivery_id {
        c.and("a.delivery = ?", blob(delivery.as_bytes()));
    }
    if let Some(event) = filter.event_id {
        c.and(
            "a.delivery IN (SELECT d.id FROM webhooks_events e JOIN webhooks_deliveries d ON d.event = e.seq
                            WHERE e.id = ?)",
            blob(event.as_bytes()),
        );
    }
    if let Some(subscription) = filter.subscription_id {
        c.and("a.subscription = ?", blob(subscription.as_bytes()));
    }
    let names: Vec<&str> = filter.outcomes.iter().map(|outcome| outcome.as_str()).collect();
    if let Some(tenant) = &filter.tenant {
        c.and("a.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    c.and_in("a.outcome", &names);
    c.moments("a.started_at", filter.since, filter.until);
    if let Some(before) = page.before {
        c.and("a.id < ?", blob(before.as_bytes()));
    }
    c.values.push(one_more(page.limit));
    let narrow = filter.delivery_id.is_some()
        || filter.event_id.is_some()
        || filter.subscription_id.is_some()
        || filter.tenant.is_some();
    let columns = "a.id, a.tenant, a.delivery, a.event_id, a.subscription, a.number, a.token, a.trigger,
        a.started_at, a.duration, a.outcome, a.status_code, a.error_kind, a.error_detail, a.target_url";
    let sql = if narrow {
        format!("SELECT {columns} FROM webhooks_attempts a WHERE true{} ORDER BY a.id DESC LIMIT ?", c.text)
    } else {
        c.values.push(one_more(page.limit));
        format!(
            "SELECT {columns} FROM webhooks_tenants t CROSS JOIN webhooks_attempts a ON a.key IN (
                 SELECT a.key FROM webhooks_attempts a WHERE a.tenant = t.tenant{}
                 ORDER BY a.id DESC LIMIT ?)
             ORDER BY a.id DESC LIMIT ?",
            c.text
        )
    };
    let rows = c.fetch(store, &sql).await?;
    paged(&rows, page.limit, |row| codec::attempt(row, false), |attempt| attempt.id)
}

/// `sql` for one thing by its id and, when the caller has one, its tenant.
async fn one(
    store: &SqliteStore,
    sql: &str,
    tenant: Option<&Tenant>,
    id: &[u8; 16],
) -> Result<Vec<SqliteRow>, Fault> {
    let mut conn = store.reader().await?;
    Ok(sqlx::query(sql).bind(&id[..]).bind(tenant.map(Tenant::as_str)).fetch_all(&mut *conn).await?)
}

#[async_trait]
impl History for SqliteStore {
    async fn events(
        &self,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Result<Page<EventRecord, EventId>, BackendError> {
        events(self, filter, page).await.map_err(|fault| fault.during("events"))
    }

    async fn event(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<EventRecord>, BackendError> {
        let sql = format!(
            "SELECT {EVENT} FROM webhooks_events e WHERE e.id = ?1 AND (?2 IS NULL OR e.tenant = ?2)"
        );
        let rows = one(self, &sql, tenant, id.as_bytes()).await.map_err(|fault| fault.during("event"))?;
        rows.first().map(codec::event_record).transpose().map_err(|fault| fault.during("event"))
    }

    async fn payload(&self, tenant: Option<&Tenant>, id: EventId) -> Result<Option<Bytes>, BackendError> {
        let sql = "SELECT payload FROM webhooks_events WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)";
        let rows = one(self, sql, tenant, id.as_bytes()).await.map_err(|fault| fault.during("payload"))?;
        let payload = |row: &SqliteRow| Ok(codec::blob(row, "payload")?.to_vec().into());
        rows.first().map(payload).transpose().map_err(|fault: Fault| fault.during("payload"))
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Result<Page<Delivery, DeliveryId>, BackendError> {
        deliveries(self, filter, page).await.map_err(|fault| fault.during("deliveries"))
    }

    async fn delivery(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, BackendError> {
        let sql = format!(
            "SELECT {DELIVERY} FROM webhooks_deliveries d CROSS JOIN webhooks_events e ON e.seq = d.event
             WHERE d.id = ?1 AND (?2 IS NULL OR d.tenant = ?2)"
        );
        let rows = one(self, &sql, tenant, id.as_bytes()).await.map_err(|fault| fault.during("delivery"))?;
        rows.first().map(codec::delivery).transpose().map_err(|fault| fault.during("delivery"))
    }

    async fn attempts(
        &self,
        filter: &AttemptFilter,
        page: PageRequest<AttemptId>,
    ) -> Result<Page<Attempt, AttemptId>, BackendError> {
        attempts(self, filter, page).await.map_err(|fault| fault.during("attempts"))
    }

    async fn attempts_of(
        &self,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Result<Vec<Attempt>, BackendError> {
        let sql = "SELECT * FROM webhooks_attempts WHERE delivery = ?1 AND (?2 IS NULL OR tenant = ?2)
                   ORDER BY number";
        let rows = one(self, sql, tenant, id.as_bytes()).await.map_err(|fault| fault.during("attempts"))?;
        rows.iter()
            .map(|row| codec::attempt(row, true))
            .collect::<Result<_, _>>()
            .map_err(|fault| fault.during("attempts"))
    }
}
