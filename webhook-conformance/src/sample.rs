//! What the cases of stores do again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use webhook_core::id::{AttemptId, DeliveryId, EventId, SubscriptionId, Token};
use webhook_core::lifecycle::{Ending, Input, Next, step};
use webhook_core::model::{
    Attempt, AttemptError, Delivery, DeliveryState, DeliveryStatus, ErrorKind, Event, Outcome, Request,
    StatusReason, Subscription, SubscriptionStatus, Tenant, Trigger,
};
use webhook_core::retry::Schedule;
use webhook_core::signature::SignatureScheme;
use webhook_core::store::{
    ConfigVersion, History, Insert, Inserted, Load, Loaded, NewDelivery, Owed, Record, Recorded, Store,
};
use webhook_core::time::Timestamp;

use crate::{Fixture, StoreFixture};

/// A delivery may be given up so long after the start of its chain, unless a case says otherwise.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(24 * 3600);
/// So many failures exhaust a delivery.
pub(crate) const FAILURES: u32 = 3;

pub(crate) struct Desk<'a, F> {
    pub(crate) fixture: &'a F,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) history: Arc<dyn History>,
}

/// An event that was stored.
pub(crate) struct Published {
    pub(crate) event: Arc<Event>,
    pub(crate) deliveries: Vec<DeliveryId>,
    pub(crate) waiting: Vec<DeliveryId>,
}

impl<'a, F: StoreFixture> Desk<'a, F> {
    pub(crate) fn new(fixture: &'a F) -> Self {
        Self { fixture, store: fixture.store(), history: fixture.history() }
    }

    /// Lets so many units pass.
    pub(crate) async fn pass(&self, units: u32) {
        self.fixture.advance(<F as Fixture>::UNIT * units).await;
    }

    // Subscriptions

    pub(crate) async fn create(&self, subscription: &Subscription) -> Arc<Subscription> {
        self.store.create(subscription).await.unwrap()
    }

    /// A subscription of the default tenant.
    pub(crate) async fn subscribe(&self) -> Arc<Subscription> {
        self.create(&subscription()).await
    }

    pub(crate) async fn subscribe_ordered(&self) -> Arc<Subscription> {
        self.create(&Subscription { ordered: true, ..subscription() }).await
    }

    pub(crate) async fn get(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.store.get(&[id]).await.unwrap().remove(0)
    }

    pub(crate) async fn version(&self, tenant: &Tenant) -> ConfigVersion {
        self.store.snapshot(tenant).await.unwrap().version
    }

    // Publishing

    /// What a publish of this event to these subscriptions inserts.
    pub(crate) async fn matched(&self, event: Event, subscriptions: &[Arc<Subscription>]) -> Insert {
        let deliveries = subscriptions.iter().map(|subscription| NewDelivery {
            id: DeliveryId::new(),
            subscription_id: subscription.id,
            ordered: subscription.ordered,
            give_up_after: GIVE_UP,
        });
        Insert {
            config_version: self.version(&event.tenant).await,
            deliveries: deliveries.collect(),
            fingerprint: [7; 32],
            event: Arc::new(event),
        }
    }

    pub(crate) async fn insert(&self, insert: &Insert) -> Inserted {
        let answers = self.store.insert(std::slice::from_ref(insert), None).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer for one event");
        answers.into_iter().next().unwrap()
    }

    pub(crate) async fn publish_event(&self, event: Event, subscriptions: &[Arc<Subscription>]) -> Published {
        let insert = self.matched(event, subscriptions).await;
        let Inserted::Stored { waiting, .. } = self.insert(&insert).await else {
            panic!("a new event with the current configuration is stored")
        };
        let deliveries = insert.deliveries.iter().map(|delivery| delivery.id).collect();
        Published { event: insert.event, deliveries, waiting }
    }

    /// Publishes a plain event to one subscription. Returns the delivery.
    pub(crate) async fn publish(&self, subscription: &Arc<Subscription>) -> DeliveryId {
        let event = Event { tenant: subscription.tenant.clone(), ..event() };
        self.publish_event(event, std::slice::from_ref(subscription)).await.deliveries[0]
    }

    /// Publishes with this ordering key.
    pub(crate) async fn publish_keyed(
        &self,
        subscription: &Arc<Subscription>,
        key: Option<&str>,
    ) -> DeliveryId {
        let event = Event { ordering_key: key.map(str::to_owned), ..event() };
        self.publish_event(event, std::slice::from_ref(subscription)).await.deliveries[0]
    }

    // Working

    pub(crate) async fn load(&self, id: DeliveryId) -> Loaded {
        self.find(id).await.expect("the delivery is stored")
    }

    pub(crate) async fn find(&self, id: DeliveryId) -> Option<Loaded> {
        let load = Load { id, unsettled: Vec::new() };
        let answers = self.store.load(&[load]).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer for one delivery");
        answers.into_iter().next().unwrap()
    }

    pub(crate) async fn record(&self, record: &Record) -> Recorded {
        let answers = self.store.record(std::slice::from_ref(record)).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer for one result");
        answers.into_iter().next().unwrap()
    }

    pub(crate) async fn apply(&self, record: &Record) -> Vec<DeliveryId> {
        match self.record(record).await {
            Recorded::Applied { released, .. } => released.into_iter().map(|(id, _)| id).collect(),
            refused => panic!("a result on the current revision applies, but: {refused:?}"),
        }
    }

    /// An attempt that ended so, now. Returns what was released.
    pub(crate) async fn attempt(&self, id: DeliveryId, outcome: Outcome) -> Vec<DeliveryId> {
        let loaded = self.load(id).await;
        self.apply(&result(id, &loaded, outcome, Token::new())).await
    }

