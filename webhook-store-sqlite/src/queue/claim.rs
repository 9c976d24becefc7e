//! Claiming: lanes in turn, several jobs a turn when the claim is large.
//!
//! The first round serves a quarter as many lanes as jobs are wanted, so that a lane gives about four jobs a
//! turn; the rounds after it share what is left among the lanes that have more. All rounds of a claim are one
//! transaction. A lane that was served goes behind all others.

use std::collections::{HashMap, VecDeque};

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::queue::{Claim, Lease};

use super::jobs;
use crate::codec::{self, micros};
use crate::error::Fault;
use crate::lanes::{Held, NEVER, URGENT};
use crate::sql::Bulk;
use crate::writer::Tx;

static HEADS: Bulk = Bulk::new(
    "WITH p (most) AS (SELECT ?)
     SELECT j.id, j.lane, j.due, j.ordered, j.token, j.unsettled FROM (VALUES ",
    1,
    ") v CROSS JOIN webhooks_jobs j ON j.id IN (
         SELECT k.id FROM webhooks_jobs k INDEXED BY webhooks_jobs_due
         WHERE k.lane = v.column1 AND k.leased = 0 ORDER BY k.due LIMIT (SELECT most FROM p))
     WHERE v.column1 IS NOT NULL",
);
static TAKE: Bulk = Bulk::new(
    "UPDATE webhooks_jobs SET leased = 1,
         unsettled = CASE WHEN token IS NULL THEN unsettled
                          ELSE CAST(coalesce(unsettled, x'') || token AS BLOB) END,
         token = ? WHERE id IN (",
    1,
    ")",
);
static HELD: Bulk = Bulk::new("SELECT id, unsettled FROM webhooks_jobs WHERE id IN (", 1, ")");

/// A pending job of a lane.
struct Candidate {
    id: DeliveryId,
    due: i64,
    ordered: bool,
    unsettled: Vec<Token>,
}

pub(super) async fn claim(tx: &mut Tx<'_>, claim: Claim) -> Result<Vec<Lease>, Fault> {
    tx.begin().await?;
    tx.memory.use_default(claim.max_in_flight, tx.now);
    if tx.memory.knows_claim(claim.id) {
        return again(tx, claim.id).await;
    }
    return_lapsed(tx).await?;
    let mut room = claim.room;
    let until = tx.now.saturating_add(micros(claim.lease));
    let wanted = usize::try_from(room.all).unwrap_or(usize::MAX);
    let servable = tx.memory.servable(tx.now, wanted.saturating_add(claim.avoid.len()));
    let mut turns: VecDeque<LaneId> =
        servable.into_iter().filter(|lane| !claim.avoid.contains(lane)).collect();
    let mut leases: Vec<Lease> = Vec::new();
    let mut round = 0;
    while room.all > 0 && !turns.is_empty() {
        let want = usize::try_from(room.all).unwrap_or(usize::MAX);
        let lanes = if round == 0 { (want / 4).max(1) } else { want };
        round += 1;
        let taken = leases.len();
        let serve = next_lanes(tx, &mut turns, lanes, &room);
        if serve.is_empty() {
            break;
        }
        let most = u32::try_from(want.div_ceil(serve.len())).unwrap_or(u32::MAX);
        let mut pending = heads(tx, &serve, most).await?;
        for lane_id in serve {
            let mut jobs = pending.remove(&lane_id).unwrap_or_default().into_iter().peekable();
            let lane = tx.memory.lane_mut(lane_id);
            let class = lane.class();
            let parked = lane.is_parked(tx.now);
            let quota = most.min(lane.permits(claim.max_in_flight, tx.now)).min(room.fits(class));
            let last_due = if parked { URGENT } else { tx.now };
            let mut given = 0;
            let lease = Lease {
                id: DeliveryId::from_uuid(claim.id.as_uuid()),
                lane: lane_id,
                token: claim.id,
                class,
                mark: lane.durable.health.mark,
                lane_version: lane.durable.version.unwrap_or(0),
                unsettled: Vec::new(),
            };
            while given < quota {
                let Some(job) = jobs.next_if(|job| job.due <= last_due) else { break };
                let held = Held {
                    token: claim.id,
                    lane: lane_id,
                    until,
                    live: true,
                    ordered: job.ordered,
                    due: job.due,
                };
                tx.memory.grant(job.id, held);
                leases.push(Lease { id: job.id, unsettled: job.unsettled, ..lease.clone() });
                given += 1;
            }
            // One row more than the quota was read: the lane's next one, if it has one.
            let next_due = jobs.peek().map_or(NEVER, |job| job.due);
            let lane = tx.memory.lane_mut(lane_id);
            lane.next_due = next_due;
            lane.give(given, tx.now);
            room.take(class, given);
            tx.memory.served(lane_id);
            if given > 0 && next_due <= last_due {
                turns.push_back(lane_id);
            }
        }
        // The next round must not find them again.
        take(tx, claim.id, &leases[taken..]).await?;
    }
    if !leases.is_empty() {
        tx.memory.remember_claim(claim.id);
    }
    Ok(leases)
}

async fn take(tx: &mut Tx<'_>, token: Token, leases: &[Lease]) -> Result<(), Fault> {
    TAKE.run_with(
        tx.conn,
        |row| {
            row.add(token.as_bytes().to_vec());
        },
        leases,
        |row, lease| {
            row.add(&lease.id.as_bytes()[..]);
        },
    )
    .await?;
    Ok(())
}

/// Takes up to `lanes` lanes that can be given something from the front.
fn next_lanes(
    tx: &Tx<'_>,
    turns: &mut VecDeque<LaneId>,
    lanes: usize,
    room: &webhook_core::lane::Room,
) -> Vec<LaneId> {
    let mut serve = Vec::new();
    let mut room = *room;
    while serve.len() < lanes {
        let Some(id) = turns.pop_front() else { break };
        let Some(lane) = tx.memory.lane(&id) else { continue };
        if room.fits(lane.class()) > 0 && lane.permits(tx.memory.default_limit(), tx.now) > 0 {
            room.take(lane.class(), 1);
            serve.push(id);
        }
    }
    serve
}

/// The first pending jobs of lanes, one more than `most` each.
async fn heads(
    tx: &mut Tx<'_>,
    lanes: &[LaneId],
    most: u32,
) -> Result<HashMap<LaneId, Vec<Candidate>>, Fault> {
    let limit = i64::from(most) + 1;
    let mut found: HashMap<LaneId, Vec<Candidate>> = HashMap::with_capacity(lanes.len());
    let rows = HEADS
        .fetch_with(
            tx.conn,
            |row| {
                row.add(limit);
            },
            lanes,
            |row, id| {
                row.add(&id.as_bytes()[..]);
            },
        )
        .await?;
    for row in &rows {
        found.entry(codec::lane_id(row, "lane")?).or_default().push(candidate(row)?);
    }
    for jobs in found.values_mut() {
        jobs.sort_by_key(|job| job.due);
    }
    Ok(found)
}

fn candidate(row: &SqliteRow) -> Result<Candidate, Fault> {
    let mut unsettled = codec::tokens(row, "unsettled")?;
    if let Some(token) = row.try_get::<Option<&[u8]>, _>("token")? {
        unsettled.push(Token::from_slice(token).map_err(|error| Fault::corrupt("token", error))?);
    }
    Ok(Candidate {
        id: codec::delivery_id(row, "id")?,
        due: codec::int(row, "due")?,
        ordered: codec::int(row, "ordered")? != 0,
        unsettled,
    })
}

/// The leases that an earlier call with this id gave and that are still its own.
async fn again(tx: &mut Tx<'_>, claim: Token) -> Result<Vec<Lease>, Fault> {
    let held = tx.memory.held_by(claim);
    let rows = HELD
        .fetch(tx.conn, &held, |row, (id, _)| {
            row.add(&id.as_bytes()[..]);
        })
        .await?;
    let mut leases = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = codec::delivery_id(row, "id")?;
        let Some(held) = tx.memory.lease(&id) else { continue };
        let Some(lane) = tx.memory.lane(&held.lane) else { continue };
        leases.push(Lease {
            id,
            lane: held.lane,
            token: claim,
            class: lane.class(),
            mark: lane.durable.health.mark,
            lane_version: lane.durable.version.unwrap_or(0),
            unsettled: codec::tokens(row, "unsettled")?,
        });
    }
    Ok(leases)
}

/// Makes the jobs of leases whose time is over pending again.
pub(super) async fn return_lapsed(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let over = tx.memory.run_out(tx.now);
    if over.is_empty() {
        return Ok(());
    }
    tx.begin().await?;
    let ids: Vec<DeliveryId> = over.iter().map(|(id, _)| *id).collect();
    for (id, held) in over {
        tx.memory.lapse(id, held, tx.now);
    }
    jobs::lapse(tx, &ids).await
}
