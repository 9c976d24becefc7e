//! Adding jobs, and handing fresh ones to a worker of this process.
//!
//! Everything happens in the server's `queue_add`, so that a store can do it by the statement that stores the
//! deliveries. An [`Adding`] gathers the jobs, binds them as the function's arguments and reads its answer.

use std::collections::HashMap;
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

use super::{Queue, micros, run, small};
use crate::codec::Moment;
use crate::error::Fault;

/// The due time of a job that a person asked for: before all others, and although its lane is parked.
pub(crate) const URGENT: Moment = Moment(i64::MIN);

/// Jobs on their way into the queue, with what this process sets aside for those it is handed.
#[derive(Debug)]
pub(crate) struct Adding<'a> {
    queue: &'a Queue,
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
    /// Set aside in this process, by lane.
    reserved: Vec<(LaneId, u32)>,
    own: Vec<u32>,
}

impl<'a> Adding<'a> {
    pub(super) fn new(queue: &'a Queue, hand_off: Option<&HandOff>) -> Self {
        Self {
            queue,
            hand_off: hand_off.cloned(),
            ids: Vec::new(),
            lane: Vec::new(),
            rank: Vec::new(),
            due: Vec::new(),
            lanes: Vec::new(),
            wish: Vec::new(),
            places: HashMap::new(),
            asked: None,
            reserved: Vec::new(),
            own: Vec::new(),
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

    /// Binds the fifteen arguments of `queue_add`, in order. What is handed off is set aside from here on.
    pub(crate) fn bind<'q>(
        &mut self,
        query: Query<'q, Postgres, PgArguments>,
        now: Option<Moment>,
    ) -> Query<'q, Postgres, PgArguments> {
        self.give_back();
        if let Some(to) = &self.hand_off {
            let wishes: Vec<(LaneId, u32)> = self
                .lanes
                .iter()
                .zip(&self.wish)
                .map(|(lane, wish)| (*lane, if to.avoid.contains(lane) { 0 } else { (*wish).min(to.room.all) }))
                .collect();
            let answer = self.queue.local.reserve(&wishes, to.max_in_flight);
            self.reserved = self.lanes.iter().zip(&answer).map(|(lane, (most, _))| (*lane, *most)).collect();
            self.own = answer.iter().map(|(_, own)| *own).collect();
            for (wish, (_, allowed)) in self.wish.iter_mut().zip(wishes) {
                *wish = allowed;
            }
        }
        let to = self.hand_off.as_ref();
        query
            .bind(uuids(self.ids.iter().map(DeliveryId::as_uuid)))
            .bind(self.lane.clone())
            .bind(self.rank.clone())
            .bind(self.due.iter().any(Option::is_some).then(|| self.due.clone()))
            .bind(self.asked.clone())
            .bind(uuids(self.lanes.iter().map(LaneId::as_uuid)))
            .bind(to.map(|to| to.token.as_uuid()))
            .bind(to.map(|to| micros(to.lease)))
            .bind(to.map(|_| self.wish.iter().map(|wish| small(*wish)).collect::<Vec<_>>()))
            .bind(to.map(|_| self.reserved.iter().map(|(_, most)| small(*most)).collect::<Vec<_>>()))
            .bind(to.map(|_| self.own.iter().map(|own| small(*own)).collect::<Vec<_>>()))
            .bind(to.map(|to| small(to.room.all)))
            .bind(to.map(|to| small(to.room.doubtful)))
            .bind(to.map(|to| small(to.max_in_flight)))
            .bind(now)
    }

    /// Reads what `queue_add` answered, one outcome for each job in the order in which they were pushed. To be
    /// called when it is committed.
    pub(crate) fn answer(mut self, row: &PgRow) -> Result<Vec<Enqueued>, Fault> {
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
                    let (id, lane) = (self.ids[index], self.lanes[usize::try_from(self.lane[index] - 1).unwrap_or(0)]);
                    if *outcome == 1 {
                        started.push((id, lane));
                    }
                    let unsettled = Vec::new();
                    Enqueued::Leased(Lease { id, lane, token: to.token, class, mark, lane_version, unsettled })
                }
                3 => {
                    queued = true;
                    Enqueued::Present
                }
                _ => Enqueued::LaneBehind,
            });
        }
        self.give_back();
        if let Some(to) = &self.hand_off {
            self.queue.local.start(started.into_iter(), to.token, to.lease);
        }
        if queued {
            self.queue.ring();
        }
        Ok(answers)
    }

    fn give_back(&mut self) {
        if !self.reserved.is_empty() {
            self.queue.local.cancel(&std::mem::take(&mut self.reserved));
        }
    }
}

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        self.give_back();
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

fn uuids(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    ids.collect()
}

const ADD: &str = "SELECT * FROM queue_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

/// What [`enqueue`] was asked for.
struct Asked<'a> {
    queue: &'a Queue,
    jobs: &'a [NewJob],
    hand_off: Option<&'a HandOff>,
    /// In the order of their ids, so that two calls with the same ones wait for each other in one order.
    order: Vec<usize>,
}

pub(super) async fn enqueue(
    queue: &Queue,
    jobs: &[NewJob],
    hand_off: Option<&HandOff>,
) -> Result<Vec<Enqueued>, BackendError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| jobs[*index].id);
    let asked = Asked { queue, jobs, hand_off, order };
    run(&queue.connections, "enqueue", &asked, add).await
}

fn add<'a>(conn: &'a mut PgConnection, asked: &'a Asked<'_>) -> BoxFuture<'a, Result<Vec<Enqueued>, Fault>> {
    Box::pin(async move {
        let now: Option<Moment> = if asked.jobs.iter().any(|job| !job.wait.is_zero()) {
            Some(sqlx::query_scalar("SELECT clock()").fetch_one(&mut *conn).await?)
        } else {
            None
        };
        let mut adding = asked.queue.adding(asked.hand_off).may_exist();
        for index in &asked.order {
            let job = &asked.jobs[*index];
            let due = match now {
                _ if job.urgent => Some(URGENT),
                Some(now) if !job.wait.is_zero() => Some(later(now, job.wait)),
                _ => None,
            };
            adding.push(job.id, job.lane, due);
        }
        adding.asked = Some(asked.order.iter().map(|index| asked.jobs[*index].lane_version.cast_signed()).collect());
        let row = adding.bind(sqlx::query(ADD), now).fetch_one(conn).await?;
        let sorted = adding.answer(&row)?;
        let mut answers = vec![Enqueued::LaneBehind; sorted.len()];
        for (index, answer) in asked.order.iter().zip(sorted) {
            answers[*index] = answer;
        }
        Ok(answers)
    })
}

/// The moment so long after another one.
pub(super) fn later(now: Moment, wait: Duration) -> Moment {
    Moment(now.0.saturating_add(micros(wait)))
}
