//! Claiming.
//!
//! A claim runs to its end even if its caller gives up: it is a task of its own, and what it takes is there for
//! the repeat. Claims of one process run one after the other. The process remembers the ids of its claims; the
//! repeat of one waits for it and looks up what it holds, so that the common case needs no index on tokens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::Class;
use webhook_core::queue::{Claim, Lease};

use super::add::class;
use super::limit::Telling;
use super::local::InFlight;
use super::{Queue, micros, run, small};
use crate::codec::Moment;
use crate::error::Fault;

/// How many claims are remembered, to answer a repeat with the same leases.
const CLAIMS: usize = 1024;
/// How often everything is looked at, for what was committed late: a transaction may take its time between the
/// moment that it writes down and the one at which others see it.
const WHOLE: Duration = Duration::from_secs(1);
/// Such a look goes through every dead row that an old snapshot keeps, however long that takes by then. So it is
/// had more rarely, and takes one part in so many of a claimer's time at most.
const WHOLE_SHARE: u32 = 20;
/// But so often all the same.
const WHOLE_LONGEST: Duration = Duration::from_secs(60);
/// What stays within sight meanwhile: wakes, and microseconds.
const SLACK_WAKES: i64 = 64;
const SLACK: i64 = 1_000_000;

/// Where looking begins: before it there was nothing, the last time that everything was looked at. Dead rows of
/// a queue are as many as its jobs were, and with these marks a claim does not go through them.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    pub(super) wakes: i64,
    pub(super) leases: Moment,
    pub(super) ready: Moment,
    /// Lanes that others had, so that their wakes and their leases were left.
    pub(super) busy: Vec<Uuid>,
}

impl Marks {
    pub(super) const START: Self =
        Self { wakes: i64::MIN, leases: Moment(i64::MIN), ready: Moment(i64::MIN), busy: Vec::new() };

    /// Where the next claim begins.
    fn after(&self, taken: &Taken) -> Self {
        let mut marks = self.clone();
        if taken.seen > 1 {
            marks.wakes = marks.wakes.max(taken.seen - SLACK_WAKES);
        }
        marks.leases = Moment(taken.at.0.saturating_sub(SLACK));
        if let Some(low) = taken.low {
            marks.ready = Moment(low.0.saturating_sub(SLACK));
        }
        // What was left stays within sight.
        if let Some(wake) = taken.wake {
            marks.wakes = marks.wakes.min(wake - 1);
        }
        if let Some(lease) = taken.lease {
            marks.leases = marks.leases.min(Moment(lease.0 - 1));
        }
        marks.busy.clone_from(&taken.busy);
        marks
    }
}

/// What this process knows of its claims.
#[derive(Debug)]
pub(super) struct Claims {
    one_by_one: tokio::sync::Mutex<Turn>,
    marks: Mutex<Marks>,
    recent: Mutex<VecDeque<(Token, watch::Receiver<()>)>>,
}

#[derive(Debug, Default)]
struct Turn {
    /// When everything is looked at again, after the first time.
    whole: Option<Instant>,
    telling: Telling,
}

impl Claims {
    pub(super) fn new() -> Self {
        Self {
            one_by_one: tokio::sync::Mutex::default(),
            marks: Mutex::new(Marks::START),
            recent: Mutex::default(),
        }
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a claim; of one that is known, gives what tells that it is over.
    fn begin(&self, id: Token) -> Result<watch::Sender<()>, watch::Receiver<()>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, over)) = recent.iter().find(|(known, _)| *known == id) {
            return Err(over.clone());
        }
        let (end, over) = watch::channel(());
        recent.truncate(CLAIMS - 1);
        recent.push_front((id, over));
        Ok(end)
    }

    /// It took nothing: a repeat is a new claim.
    fn forget(&self, id: Token) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != id);
    }
}

