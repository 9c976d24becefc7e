//! Publishing: events, their deliveries and their jobs in one commit.
//!
//! What becomes of each event is decided first, in order: known already by its id or its key, refused,
//! outdated, or to be stored. Then all that is stored goes into each table by one statement. That ids are
//! new is the common case and is not looked up: when the insert meets a known one, the attempt is taken back
//! and made again with a look first.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use webhook_core::id::{DeliveryId, EventId, SubscriptionId};
use webhook_core::lane::Class;
use webhook_core::model::Event;
use webhook_core::queue::{HandOff, Lease};
use webhook_core::store::{Duplicate, Insert, Inserted, KEY_LIFETIME};
use webhook_core::time::Timestamp;

use super::turns;
use crate::codec::{self, micros, signed};
use crate::error::Fault;
use crate::lanes::Held;
use crate::queue::jobs::{self, Job};
use crate::sql::{Bulk, nothing};
use crate::writer::Tx;

/// A duplicate's answer names at most so many deliveries.
const LISTED: i64 = 1000;

static EVENTS: Bulk = Bulk::new(
    "INSERT INTO webhooks_events (seq, id, tenant, event_type, content_type, created_at, delivery_count,
         payload_size, ordering_key, deliver_at, idempotency_key, only_subscription, payload)
     SELECT * FROM (VALUES ",
    13,
    ") WHERE column1 IS NOT NULL ON CONFLICT (id) DO NOTHING",
);
static DELIVERIES: Bulk = Bulk::new(
    "INSERT INTO webhooks_deliveries (id, event, subscription, tenant, created_at, turn, next_attempt_at,
         revision, status, attempts, failed, unknowns, chain)
     SELECT *, 0, 'pending', 0, 0, 0, 0 FROM (VALUES ",
    7,
    ") WHERE column1 IS NOT NULL",
);
static FINISHED: Bulk = Bulk::new(
    "INSERT OR IGNORE INTO webhooks_finished (event, at) SELECT * FROM (VALUES ",
    2,
    ") WHERE column1 IS NOT NULL",
);
static KNOWN_IDS: Bulk = Bulk::new("SELECT id FROM webhooks_events WHERE id IN (", 1, ")");
static KNOWN_KEYS: Bulk = Bulk::new(
    "SELECT k.* FROM (VALUES ",
    2,
    ") v CROSS JOIN webhooks_keys k ON k.tenant = v.column1 AND k.key = v.column2",
);
static KEYS: Bulk = Bulk::new(
    "INSERT OR REPLACE INTO webhooks_keys (tenant, key, fingerprint, event_id, delivery_count, expires_at)
     SELECT * FROM (VALUES ",
    6,
    ") WHERE column1 IS NOT NULL",
);

/// Notes that these events finished at these moments.
pub(super) async fn finished(tx: &mut Tx<'_>, events: &[(i64, i64)]) -> Result<(), Fault> {
    FINISHED.run(tx.conn, events, nothing, |query, (event, at)| query.bind(*event).bind(*at)).await?;
    Ok(())
}

struct KnownKey {
    fingerprint: Vec<u8>,
    event_id: EventId,
    delivery_count: u64,
}

/// A delivery that is being stored.
struct Row<'a> {
    event: &'a Event,
    seq: i64,
    id: DeliveryId,
    subscription: SubscriptionId,
    ordered: bool,
    due: i64,
}

pub(super) async fn insert(
    tx: &mut Tx<'_>,
    events: Vec<Insert>,
    hand_off: Option<HandOff>,
) -> Result<Vec<Inserted>, Fault> {
    if let Some(hand_off) = &hand_off {
        tx.memory.use_default(hand_off.max_in_flight, tx.now);
    }
    let keys = known_keys(tx, &events).await?;
    let (mut outcomes, fresh) = decide(tx, &events, &HashSet::new(), &keys);
    let first = tx.memory.next_seq();
    let fresh = match store_events(tx, &events, fresh).await? {
        Stored::All(fresh) => fresh,
        Stored::SomeKnown => {
            sqlx::query("DELETE FROM webhooks_events WHERE seq >= ?")
                .bind(first)
                .execute(&mut *tx.conn)
                .await?;
            let known = known_ids(tx, &events).await?;
            let fresh;
            (outcomes, fresh) = decide(tx, &events, &known, &keys);
            match store_events(tx, &events, fresh).await? {
                Stored::All(fresh) => fresh,
                Stored::SomeKnown => return Err(Fault::Defect("an event is known and cannot be found")),
            }
        }
    };
    store_keys(tx, &events, &fresh).await?;
    store_deliveries(tx, &events, &fresh, hand_off, &mut outcomes).await?;
    answer(tx, outcomes).await
}

