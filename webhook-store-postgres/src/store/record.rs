//! Committing results: the attempts' rows, what the deliveries become, and the queue's part of it.
//!
//! One statement changes all deliveries of a batch whose revision is the named one, stores their attempts and
//! says which it changed. That it changed all, and that every lease named is still its token's, is the common
//! case and is not looked up; when it turns out not to be so, all is taken back and done again with the
//! deliveries and the leases locked first, so that each result can be told apart.
//!
//! Deliveries are changed before locks of orders are taken, and those before jobs: see [`crate::locks`].

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::id::{DeliveryId, LaneId};
use webhook_core::lifecycle::Next;
use webhook_core::model::{Attempt, DeliveryStatus};
use webhook_core::queue::{NewJob, Settle, Settled, Verdict};
use webhook_core::store::{Record, Recorded};
use webhook_core::time::Timestamp;

use super::jobs::Part;
use super::{columns, turns};
use crate::codec::{self, wait_until};
use crate::connection::{begin, rollback};
use crate::error::Fault;
use crate::open::Inner;
use crate::queue::{Fate, Settling};
use crate::sql;

/// A delivery as it is after the change.
struct Changed {
    lane: LaneId,
    ordered: bool,
    asked: bool,
    finished: bool,
    next_attempt_at: Option<Timestamp>,
    now: Timestamp,
}

pub(super) async fn record(
    conn: &mut PgConnection,
    store: &Inner,
    results: &[Record],
) -> Result<Vec<Recorded>, Fault> {
    let mut seen = HashSet::with_capacity(results.len());
    if results.iter().all(|record| seen.insert(record.id) && is_simple(record)) {
        begin(conn).await?;
        let mut part = Part::new(store);
        let all: Vec<&Record> = results.iter().collect();
        if let Some(answers) = all_of(conn, &mut part, &all).await? {
            part.commit(conn).await?;
            return Ok(answers);
        }
        rollback(conn).await?;
    }
    begin(conn).await?;
    let mut part = Part::new(store);
    let answers = apply(conn, &mut part, results).await?;
    part.commit(conn).await?;
    Ok(answers)
}

/// Whether it is what an attempt does: one that ends or goes on by its schedule, in the chain it was made in.
fn is_simple(record: &Record) -> bool {
    record.new_chain.is_none()
        && record.state.request.is_none()
        && record.next != Next::AsBefore
        && record.attempts.iter().all(|attempt| attempt.delivery_id == record.id)
}

/// Applies results for different deliveries, all of them, or says that they are to be taken back.
async fn all_of(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    records: &[&Record],
) -> Result<Option<Vec<Recorded>>, Fault> {
    // Of those that are due again, the queue must be told when: that is known when they are changed.
    let is_over = |record: &&Record| record.lease.is_some() && record.state.status.is_finished();
    let settling = part.settling().filter(|_| records.iter().all(is_over));
    let Some((changed, ended)) = change(conn, part, records, settling).await? else { return Ok(None) };
    follow(conn, part, records, &changed, ended).await
}

/// Commits results of any kind, as part of the transaction.
pub(super) async fn apply(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    results: &[Record],
) -> Result<Vec<Recorded>, Fault> {
    let mut answers: Vec<Option<Recorded>> = (0..results.len()).map(|_| None).collect();
    let mut left: Vec<usize> = (0..results.len()).collect();
    // Of two results for one delivery, the second sees what the first did.
    while !left.is_empty() {
        let mut seen = HashSet::with_capacity(left.len());
        let (now, later): (Vec<usize>, Vec<usize>) =
            left.into_iter().partition(|index| seen.insert(results[*index].id));
        for (index, answer) in batch(conn, part, results, &now).await? {
            answers[index] = Some(answer);
        }
        left = later;
    }
    answers.into_iter().map(|answer| answer.ok_or(Fault::Defect("a result has no answer"))).collect()
}

