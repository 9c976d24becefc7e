//! The rows of `webhooks_jobs`.

use sqlx::Row as _;
use webhook_core::id::{DeliveryId, LaneId, Token};

use crate::codec;
use crate::error::Fault;
use crate::sql::{Bulk, Row};
use crate::writer::Tx;

pub(crate) static ADD: Bulk = Bulk::new(
    "INSERT INTO webhooks_jobs (id, lane, due, token, ordered, leased)
     SELECT *, column4 IS NOT NULL FROM (VALUES ",
    5,
    ") WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING",
);
static ENSURE: Bulk = Bulk::new(
    "INSERT INTO webhooks_jobs (id, lane, due, token, ordered, leased) SELECT *, 0 FROM (VALUES ",
    5,
    ") WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING",
);
pub(crate) static REMOVE: Bulk = Bulk::new("DELETE FROM webhooks_jobs WHERE id IN (", 1, ")");
static REARM: Bulk = Bulk::new(
    "UPDATE webhooks_jobs AS j SET due = v.column2, leased = 0, token = NULL, unsettled = NULL FROM (VALUES ",
    2,
    ") v WHERE j.id = v.column1",
);
static RELEASE: Bulk = Bulk::new("UPDATE webhooks_jobs SET leased = 0, token = NULL WHERE id IN (", 1, ")");
static LAPSE: Bulk = Bulk::new("UPDATE webhooks_jobs SET leased = 0 WHERE id IN (", 1, ")");
static HURRY: Bulk = Bulk::new(
    "UPDATE webhooks_jobs AS j SET due = v.column2 FROM (VALUES ",
    2,
    ") v WHERE j.id = v.column1 AND j.leased = 0",
);
static REVIVE: Bulk = Bulk::new("UPDATE webhooks_jobs SET leased = 1 WHERE id IN (", 1, ")");
static KNOWN: Bulk = Bulk::new(
    "SELECT j.id, j.lane, j.due, j.leased FROM (VALUES ",
    1,
    ") v CROSS JOIN webhooks_jobs j ON j.id = v.column1",
);

/// A job to be added: leased when there is a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) id: DeliveryId,
    pub(crate) lane: LaneId,
    pub(crate) due: i64,
    pub(crate) ordered: bool,
    pub(crate) token: Option<Token>,
}

/// A job that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) id: DeliveryId,
    pub(crate) lane: LaneId,
    pub(crate) due: i64,
    pub(crate) leased: bool,
}

/// A job and when it is due from now on.
pub(crate) type Due = (DeliveryId, i64);

/// Adds jobs that are not there.
pub(crate) async fn add(tx: &mut Tx<'_>, jobs: &[Job]) -> Result<(), Fault> {
    all_new(put(&ADD, tx, jobs).await?, jobs)
}

/// Whoever adds jobs has looked that they are not there.
pub(crate) fn all_new(added: u64, jobs: &[Job]) -> Result<(), Fault> {
    if added < jobs.len() as u64 {
        return Err(Fault::Defect("a new job has the id of another one"));
    }
    Ok(())
}

/// Adds pending jobs, but for those that are there.
pub(crate) async fn ensure(tx: &mut Tx<'_>, jobs: &[Job]) -> Result<(), Fault> {
    put(&ENSURE, tx, jobs).await?;
    Ok(())
}

pub(crate) fn bind<'q>(row: &mut Row<'q>, job: &'q Job) {
    row.add(&job.id.as_bytes()[..])
        .add(&job.lane.as_bytes()[..])
        .add(job.due)
        .add(job.token.as_ref().map(|token| &token.as_bytes()[..]))
        .add(job.ordered);
}

async fn put(statement: &'static Bulk, tx: &mut Tx<'_>, jobs: &[Job]) -> Result<u64, Fault> {
    Ok(statement.run(tx.conn, jobs, bind).await?)
}

/// Removes jobs, whoever holds them.
pub(crate) async fn remove(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<(), Fault> {
    by_id(&REMOVE, tx, ids).await
}

/// Ends leases with a result: pending again, nothing unsettled.
pub(crate) async fn rearm(tx: &mut Tx<'_>, jobs: &[Due]) -> Result<(), Fault> {
    set_due(&REARM, tx, jobs).await
}

/// Ends leases without a result: pending again where they were; what was unsettled before stays so.
pub(crate) async fn release(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<(), Fault> {
    by_id(&RELEASE, tx, ids).await
}

/// The time of leases is over: pending again where they were, and the token is remembered until another
/// claim.
pub(crate) async fn lapse(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<(), Fault> {
    by_id(&LAPSE, tx, ids).await
}

/// Leases that ran out hold again, with the tokens they had.
pub(crate) async fn revive(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<(), Fault> {
    by_id(&REVIVE, tx, ids).await
}

/// Changes when pending jobs are due.
pub(crate) async fn hurry(tx: &mut Tx<'_>, jobs: &[Due]) -> Result<(), Fault> {
    set_due(&HURRY, tx, jobs).await
}

async fn by_id(statement: &'static Bulk, tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<(), Fault> {
    statement
        .run(tx.conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    Ok(())
}

async fn set_due(statement: &'static Bulk, tx: &mut Tx<'_>, jobs: &[Due]) -> Result<(), Fault> {
    statement
        .run(tx.conn, jobs, |row, (id, due)| {
            row.add(&id.as_bytes()[..]).add(*due);
        })
        .await?;
    Ok(())
}

/// Those of `ids` that are there.
pub(crate) async fn known(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> Result<Vec<Found>, Fault> {
    let rows = KNOWN
        .fetch(tx.conn, ids, |row, id| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Found {
                id: codec::delivery_id(row, "id")?,
                lane: codec::lane_id(row, "lane")?,
                due: row.try_get("due")?,
                leased: codec::int(row, "leased")? != 0,
            })
        })
        .collect()
}
