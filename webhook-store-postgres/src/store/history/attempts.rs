//! Attempts.
//!
//! Where a list begins: at the delivery or the event's deliveries, when the filter names one; at the
//! subscription; else at each subscription, of the tenant or of all.

use sqlx::PgConnection;
use webhook_core::id::{AttemptId, DeliveryId};
use webhook_core::model::{Attempt, Tenant};
use webhook_core::store::{AttemptFilter, Page, PageRequest};

use super::query::{Conditions, Statement, Value, page};
use crate::codec;
use crate::error::Fault;

const COLUMNS: &str = "a.id, a.delivery, a.subscription, a.number, a.token, a.trigger, a.started_at,
    a.duration, a.outcome, a.status_code, a.error_kind, a.error_detail, a.target_url, d.event, e.tenant";
const WITH: &str = "JOIN deliveries d ON d.id = a.delivery JOIN events e ON e.id = d.event";

pub(super) async fn list(
    conn: &mut PgConnection,
    filter: &AttemptFilter,
    request: PageRequest<AttemptId>,
) -> Result<Page<Attempt, AttemptId>, Fault> {
    let rows = statement(filter, request).fetch(conn).await?;
    let items = rows.iter().map(|row| codec::attempt(row, false)).collect::<Result<_, _>>()?;
    Ok(page(items, request.limit, |attempt: &Attempt| attempt.id))
}

pub(super) fn statement(filter: &AttemptFilter, request: PageRequest<AttemptId>) -> Statement {
    let mut c = Conditions::default();
    if let Some(delivery) = filter.delivery_id {
        c.and("a.delivery = ?", Value::Id(delivery.as_uuid()));
    }
    if let Some(event) = filter.event_id {
        let of_event = "a.delivery = ANY(ARRAY(SELECT x.id FROM deliveries x WHERE x.event = ?))";
        c.and(of_event, Value::Id(event.as_uuid()));
    }
    if let Some(subscription) = filter.subscription_id {
        c.and("a.subscription = ?", Value::Id(subscription.as_uuid()));
    }
    c.and_in("a.outcome", filter.outcomes.iter().map(|outcome| outcome.as_str()).collect());
    c.between("a.started_at", filter.since, filter.until);
    if let Some(before) = request.before {
        c.and("a.id < ?", Value::Id(before.as_uuid()));
    }
    let limit = c.bind(Value::one_more(request.limit));
    let tenant = filter.tenant.as_ref().map(|tenant| Value::Text(tenant.as_str().to_owned()));
    let is_narrow =
        filter.delivery_id.is_some() || filter.event_id.is_some() || filter.subscription_id.is_some();
    if is_narrow {
        if let Some(tenant) = tenant {
            c.and("e.tenant = ?", tenant);
        }
        let text = format!(
            "SELECT {COLUMNS} FROM attempts a {WITH} WHERE true{} ORDER BY a.id DESC LIMIT {limit}",
            c.text
        );
        return c.statement(text);
    }
    let of = tenant.map_or_else(|| "true".to_owned(), |tenant| format!("o.tenant = {}", c.bind(tenant)));
    // What is on a page can only be of the subscriptions whose newest ones are on it.
    let conditions = &c.text;
    let text = format!(
        "WITH o AS MATERIALIZED (
             SELECT o.id FROM subscriptions o CROSS JOIN LATERAL (
                 SELECT a.id FROM attempts a WHERE a.subscription = o.id{conditions}
                 ORDER BY a.id DESC LIMIT 1) a
             WHERE {of} ORDER BY a.id DESC LIMIT {limit})
         SELECT {COLUMNS} FROM o CROSS JOIN LATERAL (
             SELECT a.id, a.delivery, a.subscription, a.number, a.token, a.trigger, a.started_at, a.duration,
                    a.outcome, a.status_code, a.error_kind, a.error_detail, a.target_url
             FROM attempts a WHERE a.subscription = o.id{conditions} ORDER BY a.id DESC LIMIT {limit}) a
         {WITH} ORDER BY a.id DESC LIMIT {limit}"
    );
    c.statement(text)
}

/// All of a delivery, oldest first.
pub(super) async fn of(
    conn: &mut PgConnection,
    tenant: Option<&Tenant>,
    id: DeliveryId,
) -> Result<Vec<Attempt>, Fault> {
    let mut c = Conditions::default();
    c.and("a.delivery = ?", Value::Id(id.as_uuid()));
    if let Some(tenant) = tenant {
        c.and("e.tenant = ?", Value::Text(tenant.as_str().to_owned()));
    }
    let text = format!(
        "SELECT {COLUMNS}, a.response_headers, a.response_body FROM attempts a {WITH} WHERE true{}
         ORDER BY a.number",
        c.text
    );
    c.statement(text).fetch(conn).await?.iter().map(|row| codec::attempt(row, true)).collect()
}
