//! Roll-ups of statistics, and what has to be done.
//!
//! A roll-up is inserted once and never changed; merging deletes some and inserts others in one transaction. Those
//! of a scope stand together in an index by their starts, so a window reads its own rows and no others.
//!
//! What has to be done is counted in three indexes that hold unfinished deliveries alone, without looking at the
//! deliveries themselves: those that are open by subscription and status, jobs by lane and due time, and turns.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Connection as _, Sqlite};
use webhook_core::error::BackendError;
use webhook_core::id::SubscriptionId;
use webhook_core::stats::{
    self, Ages, Counts, Histogram, LaneLoad, Rollup, Scope, Span, Totals, Unfinished, Worst,
};
use webhook_core::store::StatisticsStore;

use crate::codec::{self, wait_until};
use crate::error::Fault;
use crate::lanes::URGENT;
use crate::open::SqliteStore;
use crate::sql::Bulk;
use crate::writer::Tx;

static ADD: Bulk = Bulk::new(
    "INSERT INTO webhooks_rollups (id, tenant, subscription, span, start, merged_start, events, succeeded, exhausted, cancelled,
         attempts_succeeded, attempts_failed, attempts_unknown, latency)
     SELECT * FROM (VALUES ",
    14,
    ") WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING",
);
static DELETE: Bulk = Bulk::new("DELETE FROM webhooks_rollups WHERE id IN (", 1, ")");

#[async_trait]
impl StatisticsStore for SqliteStore {
    async fn add_rollups(&self, rollups: &[Rollup]) -> Result<(), BackendError> {
        if rollups.is_empty() {
            return Ok(());
        }
        let rollups = rollups.to_vec();
        self.writer.run("add_rollups", move |tx| add(tx, rollups).boxed()).await
    }

    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Result<Totals, BackendError> {
        totals(self, scope, window, worst).await.map_err(|fault| fault.during("totals"))
    }

    async fn compact_rollups(&self, limit: u32) -> Result<u64, BackendError> {
        self.writer.run("compact_rollups", move |tx| compact(tx, limit).boxed()).await
    }