    pub(crate) async fn succeed(&self, id: DeliveryId) -> Vec<DeliveryId> {
        self.attempt(id, Outcome::Succeeded).await
    }

    /// A person's request.
    pub(crate) async fn ask(&self, id: DeliveryId, input: &Input<'_>) -> Vec<DeliveryId> {
        let loaded = self.load(id).await;
        self.apply(&asked(id, &loaded.state, input)).await
    }

    pub(crate) async fn cancel(&self, id: DeliveryId) -> Vec<DeliveryId> {
        self.ask(id, &Input::Cancel(StatusReason::CancelledByUser)).await
    }

    // Looking

    pub(crate) async fn delivery(&self, id: DeliveryId) -> Delivery {
        self.history.delivery(None, id).await.unwrap().expect("the delivery is stored")
    }

    pub(crate) async fn status(&self, id: DeliveryId) -> DeliveryStatus {
        self.load(id).await.state.status
    }

    pub(crate) async fn attempts(&self, id: DeliveryId) -> Vec<Attempt> {
        self.history.attempts_of(None, id).await.unwrap()
    }

    /// Everything that is owed, by small pages.
    pub(crate) async fn owed(&self) -> Vec<Owed> {
        let mut all: Vec<Owed> = Vec::new();
        loop {
            let page = self.store.owed(all.last().map(|owed| owed.id), 3).await.unwrap();
            assert!(page.len() <= 3);
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// Whether the store leaves its jobs to another queue; a case about what it owes one is over otherwise.
    pub(crate) fn owes_a_queue(&self) -> bool {
        self.store.own_queue().is_none()
    }
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

pub(crate) fn subscription() -> Subscription {
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
        secrets: Vec::new(),
        version: 0,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

pub(crate) fn event() -> Event {
    Event {
        id: EventId::new(),
        tenant: Tenant::default(),
        event_type: "order.created".parse().unwrap(),
        content_type: Arc::from("application/json"),
        payload: Bytes::from_static(b"{\"id\": 1.0}"),
        ordering_key: None,
        deliver_at: None,
        idempotency_key: None,
        only: None,
        traceparent: None,
    }
}

fn policy() -> Schedule {
    let wait = Duration::from_secs(3600);
    Schedule::new(vec![wait; FAILURES as usize - 1], 0.0).unwrap()
}

fn ending(outcome: Outcome, request: Option<Request>) -> Ending {
    let (status_code, error) = match outcome {
        Outcome::Succeeded => (Some(204), None),
        Outcome::Failed => (Some(500), Some(AttemptError::new(ErrorKind::Status, "500"))),
        Outcome::Unknown => (None, None),
    };
    let trigger = if request.is_some() { Trigger::Manual } else { Trigger::Schedule };
    Ending { outcome, trigger, status_code, error, retry_after: None, request, moved: false }
}

/// A row of the log.
pub(crate) fn row(id: DeliveryId, loaded: &Loaded, number: u32, outcome: Outcome, token: Token) -> Attempt {
    let ending = ending(outcome, loaded.state.request);
    Attempt {
        id: AttemptId::new(),
        tenant: loaded.event.tenant.clone(),
        delivery_id: id,
        event_id: loaded.event.id,
        subscription_id: loaded.subscription_id,
        number,
        token,
        trigger: ending.trigger,
        started_at: Timestamp::from_micros(1_767_225_600_123_456),
        duration: Duration::from_micros(12_345),
        outcome,
        status_code: ending.status_code,
        error: ending.error,
        response_headers: vec![
            ("x-request".to_owned(), "a".to_owned()),
            ("x-request".to_owned(), "b".to_owned()),
        ],
        response_body: Bytes::from_static(b"\xff answer"),
        target_url: "https://example.com/hook".to_owned(),
    }
}

/// What the engine records of an attempt that ended so.
pub(crate) fn result(id: DeliveryId, loaded: &Loaded, outcome: Outcome, token: Token) -> Record {
    let ending = ending(outcome, loaded.state.request);
    let input = Input::Ended { ending: &ending, chain: loaded.state.chain, late: false, replaces: None };
    let step = step(&loaded.state, &input, &policy(), 0.5).unwrap();
    let number = step.number.expect("an attempt ended");
    Record {
        id,
        revision: loaded.state.revision,
        lease: None,
        attempts: vec![row(id, loaded, number, outcome, token)],
        state: step.state,
        next: step.next,
        new_chain: None,
    }
}

/// What the engine records of a result that comes late, by what is there now.
pub(crate) fn late(
    id: DeliveryId,
    seen: &Loaded,
    now: &DeliveryState,
    outcome: Outcome,
    token: Token,
    replaces: Option<u32>,
) -> Record {
    let ending = ending(outcome, seen.state.request);
    let input = Input::Ended { ending: &ending, chain: seen.state.chain, late: true, replaces };
    let step = step(now, &input, &policy(), 0.5).unwrap();
    let number = step.number.expect("an attempt ended");
    let attempts = vec![row(id, seen, number, outcome, token)];
    let (state, next) = (step.state, step.next);
    Record { id, revision: now.revision, lease: None, attempts, state, next, new_chain: None }
}

/// What the engine records of a person's request.
pub(crate) fn asked(id: DeliveryId, state: &DeliveryState, input: &Input<'_>) -> Record {
    let step = step(state, input, &policy(), 0.5).expect("the request can be granted");
    let new_chain = (step.state.chain != state.chain).then_some(GIVE_UP);
    Record {
        id,
        revision: state.revision,
        lease: None,
        attempts: Vec::new(),
        state: step.state,
        next: step.next,
        new_chain,
    }
}

/// The same result, due at another time.
pub(crate) fn due(record: Record, next: Next) -> Record {
    Record { next, ..record }
}
