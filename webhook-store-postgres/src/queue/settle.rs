//! Ending leases: settling, renewing and removing.
//!
//! A [`Settling`] binds results as the arguments of the server's `queue_settle`, so that a store can end the
//! leases by the statement that records what they led to.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row as _};
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, Token};
use webhook_core::lane::Effect;
use webhook_core::queue::{Settle, Settled, Verdict};

use super::after::After;
use super::{Queue, add, micros, run};
use crate::codec::Moment;
use crate::connection::{begin, commit};
use crate::error::Fault;

/// What becomes of a job, by the times of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It leaves the queue.
    Done,
    /// It is due again at this time, or now; before all time when a person asked for it.
    Due(Option<Moment>),
    /// It is due as before, and its token counts as settled.
    Released,
}

/// Leases on their way to their ends. Each names another job.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    ids: Vec<Uuid>,
    tokens: Vec<Uuid>,
    verdicts: Vec<i16>,
    dues: Vec<Option<Moment>>,
    effects: Vec<i16>,
    parks: Vec<i64>,
    marks: Vec<i64>,
}

impl Settling {
    /// Adds an ended lease.
    pub(crate) fn push(&mut self, id: DeliveryId, token: Token, fate: Fate, effect: Effect, mark: u64) {
        let (verdict, due) = match fate {
            Fate::Done => (0, None),
            Fate::Due(due) => (1, due),
            Fate::Released => (2, None),
        };
        let (effect, park) = match effect {
            Effect::Neutral => (0, 0),
            Effect::Fast => (1, 0),
            Effect::Slow => (2, 0),
            Effect::Unanswered => (3, 0),
            Effect::Asked(wait) => (4, micros(wait)),
        };
        self.ids.push(id.as_uuid());
        self.tokens.push(token.as_uuid());
        self.verdicts.push(verdict);
        self.dues.push(due);
        self.effects.push(effect);
        self.parks.push(park);
        self.marks.push(mark.cast_signed());
    }

    /// Binds the eight arguments of `queue_settle`, in order.
    pub(crate) fn bind<'q>(
        &self,
        query: Query<'q, Postgres, PgArguments>,
        now: Option<Moment>,
    ) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(self.ids.clone())
            .bind(self.tokens.clone())
            .bind(self.verdicts.clone())
            .bind(self.dues.clone())
            .bind(self.effects.clone())
            .bind(self.parks.clone())
            .bind(self.marks.clone())
            .bind(now)
    }

    /// Reads what `queue_settle` answered: for each lease in the order in which they were pushed, the strikes of
    /// its lane, or `None` where the lease was not the token's.
    pub(crate) fn answer(&self, row: &PgRow, after: &mut After) -> Result<Vec<Option<u8>>, Fault> {
        let strikes: Vec<Option<i16>> = row.try_get("strikes")?;
        if strikes.len() != self.ids.len() {
            return Err(Fault::Defect("queue_settle did not answer for every lease"));
        }
        let strikes =
            strikes.into_iter().map(|some| some.map(|strikes| u8::try_from(strikes).unwrap_or(u8::MAX)));
        let leases = self.ids.iter().zip(&self.tokens);
        after.ended(leases.map(|(id, token)| (DeliveryId::from_uuid(*id), Token::from_uuid(*token))));
        if row.try_get::<Option<bool>, _>("soon")?.unwrap_or(false) {
            after.ring();
        }
        Ok(strikes.collect())
    }
}

const SETTLE: &str = "SELECT * FROM queue_settle($1, $2, $3, $4, $5, $6, $7, $8)";

type Asked = (Vec<Settle>, Arc<Queue>);

pub(super) async fn settle(queue: &Arc<Queue>, jobs: &[Settle]) -> Result<Vec<Settled>, BackendError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let asked = (jobs.to_vec(), Arc::clone(queue));
    let (answers, after) = run(&queue.connections, "settle", &asked, settle_alone).await?;
    after.committed();
    Ok(answers)
}

fn settle_alone<'a>(
    conn: &'a mut PgConnection,
    asked: &'a Asked,
) -> BoxFuture<'a, Result<(Vec<Settled>, After), Fault>> {
    Box::pin(async move {
        let (jobs, queue) = asked;
        let mut after = After::new(queue);
        let distinct: HashSet<DeliveryId> = jobs.iter().map(|job| job.id).collect();
        if distinct.len() == jobs.len() {
            return Ok((end_leases(conn, jobs, &mut after).await?, after));
        }
        begin(conn).await?;
        let answers = end_leases(conn, jobs, &mut after).await?;
        commit(conn).await?;
        Ok((answers, after))
    })
}

