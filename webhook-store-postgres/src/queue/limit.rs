//! Telling lanes the workers' limit.
//!
//! A lane without a limit of its own goes by the workers', which every claim names and each lane's row repeats
//! (`lanes.most`), so that a full lane is not found. When a process claims for the first time, or its limit has
//! changed, it tells all lanes: a thousand in a transaction, passing over those that others have, and no longer
//! before one claim than [`BUDGET`]. What is left is told before the next ones.
//!
//! A claim may run before all are told. It gives no lane more than the limit that it names itself; only, a lane
//! that was told a smaller one may be found late, and one that was told a larger one may be found in vain.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{PgConnection, Row as _};
use tokio::time::Instant;
use uuid::Uuid;
use webhook_core::error::BackendError;

use super::{Queue, run, small};
use crate::error::Fault;

/// How long a claim waits for it, beside the page that is under way.
const BUDGET: Duration = Duration::from_millis(50);
/// When it is tried again to tell those that others had.
const AGAIN: Duration = Duration::from_secs(1);

/// Which limit the lanes are told, and how far that has come.
#[derive(Debug, Default)]
pub(super) struct Telling {
    limit: Option<u32>,
    /// Lanes up to this one have been told; `None` at the end.
    upto: Option<Uuid>,
    /// Some were passed over.
    skipped: bool,
    ended: Option<Instant>,
}

impl Telling {
    /// Tells lanes this limit, as far as there is time.
    pub(super) async fn tell(&mut self, queue: &Queue, limit: u32) -> Result<(), BackendError> {
        if self.limit != Some(limit) {
            queue.default_limit.store(limit, Ordering::Release);
            *self = Self { limit: Some(limit), upto: Some(Uuid::nil()), ..Self::default() };
        }
        if self.upto.is_none() && self.skipped && self.ended.is_some_and(|ended| ended.elapsed() > AGAIN) {
            *self = Self { limit: Some(limit), upto: Some(Uuid::nil()), ..Self::default() };
        }
        let started = Instant::now();
        while let Some(after) = self.upto {
            if started.elapsed() > BUDGET {
                // The next claim goes on with it, and is not to wait for something new.
                queue.ring();
                return Ok(());
            }
            let (upto, skipped) = run(&queue.claimers, "claim", &(limit, after), page).await?;
            self.upto = upto;
            self.skipped |= skipped;
            self.ended = Some(Instant::now());
        }
        Ok(())
    }
}

type Page = (u32, Uuid);

fn page<'a>(
    conn: &'a mut PgConnection,
    page: &'a Page,
) -> BoxFuture<'a, Result<(Option<Uuid>, bool), Fault>> {
    Box::pin(async move {
        let query = sqlx::query("SELECT upto, skipped FROM queue_default($1, $2)");
        let row = query.bind(small(page.0)).bind(page.1).fetch_one(conn).await?;
        Ok((row.try_get("upto")?, row.try_get("skipped")?))
    })
}