    async fn unfinished(&self, scope: &Scope, most: u32) -> Result<Unfinished, BackendError> {
        unfinished(self, scope, most).await.map_err(|fault| fault.during("unfinished"))
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Roll-ups

async fn add(tx: &mut Tx<'_>, rollups: Vec<Rollup>) -> Result<(), Fault> {
    let start = stats::minute(tx.now);
    let rows: Vec<(Span, i64, Rollup)> =
        rollups.into_iter().map(|rollup| (Span::Part, start, rollup)).collect();
    tx.begin().await?;
    insert(tx, &rows).await
}

async fn insert(tx: &mut Tx<'_>, rows: &[(Span, i64, Rollup)]) -> Result<(), Fault> {
    ADD.run(tx.conn, rows, |row, (span, start, Rollup { id, scope, counts })| {
        row.add(&id.as_bytes()[..])
            .add(tenant(scope))
            .add(scope.subscription().map(|id| id.as_bytes().to_vec()))
            .add(i64::from(span.code()))
            .add(*start)
            .add(span.merged_start(*start))
            .add(counts.events)
            .add(counts.succeeded)
            .add(counts.exhausted)
            .add(counts.cancelled)
            .add(counts.attempts_succeeded)
            .add(counts.attempts_failed)
            .add(counts.attempts_unknown)
            .add(counts.latency.to_bytes());
    })
    .await?;
    Ok(())
}

/// As it is stored; everybody's roll-ups have none.
fn tenant(scope: &Scope) -> &str {
    scope.tenant().map_or("", |tenant| tenant.as_str())
}

fn scope(row: &SqliteRow) -> Result<Scope, Fault> {
    let subscription = codec::optional_subscription(row, "subscription")?;
    Ok(match (codec::text(row, "tenant")?, subscription) {
        ("", _) => Scope::All,
        (_, None) => Scope::Tenant(codec::tenant(row, "tenant")?),
        (_, Some(id)) => Scope::Subscription(codec::tenant(row, "tenant")?, id),
    })
}

fn counts(row: &SqliteRow) -> Result<Counts, Fault> {
    Ok(Counts {
        events: codec::int(row, "events")?,
        succeeded: codec::int(row, "succeeded")?,
        exhausted: codec::int(row, "exhausted")?,
        cancelled: codec::int(row, "cancelled")?,
        attempts_succeeded: codec::int(row, "attempts_succeeded")?,
        attempts_failed: codec::int(row, "attempts_failed")?,
        attempts_unknown: codec::int(row, "attempts_unknown")?,
        latency: Histogram::from_bytes(codec::blob(row, "latency")?)
            .map_err(|error| Fault::corrupt("latency", error))?,
    })
}

const COUNTS: &str = "events, succeeded, exhausted, cancelled, attempts_succeeded, attempts_failed,
    attempts_unknown, latency";

/// The condition of a window, from an hour and a minute on.
const WINDOW: &str = "r.start >= ?1 AND (r.span = 2 OR r.start >= ?2)";

/// What a failing subscription did besides.
const SUCCEEDED: &str = "SELECT coalesce(sum(r.attempts_succeeded), 0)
    FROM webhooks_rollups r INDEXED BY webhooks_rollups_subscription WHERE r.subscription = w.subscription";

async fn totals(store: &SqliteStore, scope: &Scope, window: Duration, worst: u32) -> Result<Totals, Fault> {
    let (minutes, hours) = stats::window_start(store.now(), window);
    let rows_of = match scope {
        Scope::All | Scope::Tenant(_) => {
            "webhooks_rollups_tenant WHERE r.tenant = ?3 AND r.subscription IS NULL"
        }
        Scope::Subscription(..) => "webhooks_rollups_subscription WHERE r.subscription = ?3",
    };
    let mut conn = store.reader().await?;
    // All of it as of one moment: merging moves counts from row to row.
    let mut conn = conn.begin().await?;
    let mut totals = Totals::default();
    let text = format!("SELECT {COUNTS} FROM webhooks_rollups r INDEXED BY {rows_of} AND {WINDOW}");
    let query = sqlx::query(&text).bind(hours).bind(minutes);
    for row in of(query, scope).fetch_all(&mut *conn).await? {
        totals.counts.merge(&counts(&row)?);
    }
    let failing = match scope {
        Scope::All => "webhooks_rollups_failed_of_all WHERE ?3 = ''",
        Scope::Tenant(_) => "webhooks_rollups_failed WHERE r.tenant = ?3",
        Scope::Subscription(_, id) => {
            totals.worst.extend(Worst::of(*id, &totals.counts).filter(|_| worst > 0));
            return Ok(totals);
        }
    };
    let text = format!(
        "SELECT w.subscription, w.failed, ({SUCCEEDED} AND {WINDOW}) AS succeeded FROM (
             SELECT r.subscription, sum(r.attempts_failed) AS failed
             FROM webhooks_rollups r INDEXED BY {failing}
             AND r.subscription IS NOT NULL AND r.attempts_failed > 0 AND {WINDOW}
             GROUP BY r.subscription ORDER BY failed DESC, r.subscription LIMIT ?4) w"
    );
    let query = of(sqlx::query(&text).bind(hours).bind(minutes), scope).bind(i64::from(worst));
    for row in query.fetch_all(&mut *conn).await? {
        totals.worst.push(Worst {
            subscription_id: codec::subscription_id(&row, "subscription")?,
            succeeded: codec::int(&row, "succeeded")?,
            failed: codec::int(&row, "failed")?,
        });
    }
    Worst::sort(&mut totals.worst);
    Ok(totals)
}

type Statement<'q> = Query<'q, Sqlite, SqliteArguments<'q>>;

/// Binds whose it is: a subscription, or a tenant.
fn of<'q>(query: Statement<'q>, scope: &'q Scope) -> Statement<'q> {
    match scope {
        Scope::All | Scope::Tenant(_) => query.bind(tenant(scope)),
        Scope::Subscription(_, id) => query.bind(&id.as_bytes()[..]),
    }
}

async fn compact(tx: &mut Tx<'_>, limit: u32) -> Result<u64, Fault> {
    tx.begin().await?;
    let ages = Ages::at(tx.now);
    let parts = merge(tx, Span::Part, Span::Minute, ages.parts_before, limit).await?;
    let minutes = merge(tx, Span::Minute, Span::Hour, ages.minutes_before, limit).await?;
    let old = sqlx::query(
        "DELETE FROM webhooks_rollups WHERE id IN (
             SELECT id FROM webhooks_rollups INDEXED BY webhooks_rollups_merge
             WHERE span = ? AND merged_start < ? LIMIT ?)",
    )
    .bind(i64::from(Span::Hour.code()))
    .bind(ages.forget_before)
    .bind(limit)
    .execute(&mut *tx.conn)
    .await?;
    Ok(parts + minutes + old.rows_affected())
}

