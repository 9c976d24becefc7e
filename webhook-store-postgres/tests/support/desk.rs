//! A store, and the calls that tests make over and over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use webhook_core::id::{AttemptId, DeliveryId, EventId, SubscriptionId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::lifecycle::{Ending, Input, step};
use webhook_core::model::{
    ActiveSecret, Attempt, AttemptError, ErrorKind, Event, Outcome, Subscription, SubscriptionStatus, Tenant,
    Trigger,
};
use webhook_core::queue::{Claim, HandOff, JobQueue as _, Lease};
use webhook_core::retry::Schedule;
use webhook_core::secret::Secret;
use webhook_core::signature::SignatureScheme;
use webhook_core::store::{
    DeliveryStore as _, Insert, Inserted, Load, Loaded, NewDelivery, Record, RecordLease, Recorded,
    SubscriptionStore as _,
};
use webhook_core::time::Timestamp;
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx::{self, PgConnection};

use super::Case;

pub const LEASE: Duration = Duration::from_secs(30);

/// A store with a subscription.
pub struct Desk {
    pub store: PgStore,
    pub subscription: Arc<Subscription>,
}

impl Desk {
    pub async fn new(store: PgStore) -> Self {
        let subscription = store.create(&subscription()).await.unwrap();
        Self { store, subscription }
    }

    /// Publishes so many events to the subscription and answers with the leases, all of which it is handed.
    pub async fn publish(&self, count: usize) -> Vec<DeliveryId> {
        let inserts: Vec<Insert> = (0..count).map(|_| insert_of(event(), &[&self.subscription], 1)).collect();
        let answers = self.store.insert(&inserts, None).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Inserted::Stored { .. })), "{answers:?}");
        inserts.iter().map(|insert| insert.deliveries[0].id).collect()
    }

    pub async fn load(&self, ids: &[DeliveryId]) -> Vec<Loaded> {
        let wanted: Vec<Load> = ids.iter().map(|id| Load { id: *id, unsettled: Vec::new() }).collect();
        self.store.load(&wanted).await.unwrap().into_iter().map(Option::unwrap).collect()
    }

    /// Records attempts without leases.
    pub async fn record(&self, ids: &[DeliveryId], ending: &Ending) -> Vec<Recorded> {
        let loaded = self.load(ids).await;
        self.record_loaded(ids, &loaded, ending).await
    }

    pub async fn record_loaded(
        &self,
        ids: &[DeliveryId],
        loaded: &[Loaded],
        ending: &Ending,
    ) -> Vec<Recorded> {
        let records: Vec<Record> =
            ids.iter().zip(loaded).map(|(id, loaded)| result(*id, loaded, None, ending)).collect();
        self.store.record(&records).await.unwrap()
    }

    pub async fn claim(&self, jobs: u32) -> Vec<Lease> {
        self.store.claim(&claim(jobs)).await.unwrap()
    }
}

