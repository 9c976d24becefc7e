//! Deliveries.
//!
//! Where a list begins: at the event, when the filter names one; at the jobs and the lines of those that take
//! turns, when it asks for unfinished ones alone; at the index of dead letters, when it asks for those alone;
//! at the subscription; at each subscription of the tenant; else at the newest delivery of all.

use webhook_core::id::DeliveryId;
use webhook_core::model::{Delivery, DeliveryStatus, Tenant};
use webhook_core::store::{DeliveryFilter, Page, PageRequest};

use super::super::turns;
use super::query::{Conditions, Statement, Value, page};
use crate::codec;
use crate::error::Fault;
use crate::open::SqliteStore;

const COLUMNS: &str = concat!(
    "d.*, ",
    turns::waiting!(),
    " AS waiting, e.id AS event_id, e.event_type, e.tenant, e.deliver_at,
    s.status AS subscription_status, l.parked_until, l.permit_at, l.rate_requests,
    EXISTS (SELECT 1 FROM webhooks_jobs w WHERE w.id = d.id AND w.leased = 1) AS leased"
);
const WITH: &str = "CROSS JOIN webhooks_events e ON e.seq = d.event
    LEFT JOIN webhooks_subscriptions s ON s.id = d.subscription
    LEFT JOIN webhooks_lanes l ON l.lane = d.subscription";

pub(super) async fn list(
    store: &SqliteStore,
    filter: &DeliveryFilter,
    request: PageRequest<DeliveryId>,
) -> Result<Page<Delivery, DeliveryId>, Fault> {
    let now = store.now();
    let mut items: Vec<Delivery> = Vec::new();
    for statement in statements(filter, request) {
        for row in &statement.fetch(store).await? {
            items.push(codec::delivery(row, now)?);
        }
    }
    items.sort_unstable_by_key(|delivery| std::cmp::Reverse(delivery.id));
    items.dedup_by_key(|delivery| delivery.id);
    Ok(page(items, request.limit, |delivery| delivery.id))
}

/// The statements whose newest rows together are the page.
pub(super) fn statements(filter: &DeliveryFilter, request: PageRequest<DeliveryId>) -> Vec<Statement> {
    let c = conditions(filter);
    let only = |wanted: fn(DeliveryStatus) -> bool| {
        !filter.statuses.is_empty() && filter.statuses.iter().all(|status| wanted(*status))
    };
    let plain = |from: &str, id: &str| {
        let mut c = c.clone();
        if let Some(before) = request.before {
            c.and(&format!("{id} < ?"), Value::id(before.as_bytes()));
        }
        c.values.push(Value::one_more(request.limit));
        let text =
            format!("SELECT {COLUMNS} FROM {from} {WITH} WHERE true{} ORDER BY {id} DESC LIMIT ?", c.text);
        Statement { text, values: c.values }
    };
    if filter.event_id.is_some() {
        return vec![plain("webhooks_deliveries d INDEXED BY webhooks_deliveries_event", "d.id")];
    }
    if only(|status| !status.is_finished()) {
        return vec![
            plain("webhooks_jobs j CROSS JOIN webhooks_deliveries d ON d.id = j.id", "j.id"),
            plain(
                "webhooks_turns j CROSS JOIN webhooks_deliveries d ON d.id = j.delivery AND j.head = 0",
                "j.delivery",
            ),
        ];
    }
    if only(|status| matches!(status, DeliveryStatus::Exhausted | DeliveryStatus::Cancelled)) {
        let from = "webhooks_deliveries d INDEXED BY webhooks_deliveries_dead";
        let mut dead = plain(from, "d.id");
        // The condition of the partial index, word for word.
        dead.text = dead.text.replacen("WHERE true", "WHERE d.status IN ('exhausted', 'cancelled')", 1);
        return vec![dead];
    }
    if filter.subscription_id.is_some() {
        return vec![plain("webhooks_deliveries d INDEXED BY webhooks_deliveries_subscription", "d.id")];
    }
    match &filter.tenant {
        Some(tenant) => vec![merged(c.clone(), tenant, request)],
        None => vec![plain("webhooks_deliveries d", "d.id")],
    }
}

pub(super) fn conditions(filter: &DeliveryFilter) -> Conditions {
    let mut c = Conditions::default();
    if let Some(event) = filter.event_id {
        c.and(
            "d.event IN (SELECT v.seq FROM webhooks_tenants t
                         CROSS JOIN webhooks_events v ON v.tenant = t.tenant AND v.id = ?)",
            Value::id(event.as_bytes()),
        );
    }
    if let Some(subscription) = filter.subscription_id {
        c.and("d.subscription = ?", Value::id(subscription.as_bytes()));
    }
    if let Some(tenant) = &filter.tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    if let Some(event_type) = &filter.event_type {
        c.and("e.event_type = ?", Value::Text(event_type.as_str().to_owned()));
    }
    let names: Vec<&'static str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    c.and_in("d.status", &names);
    c.between("d.created_at", filter.since, filter.until);
    c
}

/// The newest of each subscription of a tenant, deleted ones too.
fn merged(mut c: Conditions, tenant: &Tenant, request: PageRequest<DeliveryId>) -> Statement {
    if let Some(before) = request.before {
        c.and("d.id < ?", Value::id(before.as_bytes()));
    }
    let limit = Value::one_more(request.limit);
    c.values.extend([limit.clone(), Value::Text(tenant.as_str().to_owned()), limit]);
    let text = format!(
        "SELECT {COLUMNS} FROM webhooks_subscriptions o INDEXED BY webhooks_subscriptions_config
         CROSS JOIN webhooks_deliveries d ON d.id IN (
             SELECT d.id FROM webhooks_deliveries d INDEXED BY webhooks_deliveries_subscription
             CROSS JOIN webhooks_events e ON e.seq = d.event
             WHERE d.subscription = o.id{} ORDER BY d.id DESC LIMIT ?)
         {WITH} WHERE o.tenant = ? ORDER BY d.id DESC LIMIT ?",
        c.text
    );
    Statement { text, values: c.values }
}

pub(super) async fn get(
    store: &SqliteStore,
    tenant: Option<&Tenant>,
    id: DeliveryId,
) -> Result<Option<Delivery>, Fault> {
    let now = store.now();
    let text = format!(
        "SELECT {COLUMNS} FROM webhooks_deliveries d {WITH} WHERE d.id = ?1 AND (?2 IS NULL OR e.tenant = ?2)"
    );
    let mut conn = store.reader().await?;
    let query = sqlx::query(&text).bind(&id.as_bytes()[..]).bind(tenant.map(Tenant::as_str));
    query.fetch_optional(&mut *conn).await?.map(|row| codec::delivery(&row, now)).transpose()
}