/// What is to be answered, as far as it is known.
enum Outcome {
    Stored { leases: Vec<Lease>, waiting: Vec<DeliveryId> },
    Known { id: EventId, count: Option<u64> },
    KeyReused,
    Outdated,
}

/// The place in the batch and the number of an event that is stored.
type Fresh = Vec<(usize, i64)>;

fn decide(
    tx: &mut Tx<'_>,
    events: &[Insert],
    known: &HashSet<EventId>,
    keys: &HashMap<(String, String), KnownKey>,
) -> (Vec<Outcome>, Fresh) {
    let mut fresh = Fresh::with_capacity(events.len());
    let mut ids = HashSet::with_capacity(events.len());
    let mut batch_keys: HashMap<(&str, &str), &Insert> = HashMap::new();
    let mut outcomes = Vec::with_capacity(events.len());
    for (index, insert) in events.iter().enumerate() {
        let event = &insert.event;
        let key = event.idempotency_key.as_deref().map(|key| (event.tenant.as_str(), key));
        let stored_key = key.and_then(|(tenant, key)| keys.get(&(tenant.to_owned(), key.to_owned())));
        let earlier = key.and_then(|key| batch_keys.get(&key).copied());
        outcomes.push(if known.contains(&event.id) || ids.contains(&event.id) {
            Outcome::Known { id: event.id, count: None }
        } else if let Some(stored) = stored_key {
            if stored.fingerprint == insert.fingerprint {
                Outcome::Known { id: stored.event_id, count: Some(stored.delivery_count) }
            } else {
                Outcome::KeyReused
            }
        } else if let Some(earlier) = earlier {
            if earlier.fingerprint == insert.fingerprint {
                let count = Some(earlier.deliveries.len() as u64);
                Outcome::Known { id: earlier.event.id, count }
            } else {
                Outcome::KeyReused
            }
        } else if insert.config_version != tx.memory.config(&event.tenant) {
            Outcome::Outdated
        } else {
            ids.insert(event.id);
            if let Some(key) = key {
                batch_keys.insert(key, insert);
            }
            fresh.push((index, 0));
            Outcome::Stored { leases: Vec::new(), waiting: Vec::new() }
        });
    }
    (outcomes, fresh)
}

enum Stored {
    All(Fresh),
    SomeKnown,
}

async fn store_events(tx: &mut Tx<'_>, events: &[Insert], mut fresh: Fresh) -> Result<Stored, Fault> {
    for (_, seq) in &mut fresh {
        *seq = tx.memory.take_seq();
    }
    let now = tx.now;
    let stored = EVENTS
        .run(tx.conn, &fresh, nothing, |query, (index, seq)| {
            let insert = &events[*index];
            let event = &*insert.event;
            query
                .bind(*seq)
                .bind(&event.id.as_bytes()[..])
                .bind(event.tenant.as_str())
                .bind(event.event_type.as_str())
                .bind(&*event.content_type)
                .bind(now)
                .bind(signed(insert.deliveries.len() as u64))
                .bind(signed(event.payload.len() as u64))
                .bind(event.ordering_key.as_deref())
                .bind(event.deliver_at.map(Timestamp::as_micros))
                .bind(event.idempotency_key.as_deref())
                .bind(event.only.as_ref().map(|only| &only.as_bytes()[..]))
                .bind(&event.payload[..])
        })
        .await?;
    if stored < fresh.len() as u64 {
        return Ok(Stored::SomeKnown);
    }
    Ok(Stored::All(fresh))
}

async fn known_ids(tx: &mut Tx<'_>, events: &[Insert]) -> Result<HashSet<EventId>, Fault> {
    let rows = KNOWN_IDS
        .fetch(tx.conn, events, nothing, |query, insert| query.bind(&insert.event.id.as_bytes()[..]));
    rows.await?.iter().map(|row| codec::event_id(row, "id")).collect()
}

