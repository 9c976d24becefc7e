//! What the tests share: a clock that they move, a store on a file of its own, things to store in it, and the
//! checks that hold whatever happened.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of what is shared")]
#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Row as _, SqliteConnection};
use tempfile::TempDir;
use webhook_core::id::{AttemptId, DeliveryId, EventId, SubscriptionId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::lifecycle::{Ending, Input, step};
use webhook_core::model::*;
use webhook_core::queue::*;
use webhook_core::retry::Schedule;
use webhook_core::secret::Secret;
use webhook_core::signature::SignatureScheme;
use webhook_core::store::*;
use webhook_core::testing::ManualClock;
use webhook_core::time::Timestamp;
use webhook_store_sqlite::{SqliteOptions, SqliteStore, sqlx};

pub const SECOND: Duration = Duration::from_secs(1);
pub const LEASE: Duration = Duration::from_secs(30);
pub const MAX_IN_FLIGHT: u32 = 64;
/// A delivery may be given up so long after the start of its chain.
pub const GIVE_UP: Duration = Duration::from_secs(3600);

pub struct Fixture {
    pub store: SqliteStore,
    pub clock: ManualClock,
    pub path: PathBuf,
    _directory: Arc<TempDir>,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(|options| options).await
    }

    pub async fn with(set: impl FnOnce(SqliteOptions) -> SqliteOptions) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let path = directory.path().join("webhooks.db");
        let clock = ManualClock::new();
        let store =
            SqliteStore::open(set(SqliteOptions::new(&path).clock(Arc::new(clock.clone())))).await.unwrap();
        Self { store, clock, path, _directory: directory }
    }

    /// Drops the store without closing anything and opens the file again.
    pub async fn reopen(self) -> Self {
        let Self { store, clock, path, _directory } = self;
        drop(store);
        let store =
            SqliteStore::open(SqliteOptions::new(&path).clock(Arc::new(clock.clone()))).await.unwrap();
        Self { store, clock, path, _directory }
    }

    pub async fn subscribe(&self) -> Arc<Subscription> {
        self.subscribe_with(|_| {}).await
    }

    pub async fn subscribe_with(&self, set: impl FnOnce(&mut Subscription)) -> Arc<Subscription> {
        let mut new = subscription();
        set(&mut new);
        self.store.create(&new).await.unwrap()
    }

    /// A subscription whose lane has proved itself.
    pub async fn proven(&self) -> Arc<Subscription> {
        let s = self.subscribe().await;
        self.prove(s.id).await;
        s
    }

    pub async fn prove(&self, lane: SubscriptionId) {
        let state = self.lane(lane).await;
        for _ in 0..3 {
            let job = NewJob {
                id: DeliveryId::new(),
                lane,
                wait: Duration::ZERO,
                lane_version: state.version,
                urgent: false,
            };
            let answer = self.store.enqueue(std::slice::from_ref(&job), Some(&hand_off(8))).await.unwrap();
            let Enqueued::Leased(lease) = &answer[0] else { panic!("{answer:?}") };
            self.store.settle(&[settle(lease, Verdict::Done, Effect::Fast)]).await.unwrap();
        }
        assert_eq!(self.lane(lane).await.health.strikes, 0);
    }

    pub async fn lane(&self, lane: SubscriptionId) -> LaneState {
        self.store.lane_states(&[lane]).await.unwrap().remove(0).unwrap()
    }

    pub async fn config(&self) -> ConfigVersion {
        self.store.snapshot(&Tenant::default()).await.unwrap().version
    }

    /// Publishes one event to each of these.
    pub async fn publish(&self, to: &[&Arc<Subscription>], hand_off: Option<&HandOff>) -> Published {
        let insert = new_insert(to, self.config().await);
        self.publish_this(insert, hand_off).await
    }

    pub async fn publish_this(&self, insert: Insert, hand_off: Option<&HandOff>) -> Published {
        let inserted = self.store.insert(std::slice::from_ref(&insert), hand_off).await.unwrap().remove(0);
        let Inserted::Stored { leases, waiting } = inserted else { panic!("{inserted:?}") };
        let ids = insert.deliveries.iter().map(|d| d.id).collect();
        Published { event: insert.event, ids, leases, waiting }
    }

    pub async fn claim(&self, jobs: u32) -> Vec<Lease> {
        self.store.claim(&claim(jobs)).await.unwrap()
    }

    pub async fn load(&self, lease: &Lease) -> Loaded {
        let load = Load { id: lease.id, unsettled: lease.unsettled.clone() };
        self.store.load(&[load]).await.unwrap().remove(0).unwrap()
    }

    pub async fn delivery(&self, id: DeliveryId) -> Delivery {
        self.store.delivery(None, id).await.unwrap().unwrap()
    }

    /// Makes an attempt end so and records it, as a worker does.
    pub async fn attempt(&self, lease: &Lease, ending: &Ending, effect: Effect) -> Recorded {
        let loaded = self.load(lease).await;
        let record = result(&loaded, lease, ending, effect);
        self.store.record(&[record]).await.unwrap().remove(0)
    }

    pub async fn succeed(&self, lease: &Lease) -> Recorded {
        self.attempt(lease, &success(), Effect::Fast).await
    }

    /// What a person asks for.
    pub async fn ask(&self, id: DeliveryId, input: Input<'_>) -> Recorded {
        let load = Load { id, unsettled: Vec::new() };
        let state = self.store.load(&[load]).await.unwrap().remove(0).unwrap().state;
        let step = step(&state, &input, &policy(), 0.5).unwrap();
        let record = Record {
            id,
            revision: state.revision,
            lease: None,
            attempts: Vec::new(),
            state: step.state,
            next: step.next,
            new_chain: None,
        };
        self.store.record(&[record]).await.unwrap().remove(0)
    }

    pub async fn raw(&self) -> SqliteConnection {
        raw(&self.path).await
    }

    pub async fn count(&self, table: &str) -> i64 {
        sqlx::query_scalar(&format!("SELECT count(*) FROM webhooks_{table}"))
            .fetch_one(&mut self.raw().await)
            .await
            .unwrap()
    }

    /// What holds whatever happened.
    pub async fn check(&self) {
        check(&self.store, &self.path).await;
    }
}

