//! What a worker needs for an attempt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::id::{DeliveryId, Token};
use webhook_core::store::{Load, Loaded, Owed};

use crate::codec::{self, wait_until};
use crate::error::Fault;
use crate::sql;

pub(super) async fn load(conn: &mut PgConnection, wanted: &[Load]) -> Result<Vec<Option<Loaded>>, Fault> {
    let ids: Vec<Uuid> = wanted.iter().map(|load| load.id.as_uuid()).collect();
    let rows = sqlx::query(sql::LOAD).bind(ids).fetch_all(&mut *conn).await?;
    // After the deliveries, so that a row that was written meanwhile is seen here at the latest.
    let with_row = recorded(conn, wanted).await?;
    let mut found: HashMap<DeliveryId, Loaded> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let state = codec::state(row)?;
        let now = codec::moment(row, "now")?;
        let due_in = match (&state.request, codec::optional_moment(row, "next_attempt_at")?) {
            (None, Some(at)) => wait_until(at, now),
            _ => Duration::ZERO,
        };
        let loaded = Loaded {
            state,
            event: Arc::new(codec::event(row)?),
            subscription_id: codec::subscription_id(row, "subscription")?,
            subscription_version: codec::optional::<i64>(row, "subscription_version")?.map(i64::unsigned_abs),
            due_in,
            waiting: codec::flag(row, "waiting")?,
            unrecorded: Vec::new(),
        };
        found.insert(codec::delivery_id(row, "id")?, loaded);
    }
    let unrecorded = |load: &Load| -> Vec<Token> {
        load.unsettled.iter().filter(|token| !with_row.contains(&(load.id, **token))).copied().collect()
    };
    Ok(wanted
        .iter()
        .map(|load| {
            let loaded = found.get(&load.id)?.clone();
            Some(Loaded { unrecorded: unrecorded(load), ..loaded })
        })
        .collect())
}

/// The attempts that have rows, of deliveries with tokens in doubt.
async fn recorded(conn: &mut PgConnection, wanted: &[Load]) -> Result<HashSet<(DeliveryId, Token)>, Fault> {
    let doubted: Vec<Uuid> =
        wanted.iter().filter(|load| !load.unsettled.is_empty()).map(|load| load.id.as_uuid()).collect();
    if doubted.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query(sql::TOKENS).bind(doubted).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((codec::delivery_id(row, "delivery")?, codec::token(row, "token")?))).collect()
}

/// A page of what another queue must hold.
pub(crate) async fn owed(
    conn: &mut PgConnection,
    after: Option<DeliveryId>,
    limit: u32,
) -> Result<Vec<Owed>, Fault> {
    let after = after.map_or(Uuid::nil(), |after| after.as_uuid());
    let rows = sqlx::query(sql::OWED).bind(after).bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let urgent = codec::flag(row, "asked")?;
            let now = codec::moment(row, "now")?;
            let at = codec::optional_moment(row, "next_attempt_at")?.filter(|_| !urgent);
            Ok(Owed {
                id: codec::delivery_id(row, "id")?,
                lane: codec::subscription_id(row, "subscription")?,
                wait: at.map_or(Duration::ZERO, |at| wait_until(at, now)),
                lane_version: codec::unsigned(row, "version")?,
                urgent,
            })
        })
        .collect()
}
