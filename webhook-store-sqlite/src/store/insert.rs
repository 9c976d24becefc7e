//! Publishing: events, their deliveries and their jobs in one commit.
//!
//! What becomes of each event is decided first, in order: known already by its id or its key, refused,
//! outdated, or to be stored. Then all that is stored goes into each table by one statement. That ids are
//! new is the common case and is not looked up: when the insert meets a known one, the attempt is taken back
//! and made again with a look first.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use webhook_core::id::{DeliveryId, EventId, SubscriptionId};
use webhook_core::lane::{Class, Room};
use webhook_core::model::Tenant;
use webhook_core::queue::{HandOff, Lease};
use webhook_core::store::{Duplicate, Insert, Inserted, KEY_LIFETIME};
use webhook_core::time::Timestamp;

use super::{subscriptions, turns};
use crate::codec::{self, micros, signed};
use crate::error::Fault;
use crate::lanes::Held;
use crate::queue::jobs::{self, Job};
use crate::sql::{Bulk, Fused, Row};
use crate::writer::Tx;

/// A duplicate's answer names at most so many deliveries.
const LISTED: i64 = 1000;

static EVENTS: Bulk = Bulk::new(
    "INSERT INTO webhooks_events (seq, tenant, id, event_type, content_type, created_at, delivery_count,
         payload_size, ordering_key, deliver_at, idempotency_key, only_subscription, payload, traceparent)
     SELECT * FROM (VALUES ",
    14,
    ") WHERE column1 IS NOT NULL ON CONFLICT (tenant, id) DO NOTHING",
);
static DELIVERIES: Bulk = Bulk::new(
    "INSERT INTO webhooks_deliveries (id, event, subscription, created_at, turn, next_attempt_at, chain_start,
         give_up_at, revision, status, attempts, failed, unknowns, chain)
     SELECT *, 0, 'pending', 0, 0, 0, 0 FROM (VALUES ",
    8,
    // When the event is known already, so are these: that is found out by counting.
    ") WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING",
);
static FUSED: Fused<3> = Fused::new([&EVENTS, &DELIVERIES, &jobs::ADD]);
static FINISHED: Bulk = Bulk::new(
    "INSERT OR IGNORE INTO webhooks_finished (event, at) SELECT * FROM (VALUES ",
    2,
    ") WHERE column1 IS NOT NULL",
);
static KNOWN_IDS: Bulk = Bulk::new(
    "SELECT e.tenant, e.id FROM (VALUES ",
    2,
    ") v CROSS JOIN webhooks_events e ON e.tenant = v.column1 AND e.id = v.column2",
);
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
    FINISHED
        .run(tx.conn, events, |row, (event, at)| {
            row.add(*event).add(*at);
        })
        .await?;
    Ok(())
}

struct KnownKey {
    fingerprint: Vec<u8>,
    event_id: EventId,
    delivery_count: u64,
}

/// A delivery that is being stored.
struct NewRow<'a> {
    /// The place of its event in the batch.
    index: usize,
    /// Its event's number.
    seq: i64,
    /// The key of its order.
    key: &'a str,
    id: &'a DeliveryId,
    subscription: &'a SubscriptionId,
    ordered: bool,
    due: i64,
    give_up_at: i64,
}

pub(super) async fn insert(
    tx: &mut Tx<'_>,
    events: Vec<Insert>,
    hand_off: Option<HandOff>,
) -> Result<Vec<Inserted>, Fault> {
    if let Some(hand_off) = &hand_off {
        tx.memory.use_default(hand_off.max_in_flight, tx.now);
    }
    if let Some(outcomes) = attempt(tx, &events, hand_off.as_ref(), None).await? {
        return answer(tx, outcomes).await;
    }
    tx.start_again().await?;
    tx.begin().await?;
    let known = known_ids(tx, &events).await?;
    match attempt(tx, &events, hand_off.as_ref(), Some(&known)).await? {
        Some(outcomes) => answer(tx, outcomes).await,
        None => Err(Fault::Defect("an event is known and cannot be found")),
    }
}