/// Ends leases as part of the caller's transaction. Answers in input order.
pub(crate) async fn end_leases(
    conn: &mut PgConnection,
    jobs: &[Settle],
    after: &mut After,
) -> Result<Vec<Settled>, Fault> {
    let waits = |job: &Settle| matches!(job.verdict, Verdict::RetryAfter(wait) if !wait.is_zero());
    let now: Option<Moment> = if jobs.iter().any(waits) {
        Some(sqlx::query_scalar("SELECT clock()").fetch_one(&mut *conn).await?)
    } else {
        None
    };
    let mut answers = vec![Settled::Stale; jobs.len()];
    let mut left: Vec<usize> = (0..jobs.len()).collect();
    // Of two that name one job, the second meets what the first left.
    while !left.is_empty() {
        let mut seen = HashSet::with_capacity(left.len());
        let (batch, later): (Vec<usize>, Vec<usize>) =
            left.into_iter().partition(|index| seen.insert(jobs[*index].id));
        let mut settling = Settling::default();
        for job in batch.iter().map(|index| &jobs[*index]) {
            let fate = match job.verdict {
                Verdict::Done => Fate::Done,
                Verdict::RetryAfter(wait) => Fate::Due(now.map(|now| add::later(now, wait))),
                Verdict::Release => Fate::Released,
            };
            settling.push(job.id, job.token, fate, job.effect, job.mark);
        }
        let row = settling.bind(sqlx::query(SETTLE), now).fetch_one(&mut *conn).await?;
        for (index, strikes) in batch.iter().zip(settling.answer(&row, after)?) {
            answers[*index] = strikes.map_or(Settled::Stale, |strikes| Settled::Settled { strikes });
        }
        left = later;
    }
    Ok(answers)
}

pub(super) async fn extend(
    queue: &Queue,
    leases: &[(DeliveryId, Token)],
    lease: Duration,
) -> Result<Vec<bool>, BackendError> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let distinct: HashSet<DeliveryId> = leases.iter().map(|(id, _)| *id).collect();
    if distinct.len() < leases.len() {
        let mut answers = Vec::with_capacity(leases.len());
        for one in leases {
            answers.extend(Box::pin(extend(queue, std::slice::from_ref(one), lease)).await?);
        }
        return Ok(answers);
    }
    let ids: Vec<Uuid> = leases.iter().map(|(id, _)| id.as_uuid()).collect();
    let tokens: Vec<Uuid> = leases.iter().map(|(_, token)| token.as_uuid()).collect();
    let args = (ids, tokens, micros(lease));
    let held = run(&queue.connections, "extend", &args, renew).await?;
    queue.local.extend(leases.iter().zip(&held).filter(|(_, held)| **held).map(|(lease, _)| *lease), lease);
    Ok(held)
}

type Renewal = (Vec<Uuid>, Vec<Uuid>, i64);

fn renew<'a>(conn: &'a mut PgConnection, renewal: &'a Renewal) -> BoxFuture<'a, Result<Vec<bool>, Fault>> {
    Box::pin(async move {
        let (ids, tokens, lease) = renewal;
        let held = sqlx::query_scalar("SELECT queue_extend($1, $2, $3)").bind(ids).bind(tokens).bind(lease);
        Ok(held.fetch_one(conn).await?)
    })
}

pub(super) async fn remove(queue: &Arc<Queue>, ids: &[DeliveryId]) -> Result<(), BackendError> {
    if ids.is_empty() {
        return Ok(());
    }
    run(&queue.connections, "remove", ids, remove_jobs).await?;
    let mut after = After::new(queue);
    after.removed(ids);
    after.committed();
    Ok(())
}

/// Forgets jobs, leased or not, as part of the caller's transaction.
pub(crate) fn remove_jobs<'a>(
    conn: &'a mut PgConnection,
    ids: &'a [DeliveryId],
) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        let ids: Vec<Uuid> = ids.iter().map(DeliveryId::as_uuid).collect();
        sqlx::query("SELECT queue_remove($1)").bind(ids).execute(conn).await?;
        Ok(())
    })
}

/// Locks jobs and their lanes, for a transaction that ends the leases of some and removes others.
pub(crate) async fn lock(conn: &mut PgConnection, ids: &[DeliveryId]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = ids.iter().map(DeliveryId::as_uuid).collect();
    sqlx::query("SELECT queue_lock($1)").bind(ids).execute(conn).await?;
    Ok(())
}

/// Whether each lease is still its token's; it stays so to the end of the caller's transaction. Each names
/// another job.
pub(crate) async fn hold(
    conn: &mut PgConnection,
    leases: &[(DeliveryId, Token)],
) -> Result<Vec<bool>, Fault> {
    let ids: Vec<Uuid> = leases.iter().map(|(id, _)| id.as_uuid()).collect();
    let tokens: Vec<Uuid> = leases.iter().map(|(_, token)| token.as_uuid()).collect();
    let held = sqlx::query_scalar("SELECT queue_hold($1, $2)").bind(ids).bind(tokens).fetch_one(conn).await?;
    Ok(held)
}