/// Merges the oldest of one span, scope by scope.
async fn merge(tx: &mut Tx<'_>, from: Span, to: Span, before: i64, limit: u32) -> Result<u64, Fault> {
    let text = format!(
        "SELECT id, tenant, subscription, start, {COUNTS}
         FROM webhooks_rollups INDEXED BY webhooks_rollups_merge
         WHERE span = ?1 AND merged_start = (
             SELECT min(merged_start) FROM webhooks_rollups INDEXED BY webhooks_rollups_merge
             WHERE span = ?1 AND merged_start < ?2)
         ORDER BY tenant, subscription LIMIT ?3"
    );
    let query = sqlx::query(&text).bind(i64::from(from.code())).bind(before).bind(limit);
    let rows = query.fetch_all(&mut *tx.conn).await?;
    let mut ids = Vec::with_capacity(rows.len());
    let mut parts = Vec::with_capacity(rows.len());
    for row in &rows {
        ids.push(codec::blob(row, "id")?.to_vec());
        let start = from.merged_start(codec::int(row, "start")?);
        parts.push((start, scope(row)?, counts(row)?));
    }
    let merged: Vec<_> = stats::merge(parts).into_iter().map(|(start, rollup)| (to, start, rollup)).collect();
    DELETE
        .run(tx.conn, &ids, |row, id| {
            row.add(&id[..]);
        })
        .await?;
    insert(tx, &merged).await?;
    Ok(rows.len() as u64)
}

// ---------------------------------------------------------------------------------------------------------------
// What has to be done

/// Paused or disabled ones too; what of deleted ones is unfinished is about to be cancelled.
fn subscriptions(scope: &Scope) -> &'static str {
    match scope {
        Scope::All => "s.deleted_at IS NULL AND ?1 IS NOT NULL",
        Scope::Tenant(_) => "s.tenant = ?1 AND s.deleted_at IS NULL",
        Scope::Subscription(..) => "s.id = ?1 AND s.deleted_at IS NULL",
    }
}

async fn unfinished(store: &SqliteStore, scope: &Scope, most: u32) -> Result<Unfinished, Fault> {
    let (now, whose) = (store.now(), subscriptions(scope));
    // One more tells that there is more.
    let limit = i64::from(most) + 1;
    let mut conn = store.reader().await?;
    // All of it as of one moment: what ends meanwhile is in none of the three, or in all.
    let mut conn = conn.begin().await?;
    let mut lanes: BTreeMap<SubscriptionId, LaneLoad> = BTreeMap::new();
    let text = format!(
        "SELECT subscription, held, sum(pending) AS pending, sum(1 - pending) AS retrying FROM (
             SELECT d.subscription, s.status <> 'active' AS held, d.status = 'pending' AS pending
             FROM webhooks_subscriptions s CROSS JOIN webhooks_deliveries d INDEXED BY webhooks_deliveries_open
             ON d.subscription = s.id AND d.finished_at IS NULL WHERE {whose} LIMIT ?2)
         GROUP BY subscription, held"
    );
    let mut found = 0;
    for row in of(sqlx::query(&text), scope).bind(limit).fetch_all(&mut *conn).await? {
        let lane = LaneLoad {
            subscription_id: codec::subscription_id(&row, "subscription")?,
            held: codec::int(&row, "held")? != 0,
            pending: codec::unsigned(&row, "pending")?,
            retrying: codec::unsigned(&row, "retrying")?,
            due: 0,
            scheduled: 0,
            behind: 0,
            oldest_due: None,
        };
        found += lane.pending + lane.retrying;
        lanes.insert(lane.subscription_id, lane);
    }
    let text = format!(
        "SELECT lane, sum(is_due) AS due, sum(1 - is_due) AS scheduled, min(first) AS oldest FROM (
             SELECT j.lane, j.due <= ?3 AS is_due, iif(j.due > ?4 AND j.due <= ?3, j.due, NULL) AS first
             FROM webhooks_subscriptions s CROSS JOIN webhooks_jobs j INDEXED BY webhooks_jobs_due
             ON j.lane = s.id AND j.leased = 0 WHERE {whose} LIMIT ?2)
         GROUP BY lane"
    );
    let query = of(sqlx::query(&text), scope).bind(limit).bind(now).bind(URGENT);
    for row in query.fetch_all(&mut *conn).await? {
        if let Some(lane) = lanes.get_mut(&codec::lane_id(&row, "lane")?) {
            lane.due = codec::unsigned(&row, "due")?;
            lane.scheduled = codec::unsigned(&row, "scheduled")?;
            lane.oldest_due = codec::optional(&row, "oldest")?.map(|due| wait_until(now, due));
        }
    }
    let text = format!(
        "SELECT subscription, count(*) AS behind FROM (
             SELECT t.subscription FROM webhooks_subscriptions s CROSS JOIN webhooks_turns t
             ON t.subscription = s.id AND t.head = 0 WHERE {whose} LIMIT ?2)
         GROUP BY subscription"
    );
    for row in of(sqlx::query(&text), scope).bind(limit).fetch_all(&mut *conn).await? {
        if let Some(lane) = lanes.get_mut(&codec::subscription_id(&row, "subscription")?) {
            lane.behind = codec::unsigned(&row, "behind")?;
        }
    }
    Ok(Unfinished { lanes: lanes.into_values().collect(), more: found > u64::from(most) })
}