pub(super) async fn claim(queue: &Arc<Queue>, claim: &Claim) -> Result<Vec<Lease>, BackendError> {
    let end = match queue.claims.begin(claim.id) {
        Ok(end) => end,
        Err(mut over) => {
            // An error says that it is over.
            while over.changed().await.is_ok() {}
            let held = run(&queue.connections, "claim", &claim.id, held).await?;
            if !held.is_empty() {
                return Ok(held);
            }
            queue.claims.forget(claim.id);
            return Box::pin(self::claim(queue, claim)).await;
        }
    };
    let (queue, claim) = (Arc::clone(queue), claim.clone());
    let task = tokio::spawn(async move {
        let taken = take(&queue, &claim).await;
        if taken.as_ref().is_ok_and(Vec::is_empty) {
            queue.claims.forget(claim.id);
        }
        drop(end);
        taken
    });
    task.await.unwrap_or_else(|_| Err(Fault::Defect("the task of a claim is gone").during("claim")))
}

async fn take(queue: &Queue, claim: &Claim) -> Result<Vec<Lease>, BackendError> {
    let mut turn = queue.claims.one_by_one.lock().await;
    turn.telling.tell(queue, claim.max_in_flight).await?;
    let before = queue.claims.marks();
    let whole = turn.whole.is_none_or(|next| next <= Instant::now());
    let from = if whole { Marks::START } else { before.clone() };
    let started = Instant::now();
    let own = queue.local.begin_claim(claim.max_in_flight);
    let wish = Wish { claim: claim.clone(), own, from };
    let taken = run(&queue.claimers, "claim", &wish, give).await;
    if let Ok(taken) = &taken {
        let uncounted = taken.leases.iter().zip(&taken.counted).filter(|(_, counted)| !**counted);
        let uncounted = uncounted.map(|(lease, _)| (lease.id, lease.lane));
        queue.local.start(uncounted, claim.id, claim.lease);
    }
    queue.local.end_claim();
    // Also when it failed: the next claims begin where those before it ended, and get on.
    if whole {
        turn.whole = Some(Instant::now() + until_whole(started.elapsed()));
    }
    let taken = taken?;
    let marks = before.after(&taken);
    *queue.claims.marks.lock().unwrap_or_else(PoisonError::into_inner) = marks;
    if taken.more {
        queue.ring();
    }
    Ok(taken.leases)
}

/// How long after a look at everything that took so long there is none.
fn until_whole(took: Duration) -> Duration {
    took.saturating_mul(WHOLE_SHARE).clamp(WHOLE, WHOLE_LONGEST)
}

struct Wish {
    claim: Claim,
    own: InFlight,
    from: Marks,
}

struct Taken {
    leases: Vec<Lease>,
    counted: Vec<bool>,
    seen: i64,
    at: Moment,
    low: Option<Moment>,
    /// A lane kept something back that the next claim may have.
    more: bool,
    /// Lanes that others had, and where their wakes and ended leases begin.
    busy: Vec<Uuid>,
    wake: Option<i64>,
    lease: Option<Moment>,
}

const CLAIM: &str = "SELECT * FROM queue_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

fn give<'a>(conn: &'a mut PgConnection, wish: &'a Wish) -> BoxFuture<'a, Result<Taken, Fault>> {
    Box::pin(async move {
        let Wish { claim, own, from } = wish;
        let uuids = |lanes: &[LaneId]| lanes.iter().map(LaneId::as_uuid).collect::<Vec<Uuid>>();
        let avoid: Vec<Uuid> = claim.avoid.iter().chain(&own.full).map(LaneId::as_uuid).collect();
        let row = sqlx::query(CLAIM)
            .bind(claim.id.as_uuid())
            .bind(micros(claim.lease))
            .bind(small(claim.room.all))
            .bind(small(claim.room.doubtful))
            .bind(small(claim.room.dead))
            .bind(small(claim.max_in_flight))
            .bind(avoid)
            .bind(uuids(&own.lanes))
            .bind(&own.counts)
            .bind(from.wakes)
            .bind(from.leases)
            .bind(from.ready)
            .fetch_one(conn)
            .await?;
        let (leases, counted) = leases(&row, claim.id)?;
        Ok(Taken {
            leases,
            counted,
            seen: row.try_get("seen")?,
            at: row.try_get("at")?,
            low: row.try_get("low")?,
            more: row.try_get::<Option<bool>, _>("more")?.unwrap_or(false),
            busy: row.try_get("busy")?,
            wake: row.try_get("wake")?,
            lease: row.try_get("lease")?,
        })
    })
}

