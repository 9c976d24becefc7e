//! Replays: where each stands, and the step that reopens a page and moves it on.
//!
//! What matches is read beside the writer, page by page; a delivery that moves on between the reading and the
//! commit is left alone, because each is reopened on the revision that was read. The row of the replay is the
//! fence: a page is committed only while it still stands where the page began.

use std::collections::HashMap;

use async_trait::async_trait;
use futures::FutureExt as _;
use sqlx::sqlite::SqliteRow;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, ReplayId};
use webhook_core::model::{DeliveryStatus, EventType, Tenant};
use webhook_core::store::{
    DeliveryFilter, Matched, NewReplay, Record, Recorded, Replay, ReplayPage, ReplayRecorded, ReplayStore,
};
use webhook_core::time::Timestamp;

use super::history::replay::{Rest, count, page};
use super::{record, turns, whole};
use crate::codec::{self, signed};
use crate::error::Fault;
use crate::open::SqliteStore;
use crate::sql::Bulk;
use crate::writer::Tx;

static NOT_WAITING: Bulk = Bulk::new(
    concat!(
        "SELECT d.id, d.subscription FROM webhooks_deliveries d WHERE NOT ",
        turns::waiting!(),
        " AND d.id IN ("
    ),
    1,
    ")",
);

#[async_trait]
impl ReplayStore for SqliteStore {
    async fn replay_count(&self, filter: &DeliveryFilter) -> Result<Matched, BackendError> {
        count(self, filter).await.map_err(|fault| fault.during("replay_count"))
    }

    /// Counts beside the writer and then stores; what ends in between is part of the replay and not of the
    /// count.
    async fn replay_start(&self, replay: &NewReplay) -> Result<Replay, BackendError> {
        let stored = find(self, replay.id).await.map_err(|fault| fault.during("replay_start"))?;
        if let Some(row) = stored {
            return seen(&row).map_err(|fault| fault.during("replay_start"));
        }
        let mut replay = replay.clone();
        replay.filter.tenant = Some(replay.tenant.clone());
        let matched = count(self, &replay.filter).await.map_err(|fault| fault.during("replay_start"))?;
        self.writer.run("replay_start", move |tx| start(tx, replay, matched).boxed()).await
    }

    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Result<Option<Replay>, BackendError> {
        let look = async {
            let Some(row) = find(self, id).await? else { return Ok(None) };
            if codec::text(&row, "tenant")? != tenant.as_str() {
                return Ok(None);
            }
            seen(&row).map(Some)
        };
        look.await.map_err(|fault: Fault| fault.during("replay"))
    }

    async fn replay_next(&self, limit: u32) -> Result<Option<ReplayPage>, BackendError> {
        next(self, limit).await.map_err(|fault| fault.during("replay_next"))
    }

    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Result<ReplayRecorded, BackendError> {
        let records = records.to_vec();
        self.writer.run("replay_record", move |tx| step(tx, id, after, last, records).boxed()).await
    }
}

async fn find(store: &SqliteStore, id: ReplayId) -> Result<Option<SqliteRow>, Fault> {
    let mut conn = store.reader().await?;
    Ok(sqlx::query("SELECT * FROM webhooks_replays WHERE id = ?")
        .bind(&id.as_bytes()[..])
        .fetch_optional(&mut *conn)
        .await?)
}

fn seen(row: &SqliteRow) -> Result<Replay, Fault> {
    Ok(Replay {
        id: replay_id(row)?,
        finished: codec::int(row, "finished")? != 0,
        matched: Matched { matched: codec::unsigned(row, "matched")?, more: codec::int(row, "more")? != 0 },
        done: codec::unsigned(row, "done")?,
    })
}

fn replay_id(row: &SqliteRow) -> Result<ReplayId, Fault> {
    ReplayId::from_slice(codec::blob(row, "id")?).map_err(|error| Fault::corrupt("replay", error))
}

async fn start(tx: &mut Tx<'_>, replay: NewReplay, matched: Matched) -> Result<Replay, Fault> {
    tx.begin().await?;
    // A repeat may have come between the look and here.
    let stored = sqlx::query("SELECT * FROM webhooks_replays WHERE id = ?")
        .bind(&replay.id.as_bytes()[..])
        .fetch_optional(&mut *tx.conn)
        .await?;
    if let Some(row) = stored {
        return seen(&row);
    }
    // The numbers of what comes later are later ones, after a restart too.
    whole::note_number(tx).await?;
    let filter = &replay.filter;
    let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    sqlx::query(
        "INSERT INTO webhooks_replays (id, tenant, started_at, statuses, subscription, event_id, event_type,
             since, until, last_number, matched, more, finished, done)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
    )
    .bind(&replay.id.as_bytes()[..])
    .bind(replay.tenant.as_str())
    .bind(tx.now)
    .bind(statuses.join(","))
    .bind(filter.subscription_id.as_ref().map(|id| &id.as_bytes()[..]))
    .bind(filter.event_id.as_ref().map(|id| &id.as_bytes()[..]))
    .bind(filter.event_type.as_ref().map(EventType::as_str))
    .bind(filter.since.map(Timestamp::as_micros))
    .bind(filter.until.map(Timestamp::as_micros))
    .bind(tx.memory.last_seq())
    .bind(signed(matched.matched))
    .bind(matched.more)
    .execute(&mut *tx.conn)
    .await?;
    Ok(Replay { id: replay.id, finished: false, matched, done: 0 })
}

