//! What a worker needs for an attempt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use webhook_core::id::{DeliveryId, Token};
use webhook_core::store::{Load, Loaded};

use super::turns;
use crate::codec::{self, wait_until};
use crate::error::Fault;
use crate::open::SqliteStore;
use crate::sql::Bulk;

static LOAD: Bulk = Bulk::new(
    concat!(
        "SELECT d.*, ",
        turns::waiting!(),
        " AS waiting, s.version AS subscription_version, e.id AS event_id, e.tenant, e.event_type, e.content_type,
         e.ordering_key, e.deliver_at, e.idempotency_key, e.only_subscription, e.payload,
         e.traceparent
     FROM (VALUES "
    ),
    1,
    ") v CROSS JOIN webhooks_deliveries d ON d.id = v.column1
     CROSS JOIN webhooks_events e ON e.seq = d.event
     LEFT JOIN webhooks_subscriptions s ON s.id = d.subscription AND s.deleted_at IS NULL",
);
static TOKENS: Bulk = Bulk::new("SELECT delivery, token FROM webhooks_attempts WHERE delivery IN (", 1, ")");

pub(super) async fn load(store: &SqliteStore, wanted: &[Load]) -> Result<Vec<Option<Loaded>>, Fault> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = store.reader().await?;
    let now = store.now();
    let rows = LOAD
        .fetch(&mut conn, wanted, |row, load| {
            row.add(&load.id.as_bytes()[..]);
        })
        .await?;
    let doubted: Vec<DeliveryId> =
        wanted.iter().filter(|load| !load.unsettled.is_empty()).map(|load| load.id).collect();
    let recorded = TOKENS
        .fetch(&mut conn, &doubted, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    drop(conn);
    let mut with_row: HashSet<(DeliveryId, Vec<u8>)> = HashSet::with_capacity(recorded.len());
    for row in &recorded {
        with_row.insert((codec::delivery_id(row, "delivery")?, codec::blob(row, "token")?.to_vec()));
    }
    let mut found: HashMap<DeliveryId, Loaded> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let state = codec::state(row)?;
        let at = codec::optional::<i64>(row, "next_attempt_at")?;
        let due_in = match (&state.request, at) {
            (None, Some(at)) => wait_until(at, now),
            _ => Duration::ZERO,
        };
        let loaded = Loaded {
            state,
            event: Arc::new(codec::event(row)?),
            subscription_id: codec::subscription_id(row, "subscription")?,
            subscription_version: codec::optional::<i64>(row, "subscription_version")?.map(i64::unsigned_abs),
            due_in,
            waiting: codec::int(row, "waiting")? != 0,
            unrecorded: Vec::new(),
        };
        found.insert(codec::delivery_id(row, "id")?, loaded);
    }
    let unrecorded = |load: &Load| -> Vec<Token> {
        let lost = |token: &&Token| !with_row.contains(&(load.id, token.as_bytes().to_vec()));
        load.unsettled.iter().filter(lost).copied().collect()
    };
    Ok(wanted
        .iter()
        .map(|load| {
            let loaded = found.get(&load.id)?.clone();
            Some(Loaded { unrecorded: unrecorded(load), ..loaded })
        })
        .collect())
}