/// Stores all events but the `known` ones, if it was looked which are. `None` when it must be looked: an event
/// turned out to be known, or is refused unless it is.
async fn attempt(
    tx: &mut Tx<'_>,
    events: &[Insert],
    hand_off: Option<&HandOff>,
    known: Option<&HashSet<(Tenant, EventId)>>,
) -> Result<Option<Vec<Outcome>>, Fault> {
    let keys = known_keys(tx, events).await?;
    let (mut outcomes, fresh) = decide(tx, events, known, &keys);
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::KeyReused | Outcome::Outdated);
    if known.is_none() && outcomes.iter().any(refused) {
        return Ok(None);
    }
    let rows = rows(tx.now, events, &fresh);
    if !store(tx, events, &fresh, &rows, hand_off, &mut outcomes).await? {
        return Ok(None);
    }
    store_keys(tx, events, &fresh).await?;
    let unmatched = fresh.iter().filter(|(index, _)| events[*index].deliveries.is_empty());
    let unmatched: Vec<(i64, i64)> = unmatched.map(|(_, seq)| (*seq, tx.now)).collect();
    finished(tx, &unmatched).await?;
    for (index, _) in &fresh {
        let tenant = &events[*index].event.tenant;
        if !tx.memory.knows_tenant(tenant) {
            subscriptions::note_tenant(tx, tenant).await?;
        }
    }
    Ok(Some(outcomes))
}

/// What is to be answered, as far as it is known.
enum Outcome {
    Stored { leases: Vec<Lease>, waiting: Vec<DeliveryId> },
    Known { id: EventId, tenant: Tenant, count: Option<u64> },
    KeyReused,
    Outdated,
}

/// The place in the batch and the number of an event that is stored.
type Fresh = Vec<(usize, i64)>;

fn decide(
    tx: &mut Tx<'_>,
    events: &[Insert],
    known: Option<&HashSet<(Tenant, EventId)>>,
    keys: &HashMap<(String, String), KnownKey>,
) -> (Vec<Outcome>, Fresh) {
    let mut fresh = Fresh::with_capacity(events.len());
    let mut ids: HashSet<(&Tenant, EventId)> = HashSet::with_capacity(events.len());
    let mut batch_keys: HashMap<(&str, &str), &Insert> = HashMap::new();
    let mut outcomes = Vec::with_capacity(events.len());
    for (index, insert) in events.iter().enumerate() {
        let event = &insert.event;
        let key = event.idempotency_key.as_deref().map(|key| (event.tenant.as_str(), key));
        let stored_key = key.and_then(|(tenant, key)| keys.get(&(tenant.to_owned(), key.to_owned())));
        let earlier = key.and_then(|key| batch_keys.get(&key).copied());
        let id = (&event.tenant, event.id);
        let is_known = |known: &HashSet<_>| known.contains(&(event.tenant.clone(), event.id));
        let repeats = ids.contains(&id) || known.is_some_and(is_known);
        let taken = stored_key
            .map(|key| (key.fingerprint == insert.fingerprint, key.event_id, key.delivery_count))
            .or_else(|| {
                let first = earlier?;
                let same = first.fingerprint == insert.fingerprint;
                Some((same, first.event.id, first.deliveries.len() as u64))
            });
        outcomes.push(match taken {
            _ if repeats => Outcome::Known { id: event.id, tenant: event.tenant.clone(), count: None },
            Some((true, id, count)) => {
                Outcome::Known { id, tenant: event.tenant.clone(), count: Some(count) }
            }
            Some((false, ..)) => Outcome::KeyReused,
            None if insert.config_version != tx.memory.config(&event.tenant) => Outcome::Outdated,
            None => {
                ids.insert(id);
                if let Some(key) = key {
                    batch_keys.insert(key, insert);
                }
                fresh.push((index, tx.memory.take_seq()));
                Outcome::Stored { leases: Vec::new(), waiting: Vec::new() }
            }
        });
    }
    (outcomes, fresh)
}

fn rows<'a>(now: i64, events: &'a [Insert], fresh: &Fresh) -> Vec<NewRow<'a>> {
    let mut rows = Vec::with_capacity(fresh.len());
    for (index, seq) in fresh {
        let event = &*events[*index].event;
        let due = event.deliver_at.map_or(now, |at| at.as_micros().max(now));
        rows.extend(events[*index].deliveries.iter().map(|delivery| NewRow {
            index: *index,
            seq: *seq,
            key: event.ordering_key.as_deref().unwrap_or_default(),
            id: &delivery.id,
            subscription: &delivery.subscription_id,
            ordered: delivery.ordered,
            due,
            give_up_at: due.saturating_add(micros(delivery.give_up_after)),
        }));
    }
    rows
}