/// Commits those of these results, for different deliveries, that are not stale.
async fn batch(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    results: &[Record],
    indexes: &[usize],
) -> Result<Vec<(usize, Recorded)>, Fault> {
    let ids: Vec<Uuid> = indexes.iter().map(|index| results[*index].id.as_uuid()).collect();
    let mut found: HashMap<DeliveryId, (u64, bool)> = HashMap::with_capacity(ids.len());
    for row in sqlx::query(sql::LOCK_DELIVERIES).bind(ids).fetch_all(&mut *conn).await? {
        let revision = codec::unsigned(&row, "revision")?;
        found.insert(codec::delivery_id(&row, "id")?, (revision, codec::flag(&row, "finished")?));
    }
    let is_current =
        |record: &Record| found.get(&record.id).is_some_and(|(revision, _)| *revision == record.revision);
    let (current, mut stale): (Vec<usize>, Vec<usize>) =
        indexes.iter().copied().partition(|index| is_current(&results[*index]));

    let lease = |index: &usize| {
        let record = &results[*index];
        record.lease.as_ref().map(|lease| (*index, (record.id, lease.token)))
    };
    let (leased, leases): (Vec<usize>, Vec<_>) = current.iter().filter_map(lease).unzip();
    let held = part.hold(conn, &leases).await?;
    let lost: HashSet<usize> =
        leased.into_iter().zip(held).filter(|(_, held)| !held).map(|(index, _)| index).collect();
    stale.extend(&lost);
    let current: Vec<usize> = current.into_iter().filter(|index| !lost.contains(index)).collect();

    let mut answers = stands(conn, results, &stale).await?;
    if current.is_empty() {
        return Ok(answers);
    }
    let records: Vec<&Record> = current.iter().map(|index| &results[*index]).collect();
    let was_finished = |record: &Record| found.get(&record.id).is_some_and(|(_, finished)| *finished);
    // An attempt that was asked for makes it open again too, though it stays finished.
    let is_open = |record: &Record| !record.state.status.is_finished() || record.state.request.is_some();
    let reopened: Vec<&Record> =
        records.iter().copied().filter(|record| was_finished(record) && is_open(record)).collect();
    let changed = change(conn, part, &records, None).await?;
    let (changed, _) =
        changed.ok_or(Fault::Defect("a locked delivery changed, or an attempt's number is taken"))?;
    drain(conn, &reopened, &changed).await?;
    let applied = follow(conn, part, &records, &changed, None).await?;
    let applied = applied.ok_or(Fault::Defect("a locked lease was lost"))?;
    answers.extend(current.into_iter().zip(applied));
    Ok(answers)
}

/// Deliveries as they are after the change, and of leases that ended with it the strikes of their lanes.
type Changes = (HashMap<DeliveryId, Changed>, Option<HashMap<DeliveryId, u8>>);

/// Changes deliveries and stores their attempts, and ends their leases when that is to be done at once. `None`
/// when one of them has another revision, an attempt's number is taken or a lease is another's: all is to be
/// taken back.
async fn change(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    records: &[&Record],
    mut settling: Option<Settling>,
) -> Result<Option<Changes>, Fault> {
    // In the order of ids, as everybody locks them.
    let mut sorted: Vec<&Record> = records.to_vec();
    sorted.sort_unstable_by_key(|record| record.id);
    let attempts: Vec<&Attempt> = sorted.iter().flat_map(|record| &record.attempts).collect();
    if let Some(settling) = &mut settling {
        for (record, lease) in sorted.iter().filter_map(|record| Some((record, record.lease.as_ref()?))) {
            settling.push(record.id, lease.token, Fate::Done, lease.effect, lease.mark);
        }
    }
    let succeeds = |record: &&Record| {
        let state = &record.state;
        state.status == DeliveryStatus::Succeeded && state.request.is_none() && record.next == Next::Never
    };
    let text = match (settling.is_some(), sorted.iter().all(succeeds)) {
        (true, true) => sql::RECORD_SUCCESS_AND_SETTLE,
        (true, false) => sql::RECORD_AND_SETTLE,
        (false, true) => sql::RECORD_SUCCESS,
        (false, false) => sql::RECORD,
    };
    let query = columns::Changes::of(&sorted).bind(sqlx::query(text));
    let query = columns::Attempts::of(&attempts).bind(query);
    let query = match &settling {
        Some(settling) => settling.bind(query, None),
        None => query,
    };
    let rows = query.fetch_all(&mut *conn).await?;
    let stored = rows.first().map_or(Ok(0), |row| codec::unsigned(row, "stored"))?;
    if rows.len() < records.len() || stored < attempts.len() as u64 {
        return Ok(None);
    }
    let mut ended = None;
    // Leases of a batch with ordered ones end behind the locks of their keys.
    let takes_turns = rows.iter().map(|row| codec::flag(row, "ordered"));
    let takes_turns = takes_turns.collect::<Result<Vec<bool>, _>>()?.contains(&true);
    if let (Some(settling), Some(first), false) = (settling, rows.first(), takes_turns) {
        let strikes = settling.answer(first, part.after()?)?;
        let known = sorted.iter().zip(strikes).map(|(record, strikes)| Some((record.id, strikes?)));
        match known.collect::<Option<HashMap<_, _>>>() {
            Some(all) => ended = Some(all),
            None => return Ok(None),
        }
    }
    let mut changed = HashMap::with_capacity(rows.len());
    for row in &rows {
        let change = Changed {
            lane: codec::subscription_id(row, "subscription")?,
            ordered: codec::flag(row, "ordered")?,
            asked: codec::flag(row, "asked")?,
            finished: codec::flag(row, "finished")?,
            next_attempt_at: codec::optional_moment(row, "next_attempt_at")?,
            now: codec::moment(row, "now")?,
        };
        changed.insert(codec::delivery_id(row, "id")?, change);
    }
    Ok(Some((changed, ended)))
}