async fn known_keys(
    tx: &mut Tx<'_>,
    events: &[Insert],
) -> Result<HashMap<(String, String), KnownKey>, Fault> {
    let keyed: Vec<(&str, &str)> = events
        .iter()
        .filter_map(|insert| Some((insert.event.tenant.as_str(), insert.event.idempotency_key.as_deref()?)))
        .collect();
    let mut known = HashMap::new();
    let rows = KNOWN_KEYS
        .fetch(tx.conn, &keyed, nothing, |query, (tenant, key)| query.bind(*tenant).bind(*key))
        .await?;
    for row in rows {
        // One whose time is over is as good as gone, and is replaced.
        if codec::int(&row, "expires_at")? > tx.now {
            let name = (codec::text(&row, "tenant")?.to_owned(), codec::text(&row, "key")?.to_owned());
            let key = KnownKey {
                fingerprint: codec::blob(&row, "fingerprint")?.to_vec(),
                event_id: codec::event_id(&row, "event_id")?,
                delivery_count: codec::unsigned(&row, "delivery_count")?,
            };
            known.insert(name, key);
        }
    }
    Ok(known)
}

async fn store_keys(tx: &mut Tx<'_>, events: &[Insert], fresh: &Fresh) -> Result<(), Fault> {
    let keyed: Vec<(&Insert, &str)> = fresh
        .iter()
        .filter_map(|(index, _)| {
            let insert = &events[*index];
            Some((insert, insert.event.idempotency_key.as_deref()?))
        })
        .collect();
    let expires_at = tx.now.saturating_add(micros(KEY_LIFETIME));
    KEYS.run(tx.conn, &keyed, nothing, |query, (insert, key)| {
        query
            .bind(insert.event.tenant.as_str())
            .bind(*key)
            .bind(&insert.fingerprint[..])
            .bind(&insert.event.id.as_bytes()[..])
            .bind(signed(insert.deliveries.len() as u64))
            .bind(expires_at)
    })
    .await?;
    Ok(())
}

async fn store_deliveries(
    tx: &mut Tx<'_>,
    events: &[Insert],
    fresh: &Fresh,
    hand_off: Option<HandOff>,
    outcomes: &mut [Outcome],
) -> Result<(), Fault> {
    let now = tx.now;
    let mut rows = Vec::with_capacity(fresh.len());
    let mut unmatched = Vec::new();
    let mut places = HashMap::new();
    for (index, seq) in fresh {
        let event = &*events[*index].event;
        let due = event.deliver_at.map_or(now, |at| at.as_micros().max(now));
        if events[*index].deliveries.is_empty() {
            unmatched.push((*seq, now));
        }
        for delivery in &events[*index].deliveries {
            if delivery.ordered {
                places.insert(delivery.id, *index);
            }
            rows.push((
                *index,
                Row {
                    event,
                    seq: *seq,
                    id: delivery.id,
                    subscription: delivery.subscription_id,
                    ordered: delivery.ordered,
                    due,
                },
            ));
        }
    }
    finished(tx, &unmatched).await?;
    DELIVERIES
        .run(tx.conn, &rows, nothing, |query, (_, row)| {
            query
                .bind(&row.id.as_bytes()[..])
                .bind(row.seq)
                .bind(&row.subscription.as_bytes()[..])
                .bind(row.event.tenant.as_str())
                .bind(now)
                .bind(row.ordered.then_some(row.seq))
                .bind((!row.ordered).then_some(row.due))
        })
        .await?;
    let ordered: Vec<turns::Waiting<'_>> = rows
        .iter()
        .filter(|(_, row)| row.ordered)
        .map(|(_, row)| turns::Waiting {
            id: row.id,
            subscription: row.subscription,
            key: row.event.ordering_key.as_deref().unwrap_or_default(),
            turn: row.seq,
        })
        .collect();
    let heads = turns::take_places(tx, &ordered).await?;
    let mut desk = Desk { hand_off, jobs: Vec::with_capacity(rows.len()) };
    let mut promoted = HashSet::new();
    for head in heads {
        promoted.insert(head.id);
        let lease = desk.take(tx, head.id, head.lane, head.due);
        // A head may be of an earlier publish, when its key had lost its head.
        if let (Some(lease), Some(index)) = (lease, places.get(&head.id))
            && let Outcome::Stored { leases, .. } = &mut outcomes[*index]
        {
            leases.push(lease);
        }
    }
    for (index, row) in &rows {
        let Outcome::Stored { leases, waiting } = &mut outcomes[*index] else { continue };
        if !row.ordered {
            leases.extend(desk.take(tx, row.id, row.subscription, row.due));
        } else if !promoted.contains(&row.id) {
            waiting.push(row.id);
        }
    }
    jobs::add(tx, &desk.jobs).await
}

