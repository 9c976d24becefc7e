//! Lanes' settings, and how lanes stand.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::LaneId;
use webhook_core::lane::Health;
use webhook_core::queue::{Hold, LaneSettings, LaneState};

use super::{Queue, micros, run, small};
use crate::error::Fault;
use crate::sql;

const fn name(hold: Hold) -> &'static str {
    match hold {
        Hold::Paused => "paused",
        Hold::Disabled => "disabled",
        Hold::Deleted => "deleted",
    }
}

fn hold(name: &str) -> Result<Hold, Fault> {
    match name {
        "paused" => Ok(Hold::Paused),
        "disabled" => Ok(Hold::Disabled),
        "deleted" => Ok(Hold::Deleted),
        other => Err(Fault::corrupt("hold", other)),
    }
}

/// Sets lanes' settings as part of the caller's transaction; older ones than the known change nothing.
/// `default` is the workers' limit for lanes that have none of their own.
pub(crate) async fn configure(
    conn: &mut PgConnection,
    settings: &[LaneSettings],
    default: u32,
) -> Result<(), Fault> {
    let mut sorted: Vec<&LaneSettings> = settings.iter().collect();
    // Of two for one lane the newer one counts, and of equal ones the last: a lane is written once.
    sorted.sort_by_key(|one| (one.lane, one.version));
    sorted.reverse();
    sorted.dedup_by_key(|one| one.lane);
    sorted.reverse();
    sqlx::query("SELECT queue_configure($1, $2, $3, $4, $5, $6)")
        .bind(sorted.iter().map(|one| one.lane.as_uuid()).collect::<Vec<Uuid>>())
        .bind(sorted.iter().map(|one| one.version.cast_signed()).collect::<Vec<_>>())
        .bind(sorted.iter().map(|one| one.hold.map(name)).collect::<Vec<_>>())
        .bind(sorted.iter().map(|one| one.max_in_flight.map(small)).collect::<Vec<_>>())
        .bind(sorted.iter().map(|one| one.rate.map(|rate| micros(rate.gap()).max(1))).collect::<Vec<_>>())
        .bind(small(default))
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn set(queue: &Queue, settings: &[LaneSettings]) -> Result<(), BackendError> {
    if settings.is_empty() {
        return Ok(());
    }
    let args = (settings.to_vec(), queue.default_limit());
    run(&queue.connections, "lanes", &args, push).await?;
    queue.ring();
    Ok(())
}

type Push = (Vec<LaneSettings>, u32);

fn push<'a>(conn: &'a mut PgConnection, push: &'a Push) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(configure(conn, &push.0, push.1))
}

const STATES: &str = "
    SELECT l.id, l.version, l.hold, l.strikes, l.slow, l.mark,
        (extract(epoch FROM nullif(l.parked_until, '-infinity') - c.now) * 1000000)::bigint AS parked_for,
        CASE WHEN l.gap IS NOT NULL THEN
            (extract(epoch FROM nullif(l.permit_at, '-infinity') - c.now) * 1000000)::bigint END AS limited_for
    FROM lanes l, (SELECT clock() AS now) c WHERE l.id = ANY ($1)";
/// Counted by the leases themselves: exact, whoever keeps count for limits.
const IN_FLIGHT: &str = "
    SELECT lane, count(*) AS count FROM jobs WHERE until > (SELECT clock()) AND lane = ANY ($1) GROUP BY lane";

pub(super) async fn states(queue: &Queue, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError> {
    let ids: Vec<Uuid> = lanes.iter().map(LaneId::as_uuid).collect();
    let known: HashMap<LaneId, LaneState> = run(&queue.connections, "lane_states", &ids[..], look).await?;
    Ok(lanes.iter().map(|lane| known.get(lane).cloned()).collect())
}

fn look<'a>(
    conn: &'a mut PgConnection,
    ids: &'a [Uuid],
) -> BoxFuture<'a, Result<HashMap<LaneId, LaneState>, Fault>> {
    Box::pin(async move {
        let rows = sqlx::query(STATES).bind(ids).fetch_all(&mut *conn).await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in &rows {
            known.insert(LaneId::from_uuid(row.try_get("id")?), state(row)?);
        }
        for row in &sqlx::query(IN_FLIGHT).bind(ids).fetch_all(conn).await? {
            if let Some(state) = known.get_mut(&LaneId::from_uuid(row.try_get("lane")?)) {
                state.in_flight = u32::try_from(row.try_get::<i64, _>("count")?).unwrap_or(u32::MAX);
            }
        }
        Ok(known)
    })
}

fn state(row: &PgRow) -> Result<LaneState, Fault> {
    let left = |column: &str| -> Result<Option<Duration>, Fault> {
        let micros: Option<i64> = row.try_get(column)?;
        Ok(micros.filter(|micros| *micros > 0).map(|micros| Duration::from_micros(micros.cast_unsigned())))
    };
    Ok(LaneState {
        version: row.try_get::<i64, _>("version")?.cast_unsigned(),
        health: Health {
            strikes: u8::try_from(row.try_get::<i16, _>("strikes")?).unwrap_or(u8::MAX),
            slow: row.try_get("slow")?,
            mark: row.try_get::<i64, _>("mark")?.cast_unsigned(),
        },
        in_flight: 0,
        parked_for: left("parked_for")?,
        rate_limited_for: left("limited_for")?,
        hold: row.try_get::<Option<&str>, _>("hold")?.map(hold).transpose()?,
    })
}

/// Which memory this is: the database's own, which changes when somebody rebuilds the queue.
pub(super) async fn epoch(queue: &Queue) -> Result<u64, BackendError> {
    run(&queue.connections, "epoch", &(), read_epoch).await
}

fn read_epoch<'a>(conn: &'a mut PgConnection, (): &'a ()) -> BoxFuture<'a, Result<u64, Fault>> {
    Box::pin(async move {
        let epoch: i64 = sqlx::query_scalar(sql::EPOCH).fetch_one(conn).await?;
        Ok(epoch.cast_unsigned())
    })
}