pub fn subscription() -> Subscription {
    Subscription {
        id: SubscriptionId::new(),
        tenant: Tenant::default(),
        target_url: "https://example.com/hook".parse().unwrap(),
        description: None,
        event_types: Vec::new(),
        filter: None,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        status: SubscriptionStatus::Active,
        disabled_reason: None,
        retry: None,
        timeout: None,
        max_in_flight: None,
        rate_limit: None,
        ordered: false,
        signature: SignatureScheme::Standard,
        verify: None,
        secrets: vec![ActiveSecret { secret: Secret::generate(), expires_at: None }],
        version: 1,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

pub fn event() -> Event {
    Event {
        id: EventId::new(),
        tenant: Tenant::default(),
        event_type: "order.created".parse().unwrap(),
        content_type: Arc::from("application/json"),
        payload: br#"{"id":42}"#.to_vec().into(),
        ordering_key: None,
        deliver_at: None,
        idempotency_key: None,
        only: None,
        traceparent: None,
    }
}

pub fn insert_of(event: Event, to: &[&Arc<Subscription>], config_version: u64) -> Insert {
    Insert {
        event: Arc::new(event),
        deliveries: to
            .iter()
            .map(|s| NewDelivery {
                id: DeliveryId::new(),
                subscription_id: s.id,
                ordered: s.ordered,
                give_up_after: Duration::from_secs(24 * 3600),
            })
            .collect(),
        config_version,
        fingerprint: [7; 32],
    }
}

pub fn claim(jobs: u32) -> Claim {
    Claim {
        id: Token::new(),
        worker: WorkerId::new(),
        lease: LEASE,
        room: Room { all: jobs, doubtful: jobs, dead: jobs },
        max_in_flight: 64,
        avoid: Vec::new(),
    }
}

pub fn hand_off(slots: u32) -> HandOff {
    HandOff {
        token: Token::new(),
        worker: WorkerId::new(),
        lease: LEASE,
        room: Room { all: slots, doubtful: slots, dead: slots },
        max_in_flight: 64,
        avoid: Vec::new(),
    }
}

pub fn success() -> Ending {
    Ending {
        outcome: Outcome::Succeeded,
        trigger: Trigger::Schedule,
        status_code: Some(200),
        error: None,
        retry_after: None,
        request: None,
        moved: false,
    }
}

pub fn failure() -> Ending {
    Ending {
        outcome: Outcome::Failed,
        status_code: Some(500),
        error: Some(AttemptError::new(ErrorKind::Status, "500")),
        ..success()
    }
}

pub fn policy() -> Schedule {
    Schedule::new(vec![Duration::ZERO, Duration::from_millis(1)], 0.0).unwrap()
}

/// What a worker records that loaded this.
pub fn result(id: DeliveryId, loaded: &Loaded, lease: Option<&Lease>, ending: &Ending) -> Record {
    let ending = Ending { request: loaded.state.request, ..ending.clone() };
    let input = Input::Ended { ending: &ending, chain: loaded.state.chain, late: false, replaces: None };
    let step = step(&loaded.state, &input, &policy(), 0.5).unwrap();
    let token = lease.map_or_else(Token::new, |lease| lease.token);
    let attempt = Attempt {
        id: AttemptId::new(),
        tenant: loaded.event.tenant.clone(),
        delivery_id: id,
        event_id: loaded.event.id,
        subscription_id: loaded.subscription_id,
        number: step.number.unwrap(),
        token,
        trigger: ending.trigger,
        started_at: Timestamp::from_micros(1),
        duration: Duration::from_millis(20),
        outcome: ending.outcome,
        status_code: ending.status_code,
        error: ending.error.clone(),
        response_headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        response_body: b"ok\xff".to_vec().into(),
        target_url: "https://example.com/hook".to_owned(),
    };
    Record {
        id,
        revision: loaded.state.revision,
        lease: lease.map(|lease| RecordLease { token: lease.token, mark: lease.mark, effect: Effect::Fast }),
        attempts: vec![attempt],
        state: step.state,
        next: step.next,
        new_chain: None,
    }
}

pub fn is_applied(recorded: &Recorded) -> bool {
    matches!(recorded, Recorded::Applied { .. })
}

/// What holds between the tables of a store with its own queue, whatever happened.
pub async fn check(case: &Case) {
    let mut conn: PgConnection = case.connect().await;
    let path = format!("SET search_path = {}", case.schema);
    sqlx::query(&path).execute(&mut conn).await.unwrap();
    let rules = [
        (
            "an unfinished delivery has a job, or waits behind the head of its key",
            "SELECT count(*) FROM deliveries d WHERE finished_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = d.id AND j.lane = d.subscription)
             AND NOT EXISTS (SELECT 1 FROM turns t JOIN turns h
                 ON h.subscription = t.subscription AND h.ordering_key = t.ordering_key AND h.head
                 WHERE t.delivery = d.id AND NOT t.head)",
        ),
        (
            "a finished delivery has a job only while a request is open",
            "SELECT count(*) FROM deliveries d JOIN jobs j ON j.id = d.id
             WHERE finished_at IS NOT NULL AND request IS NULL",
        ),
        (
            "one that waits for its turn has no job, a head has one",
            "SELECT count(*) FROM turns t WHERE head <> EXISTS (SELECT 1 FROM jobs j WHERE j.id = t.delivery)",
        ),
        (
            "a key with somebody in line has a head",
            "SELECT count(*) FROM (SELECT 1 FROM turns GROUP BY subscription, ordering_key
             HAVING count(*) FILTER (WHERE head) <> 1) x",
        ),
        (
            "those in line are unfinished and ordered, and all such are in line",
            "SELECT count(*) FROM turns t FULL JOIN deliveries d ON d.id = t.delivery
             WHERE (t.delivery IS NOT NULL) <> coalesce(d.ordered AND d.finished_at IS NULL, false)",
        ),
        (
            "what is unfinished or asked for is open, and nothing else is",
            "SELECT count(*) FROM open o FULL JOIN deliveries d ON d.id = o.id
             WHERE (o.id IS NOT NULL) <> coalesce(d.finished_at IS NULL OR d.request IS NOT NULL
                                                  OR d.next_attempt_at IS NOT NULL, false)",
        ),
        (
            "the dead are the exhausted and the cancelled",
            "SELECT count(*) FROM dead x FULL JOIN deliveries d ON d.id = x.id
             WHERE (x.id IS NOT NULL) <> coalesce(d.status IN ('exhausted', 'cancelled'), false)",
        ),
        (
            "attempts are numbered 1 to k without gaps",
            "SELECT count(*) FROM deliveries d WHERE attempts <>
                 (SELECT count(*) FROM attempts a WHERE a.delivery = d.id)
             OR attempts <> (SELECT coalesce(max(number), 0) FROM attempts a WHERE a.delivery = d.id)",
        ),
        (
            "a delivery is finished when it has an end",
            "SELECT count(*) FROM deliveries
             WHERE (finished_at IS NULL) <> (status IN ('pending', 'retrying'))",
        ),
        (
            "an event whose deliveries have all finished will be pruned",
            "SELECT count(*) FROM events e
             WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = e.id AND d.finished_at IS NULL)
             AND NOT EXISTS (SELECT 1 FROM finished f WHERE f.event = e.id
                 AND f.at >= coalesce((SELECT max(finished_at) FROM deliveries d WHERE d.event = e.id),
                                      e.created_at))",
        ),
        (
            "nothing is left of an event that is gone",
            "SELECT (SELECT count(*) FROM deliveries d
                     WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.id = d.event))
                  + (SELECT count(*) FROM attempts a
                     WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = a.delivery))",
        ),
        (
            "what a lane counts is what is leased and counted",
            "SELECT count(*) FROM lanes l
             WHERE in_flight <> (SELECT count(*) FROM jobs j WHERE j.lane = l.id AND j.until IS NOT NULL AND j.counted)",
        ),
        (
            "nothing unfinished is left of a deleted subscription that is not being drained",
            "SELECT count(*) FROM subscriptions s JOIN deliveries d ON d.subscription = s.id
             WHERE s.deleted_at IS NOT NULL AND NOT s.draining AND d.finished_at IS NULL",
        ),
    ];
    for (rule, sql) in rules {
        let broken: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
        assert_eq!(broken, 0, "{rule}");
    }
}