/// Deliveries of deleted subscriptions that are open again are to be cancelled again.
async fn drain(
    conn: &mut PgConnection,
    reopened: &[&Record],
    changed: &HashMap<DeliveryId, Changed>,
) -> Result<(), Fault> {
    if reopened.is_empty() {
        return Ok(());
    }
    let lane = |record: &&Record| changed.get(&record.id).map(|change| change.lane.as_uuid());
    drain_lanes(conn, reopened.iter().filter_map(lane).collect()).await
}

/// Sees to it that unfinished deliveries of those of these subscriptions that are deleted will be cancelled. To
/// the end of the transaction none can be deleted.
pub(super) async fn drain_lanes(conn: &mut PgConnection, mut lanes: Vec<Uuid>) -> Result<(), Fault> {
    lanes.sort_unstable();
    lanes.dedup();
    let mut deleted: Vec<Uuid> = Vec::new();
    for row in sqlx::query(sql::LOCK_SUBSCRIPTIONS).bind(lanes).fetch_all(&mut *conn).await? {
        if codec::flag(&row, "deleted")? {
            deleted.push(codec::get(&row, "id")?);
        }
    }
    if !deleted.is_empty() {
        sqlx::query(sql::DRAIN).bind(deleted).execute(conn).await?;
    }
    Ok(())
}

/// Does what follows from the changes: turns, and jobs as far as their leases have not `ended` with them. `None`
/// when a lease is another's.
async fn follow(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    records: &[&Record],
    changed: &HashMap<DeliveryId, Changed>,
    ended: Option<HashMap<DeliveryId, u8>>,
) -> Result<Option<Vec<Recorded>>, Fault> {
    let ordered = |finished: bool| -> Vec<DeliveryId> {
        let is_it = |record: &&&Record| {
            changed.get(&record.id).is_some_and(|change| change.ordered && change.finished == finished)
        };
        records.iter().filter(is_it).map(|record| record.id).collect()
    };
    let moved = turns::change(conn, part.schema(), &ordered(true), &ordered(false)).await?;
    let strikes = if let Some(ended) = ended {
        let heads: Vec<NewJob> = moved.heads.iter().map(turns::Head::job).collect();
        part.add(conn, &heads, None).await?;
        records.iter().map(|record| ended.get(&record.id).copied()).collect()
    } else if part.is_own() {
        let Some(strikes) = move_jobs(conn, part, records, changed, &moved).await? else { return Ok(None) };
        strikes
    } else {
        vec![None; records.len()]
    };
    // Who follows whom is the batch's own business: its first answer names them all.
    let mut released: Vec<(DeliveryId, LaneId)> =
        moved.heads.iter().map(|head| (head.id, head.lane)).collect();
    let answers = strikes
        .into_iter()
        .map(|strikes| Recorded::Applied { released: std::mem::take(&mut released), strikes })
        .collect();
    Ok(Some(answers))
}

