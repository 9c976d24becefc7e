//! When a claim is worth while.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::{PgConnection, Row as _};
use tokio::time::Instant;

use super::claim::Marks;
use super::{Queue, run};
use crate::error::Fault;

/// How often it is looked for what other processes did.
const LOOK: Duration = Duration::from_millis(200);
/// Lanes that were passed over may be another worker's, or this one's when slots become free; nobody is to spin
/// on them.
const PASSED_OVER: Duration = Duration::from_millis(20);

struct Outlook {
    /// Something has come since the last claim.
    news: bool,
    /// Lanes are ready that the last claim passed over.
    ready: bool,
    /// How long until a lane becomes ready or a lease ends by time.
    wait: Option<Duration>,
}

/// Returns when a claim may give something.
pub(super) async fn servable(queue: &Queue) {
    // A ring that came since the last claim is kept, so none is lost between the two.
    if queue.bell.notified().now_or_never().is_some() {
        return;
    }
    loop {
        let marks = queue.claims.marks();
        let looking = run(&queue.watchers, "wait", &marks, look);
        let outlook = tokio::select! {
            biased;
            () = queue.bell.notified() => return,
            outlook = looking => outlook,
        };
        // A database that does not answer is the claim's to report.
        let outlook = outlook.unwrap_or(Outlook { news: false, ready: false, wait: None });
        if outlook.news {
            return;
        }
        let mut until = LOOK;
        if outlook.ready {
            until = PASSED_OVER;
        }
        if let Some(wait) = outlook.wait {
            until = until.min(wait);
        }
        let ends = outlook.ready || outlook.wait.is_some_and(|wait| wait <= until);
        let over = Instant::now() + until;
        if tokio::time::timeout_at(over, queue.bell.notified()).await.is_ok() || ends {
            return;
        }
    }
}

fn look<'a>(conn: &'a mut PgConnection, marks: &'a Marks) -> BoxFuture<'a, Result<Outlook, Fault>> {
    Box::pin(async move {
        let row = sqlx::query("SELECT * FROM queue_look($1, $2, $3, $4)")
            .bind(marks.wakes)
            .bind(marks.leases)
            .bind(marks.ready)
            .bind(&marks.busy)
            .fetch_one(conn)
            .await?;
        let wait: Option<i64> = row.try_get("wait")?;
        Ok(Outlook {
            news: row.try_get::<Option<bool>, _>("news")?.unwrap_or(false),
            ready: row.try_get::<Option<bool>, _>("ready")?.unwrap_or(false),
            wait: wait.map(|micros| Duration::from_micros(micros.max(0).cast_unsigned())),
        })
    })
}
