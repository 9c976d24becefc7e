//! Committing results: the attempts' rows, what the deliveries become, and the queue's part of it.
//!
//! One statement changes all deliveries of the batch whose revision is the named one and says which it
//! changed; all else follows from its answer. A result under a lease that is another's now is not even tried.
//! The common case needs no answer, and is written in one trip.

use std::collections::HashSet;

use sqlx::sqlite::SqliteRow;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lifecycle::Next;
use webhook_core::model::Attempt;
use webhook_core::queue::Hold;
use webhook_core::store::{Record, Recorded};

use super::{chains, deletion, insert, turns};
use crate::codec::{self, micros, signed};
use crate::error::Fault;
use crate::lanes::URGENT;
use crate::queue::{jobs, take_effect};
use crate::sql::{Bulk, Fused, Row};
use crate::writer::Tx;

macro_rules! change {
    ($($returning:literal)?) => {
        Bulk::new(
            "WITH p (now) AS (SELECT ?)
             UPDATE webhooks_deliveries AS d SET
                 revision = v.column3, status = v.column4, reason = v.column5, attempts = v.column6,
                 failed = v.column7, unknowns = v.column8, chain = v.column9, request = v.column10,
                 last_status_code = v.column11, error_kind = v.column12, error_detail = v.column13,
                 next_attempt_at = iif(v.column14, v.column15, d.next_attempt_at),
                 finished_at = iif(v.column4 IN ('pending', 'retrying'), NULL,
                                   coalesce(d.finished_at, (SELECT now FROM p)))
             FROM (VALUES ",
            15,
            concat!(") v WHERE d.id = v.column1 AND d.revision = v.column2", $($returning)?),
        )
    };
}
static CHANGE: Bulk = change!();
static CHANGE_AND_TELL: Bulk =
    change!(" RETURNING id, event, subscription, turn, next_attempt_at, finished_at");
static ATTEMPTS: Bulk = Bulk::new(
    "INSERT INTO webhooks_attempts (id, delivery, number, subscription, token, trigger, started_at,
         duration, outcome, status_code, error_kind, error_detail, target_url, response_headers, response_body)
     SELECT * FROM (VALUES ",
    15,
    ") WHERE column1 IS NOT NULL
     ON CONFLICT (delivery, number) DO UPDATE SET
         trigger = excluded.trigger, started_at = excluded.started_at,
         duration = excluded.duration, outcome = excluded.outcome, status_code = excluded.status_code,
         error_kind = excluded.error_kind, error_detail = excluded.error_detail,
         target_url = excluded.target_url, response_headers = excluded.response_headers,
         response_body = excluded.response_body
     WHERE outcome = 'unknown' AND token = excluded.token",
);
static FINISH: Bulk = Bulk::new(
    "INSERT OR IGNORE INTO webhooks_finished (at, event)
     SELECT finished_at, event FROM webhooks_deliveries WHERE finished_at IS NOT NULL AND id IN (",
    1,
    ")",
);
static PLAIN: Fused<4> = Fused::new([&CHANGE, &ATTEMPTS, &FINISH, &jobs::REMOVE]);
static STANDS: Bulk = Bulk::new(
    "SELECT d.*,
         (SELECT a.number FROM webhooks_attempts a
          WHERE a.delivery = d.id AND a.token = v.column2 AND a.outcome = 'unknown') AS unknown,
         EXISTS (SELECT 1 FROM webhooks_attempts a
                 WHERE a.delivery = d.id AND a.token = v.column2 AND a.outcome <> 'unknown') AS recorded
     FROM (VALUES ",
    2,
    ") v CROSS JOIN webhooks_deliveries d ON d.id = v.column1",
);

/// A delivery as it is after the change.
struct Changed {
    event: i64,
    lane: LaneId,
    turn: Option<i64>,
    /// Behind an earlier one of its key.
    waits: bool,
    next_attempt_at: Option<i64>,
    finished_at: Option<i64>,
}

pub(super) async fn record(tx: &mut Tx<'_>, results: Vec<Record>) -> Result<Vec<Recorded>, Fault> {
    if are_plain(tx, &results) {
        if let Some(answers) = record_plain(tx, &results).await? {
            return Ok(answers);
        }
        tx.start_again().await?;
    }
    apply(tx, &results).await
}

/// Commits results of any kind, as part of the transaction.
pub(super) async fn apply(tx: &mut Tx<'_>, results: &[Record]) -> Result<Vec<Recorded>, Fault> {
    tx.begin().await?;
    let mut answers: Vec<Option<Recorded>> = (0..results.len()).map(|_| None).collect();
    let mut left: Vec<usize> = (0..results.len()).collect();
    // Of two results for one delivery, the second sees what the first did.
    while !left.is_empty() {
        let mut seen = HashSet::with_capacity(left.len());
        let (now, later): (Vec<usize>, Vec<usize>) =
            left.into_iter().partition(|index| seen.insert(results[*index].id));
        for (index, answer) in batch(tx, results, &now).await? {
            answers[index] = Some(answer);
        }
        left = later;
    }
    answers.into_iter().map(|answer| answer.ok_or(Fault::Defect("a result has no answer"))).collect()
}

/// Commits results for different deliveries.
async fn batch(
    tx: &mut Tx<'_>,
    results: &[Record],
    indexes: &[usize],
) -> Result<Vec<(usize, Recorded)>, Fault> {
    let holds = |record: &&Record| {
        let lease = record.lease.as_ref();
        lease.is_none_or(|lease| tx.memory.lease_of(&record.id, lease.token).is_some())
    };
    let current: Vec<&Record> = indexes.iter().map(|index| &results[*index]).filter(holds).collect();
    let mut changed = change(tx, &current).await?;

    let mut applied: Vec<(usize, &Record, Changed)> = Vec::with_capacity(changed.len());
    let mut stale: Vec<(usize, &Record)> = Vec::new();
    for index in indexes {
        let record = &results[*index];
        match changed.remove(&record.id) {
            Some(change) => applied.push((*index, record, change)),
            None => stale.push((*index, record)),
        }
    }
    see_who_waits(tx, &mut applied).await?;
    chains::start(tx, applied.iter().map(|(_, record, _)| *record)).await?;
    let attempts: Vec<&Attempt> = applied.iter().flat_map(|(_, record, _)| &record.attempts).collect();
    add_attempts(tx, &attempts).await?;
    let mut answers = stands(tx, &stale).await?;
    let strikes = move_jobs(tx, &applied).await?;
    let released = move_turns(tx, &applied).await?;
    let finished: Vec<(i64, i64)> =
        applied.iter().filter_map(|(_, _, change)| Some((change.event, change.finished_at?))).collect();
    insert::finished(tx, &finished).await?;

    let mut released = Some(released);
    for ((index, ..), strikes) in applied.iter().zip(strikes) {
        // Who follows whom is the batch's own business: its first answer names them all.
        let released = released.take().unwrap_or_default();
        answers.push((*index, Recorded::Applied { released, strikes }));
    }
    Ok(answers)
}

async fn change(
    tx: &mut Tx<'_>,
    records: &[&Record],
) -> Result<std::collections::HashMap<DeliveryId, Changed>, Fault> {
    let now = tx.now;
    let rows = CHANGE_AND_TELL
        .fetch_with(
            tx.conn,
            |row| {
                row.add(now);
            },
            records,
            |row, record| bind_change(row, record, now),
        )
        .await?;
    rows.iter()
        .map(|row| {
            let change = Changed {
                event: codec::int(row, "event")?,
                lane: codec::lane_id(row, "subscription")?,
                turn: codec::optional(row, "turn")?,
                waits: false,
                next_attempt_at: codec::optional(row, "next_attempt_at")?,
                finished_at: codec::optional(row, "finished_at")?,
            };
            Ok((codec::delivery_id(row, "id")?, change))
        })
        .collect()
}

async fn see_who_waits(tx: &mut Tx<'_>, applied: &mut [(usize, &Record, Changed)]) -> Result<(), Fault> {
    let in_line = |change: &Changed| change.turn.is_some() && change.finished_at.is_none();
    let ids: Vec<DeliveryId> =
        applied.iter().filter(|(_, _, change)| in_line(change)).map(|(_, record, _)| record.id).collect();
    let heads = turns::heads(tx, &ids).await?;
    for (_, record, change) in applied {
        change.waits = in_line(change) && !heads.contains(&record.id);
    }
    Ok(())
}

fn bind_change<'q>(row: &mut Row<'q>, record: &'q Record, now: i64) {
    let state = &record.state;
    let next = match record.next {
        Next::Never => Some(None),
        Next::After(wait) => Some(Some(now.saturating_add(micros(wait)))),
        Next::AsBefore => None,
    };
    row.add(&record.id.as_bytes()[..])
        .add(signed(record.revision))
        .add(signed(state.revision.max(record.revision + 1)))
        .add(state.status.as_str())
        .add(state.reason.map(webhook_core::model::StatusReason::as_str))
        .add(i64::from(state.attempts))
        .add(i64::from(state.failed))
        .add(i64::from(state.unknowns))
        .add(i64::from(state.chain))
        .add(state.request.map(webhook_core::model::Request::as_str))
        .add(state.last_status_code.map(i64::from))
        .add(state.last_error.as_ref().map(|error| error.kind.as_str()))
        .add(state.last_error.as_ref().map(|error| error.detail.as_str()))
        .add(next.is_some())
        .add(next.flatten());
}

fn bind_attempt<'q>(row: &mut Row<'q>, attempt: &'q Attempt) {
    row.add(&attempt.id.as_bytes()[..])
        .add(&attempt.delivery_id.as_bytes()[..])
        .add(i64::from(attempt.number))
        .add(&attempt.subscription_id.as_bytes()[..])
        .add(&attempt.token.as_bytes()[..])
        .add(attempt.trigger.as_str())
        .add(attempt.started_at.as_micros())
        .add(micros(attempt.duration))
        .add(attempt.outcome.as_str())
        .add(attempt.status_code.map(i64::from))
        .add(attempt.error.as_ref().map(|error| error.kind.as_str()))
        .add(attempt.error.as_ref().map(|error| error.detail.as_str()))
        .add(attempt.target_url.as_str())
        .add(codec::headers(&attempt.response_headers))
        .add(&attempt.response_body[..]);
}

async fn add_attempts(tx: &mut Tx<'_>, attempts: &[&Attempt]) -> Result<(), Fault> {
    let added = ATTEMPTS.run(tx.conn, attempts, |row, attempt| bind_attempt(row, attempt)).await?;
    if added < attempts.len() as u64 {
        return Err(Fault::Defect("an attempt has a number that another one of its delivery has"));
    }
    Ok(())
}

// The common case: each result ends the lease under which it was made, and its delivery takes no turns and
// is finished or due after a wait. It needs nothing from the tables, so it is written by one statement.

fn are_plain(tx: &Tx<'_>, results: &[Record]) -> bool {
    let mut ids = HashSet::with_capacity(results.len());
    let is_plain = |record: &Record| {
        let Some(lease) = &record.lease else { return false };
        let Some(held) = tx.memory.lease_of(&record.id, lease.token) else { return false };
        let deleted = tx.memory.lane(&held.lane).is_some_and(|lane| lane.durable.hold == Some(Hold::Deleted));
        let finished = record.state.status.is_finished();
        let next_is_plain = match record.next {
            Next::Never => finished,
            Next::After(_) => !finished,
            Next::AsBefore => false,
        };
        !held.ordered
            && !deleted
            && next_is_plain
            && record.state.request.is_none()
            && record.attempts.len() == 1
            && record.new_chain.is_none()
    };
    Fused::<4>::suits(&[results.len()])
        && results.iter().all(|record| is_plain(record) && ids.insert(record.id))
}

/// `None` when a delivery has moved on or an attempt's number is taken: all is to be taken back.
async fn record_plain(tx: &mut Tx<'_>, results: &[Record]) -> Result<Option<Vec<Recorded>>, Fault> {
    let (now, count) = (tx.now, results.len() as u64);
    let over = || results.iter().filter(|record| record.next == Next::Never);
    let [changed, added, ..] = PLAIN
        .bind(results.len())
        .before(now)
        .part(results, |row, record| bind_change(row, record, now))
        .part(results.iter().flat_map(|record| &record.attempts), bind_attempt)
        .part(over(), |row, record| {
            row.add(&record.id.as_bytes()[..]);
        })
        .part(over(), |row, record| {
            row.add(&record.id.as_bytes()[..]);
        })
        .run(tx)
        .await?;
    if changed < count || added < count {
        return Ok(None);
    }
    let mut armed = Vec::new();
    let mut answers = Vec::with_capacity(results.len());
    for record in results {
        let (Some(lease), Some(held)) = (&record.lease, tx.memory.end(&record.id)) else {
            return Err(Fault::Defect("a plain result has no lease"));
        };
        let strikes = take_effect(tx, held.lane, lease.effect, lease.mark);
        if let Next::After(wait) = record.next {
            let due = now.saturating_add(micros(wait));
            tx.memory.pending(held.lane, due);
            armed.push((record.id, due));
        }
        answers.push(Recorded::Applied { released: Vec::new(), strikes: Some(strikes) });
    }
    jobs::rearm(tx, &armed).await?;
    Ok(Some(answers))
}

/// Where the deliveries of stale results stand; of one that took effect before, that it did.
async fn stands(tx: &mut Tx<'_>, stale: &[(usize, &Record)]) -> Result<Vec<(usize, Recorded)>, Fault> {
    let rows: Vec<SqliteRow> = STANDS
        .fetch(tx.conn, stale, |row, (_, record)| {
            let token: Option<&Token> = record.attempts.first().map(|attempt| &attempt.token);
            row.add(&record.id.as_bytes()[..]).add(token.map(|token| &token.as_bytes()[..]));
        })
        .await?;
    let mut answers: Vec<(usize, Recorded)> =
        stale.iter().map(|(index, _)| (*index, Recorded::Gone)).collect();
    for row in &rows {
        let id = codec::delivery_id(row, "id")?;
        let unknown = codec::optional::<i64>(row, "unknown")?;
        let unknown =
            unknown.map(u32::try_from).transpose().map_err(|error| Fault::corrupt("number", error))?;
        let state = codec::state(row)?;
        for ((_, record), (_, answer)) in stale.iter().zip(&mut answers) {
            if record.id == id {
                *answer = if codec::int(row, "recorded")? != 0 {
                    Recorded::Applied { released: Vec::new(), strikes: None }
                } else {
                    Recorded::Stale { state: Box::new(state.clone()), unknown }
                };
            }
        }
    }
    Ok(answers)
}

/// Ends the leases of results, arms and removes jobs. Returns each lane's strikes, where a lease ended.
async fn move_jobs(tx: &mut Tx<'_>, applied: &[(usize, &Record, Changed)]) -> Result<Vec<Option<u8>>, Fault> {
    let (mut over, mut armed, mut added, mut hurried) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut strikes = Vec::with_capacity(applied.len());
    for (_, record, change) in applied {
        let deleted =
            tx.memory.lane(&change.lane).is_some_and(|lane| lane.durable.hold == Some(Hold::Deleted));
        if deleted && change.finished_at.is_none() {
            deletion::drain(tx, change.lane).await?;
        }
        let due = due(tx.now, record, change);
        let Some(lease) = &record.lease else {
            strikes.push(None);
            match due {
                Due::Never => {
                    tx.memory.end(&record.id);
                    over.push(record.id);
                }
                // Whoever has a lease keeps it; its result will meet this revision and settle anew.
                Due::At(_) if tx.memory.lease(&record.id).is_some_and(|held| held.live) => {}
                Due::At(due) if record.next != Next::AsBefore || record.state.request.is_some() => {
                    tx.memory.pending(change.lane, due);
                    hurried.push((record.id, due));
                    added.push(jobs::Job {
                        id: record.id,
                        lane: change.lane,
                        due,
                        ordered: change.turn.is_some(),
                        token: None,
                    });
                }
                Due::At(_) | Due::Waiting => {}
            }
            continue;
        };
        tx.memory.end(&record.id);
        strikes.push(Some(take_effect(tx, change.lane, lease.effect, lease.mark)));
        match due {
            Due::At(due) => {
                tx.memory.pending(change.lane, due);
                armed.push((record.id, due));
            }
            Due::Never | Due::Waiting => over.push(record.id),
        }
    }
    jobs::remove(tx, &over).await?;
    jobs::rearm(tx, &armed).await?;
    jobs::hurry(tx, &hurried).await?;
    jobs::ensure(tx, &added).await?;
    Ok(strikes)
}

enum Due {
    Never,
    At(i64),
    /// Behind an earlier one of its key.
    Waiting,
}

fn due(now: i64, record: &Record, change: &Changed) -> Due {
    match (change.finished_at.is_some(), record.state.request.is_some()) {
        (true, false) => Due::Never,
        (true, true) => Due::At(URGENT),
        (false, _) if change.waits => Due::Waiting,
        (false, true) => Due::At(URGENT),
        (false, false) => Due::At(change.next_attempt_at.unwrap_or(now)),
    }
}

/// Ends the turns of what has finished and lets others follow; gives what was reopened its place.
async fn move_turns(
    tx: &mut Tx<'_>,
    applied: &[(usize, &Record, Changed)],
) -> Result<Vec<(DeliveryId, LaneId)>, Fault> {
    let ordered = || applied.iter().filter(|(_, _, change)| change.turn.is_some());
    let (mut ended, mut open) = (Vec::new(), Vec::new());
    for (_, record, change) in ordered() {
        if change.finished_at.is_some() {
            ended.push(record.id);
        } else {
            open.push(record.id);
        }
    }
    let mut heads = turns::end(tx, &ended).await?;
    let (reopened, waiting) = turns::reopen(tx, &open).await?;
    heads.extend(reopened);
    for id in &waiting {
        tx.memory.end(id);
    }
    jobs::remove(tx, &waiting).await?;
    let jobs: Vec<jobs::Job> = heads
        .iter()
        .map(|head| jobs::Job { id: head.id, lane: head.lane, due: head.due, ordered: true, token: None })
        .collect();
    for job in &jobs {
        tx.memory.pending(job.lane, job.due);
    }
    jobs::ensure(tx, &jobs).await?;
    Ok(heads.into_iter().map(|head| (head.id, head.lane)).collect())
}
