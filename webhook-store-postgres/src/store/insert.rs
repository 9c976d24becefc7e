//! Publishing: events, their deliveries and their jobs in one commit.
//!
//! What becomes of each event is decided first, in order: known already by its id or its key, refused,
//! outdated, or to be stored. Then all that is stored goes into the tables by one statement. That ids and keys
//! are new and configurations current is the common case and is not looked up: the statement says, or fails,
//! when it is not so; all is then taken back and made again with a look first.
//!
//! Publishers hold their tenants' configurations shared from before the look at their versions to the commit
//! (promise 10). So a subscription that was created before is seen, and what a deletion must cancel is there
//! when it looks for it.

use std::collections::{HashMap, HashSet};

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;
use webhook_core::id::{DeliveryId, EventId, SubscriptionId};
use webhook_core::model::Tenant;
use webhook_core::queue::{Enqueued, HandOff, Lease, NewJob};
use webhook_core::store::{Duplicate, Insert, Inserted, KEY_LIFETIME};
use webhook_core::time::Timestamp;

use super::jobs::Part;
use super::turns;
use crate::codec::{self, Moment, micros, signed_small};
use crate::connection::rollback;
use crate::error::Fault;
use crate::locks::{self, Lock};
use crate::open::Inner;
use crate::queue::Adding;
use crate::sql;

/// A duplicate's answer names at most so many deliveries.
const LISTED: i64 = 1000;
/// How often it is looked again for what somebody else stored meanwhile.
const TRIES: u32 = 8;

pub(super) async fn insert(
    conn: &mut PgConnection,
    store: &Inner,
    events: &[Insert],
    hand_off: Option<&HandOff>,
) -> Result<Vec<Inserted>, Fault> {
    let (shared, alone) = wanted_locks(events);
    let mut refused = None;
    for attempt in 0..TRIES {
        locks::begin_with(conn, store.connector.schema(), &shared, &alone).await?;
        let known = if attempt == 0 { None } else { Some(look(conn, events).await?) };
        let mut part = Part::new(store);
        match attempt_with(conn, &mut part, events, hand_off, known.as_ref()).await {
            Ok(Some(answers)) => {
                part.commit(conn).await?;
                return Ok(answers);
            }
            Ok(None) => {}
            // The queue calls a job that is there already a conflict.
            Err(fault) if fault.is_unique_violation() || fault.is_conflict() => refused = Some(fault),
            Err(fault) => return Err(fault),
        }
        rollback(conn).await?;
    }
    // Not an event's id, which the look would have told, so a delivery's: core draws those, and never twice.
    Err(refused.unwrap_or(Fault::Defect("events kept changing while they were stored")))
}

fn wanted_locks(events: &[Insert]) -> (Vec<Lock>, Vec<Lock>) {
    let shared = events.iter().map(|insert| Lock::configuration(&insert.event.tenant)).collect();
    let mut alone = Vec::new();
    for insert in events {
        let key = insert.event.ordering_key.as_deref().unwrap_or_default();
        let ordered = insert.deliveries.iter().filter(|delivery| delivery.ordered);
        alone.extend(ordered.map(|delivery| Lock::order(&delivery.subscription_id, key)));
    }
    (shared, alone)
}

/// What is stored of a batch already.
struct Known {
    events: HashMap<EventId, Tenant>,
    keys: HashMap<(String, String), KnownKey>,
    versions: HashMap<String, u64>,
}

struct KnownKey {
    fingerprint: Vec<u8>,
    event_id: EventId,
    delivery_count: u64,
}