async fn next(store: &SqliteStore, limit: u32) -> Result<Option<ReplayPage>, Fault> {
    let mut conn = store.reader().await?;
    let row = sqlx::query("SELECT * FROM webhooks_replays WHERE finished = 0 ORDER BY id LIMIT 1")
        .fetch_optional(&mut *conn)
        .await?;
    drop(conn);
    let Some(row) = row else { return Ok(None) };
    let after = after(&row)?;
    let rest = Rest { after, last_number: Some(codec::int(&row, "last_number")?) };
    let rows = page(store, &filter(&row)?, rest, limit).await?;
    let delivery = |row| {
        Ok((codec::delivery_id(row, "id")?, codec::subscription_id(row, "subscription")?, codec::state(row)?))
    };
    let deliveries = rows.iter().map(delivery).collect::<Result<_, Fault>>()?;
    Ok(Some(ReplayPage { id: replay_id(&row)?, after, deliveries }))
}

fn after(row: &SqliteRow) -> Result<Option<DeliveryId>, Fault> {
    let after = codec::optional::<&[u8]>(row, "after")?.map(DeliveryId::from_slice).transpose();
    after.map_err(|error| Fault::corrupt("after", error))
}

fn filter(row: &SqliteRow) -> Result<DeliveryFilter, Fault> {
    let names = codec::text(row, "statuses")?;
    let status = |name| {
        DeliveryStatus::from_name(name)
            .ok_or_else(|| Fault::corrupt("statuses", format!("{name:?} is no status")))
    };
    let event_type = codec::optional::<&str>(row, "event_type")?.map(str::parse).transpose();
    Ok(DeliveryFilter {
        tenant: Some(codec::tenant(row, "tenant")?),
        statuses: names.split(',').filter(|name| !name.is_empty()).map(status).collect::<Result<_, _>>()?,
        subscription_id: codec::optional_subscription(row, "subscription")?,
        event_id: match codec::optional::<&[u8]>(row, "event_id")? {
            Some(_) => Some(codec::event_id(row, "event_id")?),
            None => None,
        },
        event_type: event_type.map_err(|error| Fault::corrupt("event_type", error))?,
        since: codec::optional_moment(row, "since")?,
        until: codec::optional_moment(row, "until")?,
    })
}

async fn step(
    tx: &mut Tx<'_>,
    id: ReplayId,
    after: Option<DeliveryId>,
    last: Option<DeliveryId>,
    records: Vec<Record>,
) -> Result<ReplayRecorded, Fault> {
    tx.begin().await?;
    let moved = sqlx::query(
        "UPDATE webhooks_replays SET after = coalesce(?3, after), finished = ?3 IS NULL,
             finished_at = CASE WHEN ?3 IS NULL THEN ?4 END
         WHERE id = ?1 AND finished = 0 AND after IS ?2",
    )
    .bind(&id.as_bytes()[..])
    .bind(after.as_ref().map(|after| &after.as_bytes()[..]))
    .bind(last.as_ref().map(|last| &last.as_bytes()[..]))
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(ReplayRecorded::Stale);
    }
    let answers = record::apply(tx, &records).await?;
    let applied = |(record, answer): (&Record, &Recorded)| {
        matches!(answer, Recorded::Applied { .. }).then_some(record.id)
    };
    let applied: Vec<DeliveryId> = records.iter().zip(&answers).filter_map(applied).collect();
    sqlx::query("UPDATE webhooks_replays SET done = done + ? WHERE id = ?")
        .bind(signed(applied.len() as u64))
        .bind(&id.as_bytes()[..])
        .execute(&mut *tx.conn)
        .await?;
    let rows = NOT_WAITING
        .fetch(tx.conn, &applied, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    let mut lanes: HashMap<DeliveryId, LaneId> = HashMap::with_capacity(rows.len());
    for row in &rows {
        lanes.insert(codec::delivery_id(row, "id")?, codec::lane_id(row, "subscription")?);
    }
    let reopened = applied.into_iter().filter_map(|id| Some((id, *lanes.get(&id)?))).collect();
    Ok(ReplayRecorded::Applied { reopened })
}
