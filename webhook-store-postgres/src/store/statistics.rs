//! Roll-ups of statistics, and what has to be done.
//!
//! Reading is for people: it runs on connections of theirs, never on one that the engine waits for. Merging takes
//! rows that no other process is merging, and gives them back merged in the same transaction.

use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::stats::{
    self, Ages, Counts, Histogram, LaneLoad, Rollup, Scope, Span, Totals, Unfinished, Worst,
};
use webhook_core::store::StatisticsStore;

use crate::codec::{self, Moment};
use crate::connection::{begin, commit};
use crate::error::Fault;
use crate::open::PgStore;
use crate::sql::statistics as sql;

#[async_trait]
impl StatisticsStore for PgStore {
    async fn add_rollups(&self, rollups: &[Rollup]) -> Result<(), BackendError> {
        if rollups.is_empty() {
            return Ok(());
        }
        let rows: Vec<(Option<i64>, Rollup)> = rollups.iter().map(|rollup| (None, rollup.clone())).collect();
        let run =
            self.inner.keeper.run("add_rollups", &rows, |conn, rows| insert(conn, Span::Part, rows).boxed());
        run.await
    }

    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Result<Totals, BackendError> {
        let args = (scope, window, worst);
        let run = self.inner.people.run("totals", &args, |conn, (scope, window, worst)| {
            totals(conn, scope, *window, *worst).boxed()
        });
        run.await
    }

    async fn compact_rollups(&self, limit: u32) -> Result<u64, BackendError> {
        self.inner
            .keeper
            .run("compact_rollups", &limit, |conn, limit| compact(conn, i64::from(*limit)).boxed())
            .await
    }