async fn look(conn: &mut PgConnection, events: &[Insert]) -> Result<Known, Fault> {
    let ids: Vec<Uuid> = events.iter().map(|insert| insert.event.id.as_uuid()).collect();
    let mut known = Known { events: HashMap::new(), keys: HashMap::new(), versions: HashMap::new() };
    for row in sqlx::query(sql::KNOWN_EVENTS).bind(ids).fetch_all(&mut *conn).await? {
        known.events.insert(codec::event_id(&row, "event")?, codec::tenant(&row, "tenant")?);
    }
    let keyed = || events.iter().filter(|insert| insert.event.idempotency_key.is_some());
    let tenants: Vec<&str> = keyed().map(|insert| insert.event.tenant.as_str()).collect();
    let keys: Vec<&str> = keyed().filter_map(|insert| insert.event.idempotency_key.as_deref()).collect();
    if !keys.is_empty() {
        for row in sqlx::query(sql::KNOWN_KEYS).bind(tenants).bind(keys).fetch_all(&mut *conn).await? {
            let name = (codec::text(&row, "tenant")?.to_owned(), codec::text(&row, "key")?.to_owned());
            let key = KnownKey {
                fingerprint: codec::blob(&row, "fingerprint")?.to_vec(),
                event_id: codec::event_id(&row, "event")?,
                delivery_count: codec::small(&row, "delivery_count")?,
            };
            known.keys.insert(name, key);
        }
    }
    for row in sqlx::query(sql::CONFIGURATIONS).bind(tenants_of(events)).fetch_all(&mut *conn).await? {
        known
            .versions
            .insert(codec::text(&row, "tenant")?.to_owned(), codec::unsigned(&row, "config_version")?);
    }
    Ok(known)
}

fn tenants_of(events: &[Insert]) -> Vec<&str> {
    let mut tenants: Vec<&str> = events.iter().map(|insert| insert.event.tenant.as_str()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    tenants
}

/// What is to be answered, as far as it is known.
enum Outcome {
    Stored { leases: Vec<Lease>, waiting: Vec<DeliveryId> },
    Known { id: EventId, count: Option<u64> },
    KeyReused,
    Outdated,
}

/// Stores what is new. `None` when it turns out, without a look, that something is not.
async fn attempt_with(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    events: &[Insert],
    hand_off: Option<&HandOff>,
    known: Option<&Known>,
) -> Result<Option<Vec<Inserted>>, Fault> {
    let (mut outcomes, fresh) = decide(events, known);
    if !fresh.is_empty() {
        // Those that take turns become jobs when it is known who leads.
        let takes_turns = |index: &usize| events[*index].deliveries.iter().any(|delivery| delivery.ordered);
        let adding = part.adding(hand_off).filter(|_| !fresh.iter().any(takes_turns));
        let is_queued = adding.is_some();
        let stored = put(conn, part, events, &fresh, adding, &mut outcomes).await?;
        let Some(now) = stored else { return Ok(None) };
        if !is_queued {
            take_turns_and_jobs(conn, part, events, &fresh, hand_off, now, &mut outcomes).await?;
        }
    }
    let mut answers = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        answers.push(match outcome {
            Outcome::Stored { leases, waiting } => Inserted::Stored { leases, waiting },
            Outcome::KeyReused => Inserted::KeyReused,
            Outcome::Outdated => Inserted::Outdated,
            Outcome::Known { id, count } => Inserted::Duplicate(duplicate(conn, id, count).await?),
        });
    }
    Ok(Some(answers))
}

/// What becomes of each event, and the places of those to be stored. Without a look, all that the batch itself
/// does not repeat is taken to be new and current.
fn decide(events: &[Insert], known: Option<&Known>) -> (Vec<Outcome>, Vec<usize>) {
    let mut fresh = Vec::with_capacity(events.len());
    let mut ids: HashMap<EventId, &Tenant> = HashMap::with_capacity(events.len());
    let mut batch_keys: HashMap<(&str, &str), &Insert> = HashMap::new();
    let mut outcomes = Vec::with_capacity(events.len());
    for (index, insert) in events.iter().enumerate() {
        let event = &insert.event;
        let key = event.idempotency_key.as_deref().map(|key| (event.tenant.as_str(), key));
        let holder = ids.get(&event.id).copied().or_else(|| known?.events.get(&event.id));
        let stored_key = key.and_then(|(tenant, key)| known?.keys.get(&(tenant.to_owned(), key.to_owned())));
        let earlier = key.and_then(|key| batch_keys.get(&key).copied());
        let taken = stored_key
            .map(|key| (key.fingerprint == insert.fingerprint, key.event_id, key.delivery_count))
            .or_else(|| {
                let first = earlier?;
                let same = first.fingerprint == insert.fingerprint;
                Some((same, first.event.id, first.deliveries.len() as u64))
            });
        let is_current = known.is_none_or(|known| {
            let version = known.versions.get(event.tenant.as_str()).copied().unwrap_or(0);
            version == insert.config_version
        });
        outcomes.push(match (holder, taken) {
            (Some(tenant), _) if *tenant == event.tenant => Outcome::Known { id: event.id, count: None },
            // An id is there once, whoever took it; of another tenant's event nothing is told.
            (Some(_), _) | (None, Some((false, ..))) => Outcome::KeyReused,
            (None, Some((true, id, count))) => Outcome::Known { id, count: Some(count) },
            (None, None) if !is_current => Outcome::Outdated,
            (None, None) => {
                ids.insert(event.id, &event.tenant);
                if let Some(key) = key {
                    batch_keys.insert(key, insert);
                }
                fresh.push(index);
                Outcome::Stored { leases: Vec::new(), waiting: Vec::new() }
            }
        });
    }
    (outcomes, fresh)
}

