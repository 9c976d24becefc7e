//! Replays: where each stands, and the step that reopens a page and moves it on.
//!
//! What matches is read first, page by page; a delivery that moves on between the reading and the commit is
//! left alone, because each is reopened on the revision that was read. The row of the replay is the fence: a
//! page is committed only while it still stands where the page began.

use std::collections::HashMap;

use async_trait::async_trait;
use futures::FutureExt as _;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, EventId, LaneId, ReplayId, SubscriptionId};
use webhook_core::model::{DeliveryStatus, EventType, Tenant};
use webhook_core::store::{
    DeliveryFilter, Matched, NewReplay, Record, Recorded, Replay, ReplayPage, ReplayRecorded, ReplayStore,
};

use super::history::replay::{Rest, count, page};
use super::jobs::Part;
use super::record;
use crate::codec::{self, Moment, signed};
use crate::connection::{begin, rollback};
use crate::error::Fault;
use crate::open::{Inner, PgStore};
use crate::sql;

#[async_trait]
impl ReplayStore for PgStore {
    async fn replay_count(&self, filter: &DeliveryFilter) -> Result<Matched, BackendError> {
        self.inner.people.run("replay_count", filter, |conn, filter| count(conn, filter).boxed()).await
    }

    /// Counts and then stores; what ends in between is part of the replay and not of the count.
    async fn replay_start(&self, replay: &NewReplay) -> Result<Replay, BackendError> {
        self.inner.people.run("replay_start", replay, |conn, replay| start(conn, replay).boxed()).await
    }

    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Result<Option<Replay>, BackendError> {
        let args = (tenant, id);
        let row =
            self.inner.people.run("replay", &args, |conn, (tenant, id)| look(conn, tenant, *id).boxed());
        row.await
    }

    async fn replay_next(&self, limit: u32) -> Result<Option<ReplayPage>, BackendError> {
        self.inner.people.run("replay_next", &limit, |conn, limit| next(conn, *limit).boxed()).await
    }

    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Result<ReplayRecorded, BackendError> {
        let args = (&*self.inner, Step { id, after, last, records });
        self.inner
            .keeper
            .run("replay_record", &args, |conn, (store, step)| step.commit(conn, store).boxed())
            .await
    }
}

async fn look(conn: &mut PgConnection, tenant: &Tenant, id: ReplayId) -> Result<Option<Replay>, Fault> {
    let Some(row) = find(conn, id).await? else { return Ok(None) };
    if codec::text(&row, "tenant")? != tenant.as_str() {
        return Ok(None);
    }
    seen(&row).map(Some)
}

async fn find(conn: &mut PgConnection, id: ReplayId) -> Result<Option<PgRow>, Fault> {
    Ok(sqlx::query(sql::REPLAY).bind(id.as_uuid()).fetch_optional(conn).await?)
}

fn seen(row: &PgRow) -> Result<Replay, Fault> {
    Ok(Replay {
        id: codec::replay_id(row, "id")?,
        finished: codec::flag(row, "finished")?,
        matched: Matched { matched: codec::unsigned(row, "matched")?, more: codec::flag(row, "more")? },
        done: codec::unsigned(row, "done")?,
    })
}

async fn start(conn: &mut PgConnection, replay: &NewReplay) -> Result<Replay, Fault> {
    if let Some(row) = find(conn, replay.id).await? {
        return seen(&row);
    }
    let filter = DeliveryFilter { tenant: Some(replay.tenant.clone()), ..replay.filter.clone() };
    let matched = count(conn, &filter).await?;
    let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    sqlx::query(sql::REPLAY_START)
        .bind(replay.id.as_uuid())
        .bind(replay.tenant.as_str())
        .bind(statuses)
        .bind(filter.subscription_id.map(|id| id.as_uuid()))
        .bind(filter.event_id.map(|id| id.as_uuid()))
        .bind(filter.event_type.as_ref().map(EventType::as_str))
        .bind(filter.since.map(Moment::from))
        .bind(filter.until.map(Moment::from))
        .bind(signed(matched.matched))
        .bind(matched.more)
        .execute(&mut *conn)
        .await?;
    // A repeat may have come first.
    let row = find(conn, replay.id).await?.ok_or(Fault::Defect("a stored replay is not there"))?;
    seen(&row)
}