/// Stores events, deliveries and jobs. Answers whether all events were new.
async fn store(
    tx: &mut Tx<'_>,
    events: &[Insert],
    fresh: &Fresh,
    rows: &[NewRow<'_>],
    hand_off: Option<&HandOff>,
    outcomes: &mut [Outcome],
) -> Result<bool, Fault> {
    let mut desk = Desk::new(hand_off);
    let ordered = rows.iter().any(|row| row.ordered);
    if !tx.has_begun() && !ordered && Fused::<3>::suits(&[fresh.len(), rows.len()]) {
        take_jobs(tx, &mut desk, rows, outcomes);
        let now = tx.now;
        let [stored, delivered, added] = FUSED
            .bind(fresh.len().max(rows.len()))
            .part(fresh, |row, (index, seq)| bind_event(row, &events[*index], *seq, now))
            .part(rows, |row, new| bind_delivery(row, new, now))
            .part(&desk.jobs, jobs::bind)
            .run(tx)
            .await?;
        if stored < fresh.len() as u64 {
            return Ok(false);
        }
        all_new(delivered, rows)?;
        jobs::all_new(added, &desk.jobs)?;
        return Ok(true);
    }
    if fresh.is_empty() {
        return Ok(true);
    }
    tx.begin().await?;
    let now = tx.now;
    let stored =
        EVENTS.run(tx.conn, fresh, |row, (index, seq)| bind_event(row, &events[*index], *seq, now)).await?;
    if stored < fresh.len() as u64 {
        return Ok(false);
    }
    let delivered = DELIVERIES.run(tx.conn, rows, |row, new| bind_delivery(row, new, now)).await?;
    all_new(delivered, rows)?;
    if ordered {
        take_turns(tx, &mut desk, rows, outcomes).await?;
    }
    take_jobs(tx, &mut desk, rows, outcomes);
    jobs::add(tx, &desk.jobs).await?;
    Ok(true)
}

/// Ids are drawn by core and never repeat. A batch that holds one twice is refused, and stores nothing.
fn all_new(stored: u64, rows: &[NewRow<'_>]) -> Result<(), Fault> {
    if stored < rows.len() as u64 {
        return Err(Fault::Defect("a new delivery has the id of another one"));
    }
    Ok(())
}

/// Lets those that take no turns become jobs.
fn take_jobs(tx: &mut Tx<'_>, desk: &mut Desk<'_>, rows: &[NewRow<'_>], outcomes: &mut [Outcome]) {
    for row in rows.iter().filter(|row| !row.ordered) {
        let lease = desk.take(tx, *row.id, *row.subscription, row.due, false);
        if let (Some(lease), Outcome::Stored { leases, .. }) = (lease, &mut outcomes[row.index]) {
            leases.push(lease);
        }
    }
}

/// Lets those that take turns take their places; the heads become jobs.
async fn take_turns(
    tx: &mut Tx<'_>,
    desk: &mut Desk<'_>,
    rows: &[NewRow<'_>],
    outcomes: &mut [Outcome],
) -> Result<(), Fault> {
    let line: Vec<turns::Waiting<'_>> = rows
        .iter()
        .filter(|row| row.ordered)
        .map(|row| turns::Waiting {
            id: *row.id,
            subscription: *row.subscription,
            key: row.key,
            turn: row.seq,
        })
        .collect();
    let mut leased = HashMap::new();
    let mut heads = HashSet::new();
    for head in turns::take_places(tx, &line).await? {
        heads.insert(head.id);
        if let Some(lease) = desk.take(tx, head.id, head.lane, head.due, true) {
            leased.insert(head.id, lease);
        }
    }
    for row in rows.iter().filter(|row| row.ordered) {
        let Outcome::Stored { leases, waiting } = &mut outcomes[row.index] else { continue };
        leases.extend(leased.remove(row.id));
        if !heads.contains(row.id) {
            waiting.push(*row.id);
        }
    }
    Ok(())
}

fn bind_event<'q>(row: &mut Row<'q>, insert: &'q Insert, seq: i64, now: i64) {
    let event = &*insert.event;
    row.add(seq);
    row.add(event.tenant.as_str());
    row.add(&event.id.as_bytes()[..]);
    row.add(event.event_type.as_str());
    row.add(&*event.content_type);
    row.add(now);
    row.add(signed(insert.deliveries.len() as u64));
    row.add(signed(event.payload.len() as u64));
    row.add(event.ordering_key.as_deref());
    row.add(event.deliver_at.map(Timestamp::as_micros));
    row.add(event.idempotency_key.as_deref());
    row.add(event.only.as_ref().map(|only| &only.as_bytes()[..]));
    row.add(&event.payload[..]);
    row.add(event.traceparent.map(|given| given.to_string()));
}

fn bind_delivery<'q>(row: &mut Row<'q>, new: &NewRow<'q>, now: i64) {
    row.add(&new.id.as_bytes()[..]);
    row.add(new.seq);
    row.add(&new.subscription.as_bytes()[..]);
    row.add(now);
    row.add(new.ordered.then_some(new.seq));
    row.add(new.due);
    row.add(new.due);
    row.add(new.give_up_at);
}

async fn known_ids(tx: &mut Tx<'_>, events: &[Insert]) -> Result<HashSet<(Tenant, EventId)>, Fault> {
    let rows = KNOWN_IDS.fetch(tx.conn, events, |row, insert| {
        row.add(insert.event.tenant.as_str()).add(&insert.event.id.as_bytes()[..]);
    });
    rows.await?.iter().map(|row| Ok((codec::tenant(row, "tenant")?, codec::event_id(row, "id")?))).collect()
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
    if keyed.is_empty() {
        return Ok(known);
    }
    tx.begin().await?;
    let rows = KNOWN_KEYS
        .fetch(tx.conn, &keyed, |row, (tenant, key)| {
            row.add(*tenant).add(*key);
        })
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
    KEYS.run(tx.conn, &keyed, |row, (insert, key)| {
        row.add(insert.event.tenant.as_str())
            .add(*key)
            .add(&insert.fingerprint[..])
            .add(&insert.event.id.as_bytes()[..])
            .add(signed(insert.deliveries.len() as u64))
            .add(expires_at);
    })
    .await?;
    Ok(())
}

/// Hands jobs to the worker that asked for them, as far as it and their lanes allow.
pub(crate) struct Desk<'a> {
    hand_off: Option<&'a HandOff>,
    room: Room,
    /// What it took in, to be stored.
    pub(crate) jobs: Vec<Job>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(hand_off: Option<&'a HandOff>) -> Self {
        let room = hand_off.map_or_else(Room::default, |hand_off| hand_off.room);
        Self { hand_off, room, jobs: Vec::new() }
    }

    /// Takes in a job that is due at `due`, and leases it if it can be served at once and nothing in its lane
    /// has waited longer.
    pub(crate) fn take(
        &mut self,
        tx: &mut Tx<'_>,
        id: DeliveryId,
        lane_id: SubscriptionId,
        due: i64,
        ordered: bool,
    ) -> Option<Lease> {
        let lease = self.hand_off.and_then(|hand_off| {
            let lane = tx.memory.lane(&lane_id)?;
            let class = lane.class();
            let allowed = due <= tx.now
                && class != Class::Dead
                && !hand_off.avoid.contains(&lane_id)
                && self.room.fits(class) > 0
                && lane.next_due > tx.now
                && !lane.is_parked(tx.now)
                && lane.permits(hand_off.max_in_flight, tx.now) > 0;
            if !allowed {
                return None;
            }
            self.room.take(class, 1);
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
            let held = Held { token: hand_off.token, lane: lane_id, until, live: true, ordered, due };
            tx.memory.grant(id, held);
            Some(lease)
        });
        if lease.is_none() {
            tx.memory.pending(lane_id, due);
        }
        self.jobs.push(Job {
            id,
            lane: lane_id,
            due,
            ordered,
            token: lease.as_ref().map(|lease| lease.token),
        });
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
            Outcome::Known { id, tenant, count } => {
                Inserted::Duplicate(duplicate(tx, &tenant, id, count).await?)
            }
        });
    }
    Ok(answers)
}

async fn duplicate(
    tx: &mut Tx<'_>,
    tenant: &Tenant,
    id: EventId,
    count: Option<u64>,
) -> Result<Duplicate, Fault> {
    let rows = sqlx::query(
        "SELECT e.delivery_count, d.id, d.subscription FROM webhooks_events e
         LEFT JOIN webhooks_deliveries d ON d.event = e.seq AND d.added IS NULL WHERE e.tenant = ? AND e.id = ?
         ORDER BY d.id LIMIT ?",
    )
    .bind(tenant.as_str())
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
    Ok(Duplicate { event_id: id, deliveries, delivery_count })
}
