//! What a replay finds: finished deliveries of subscriptions that are not deleted.
//!
//! Where it begins: at the dead letters, when it asks for those alone; at each subscription of the tenant,
//! when nothing narrower is named; else where the server finds it best.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use webhook_core::id::DeliveryId;
use webhook_core::store::{DeliveryFilter, MATCHED_LIMIT, Matched};

use super::deliveries::{conditions, is_dead};
use super::query::{Conditions, Statement, Value};
use crate::codec::{self, signed};
use crate::error::Fault;

const LIVES: &str = "JOIN events e ON e.id = d.event
    JOIN subscriptions s ON s.id = d.subscription AND s.deleted_at IS NULL";

/// The part of a replay that is not done.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store) struct Rest {
    /// Behind this delivery.
    pub(in crate::store) after: Option<DeliveryId>,
    /// Of what was numbered so far when it started.
    pub(in crate::store) last_number: Option<i64>,
}

/// How many there are, up to the limit.
pub(in crate::store) async fn count(
    conn: &mut PgConnection,
    filter: &DeliveryFilter,
) -> Result<Matched, Fault> {
    let found = counting(filter).fetch(conn).await?;
    let found = found.first().map_or(Ok(0), |row| codec::unsigned(row, "found"))?;
    Ok(Matched { matched: found.min(MATCHED_LIMIT), more: found > MATCHED_LIMIT })
}

pub(super) fn counting(filter: &DeliveryFilter) -> Statement {
    let mut c = finished(filter, Rest::default());
    let limit = c.bind(Value::Int(signed(MATCHED_LIMIT + 1)));
    let from = if is_for_the_dead(filter) { DEAD } else { "deliveries d" };
    let text = format!(
        "SELECT count(*) AS found FROM (SELECT 1 FROM {from} {LIVES} WHERE true{} LIMIT {limit}) x",
        c.text
    );
    c.statement(text)
}

/// The next ones in the order of their ids, with all columns.
pub(in crate::store) async fn page(
    conn: &mut PgConnection,
    filter: &DeliveryFilter,
    rest: Rest,
    limit: u32,
) -> Result<Vec<PgRow>, Fault> {
    paging(filter, rest, limit).fetch(conn).await
}

const DEAD: &str = "dead o JOIN deliveries d ON d.id = o.id";

pub(super) fn paging(filter: &DeliveryFilter, rest: Rest, limit: u32) -> Statement {
    let mut c = finished(filter, rest);
    let limit = c.bind(Value::Int(i64::from(limit)));
    let plain = |from: &str, id: &str, c: Conditions| {
        let text = format!("SELECT d.* FROM {from} {LIVES} WHERE true{} ORDER BY {id} LIMIT {limit}", c.text);
        c.statement(text)
    };
    if filter.event_id.is_some() {
        return plain("deliveries d", "d.id", c);
    }
    if is_for_the_dead(filter) {
        return plain(DEAD, "o.id", c);
    }
    let (None, Some(tenant)) = (filter.subscription_id, &filter.tenant) else {
        return plain("deliveries d", "d.id", c);
    };
    let tenant = c.bind(Value::Text(tenant.as_str().to_owned()));
    let text = format!(
        "SELECT d.* FROM subscriptions o CROSS JOIN LATERAL (
             SELECT d.* FROM deliveries d JOIN events e ON e.id = d.event
             WHERE d.subscription = o.id{} ORDER BY d.id LIMIT {limit}) d
         WHERE o.tenant = {tenant} AND o.deleted_at IS NULL ORDER BY d.id LIMIT {limit}",
        c.text
    );
    c.statement(text)
}

fn is_for_the_dead(filter: &DeliveryFilter) -> bool {
    filter.event_id.is_none()
        && !filter.statuses.is_empty()
        && filter.statuses.iter().all(|status| is_dead(*status))
}

fn finished(filter: &DeliveryFilter, rest: Rest) -> Conditions {
    let mut c = conditions(filter);
    c.text.push_str(" AND d.finished_at IS NOT NULL");
    if let Some(last) = rest.last_number {
        c.and("d.number <= ?", Value::Int(last));
    }
    if let Some(after) = rest.after {
        c.and("d.id > ?", Value::Id(after.as_uuid()));
    }
    c
}
