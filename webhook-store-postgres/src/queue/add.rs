//! Adding jobs, and handing fresh ones to a worker of this process.
//!
//! Everything happens in the server's `queue_add`, so that a store can do it by the statement that stores the
//! deliveries. An [`Adding`] gathers the jobs, binds them as the function's arguments and reads its answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId};
use webhook_core::lane::Class;
use webhook_core::queue::{Enqueued, HandOff, Lease, NewJob};

use super::after::After;
use super::{Queue, micros, run, small};
use crate::codec::Moment;
use crate::error::Fault;

/// The due time of a job that a person asked for: before all others, and although its lane is parked.
pub(crate) const URGENT: Moment = Moment(i64::MIN);

/// Jobs on their way into the queue, with what this process sets aside for those it is handed.
#[derive(Debug)]
pub(crate) struct Adding {
    hand_off: Option<HandOff>,
    ids: Vec<DeliveryId>,
    lane: Vec<i32>,
    rank: Vec<i32>,
    due: Vec<Option<Moment>>,
    lanes: Vec<LaneId>,
    /// How many jobs of each lane may be handed off.
    wish: Vec<u32>,
    places: HashMap<LaneId, i32>,
    asked: Option<Vec<i64>>,
}

impl Adding {
    /// With what a worker of this process can take at once.
    pub(crate) fn new(hand_off: Option<&HandOff>) -> Self {
        Self {
            hand_off: hand_off.cloned(),
            ids: Vec::new(),
            lane: Vec::new(),
            rank: Vec::new(),
            due: Vec::new(),
            lanes: Vec::new(),
            wish: Vec::new(),
            places: HashMap::new(),
            asked: None,
        }
    }

    /// The jobs may be there already: then they become due at the earlier of both times. Otherwise ids must
    /// be new.
    pub(crate) fn may_exist(mut self) -> Self {
        self.asked.get_or_insert_default();
        self
    }

    /// Adds a job that is due at this time, or now.
    pub(crate) fn push(&mut self, id: DeliveryId, lane: LaneId, due: Option<Moment>) {
        let place = *self.places.entry(lane).or_insert_with(|| {
            self.lanes.push(lane);
            self.wish.push(0);
            i32::try_from(self.lanes.len()).unwrap_or(i32::MAX)
        });
        let wish = &mut self.wish[usize::try_from(place - 1).unwrap_or(0)];
        *wish += 1;
        self.rank.push(small(*wish));
        self.ids.push(id);
        self.lane.push(place);
        self.due.push(due);
        if let Some(asked) = &mut self.asked {
            asked.push(0);
        }
    }

    /// Whether no job was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Binds the fifteen arguments of `queue_add`, in order; `now` is the statement's time, if it has one. What
    /// may be handed off is set aside in `after`.
    pub(crate) fn bind<'q>(
        &self,
        query: Query<'q, Postgres, PgArguments>,
        now: Option<Moment>,
        after: &mut After,
    ) -> Query<'q, Postgres, PgArguments> {
        let to = self.hand_off.as_ref();
        let (mut wishes, mut reserved) = (Vec::new(), Vec::new());
        if let Some(to) = to {
            let wish = |(lane, wish): (&LaneId, &u32)| {
                (*lane, if to.avoid.contains(lane) { 0 } else { (*wish).min(to.room.all) })
            };
            wishes = self.lanes.iter().zip(&self.wish).map(wish).collect();
            reserved = after.queue().local.reserve(&wishes, to.max_in_flight);
            after.reserved.extend(self.lanes.iter().zip(&reserved).map(|(lane, (most, _))| (*lane, *most)));
        }
        let smalls = |numbers: &mut dyn Iterator<Item = u32>| numbers.map(small).collect::<Vec<i32>>();
        query
            .bind(self.ids.iter().map(DeliveryId::as_uuid).collect::<Vec<Uuid>>())
            .bind(self.lane.clone())
            .bind(self.rank.clone())
            .bind(self.due.iter().any(Option::is_some).then(|| self.due.clone()))
            .bind(self.asked.clone())
            .bind(self.lanes.iter().map(LaneId::as_uuid).collect::<Vec<Uuid>>())
            .bind(to.map(|to| to.token.as_uuid()))
            .bind(to.map(|to| micros(to.lease)))
            .bind(to.map(|_| smalls(&mut wishes.iter().map(|(_, wish)| *wish))))
            .bind(to.map(|_| smalls(&mut reserved.iter().map(|(most, _)| *most))))
            .bind(to.map(|_| smalls(&mut reserved.iter().map(|(_, own)| *own))))
            .bind(to.map(|to| small(to.room.all)))
            .bind(to.map(|to| small(to.room.doubtful)))
            .bind(to.map(|to| small(to.max_in_flight)))
            .bind(now)
    }

    /// Reads what `queue_add` answered, one outcome for each job in the order in which they were pushed.
    pub(crate) fn answer(&self, row: &PgRow, after: &mut After) -> Result<Vec<Enqueued>, Fault> {
        let outcomes: Vec<i16> = row.try_get::<Option<_>, _>("outcomes")?.unwrap_or_default();
        if outcomes.len() != self.ids.len() {
            return Err(Fault::Defect("queue_add did not answer for every job"));
        }
        let classes: Option<Vec<Option<i16>>> = row.try_get("classes")?;
        let marks: Option<Vec<Option<i64>>> = row.try_get("marks")?;
        let versions: Option<Vec<Option<i64>>> = row.try_get("versions")?;
        let of_lane = |place: i32| -> Option<(Class, u64, u64)> {
            let at = usize::try_from(place - 1).ok()?;
            let number = |all: &Option<Vec<Option<i64>>>| Some((*all.as_ref()?.get(at)?)?.cast_unsigned());
            Some((class((*classes.as_ref()?.get(at)?)?), number(&marks)?, number(&versions)?))
        };
        let mut answers = Vec::with_capacity(outcomes.len());
        let mut started = Vec::new();
        let mut queued = false;
        for (index, outcome) in outcomes.iter().enumerate() {
            answers.push(match outcome {
                0 => {
                    queued = true;
                    Enqueued::Queued
                }
                1 | 2 => {
                    let (Some(to), Some((class, mark, lane_version))) =
                        (&self.hand_off, of_lane(self.lane[index]))
                    else {
                        return Err(Fault::Defect("queue_add leased a job for nobody"));
                    };
                    let (id, lane) =
                        (self.ids[index], self.lanes[usize::try_from(self.lane[index] - 1).unwrap_or(0)]);
                    if *outcome == 1 {
                        started.push((id, lane));
                    }
                    let unsettled = Vec::new();
                    Enqueued::Leased(Lease {
                        id,
                        lane,
                        token: to.token,
                        class,
                        mark,
                        lane_version,
                        unsettled,
                    })
                }
                3 => {
                    queued = true;
                    Enqueued::Present
                }
                _ => Enqueued::LaneBehind,
            });
        }
        if let Some(to) = &self.hand_off {
            after.started(started, to.token, to.lease);
        }
        if queued {
            after.ring();
        }
        Ok(answers)
    }
}