async fn next(conn: &mut PgConnection, limit: u32) -> Result<Option<ReplayPage>, Fault> {
    let Some(row) = sqlx::query(sql::REPLAY_NEXT).fetch_optional(&mut *conn).await? else { return Ok(None) };
    let after = codec::optional::<Uuid>(&row, "after")?.map(DeliveryId::from_uuid);
    let rest = Rest { after, last_number: Some(codec::get(&row, "last_number")?) };
    let rows = page(conn, &filter(&row)?, rest, limit).await?;
    let delivery = |row| {
        Ok((codec::delivery_id(row, "id")?, codec::subscription_id(row, "subscription")?, codec::state(row)?))
    };
    let deliveries = rows.iter().map(delivery).collect::<Result<_, Fault>>()?;
    Ok(Some(ReplayPage { id: codec::replay_id(&row, "id")?, after, deliveries }))
}

fn filter(row: &PgRow) -> Result<DeliveryFilter, Fault> {
    let names: Vec<String> = codec::get(row, "statuses")?;
    let status = |name: &String| {
        DeliveryStatus::from_name(name)
            .ok_or_else(|| Fault::corrupt("statuses", format!("{name:?} is no status")))
    };
    let event_type = codec::optional::<&str>(row, "event_type")?.map(str::parse).transpose();
    Ok(DeliveryFilter {
        tenant: Some(codec::tenant(row, "tenant")?),
        statuses: names.iter().map(status).collect::<Result<_, _>>()?,
        subscription_id: codec::optional::<Uuid>(row, "subscription")?.map(SubscriptionId::from_uuid),
        event_id: codec::optional::<Uuid>(row, "event")?.map(EventId::from_uuid),
        event_type: event_type.map_err(|error| Fault::corrupt("event_type", error))?,
        since: codec::optional_moment(row, "since")?,
        until: codec::optional_moment(row, "until")?,
    })
}

/// A page to be committed.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    id: ReplayId,
    after: Option<DeliveryId>,
    last: Option<DeliveryId>,
    records: &'a [Record],
}

impl Step<'_> {
    async fn commit(&self, conn: &mut PgConnection, store: &Inner) -> Result<ReplayRecorded, Fault> {
        begin(conn).await?;
        let moved = sqlx::query(sql::REPLAY_MOVE)
            .bind(self.id.as_uuid())
            .bind(self.after.map(|after| after.as_uuid()))
            .bind(self.last.map(|last| last.as_uuid()))
            .execute(&mut *conn)
            .await?;
        if moved.rows_affected() == 0 {
            rollback(conn).await?;
            return Ok(ReplayRecorded::Stale);
        }
        let mut part = Part::new(store);
        let answers = record::apply(conn, &mut part, self.records).await?;
        let applied = |(record, answer): (&Record, &Recorded)| {
            matches!(answer, Recorded::Applied { .. }).then_some(record.id)
        };
        let applied: Vec<DeliveryId> = self.records.iter().zip(&answers).filter_map(applied).collect();
        sqlx::query(sql::REPLAY_DONE)
            .bind(self.id.as_uuid())
            .bind(signed(applied.len() as u64))
            .execute(&mut *conn)
            .await?;
        let ids: Vec<Uuid> = applied.iter().map(DeliveryId::as_uuid).collect();
        let rows = sqlx::query(sql::NOT_WAITING).bind(ids).fetch_all(&mut *conn).await?;
        let mut lanes: HashMap<DeliveryId, LaneId> = HashMap::with_capacity(rows.len());
        for row in &rows {
            lanes.insert(codec::delivery_id(row, "id")?, codec::subscription_id(row, "subscription")?);
        }
        part.commit(conn).await?;
        let reopened = applied.into_iter().filter_map(|id| Some((id, *lanes.get(&id)?))).collect();
        Ok(ReplayRecorded::Applied { reopened })
    }
}
