//! Deliveries.
//!
//! Where a list begins: at the event, when the filter names one; at what is open, when it asks for unfinished
//! ones alone; at the dead letters, when it asks for those alone; at the subscription; at each subscription of
//! the tenant; else at the newest delivery of all.

use sqlx::PgConnection;
use webhook_core::id::DeliveryId;
use webhook_core::model::{Delivery, DeliveryStatus, Tenant};
use webhook_core::store::{DeliveryFilter, Page, PageRequest};

use super::query::{Conditions, Statement, Value, page};
use crate::codec;
use crate::error::Fault;
use crate::sql::waiting;

const COLUMNS: &str = concat!(
    "d.*, ",
    waiting!(),
    " AS waiting, e.event_type, e.tenant, e.deliver_at, s.status AS subscription_status, l.parked_until,
    CASE WHEN l.gap IS NOT NULL THEN l.permit_at END AS permit_at, clock() AS now,
    EXISTS (SELECT 1 FROM jobs w WHERE w.id = d.id AND w.until IS NOT NULL) AS leased"
);
/// Lanes and jobs of another queue are not known here.
const WITH: &str = "JOIN events e ON e.id = d.event LEFT JOIN subscriptions s ON s.id = d.subscription
    LEFT JOIN lanes l ON l.id = d.subscription";

pub(super) async fn list(
    conn: &mut PgConnection,
    filter: &DeliveryFilter,
    request: PageRequest<DeliveryId>,
) -> Result<Page<Delivery, DeliveryId>, Fault> {
    let rows = statement(filter, request).fetch(conn).await?;
    let items = rows.iter().map(codec::delivery).collect::<Result<_, _>>()?;
    Ok(page(items, request.limit, |delivery: &Delivery| delivery.id))
}

pub(super) fn statement(filter: &DeliveryFilter, request: PageRequest<DeliveryId>) -> Statement {
    let mut c = conditions(filter);
    let only = |wanted: fn(DeliveryStatus) -> bool| {
        !filter.statuses.is_empty() && filter.statuses.iter().all(|status| wanted(*status))
    };
    let by_event = filter.event_id.is_some();
    let (from, id) = if !by_event && only(|status| !status.is_finished()) {
        ("open o JOIN deliveries d ON d.id = o.id", "o.id")
    } else if !by_event && only(is_dead) {
        ("dead o JOIN deliveries d ON d.id = o.id", "o.id")
    } else if by_event || filter.subscription_id.is_some() || filter.tenant.is_none() {
        ("deliveries d", "d.id")
    } else {
        return merged(c, filter, request);
    };
    if let Some(before) = request.before {
        c.and(&format!("{id} < ?"), Value::Id(before.as_uuid()));
    }
    let limit = c.bind(Value::one_more(request.limit));
    let text =
        format!("SELECT {COLUMNS} FROM {from} {WITH} WHERE true{} ORDER BY {id} DESC LIMIT {limit}", c.text);
    c.statement(text)
}

pub(super) fn is_dead(status: DeliveryStatus) -> bool {
    matches!(status, DeliveryStatus::Exhausted | DeliveryStatus::Cancelled)
}

/// The conditions that a filter stands for, but those of a page.
pub(super) fn conditions(filter: &DeliveryFilter) -> Conditions {
    let mut c = Conditions::default();
    if let Some(event) = filter.event_id {
        c.and("d.event = ?", Value::Id(event.as_uuid()));
    }
    if let Some(subscription) = filter.subscription_id {
        c.and("d.subscription = ?", Value::Id(subscription.as_uuid()));
    }
    if let Some(tenant) = &filter.tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    if let Some(event_type) = &filter.event_type {
        c.and("e.event_type = ?", Value::Text(event_type.as_str().to_owned()));
    }
    c.and_in("d.status", filter.statuses.iter().map(|status| status.as_str()).collect());
    c.between("d.created_at", filter.since, filter.until);
    c
}

/// The newest of each subscription of a tenant, deleted ones too. What is on a page can only be of the
/// subscriptions whose newest ones are on it, so of the others no more than that one is read.
fn merged(mut c: Conditions, filter: &DeliveryFilter, request: PageRequest<DeliveryId>) -> Statement {
    if let Some(before) = request.before {
        c.and("d.id < ?", Value::Id(before.as_uuid()));
    }
    let limit = c.bind(Value::one_more(request.limit));
    let tenant = filter.tenant.as_ref().map_or_else(String::new, |tenant| tenant.as_str().to_owned());
    let tenant = c.bind(Value::Text(tenant));
    let conditions = &c.text;
    let text = format!(
        "WITH o AS MATERIALIZED (
             SELECT o.id FROM subscriptions o CROSS JOIN LATERAL (
                 SELECT d.id FROM deliveries d JOIN events e ON e.id = d.event
                 WHERE d.subscription = o.id{conditions} ORDER BY d.id DESC LIMIT 1) d
             WHERE o.tenant = {tenant} ORDER BY d.id DESC LIMIT {limit})
         SELECT {COLUMNS} FROM o CROSS JOIN LATERAL (
             SELECT d.* FROM deliveries d JOIN events e ON e.id = d.event
             WHERE d.subscription = o.id{conditions} ORDER BY d.id DESC LIMIT {limit}) d
         {WITH} ORDER BY d.id DESC LIMIT {limit}"
    );
    c.statement(text)
}

pub(super) async fn get(
    conn: &mut PgConnection,
    tenant: Option<&Tenant>,
    id: DeliveryId,
) -> Result<Option<Delivery>, Fault> {
    let mut c = Conditions::default();
    c.and("d.id = ?", Value::Id(id.as_uuid()));
    if let Some(tenant) = tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    let text = format!("SELECT {COLUMNS} FROM deliveries d {WITH} WHERE true{}", c.text);
    let rows = c.statement(text).fetch(conn).await?;
    rows.first().map(codec::delivery).transpose()
}