/// Puts events and all that is theirs into the tables, with their jobs when these are to be added at once.
/// Answers when it was, or `None` when a key is taken or a configuration is not the one that was matched against.
async fn put(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    events: &[Insert],
    fresh: &[usize],
    mut adding: Option<Adding>,
    outcomes: &mut [Outcome],
) -> Result<Option<Timestamp>, Fault> {
    let new: Vec<&Insert> = fresh.iter().map(|index| &events[*index]).collect();
    let each = |count: fn(&Insert) -> usize| -> usize { new.iter().map(|insert| count(insert)).sum() };
    let deliveries = each(|insert| insert.deliveries.len());
    let mut e = Events::with_capacity(new.len());
    let mut d = Deliveries::with_capacity(deliveries);
    let mut unmatched = Vec::new();
    let mut k = Keys::default();
    for insert in &new {
        let event = &*insert.event;
        for delivery in &insert.deliveries {
            d.id.push(delivery.id.as_uuid());
            d.event.push(event.id.as_uuid());
            d.subscription.push(delivery.subscription_id.as_uuid());
            d.ordered.push(delivery.ordered);
            d.deliver_at.push(event.deliver_at.map(Moment::from));
            d.give_up_after.push(micros(delivery.give_up_after));
            if let Some(adding) = &mut adding {
                let due = event.deliver_at.map(Moment::from);
                adding.push(delivery.id, delivery.subscription_id, due);
            }
        }
        if insert.deliveries.is_empty() {
            unmatched.push(event.id.as_uuid());
        }
    }
    // In an order that all publishers share, or two batches would wait for each other's ids and keys.
    let mut by_id = new.clone();
    by_id.sort_unstable_by_key(|insert| insert.event.id);
    by_id.iter().for_each(|insert| e.push(insert));
    let mut by_key = new.clone();
    by_key.sort_unstable_by(|a, b| key_of(a).cmp(&key_of(b)));
    by_key.iter().for_each(|insert| k.push(insert));
    let keys = k.key.len();
    let tenants = tenants_of(events);
    let text = match (adding.is_some(), keys == 0 && unmatched.is_empty()) {
        (true, true) => sql::INSERT_PLAIN_AND_QUEUE,
        (true, false) => sql::INSERT_AND_QUEUE,
        (false, true) => sql::INSERT_PLAIN,
        (false, false) => sql::INSERT,
    };
    let query = sqlx::query(text)
        .bind(e.id)
        .bind(e.tenant)
        .bind(e.event_type)
        .bind(e.content_type)
        .bind(e.delivery_count)
        .bind(e.payload_size)
        .bind(e.ordering_key)
        .bind(e.deliver_at)
        .bind(e.idempotency_key)
        .bind(e.only)
        .bind(e.payload)
        .bind(d.id)
        .bind(d.event)
        .bind(d.subscription)
        .bind(d.ordered)
        .bind(d.deliver_at)
        .bind(d.give_up_after)
        .bind(unmatched)
        .bind(k.tenant)
        .bind(k.key)
        .bind(k.fingerprint)
        .bind(k.event)
        .bind(k.delivery_count)
        .bind(k.lifetime)
        .bind(tenants)
        .bind(e.traceparent.iter().any(Option::is_some).then_some(e.traceparent));
    let query = match &adding {
        Some(adding) => adding.bind(query, None, part.after()?),
        None => query,
    };
    let rows = query.fetch_all(&mut *conn).await?;
    let Some(first) = rows.first() else { return Err(Fault::Defect("a statement answered nothing")) };
    if codec::get::<i64>(first, "keys")? < i64::try_from(keys).unwrap_or(i64::MAX) {
        return Ok(None);
    }
    let mut versions: HashMap<&str, u64> = HashMap::with_capacity(rows.len());
    for row in &rows {
        if let Some(tenant) = row.try_get::<Option<&str>, _>("tenant")? {
            versions.insert(tenant, codec::unsigned(row, "config_version")?);
        }
    }
    let is_current = |insert: &&Insert| {
        versions.get(insert.event.tenant.as_str()).copied().unwrap_or(0) == insert.config_version
    };
    if !new.iter().all(is_current) {
        return Ok(None);
    }
    if let Some(adding) = adding {
        let places = fresh.iter().flat_map(|index| events[*index].deliveries.iter().map(move |_| *index));
        for (index, answer) in places.zip(adding.answer(first, part.after()?)?) {
            if let (Enqueued::Leased(lease), Outcome::Stored { leases, .. }) = (answer, &mut outcomes[index])
            {
                leases.push(lease);
            }
        }
    }
    Ok(Some(codec::moment(first, "now")?))
}