    async fn unfinished(&self, scope: &Scope, most: u32) -> Result<Unfinished, BackendError> {
        let args = (scope, most);
        self.inner
            .people
            .run("unfinished", &args, |conn, (scope, most)| unfinished(conn, scope, *most).boxed())
            .await
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Roll-ups

/// Inserts roll-ups with their starts; without one, at the minute that it is.
async fn insert(conn: &mut PgConnection, span: Span, rows: &[(Option<i64>, Rollup)]) -> Result<(), Fault> {
    let column = |count: fn(&Counts) -> i64| -> Vec<i64> {
        rows.iter().map(|(_, rollup)| count(&rollup.counts)).collect()
    };
    let ids: Vec<Uuid> = rows.iter().map(|(_, rollup)| rollup.id.as_uuid()).collect();
    let tenants: Vec<&str> = rows.iter().map(|(_, rollup)| tenant(&rollup.scope)).collect();
    let subscriptions: Vec<Option<Uuid>> =
        rows.iter().map(|(_, rollup)| rollup.scope.subscription().map(|id| id.as_uuid())).collect();
    let starts: Vec<Option<Moment>> = rows.iter().map(|(start, _)| start.map(Moment)).collect();
    let latencies: Vec<Vec<u8>> = rows.iter().map(|(_, rollup)| rollup.counts.latency.to_bytes()).collect();
    sqlx::query(sql::ADD_ROLLUPS)
        .bind(ids)
        .bind(tenants)
        .bind(subscriptions)
        .bind(span.code())
        .bind(starts)
        .bind(column(|counts| counts.events))
        .bind(column(|counts| counts.succeeded))
        .bind(column(|counts| counts.exhausted))
        .bind(column(|counts| counts.cancelled))
        .bind(column(|counts| counts.attempts_succeeded))
        .bind(column(|counts| counts.attempts_failed))
        .bind(column(|counts| counts.attempts_unknown))
        .bind(latencies)
        .execute(conn)
        .await?;
    Ok(())
}

/// As it is stored; everybody's roll-ups have none.
fn tenant(scope: &Scope) -> &str {
    scope.tenant().map_or("", |tenant| tenant.as_str())
}

fn scope(row: &PgRow) -> Result<Scope, Fault> {
    if codec::text(row, "tenant")?.is_empty() {
        return Ok(Scope::All);
    }
    let tenant = codec::tenant(row, "tenant")?;
    Ok(match codec::optional::<Uuid>(row, "subscription")? {
        Some(id) => Scope::Subscription(tenant, webhook_core::id::SubscriptionId::from_uuid(id)),
        None => Scope::Tenant(tenant),
    })
}

fn counts(row: &PgRow) -> Result<Counts, Fault> {
    Ok(Counts {
        events: codec::get(row, "events")?,
        succeeded: codec::get(row, "succeeded")?,
        exhausted: codec::get(row, "exhausted")?,
        cancelled: codec::get(row, "cancelled")?,
        attempts_succeeded: codec::get(row, "attempts_succeeded")?,
        attempts_failed: codec::get(row, "attempts_failed")?,
        attempts_unknown: codec::get(row, "attempts_unknown")?,
        latency: Histogram::from_bytes(codec::blob(row, "latency")?)
            .map_err(|error| Fault::corrupt("latency", error))?,
    })
}

async fn now(conn: &mut PgConnection) -> Result<i64, Fault> {
    let row = sqlx::query(sql::NOW).fetch_one(conn).await?;
    Ok(codec::moment(&row, "now")?.as_micros())
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Binds whose it is: a subscription, or a tenant.
fn of<'q>(query: Statement<'q>, scope: &'q Scope) -> Statement<'q> {
    match scope {
        Scope::All | Scope::Tenant(_) => query.bind(tenant(scope)),
        Scope::Subscription(_, id) => query.bind(id.as_uuid()),
    }
}

async fn totals(
    conn: &mut PgConnection,
    scope: &Scope,
    window: Duration,
    worst: u32,
) -> Result<Totals, Fault> {
    let (minutes, hours) = stats::window_start(now(conn).await?, window);
    let sums = match scope {
        Scope::All | Scope::Tenant(_) => sql::TOTALS_OF_TENANT,
        Scope::Subscription(..) => sql::TOTALS_OF_SUBSCRIPTION,
    };
    let within = |sql: &'static str| of(sqlx::query(sql).bind(Moment(hours)).bind(Moment(minutes)), scope);
    let mut totals = Totals::default();
    for row in within(sums).fetch_all(&mut *conn).await? {
        totals.counts.merge(&counts(&row)?);
    }
    let failing = match scope {
        Scope::All => sql::WORST_OF_ALL,
        Scope::Tenant(_) => sql::WORST_OF_TENANT,
        Scope::Subscription(_, id) => {
            totals.worst.extend(Worst::of(*id, &totals.counts).filter(|_| worst > 0));
            return Ok(totals);
        }
    };
    for row in within(failing).bind(i64::from(worst)).fetch_all(&mut *conn).await? {
        totals.worst.push(Worst {
            subscription_id: codec::subscription_id(&row, "subscription")?,
            succeeded: codec::get(&row, "succeeded")?,
            failed: codec::get(&row, "failed")?,
        });
    }
    Worst::sort(&mut totals.worst);
    Ok(totals)
}

async fn compact(conn: &mut PgConnection, limit: i64) -> Result<u64, Fault> {
    begin(conn).await?;
    let ages = Ages::at(now(conn).await?);
    let parts = merge(conn, Span::Part, Span::Minute, ages.parts_before, limit).await?;
    let minutes = merge(conn, Span::Minute, Span::Hour, ages.minutes_before, limit).await?;
    let query = sqlx::query(sql::FORGET_ROLLUPS).bind(Moment(ages.forget_before)).bind(limit);
    let old = query.execute(&mut *conn).await?.rows_affected();
    commit(conn).await?;
    Ok(parts + minutes + old)
}

/// Merges the oldest of one span, scope by scope.
async fn merge(conn: &mut PgConnection, from: Span, to: Span, before: i64, limit: i64) -> Result<u64, Fault> {
    let query = sqlx::query(sql::TAKE_ROLLUPS).bind(from.code()).bind(Moment(before)).bind(limit);
    let rows = query.fetch_all(&mut *conn).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut parts = Vec::with_capacity(rows.len());
    for row in &rows {
        let start = from.merged_start(codec::moment(row, "start")?.as_micros());
        parts.push((start, scope(row)?, counts(row)?));
    }
    let merged: Vec<_> =
        stats::merge(parts).into_iter().map(|(start, rollup)| (Some(start), rollup)).collect();
    insert(conn, to, &merged).await?;
    Ok(rows.len() as u64)
}

// ---------------------------------------------------------------------------------------------------------------
// What has to be done

async fn unfinished(conn: &mut PgConnection, scope: &Scope, most: u32) -> Result<Unfinished, Fault> {
    begin(conn).await?;
    sqlx::query(sql::LOOK_UP_ONE_BY_ONE).execute(&mut *conn).await?;
    let text = match scope {
        Scope::All => sql::UNFINISHED_OF_ALL,
        Scope::Tenant(_) => sql::UNFINISHED_OF_TENANT,
        Scope::Subscription(..) => sql::UNFINISHED_OF_SUBSCRIPTION,
    };
    // One more tells that there is more.
    let query = of(sqlx::query(text).bind(i64::from(most) + 1), scope);
    let rows = query.fetch_all(&mut *conn).await?;
    commit(conn).await?;
    let mut found = Unfinished::default();
    for row in &rows {
        let age = codec::optional::<i64>(row, "age")?;
        found.more = codec::unsigned(row, "found")? > u64::from(most);
        found.lanes.push(LaneLoad {
            subscription_id: codec::subscription_id(row, "subscription")?,
            held: codec::flag(row, "held")?,
            pending: codec::unsigned(row, "pending")?,
            retrying: codec::unsigned(row, "retrying")?,
            due: codec::unsigned(row, "due")?,
            scheduled: codec::unsigned(row, "scheduled")?,
            behind: codec::unsigned(row, "behind")?,
            oldest_due: age.map(|age| Duration::from_micros(age.max(0).unsigned_abs())),
        });
    }
    found.lanes.sort_unstable_by_key(|lane| lane.subscription_id);
    Ok(found)
}
