//! Attempts.
//!
//! Where a list begins: at the delivery or the event's deliveries, when the filter names one; at the
//! subscription; else at each subscription, of the tenant or of all.

use webhook_core::id::{AttemptId, DeliveryId};
use webhook_core::model::{Attempt, Tenant};
use webhook_core::store::{AttemptFilter, Page, PageRequest};

use super::query::{Conditions, Statement, Value, page};
use crate::codec;
use crate::error::Fault;
use crate::open::SqliteStore;

const COLUMNS: &str = "a.id, a.delivery, a.subscription, a.number, a.token, a.trigger, a.started_at,
    a.duration, a.outcome, a.status_code, a.error_kind, a.error_detail, a.target_url, e.id AS event_id,
    e.tenant";
const WITH: &str = "CROSS JOIN webhooks_deliveries d ON d.id = a.delivery
    CROSS JOIN webhooks_events e ON e.seq = d.event";

pub(super) async fn list(
    store: &SqliteStore,
    filter: &AttemptFilter,
    request: PageRequest<AttemptId>,
) -> Result<Page<Attempt, AttemptId>, Fault> {
    let rows = statement(filter, request).fetch(store).await?;
    let items = rows.iter().map(|row| codec::attempt(row, false)).collect::<Result<_, _>>()?;
    Ok(page(items, request.limit, |attempt: &Attempt| attempt.id))
}

pub(super) fn statement(filter: &AttemptFilter, request: PageRequest<AttemptId>) -> Statement {
    let mut c = Conditions::default();
    if let Some(delivery) = filter.delivery_id {
        c.and("a.delivery = ?", Value::id(delivery.as_bytes()));
    }
    if let Some(event) = filter.event_id {
        c.and(
            "a.delivery IN (SELECT x.id FROM webhooks_tenants t
                 CROSS JOIN webhooks_events v ON v.tenant = t.tenant AND v.id = ?
                 CROSS JOIN webhooks_deliveries x ON x.event = v.seq)",
            Value::id(event.as_bytes()),
        );
    }
    if let Some(subscription) = filter.subscription_id {
        c.and("a.subscription = ?", Value::id(subscription.as_bytes()));
    }
    let names: Vec<&'static str> = filter.outcomes.iter().map(|outcome| outcome.as_str()).collect();
    c.and_in("a.outcome", &names);
    c.between("a.started_at", filter.since, filter.until);
    if let Some(before) = request.before {
        c.and("a.id < ?", Value::id(before.as_bytes()));
    }
    let limit = Value::one_more(request.limit);
    let index = if filter.delivery_id.is_some() || filter.event_id.is_some() {
        Some("webhooks_attempts_delivery")
    } else if filter.subscription_id.is_some() {
        Some("webhooks_attempts_subscription")
    } else {
        None
    };
    let tenant = filter.tenant.as_ref().map(|tenant| Value::Text(tenant.as_str().to_owned()));
    if let Some(index) = index {
        if let Some(tenant) = tenant {
            c.and("e.tenant = ?", tenant);
        }
        c.values.push(limit);
        let text = format!(
            "SELECT {COLUMNS} FROM webhooks_attempts a INDEXED BY {index} {WITH} WHERE true{}
             ORDER BY a.id DESC LIMIT ?",
            c.text
        );
        return Statement { text, values: c.values };
    }
    c.values.push(limit.clone());
    let of = if tenant.is_some() { "o.tenant = ?" } else { "true" };
    c.values.extend(tenant);
    c.values.push(limit);
    let text = format!(
        "SELECT {COLUMNS} FROM webhooks_subscriptions o
         CROSS JOIN webhooks_attempts a ON a.key IN (
             SELECT a.key FROM webhooks_attempts a INDEXED BY webhooks_attempts_subscription
             WHERE a.subscription = o.id{} ORDER BY a.id DESC LIMIT ?)
         {WITH} WHERE {of} ORDER BY a.id DESC LIMIT ?",
        c.text
    );
    Statement { text, values: c.values }
}

/// All of a delivery, oldest first.
pub(super) async fn of(
    store: &SqliteStore,
    tenant: Option<&Tenant>,
    id: DeliveryId,
) -> Result<Vec<Attempt>, Fault> {
    let text = format!(
        "SELECT {COLUMNS}, a.response_headers, a.response_body FROM webhooks_attempts a {WITH}
         WHERE a.delivery = ?1 AND (?2 IS NULL OR e.tenant = ?2) ORDER BY a.number"
    );
    let mut conn = store.reader().await?;
    let query = sqlx::query(&text).bind(&id.as_bytes()[..]).bind(tenant.map(Tenant::as_str));
    query.fetch_all(&mut *conn).await?.iter().map(|row| codec::attempt(row, true)).collect()
}