/// What an idempotency key is known by.
fn key_of(insert: &Insert) -> Option<(&str, &str)> {
    let key = insert.event.idempotency_key.as_deref()?;
    Some((insert.event.tenant.as_str(), key))
}

/// The columns of events.
struct Events<'a> {
    id: Vec<Uuid>,
    tenant: Vec<&'a str>,
    event_type: Vec<&'a str>,
    content_type: Vec<&'a str>,
    delivery_count: Vec<i32>,
    payload_size: Vec<i32>,
    ordering_key: Vec<Option<&'a str>>,
    deliver_at: Vec<Option<Moment>>,
    idempotency_key: Vec<Option<&'a str>>,
    only: Vec<Option<Uuid>>,
    payload: Vec<&'a [u8]>,
    traceparent: Vec<Option<String>>,
}

impl<'a> Events<'a> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            id: Vec::with_capacity(rows),
            tenant: Vec::with_capacity(rows),
            event_type: Vec::with_capacity(rows),
            content_type: Vec::with_capacity(rows),
            delivery_count: Vec::with_capacity(rows),
            payload_size: Vec::with_capacity(rows),
            ordering_key: Vec::with_capacity(rows),
            deliver_at: Vec::with_capacity(rows),
            idempotency_key: Vec::with_capacity(rows),
            only: Vec::with_capacity(rows),
            payload: Vec::with_capacity(rows),
            traceparent: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, insert: &'a Insert) {
        let event = &*insert.event;
        self.id.push(event.id.as_uuid());
        self.tenant.push(event.tenant.as_str());
        self.event_type.push(event.event_type.as_str());
        self.content_type.push(&event.content_type);
        self.delivery_count.push(signed_small(insert.deliveries.len()));
        self.payload_size.push(signed_small(event.payload.len()));
        self.ordering_key.push(event.ordering_key.as_deref());
        self.deliver_at.push(event.deliver_at.map(Moment::from));
        self.idempotency_key.push(event.idempotency_key.as_deref());
        self.only.push(event.only.map(|only| only.as_uuid()));
        self.payload.push(&event.payload);
        self.traceparent.push(event.traceparent.map(|given| given.to_string()));
    }
}

/// The columns of deliveries.
struct Deliveries {
    id: Vec<Uuid>,
    event: Vec<Uuid>,
    subscription: Vec<Uuid>,
    ordered: Vec<bool>,
    deliver_at: Vec<Option<Moment>>,
    give_up_after: Vec<i64>,
}