pub struct Published {
    pub event: Arc<Event>,
    pub ids: Vec<DeliveryId>,
    pub leases: Vec<Lease>,
    pub waiting: Vec<DeliveryId>,
}

pub async fn raw(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true).connect().await.unwrap()
}

pub async fn raw_writer(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// The invariants between the tables, and between them and what the queue says of itself.
pub async fn check(store: &SqliteStore, path: &Path) {
    let mut conn = raw(path).await;
    let rules = [
        (
            "an unfinished delivery has a job, or waits behind the head of its key",
            "SELECT count(*) FROM webhooks_deliveries d WHERE status IN ('pending', 'retrying')
             AND NOT EXISTS (SELECT 1 FROM webhooks_jobs j WHERE j.id = d.id AND j.lane = d.subscription)
             AND NOT EXISTS (SELECT 1 FROM webhooks_turns t JOIN webhooks_turns h
                 ON h.subscription = t.subscription AND h.ordering_key = t.ordering_key AND h.head = 1
                 WHERE t.delivery = d.id AND t.head = 0)",
        ),
        (
            "a finished delivery has a job only while a request is open",
            "SELECT count(*) FROM webhooks_deliveries d JOIN webhooks_jobs j ON j.id = d.id
             WHERE status NOT IN ('pending', 'retrying') AND request IS NULL",
        ),
        (
            "one that waits for its turn has no job, a head has one",
            "SELECT count(*) FROM webhooks_turns t
             WHERE head = EXISTS (SELECT 1 FROM webhooks_jobs j WHERE j.id = t.delivery) - 1
                OR head > EXISTS (SELECT 1 FROM webhooks_jobs j WHERE j.id = t.delivery)",
        ),
        (
            "a key with somebody in line has a head",
            "SELECT count(*) FROM (SELECT 1 FROM webhooks_turns GROUP BY subscription, ordering_key
             HAVING sum(head) <> 1)",
        ),
        (
            "those in line are unfinished and ordered",
            "SELECT count(*) FROM webhooks_turns t LEFT JOIN webhooks_deliveries d ON d.id = t.delivery
             WHERE d.id IS NULL OR d.turn IS NULL OR d.status NOT IN ('pending', 'retrying')",
        ),
        (
            "attempts are numbered 1 to k without gaps",
            "SELECT count(*) FROM webhooks_deliveries d WHERE attempts <>
                 (SELECT count(*) FROM webhooks_attempts a WHERE a.delivery = d.id)
             OR attempts <> (SELECT coalesce(max(number), 0) FROM webhooks_attempts a WHERE a.delivery = d.id)",
        ),
        (
            "a delivery is finished when it has an end",
            "SELECT count(*) FROM webhooks_deliveries
             WHERE (finished_at IS NULL) <> (status IN ('pending', 'retrying'))",
        ),
        ("a lease has a token", "SELECT count(*) FROM webhooks_jobs WHERE leased = 1 AND token IS NULL"),
        (
            "an event whose deliveries have all finished will be pruned",
            "SELECT count(*) FROM webhooks_events e
             WHERE NOT EXISTS (SELECT 1 FROM webhooks_deliveries d
                               WHERE d.event = e.seq AND d.finished_at IS NULL)
             AND NOT EXISTS (SELECT 1 FROM webhooks_finished f WHERE f.event = e.seq
                 AND f.at = coalesce((SELECT max(finished_at) FROM webhooks_deliveries d
                                      WHERE d.event = e.seq), e.created_at))",
        ),
        (
            "nothing is left of an event that is gone",
            "SELECT (SELECT count(*) FROM webhooks_deliveries d
                     WHERE NOT EXISTS (SELECT 1 FROM webhooks_events e WHERE e.seq = d.event))
                  + (SELECT count(*) FROM webhooks_attempts a
                     WHERE NOT EXISTS (SELECT 1 FROM webhooks_deliveries d WHERE d.id = a.delivery))",
        ),
    ];
    for (rule, sql) in rules {
        let broken: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
        assert_eq!(broken, 0, "{rule}");
    }
    let rows = sqlx::query("SELECT l.lane FROM webhooks_lanes l").fetch_all(&mut conn).await.unwrap();
    for row in rows {
        let lane = SubscriptionId::from_slice(row.get("lane")).unwrap();
        // Looking finds the leases whose time is over, so the rows are read after it.
        let state = store.lane_states(&[lane]).await.unwrap().remove(0);
        let Some(state) = state else { continue };
        let leased: i64 =
            sqlx::query_scalar("SELECT count(*) FROM webhooks_jobs WHERE lane = ? AND leased = 1")
                .bind(&lane.as_bytes()[..])
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert_eq!(
            i64::from(state.in_flight),
            leased,
            "in flight in {lane}: the lane's count and its leases"
        );
    }
}