fn leases(row: &PgRow, token: Token) -> Result<(Vec<Lease>, Vec<bool>), Fault> {
    let Some(ids) = row.try_get::<Option<Vec<Uuid>>, _>("ids")? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let lanes: Vec<Uuid> = row.try_get("lane_ids")?;
    let classes: Vec<i16> = row.try_get("classes")?;
    let marks: Vec<i64> = row.try_get("marks")?;
    let versions: Vec<i64> = row.try_get("versions")?;
    let unsettled: Vec<Option<Vec<u8>>> = row.try_get("unsettled")?;
    let counted: Vec<bool> = row.try_get("counts")?;
    let count = ids.len();
    if [lanes.len(), classes.len(), marks.len(), versions.len(), unsettled.len(), counted.len()] != [count; 6]
    {
        return Err(Fault::Defect("queue_claim did not tell all of every lease"));
    }
    let mut leases = Vec::with_capacity(count);
    for (index, tokens) in unsettled.iter().enumerate() {
        leases.push(Lease {
            id: DeliveryId::from_uuid(ids[index]),
            lane: LaneId::from_uuid(lanes[index]),
            token,
            class: class(classes[index]),
            mark: marks[index].cast_unsigned(),
            lane_version: versions[index].cast_unsigned(),
            unsettled: tokens_of(tokens.as_deref().unwrap_or_default())?,
        });
    }
    Ok((leases, counted))
}

fn tokens_of(bytes: &[u8]) -> Result<Vec<Token>, Fault> {
    bytes
        .chunks(16)
        .map(|one| Token::from_slice(one).map_err(|error| Fault::corrupt("token", error)))
        .collect()
}

const HELD: &str = "
    SELECT j.id, j.lane, j.unsettled, l.class, l.mark, l.version
    FROM (SELECT * FROM jobs WHERE until > (SELECT clock()) AND token = $1) j
    CROSS JOIN LATERAL (SELECT * FROM lanes WHERE lanes.id = j.lane) l";

/// The leases that an earlier call with this id took and that are still its own.
fn held<'a>(conn: &'a mut PgConnection, id: &'a Token) -> BoxFuture<'a, Result<Vec<Lease>, Fault>> {
    Box::pin(async move {
        let rows = sqlx::query(HELD).bind(id.as_uuid()).fetch_all(conn).await?;
        let lease = |row: &PgRow| -> Result<Lease, Fault> {
            let class: Class = class(row.try_get("class")?);
            Ok(Lease {
                id: DeliveryId::from_uuid(row.try_get("id")?),
                lane: LaneId::from_uuid(row.try_get("lane")?),
                token: *id,
                class,
                mark: row.try_get::<i64, _>("mark")?.cast_unsigned(),
                lane_version: row.try_get::<i64, _>("version")?.cast_unsigned(),
                unsettled: tokens_of(row.try_get::<Option<&[u8]>, _>("unsettled")?.unwrap_or_default())?,
            })
        };
        rows.iter().map(lease).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_everything_take_a_twentieth_of_the_time_at_most() {
        let millis = Duration::from_millis;
        assert_eq!(until_whole(millis(1)), WHOLE);
        assert_eq!(until_whole(millis(70)), millis(1_400), "under half a million dead wakes");
        assert_eq!(until_whole(millis(1_500)), millis(30_000));
        assert_eq!(until_whole(Duration::MAX), WHOLE_LONGEST);
    }
}