impl Deliveries {
    fn with_capacity(rows: usize) -> Self {
        Self {
            id: Vec::with_capacity(rows),
            event: Vec::with_capacity(rows),
            subscription: Vec::with_capacity(rows),
            ordered: Vec::with_capacity(rows),
            deliver_at: Vec::with_capacity(rows),
            give_up_after: Vec::with_capacity(rows),
        }
    }
}

/// The columns of idempotency keys.
#[derive(Default)]
struct Keys<'a> {
    tenant: Vec<&'a str>,
    key: Vec<&'a str>,
    fingerprint: Vec<&'a [u8]>,
    event: Vec<Uuid>,
    delivery_count: Vec<i32>,
    lifetime: Vec<i64>,
}

impl<'a> Keys<'a> {
    fn push(&mut self, insert: &'a Insert) {
        let Some((tenant, key)) = key_of(insert) else { return };
        self.tenant.push(tenant);
        self.key.push(key);
        self.fingerprint.push(&insert.fingerprint);
        self.event.push(insert.event.id.as_uuid());
        self.delivery_count.push(signed_small(insert.deliveries.len()));
        self.lifetime.push(micros(KEY_LIFETIME));
    }
}

/// Lets those that take turns take their places; the heads and those that take none become jobs.
async fn take_turns_and_jobs(
    conn: &mut PgConnection,
    part: &mut Part<'_>,
    events: &[Insert],
    fresh: &[usize],
    hand_off: Option<&HandOff>,
    now: Timestamp,
    outcomes: &mut [Outcome],
) -> Result<(), Fault> {
    let mut line: Vec<turns::Waiting<'_>> = Vec::new();
    // Whose delivery it is, by its place in the batch.
    let mut place: HashMap<DeliveryId, usize> = HashMap::new();
    let mut new: Vec<NewJob> = Vec::new();
    let is_own = part.is_own();
    for index in fresh {
        let insert = &events[*index];
        let wait = insert.event.deliver_at.map_or(std::time::Duration::ZERO, |at| at.since(now));
        for delivery in &insert.deliveries {
            if is_own || delivery.ordered {
                place.insert(delivery.id, *index);
            }
            if delivery.ordered {
                line.push(turns::Waiting {
                    id: delivery.id,
                    subscription: delivery.subscription_id,
                    key: insert.event.ordering_key.as_deref().unwrap_or_default(),
                });
            } else if is_own {
                new.push(job(delivery.id, delivery.subscription_id, wait));
            }
        }
    }
    let heads = turns::take_places(conn, &line).await?;
    let leading: HashSet<DeliveryId> = heads.iter().map(|head| head.id).collect();
    for waiting in line.iter().filter(|waiting| !leading.contains(&waiting.id)) {
        if let Some(Outcome::Stored { waiting: answer, .. }) =
            place.get(&waiting.id).and_then(|index| outcomes.get_mut(*index))
        {
            answer.push(waiting.id);
        }
    }
    new.extend(heads.iter().map(turns::Head::job));
    for enqueued in part.add(conn, &new, hand_off).await? {
        if let Enqueued::Leased(lease) = enqueued
            && let Some(Outcome::Stored { leases, .. }) =
                place.get(&lease.id).and_then(|index| outcomes.get_mut(*index))
        {
            leases.push(lease);
        }
    }
    Ok(())
}

fn job(id: DeliveryId, lane: SubscriptionId, wait: std::time::Duration) -> NewJob {
    NewJob { id, lane, wait, lane_version: 0, urgent: false }
}

async fn duplicate(conn: &mut PgConnection, id: EventId, count: Option<u64>) -> Result<Duplicate, Fault> {
    let rows = sqlx::query(sql::DUPLICATE).bind(id.as_uuid()).bind(LISTED).fetch_all(&mut *conn).await?;
    let mut deliveries = Vec::with_capacity(rows.len());
    let mut stored_count = 0;
    for row in &rows {
        stored_count = codec::small(row, "delivery_count")?;
        if let Some(id) = codec::optional::<Uuid>(row, "id")? {
            deliveries.push((DeliveryId::from_uuid(id), codec::subscription_id(row, "subscription")?));
        }
    }
    Ok(Duplicate { event_id: id, deliveries, delivery_count: count.unwrap_or(stored_count) })
}