/// Ends the leases of results, arms and removes jobs. Returns each lane's strikes, where a lease ended; `None`
/// when one is another's.
async fn move_jobs(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    records: &[&Record],
    changed: &HashMap<DeliveryId, Changed>,
    moved: &turns::Moved,
) -> Result<Option<Vec<Option<u8>>>, Fault> {
    let waiting: HashSet<DeliveryId> = moved.waiting.iter().copied().collect();
    let (mut settles, mut over, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        let Some(change) = changed.get(&record.id) else { continue };
        let due = due(change, waiting.contains(&record.id));
        if let Some(lease) = &record.lease {
            let verdict = match due {
                Due::Never | Due::Waiting => Verdict::Done,
                Due::In { wait, .. } => Verdict::RetryAfter(wait),
            };
            settles.push(Settle {
                id: record.id,
                token: lease.token,
                verdict,
                effect: lease.effect,
                mark: lease.mark,
            });
        }
        match due {
            Due::Never | Due::Waiting if record.lease.is_none() => over.push(record.id),
            // Whoever has a lease keeps it; its result will meet this revision and settle anew.
            Due::In { wait, urgent } if record.lease.is_none() || urgent => {
                added.push(NewJob { id: record.id, lane: change.lane, wait, lane_version: 0, urgent });
            }
            Due::Never | Due::Waiting | Due::In { .. } => {}
        }
    }
    // A reopened one may lead its line at once.
    added.retain(|job: &NewJob| moved.heads.iter().all(|head| head.id != job.id));
    added.extend(moved.heads.iter().map(turns::Head::job));
    part.lock(conn, &settles, &over).await?;
    let mut strikes: HashMap<DeliveryId, u8> = HashMap::with_capacity(settles.len());
    for (settle, settled) in settles.iter().zip(part.settle(conn, &settles).await?) {
        match settled {
            Settled::Settled { strikes: now } => strikes.insert(settle.id, now),
            Settled::Stale => return Ok(None),
        };
    }
    part.remove(conn, &over).await?;
    part.add(conn, &added, None).await?;
    Ok(Some(records.iter().map(|record| strikes.get(&record.id).copied()).collect()))
}

enum Due {
    Never,
    In {
        wait: Duration,
        urgent: bool,
    },
    /// Behind an earlier one of its key.
    Waiting,
}

fn due(change: &Changed, waits: bool) -> Due {
    match (change.finished, change.asked) {
        (true, false) => Due::Never,
        (false, _) if waits => Due::Waiting,
        (_, true) => Due::In { wait: Duration::ZERO, urgent: true },
        (false, false) => {
            let wait = change.next_attempt_at.map_or(Duration::ZERO, |at| wait_until(at, change.now));
            Due::In { wait, urgent: false }
        }
    }
}

/// Where the deliveries of stale results stand; of one that took effect before, that it did.
async fn stands(
    conn: &mut PgConnection,
    results: &[Record],
    stale: &[usize],
) -> Result<Vec<(usize, Recorded)>, Fault> {
    if stale.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = stale.iter().map(|index| results[*index].id.as_uuid()).collect();
    let first = |index: &usize| results[*index].attempts.first().map(|attempt| attempt.token.as_uuid());
    let tokens: Vec<Option<Uuid>> = stale.iter().map(first).collect();
    let places: Vec<i32> = (0..stale.len()).map(codec::signed_small).collect();
    let rows = sqlx::query(sql::STANDS).bind(ids).bind(tokens).bind(places).fetch_all(&mut *conn).await?;
    let mut answers: Vec<(usize, Recorded)> = stale.iter().map(|index| (*index, Recorded::Gone)).collect();
    for row in &rows {
        let place: usize = codec::small(row, "place")?;
        let Some((_, answer)) = answers.get_mut(place) else { continue };
        *answer = if codec::flag(row, "recorded")? {
            Recorded::Applied { released: Vec::new(), strikes: None }
        } else {
            let unknown = match codec::optional::<i32>(row, "unknown")? {
                None => None,
                Some(_) => Some(codec::small(row, "unknown")?),
            };
            Recorded::Stale { state: Box::new(codec::state(row)?), unknown }
        };
    }
    Ok(answers)
}

#[cfg(test)]
mod tests;