pub fn policy() -> Schedule {
    Schedule::new(vec![Duration::from_secs(10), Duration::from_secs(60)], 0.0).unwrap()
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

pub fn new_insert(to: &[&Arc<Subscription>], config_version: ConfigVersion) -> Insert {
    insert_of(event(), to, config_version)
}

pub fn insert_of(event: Event, to: &[&Arc<Subscription>], config_version: ConfigVersion) -> Insert {
    Insert {
        event: Arc::new(event),
        deliveries: to
            .iter()
            .map(|s| NewDelivery {
                id: DeliveryId::new(),
                subscription_id: s.id,
                ordered: s.ordered,
                give_up_after: GIVE_UP,
            })
            .collect(),
        config_version,
        fingerprint: [7; 32],
    }
}

pub fn hand_off(slots: u32) -> HandOff {
    HandOff {
        token: Token::new(),
        worker: WorkerId::new(),
        lease: LEASE,
        room: Room { all: slots, doubtful: slots, dead: slots },
        max_in_flight: MAX_IN_FLIGHT,
        avoid: Vec::new(),
    }
}

pub fn claim(jobs: u32) -> Claim {
    Claim {
        id: Token::new(),
        worker: WorkerId::new(),
        lease: LEASE,
        room: Room { all: jobs, doubtful: jobs, dead: jobs },
        max_in_flight: MAX_IN_FLIGHT,
        avoid: Vec::new(),
    }
}

pub fn settle(lease: &Lease, verdict: Verdict, effect: Effect) -> Settle {
    Settle { id: lease.id, token: lease.token, verdict, effect, mark: lease.mark }
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

pub fn unknown() -> Ending {
    Ending { outcome: Outcome::Unknown, status_code: None, ..success() }
}

/// The row of an attempt.
pub fn row(loaded: &Loaded, id: DeliveryId, token: Token, number: u32, ending: &Ending) -> Attempt {
    Attempt {
        id: AttemptId::new(),
        tenant: loaded.event.tenant.clone(),
        delivery_id: id,
        event_id: loaded.event.id,
        subscription_id: loaded.subscription_id,
        number,
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
    }
}

/// What a worker records that loaded this.
pub fn result(loaded: &Loaded, lease: &Lease, ending: &Ending, effect: Effect) -> Record {
    let ending = Ending { request: loaded.state.request, ..ending.clone() };
    let input = Input::Ended { ending: &ending, chain: loaded.state.chain, late: false, replaces: None };
    let step = step(&loaded.state, &input, &policy(), 0.5).unwrap();
    Record {
        id: lease.id,
        revision: loaded.state.revision,
        lease: Some(RecordLease { token: lease.token, mark: lease.mark, effect }),
        attempts: vec![row(loaded, lease.id, lease.token, step.number.unwrap(), &ending)],
        state: step.state,
        next: step.next,
        new_chain: None,
    }
}

pub fn page<Id>(limit: u32) -> PageRequest<Id> {
    PageRequest { before: None, limit }
}

pub fn is_applied(recorded: &Recorded) -> bool {
    matches!(recorded, Recorded::Applied { .. })
}