/// The class of lanes that the schema knows by this number.
pub(super) fn class(number: i16) -> Class {
    match number {
        0 => Class::Good,
        1 => Class::Doubtful,
        _ => Class::Dead,
    }
}

const ADD: &str = "SELECT * FROM queue_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

type Asked = (Vec<NewJob>, Option<HandOff>, Arc<Queue>);

pub(super) async fn enqueue(
    queue: &Arc<Queue>,
    jobs: &[NewJob],
    hand_off: Option<&HandOff>,
) -> Result<Vec<Enqueued>, BackendError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let asked = (jobs.to_vec(), hand_off.cloned(), Arc::clone(queue));
    let (answers, after) = run(&queue.connections, "enqueue", &asked, add_alone).await?;
    after.committed();
    Ok(answers)
}

fn add_alone<'a>(
    conn: &'a mut PgConnection,
    asked: &'a Asked,
) -> BoxFuture<'a, Result<(Vec<Enqueued>, After), Fault>> {
    Box::pin(async move {
        let (jobs, hand_off, queue) = asked;
        let mut after = After::new(queue);
        let answers = add(conn, jobs, hand_off.as_ref(), &mut after).await?;
        Ok((answers, after))
    })
}

/// Adds jobs, or finds them there, as part of the caller's transaction. Answers in input order.
pub(crate) async fn add(
    conn: &mut PgConnection,
    jobs: &[NewJob],
    hand_off: Option<&HandOff>,
    after: &mut After,
) -> Result<Vec<Enqueued>, Fault> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let now: Option<Moment> = if jobs.iter().any(|job| !job.wait.is_zero()) {
        Some(sqlx::query_scalar("SELECT clock()").fetch_one(&mut *conn).await?)
    } else {
        None
    };
    // In the order of their ids: two calls with the same ones wait for each other in one order.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| jobs[*index].id);
    let mut adding = Adding::new(hand_off);
    for index in &order {
        let job = &jobs[*index];
        let due = match now {
            _ if job.urgent => Some(URGENT),
            Some(now) if !job.wait.is_zero() => Some(later(now, job.wait)),
            _ => None,
        };
        adding.push(job.id, job.lane, due);
    }
    adding.asked = Some(order.iter().map(|index| jobs[*index].lane_version.cast_signed()).collect());
    let row = adding.bind(sqlx::query(ADD), now, after).fetch_one(conn).await?;
    let mut answers = vec![Enqueued::LaneBehind; jobs.len()];
    for (index, answer) in order.iter().zip(adding.answer(&row, after)?) {
        answers[*index] = answer;
    }
    Ok(answers)
}

/// The moment so long after another one.
pub(super) fn later(now: Moment, wait: Duration) -> Moment {
    Moment(now.0.saturating_add(micros(wait)))
}
