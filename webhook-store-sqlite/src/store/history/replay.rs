//! What a replay finds: finished deliveries of subscriptions that are not deleted.
//!
//! Where it begins: at the event; at the index of dead letters, when it asks for those alone; at the
//! subscription; at each subscription of the tenant; else at the oldest delivery of all.

use sqlx::sqlite::SqliteRow;
use webhook_core::id::DeliveryId;
use webhook_core::model::DeliveryStatus;
use webhook_core::store::{DeliveryFilter, MATCHED_LIMIT, Matched};

use super::deliveries::conditions;
use super::query::{Statement, Value};
use crate::codec::{self, signed};
use crate::error::Fault;
use crate::open::SqliteStore;

const LIVES: &str = "CROSS JOIN webhooks_events e ON e.seq = d.event
    CROSS JOIN webhooks_subscriptions s ON s.id = d.subscription AND s.deleted_at IS NULL";

/// The part of a replay that is not done.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store) struct Rest {
    /// Behind this delivery.
    pub(in crate::store) after: Option<DeliveryId>,
    /// Of what was numbered so far when it started.
    pub(in crate::store) last_number: Option<i64>,
}

/// How many there are, up to the limit.
pub(in crate::store) async fn count(store: &SqliteStore, filter: &DeliveryFilter) -> Result<Matched, Fault> {
    let found = statement(filter, Rest::default(), signed(MATCHED_LIMIT + 1));
    let counting = Statement { text: format!("SELECT count(*) AS found FROM ({})", found.text), ..found };
    let rows = counting.fetch(store).await?;
    let found = rows.first().map_or(Ok(0), |row| codec::unsigned(row, "found"))?;
    Ok(Matched { matched: found.min(MATCHED_LIMIT), more: found > MATCHED_LIMIT })
}

/// The next ones in the order of their ids, with all columns.
pub(in crate::store) async fn page(
    store: &SqliteStore,
    filter: &DeliveryFilter,
    rest: Rest,
    limit: u32,
) -> Result<Vec<SqliteRow>, Fault> {
    let ids = statement(filter, rest, i64::from(limit));
    let text = format!(
        "SELECT d.* FROM ({} ORDER BY d.id LIMIT ?) f CROSS JOIN webhooks_deliveries d ON d.id = f.id ORDER BY d.id",
        ids.text.trim_end_matches(LIMIT)
    );
    Statement { text, ..ids }.fetch(store).await
}

const LIMIT: &str = " LIMIT ?";

pub(super) fn statement(filter: &DeliveryFilter, rest: Rest, limit: i64) -> Statement {
    let mut c = conditions(filter);
    c.text.push_str(" AND d.finished_at IS NOT NULL");
    if let Some(last) = rest.last_number {
        c.and("coalesce(d.added, d.event) <= ?", Value::Int(last));
    }
    if let Some(after) = rest.after {
        c.and("d.id > ?", Value::id(after.as_bytes()));
    }
    let dead =
        |status: &DeliveryStatus| matches!(status, DeliveryStatus::Exhausted | DeliveryStatus::Cancelled);
    let from = if filter.event_id.is_some() {
        "webhooks_deliveries d INDEXED BY webhooks_deliveries_event"
    } else if !filter.statuses.is_empty() && filter.statuses.iter().all(dead) {
        // The condition of the partial index, word for word.
        c.text.push_str(" AND d.status IN ('exhausted', 'cancelled')");
        "webhooks_deliveries d INDEXED BY webhooks_deliveries_dead"
    } else if filter.subscription_id.is_some() {
        "webhooks_deliveries d INDEXED BY webhooks_deliveries_subscription"
    } else if let (Some(tenant), None) = (&filter.tenant, rest.last_number) {
        // Counting asks for no order.
        c.and("o.tenant = ?", Value::Text(tenant.as_str().to_owned()));
        "webhooks_subscriptions o INDEXED BY webhooks_subscriptions_config
         CROSS JOIN webhooks_deliveries d INDEXED BY webhooks_deliveries_subscription ON d.subscription = o.id"
    } else if let Some(tenant) = &filter.tenant {
        return merged(c, tenant.as_str(), limit);
    } else {
        "webhooks_deliveries d"
    };
    c.values.push(Value::Int(limit));
    Statement {
        text: format!("SELECT d.id FROM {from} {LIVES} WHERE true{}{LIMIT}", c.text),
        values: c.values,
    }
}

/// The first of each subscription of a tenant.
fn merged(mut c: super::query::Conditions, tenant: &str, limit: i64) -> Statement {
    c.values.extend([Value::Int(limit), Value::Text(tenant.to_owned()), Value::Int(limit)]);
    let text = format!(
        "SELECT d.id FROM webhooks_subscriptions o INDEXED BY webhooks_subscriptions_tenant
         CROSS JOIN webhooks_deliveries d ON d.id IN (
             SELECT d.id FROM webhooks_deliveries d INDEXED BY webhooks_deliveries_subscription
             CROSS JOIN webhooks_events e ON e.seq = d.event
             WHERE d.subscription = o.id{} ORDER BY d.id LIMIT ?)
         WHERE o.tenant = ? AND o.deleted_at IS NULL{LIMIT}",
        c.text
    );
    Statement { text, values: c.values }
}
