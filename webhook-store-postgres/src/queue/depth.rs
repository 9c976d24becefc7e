//! How much work there is, for people and metrics.
//!
//! Counting is work of its own: it goes from lane to lane through the jobs that wait, so it costs as much as
//! there are lanes with such jobs, a second for a hundred thousand. It owes the engine that nobody waits for it:
//!
//! - it runs on a connection that reads for people, never on one that ends or renews leases;
//! - one count runs at a time, however many ask, and each is answered by one that ended after it asked or by one
//!   that is kept;
//! - what took long to count is kept for five times as long. A count that found nothing due is never kept: a
//!   worker that waits until all is done takes it at its word.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{PgConnection, Row as _};
use tokio::sync::Mutex;
use tokio::time::Instant;
use webhook_core::error::BackendError;
use webhook_core::queue::Depth;

use super::{Queue, run};
use crate::error::Fault;

/// Jobs are counted up to here, and lanes in which they wait.
const MOST: i64 = 100_000;
/// What took less is counted anew for everybody who asks.
const CHEAP: Duration = Duration::from_millis(100);
/// For how many times as long as it took a count is kept.
const KEPT: u32 = 5;
/// And how long at most.
const LONGEST: Duration = Duration::from_secs(30);

/// The last count, while it is kept.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Depth, Instant)>>);

pub(super) async fn depth(queue: &Queue) -> Result<Depth, BackendError> {
    let mut kept = queue.depth.0.lock().await;
    if let Some((depth, until)) = *kept
        && Instant::now() < until
    {
        return Ok(depth);
    }
    *kept = None;
    let (depth, took) = run(&queue.people, "depth", &(), count).await?;
    *kept = keep(&depth, took).map(|time| (depth, Instant::now() + time));
    Ok(depth)
}

/// For how long a count is kept that took so long.
fn keep(depth: &Depth, took: Duration) -> Option<Duration> {
    (depth.due > 0 && took >= CHEAP).then(|| took.saturating_mul(KEPT).min(LONGEST))
}

/// Looks for one lane after the other in the index of waiting jobs: lanes in which nothing waits cost nothing.
const COUNT: &str = "
    WITH RECURSIVE found AS (
        (SELECT lane FROM jobs WHERE until IS NULL ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT j.lane FROM jobs j WHERE j.until IS NULL AND j.lane > f.lane ORDER BY j.lane LIMIT 1)
        FROM found f WHERE f.lane IS NOT NULL),
    c AS MATERIALIZED (SELECT clock() AS now),
    waiting AS MATERIALIZED (
        SELECT f.lane, coalesce(l.hold, CASE WHEN l.parked_until > c.now THEN 'parked'
                                             WHEN l.gap IS NOT NULL AND l.permit_at > c.now THEN 'rate' END) AS why
        FROM (SELECT lane FROM found WHERE lane IS NOT NULL LIMIT $1) f
        JOIN lanes l ON l.id = f.lane CROSS JOIN c)
    SELECT
        count(*) FILTER (WHERE why = 'paused') AS paused,
        count(*) FILTER (WHERE why = 'disabled') AS disabled,
        count(*) FILTER (WHERE why = 'parked') AS parked,
        count(*) FILTER (WHERE why = 'rate') AS limited,
        (SELECT count(*) FROM (
            SELECT FROM waiting w CROSS JOIN c CROSS JOIN LATERAL (
                SELECT FROM jobs j WHERE j.lane = w.lane AND j.until IS NULL AND j.due <= c.now LIMIT $1) j
            WHERE w.why IS NULL LIMIT $1) due) AS due,
        (SELECT count(*) FROM (
            SELECT FROM waiting w CROSS JOIN c CROSS JOIN LATERAL (
                SELECT FROM jobs j WHERE j.lane = w.lane AND j.until IS NULL AND j.due > c.now LIMIT $1) j
            LIMIT $1) scheduled) AS scheduled,
        (SELECT (extract(epoch FROM (SELECT now FROM c) - min(j.due)) * 1000000)::bigint
         FROM waiting w CROSS JOIN c CROSS JOIN LATERAL (
            SELECT min(due) AS due FROM jobs j
            WHERE j.lane = w.lane AND j.until IS NULL AND j.due > '-infinity' AND j.due <= c.now) j
         WHERE w.why IS NULL) AS oldest
    FROM waiting";

fn count<'a>(conn: &'a mut PgConnection, (): &'a ()) -> BoxFuture<'a, Result<(Depth, Duration), Fault>> {
    Box::pin(async move {
        let started = Instant::now();
        let row = sqlx::query(COUNT).bind(MOST).fetch_one(conn).await?;
        let number = |column: &str| -> Result<u64, Fault> {
            Ok(row.try_get::<i64, _>(column)?.max(0).cast_unsigned())
        };
        let oldest: Option<i64> = row.try_get("oldest")?;
        let depth = Depth {
            due: number("due")?,
            scheduled: number("scheduled")?,
            oldest_due: oldest.map(|age| Duration::from_micros(age.max(0).cast_unsigned())),
            paused: number("paused")?,
            disabled: number("disabled")?,
            parked: number("parked")?,
            rate_limited: number("limited")?,
        };
        Ok((depth, started.elapsed()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_costly_count_is_kept_and_one_that_found_nothing_is_not() {
        let some = Depth { due: 1, ..Depth::default() };
        assert_eq!(keep(&some, CHEAP / 2), None, "a cheap one is had anew");
        assert_eq!(keep(&some, Duration::from_secs(1)), Some(Duration::from_secs(5)));
        assert_eq!(keep(&some, Duration::MAX), Some(LONGEST));
        assert_eq!(keep(&Depth::default(), Duration::from_secs(1)), None);
    }
}