/// Hands jobs to the worker that asked for them, as far as it and their lanes allow.
pub(crate) struct Desk {
    pub(crate) hand_off: Option<HandOff>,
    pub(crate) jobs: Vec<Job>,
}

impl Desk {
    /// Takes in a job that is due at `due`, and leases it if it can be served at once and nothing in its lane
    /// has waited longer.
    pub(crate) fn take(
        &mut self,
        tx: &mut Tx<'_>,
        id: DeliveryId,
        lane_id: SubscriptionId,
        due: i64,
    ) -> Option<Lease> {
        let lease = self.hand_off.as_mut().and_then(|hand_off| {
            let lane = tx.memory.lane(&lane_id)?;
            let class = lane.class();
            let allowed = due <= tx.now
                && class != Class::Dead
                && !hand_off.avoid.contains(&lane_id)
                && hand_off.room.fits(class) > 0
                && lane.next_due > tx.now
                && !lane.is_parked(tx.now)
                && lane.permits(hand_off.max_in_flight, tx.now) > 0;
            if !allowed {
                return None;
            }
            hand_off.room.take(class, 1);
            let until = tx.now.saturating_add(micros(hand_off.lease));
            let lane = tx.memory.lane_mut(lane_id);
            lane.give(1, tx.now);
            let lease = Lease {
                id,
                lane: lane_id,
                token: hand_off.token,
                class,
                mark: lane.durable.health.mark,
                lane_version: lane.durable.version.unwrap_or(0),
                unsettled: Vec::new(),
            };
            let held = Held { token: hand_off.token, lane: lane_id, until, live: true, due };
            tx.memory.grant(id, held);
            Some(lease)
        });
        if lease.is_none() {
            tx.memory.pending(lane_id, due);
        }
        self.jobs.push(Job { id, lane: lane_id, due, token: lease.as_ref().map(|lease| lease.token) });
        lease
    }
}

async fn answer(tx: &mut Tx<'_>, outcomes: Vec<Outcome>) -> Result<Vec<Inserted>, Fault> {
    let mut answers = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        answers.push(match outcome {
            Outcome::Stored { leases, waiting } => Inserted::Stored { leases, waiting },
            Outcome::KeyReused => Inserted::KeyReused,
            Outcome::Outdated => Inserted::Outdated,
            Outcome::Known { id, count } => Inserted::Duplicate(duplicate(tx, id, count).await?),
        });
    }
    Ok(answers)
}

async fn duplicate(tx: &mut Tx<'_>, id: EventId, count: Option<u64>) -> Result<Duplicate, Fault> {
    let rows = sqlx::query(
        "SELECT e.delivery_count, d.id, d.subscription FROM webhooks_events e
         LEFT JOIN webhooks_deliveries d ON d.event = e.seq WHERE e.id = ? ORDER BY d.id LIMIT ?",
    )
    .bind(&id.as_bytes()[..])
    .bind(LISTED)
    .fetch_all(&mut *tx.conn)
    .await?;
    let mut deliveries = Vec::with_capacity(rows.len());
    let mut stored_count = 0;
    for row in &rows {
        stored_count = codec::unsigned(row, "delivery_count")?;
        if row.try_get::<Option<&[u8]>, _>("id")?.is_some() {
            deliveries.push((codec::delivery_id(row, "id")?, codec::subscription_id(row, "subscription")?));
        }
    }
    let delivery_count = count.unwrap_or(stored_count);
    // What a later replay added was no part of the first answer; its ids are later ones.
    deliveries.truncate(usize::try_from(delivery_count).unwrap_or(usize::MAX));
    Ok(Duplicate { event_id: id, deliveries, delivery_count })
}
