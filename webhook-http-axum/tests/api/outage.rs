//! A store that is away, and one that panics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use http::Method;
use serde_json::json;
use webhook_core::Webhooks;
use webhook_core::error::{BackendError, BackendErrorKind};
use webhook_core::id::{AttemptId, DeliveryId, EventId, ReplayId, SubscriptionId};
use webhook_core::memory::MemoryQueue;
use webhook_core::model::{Attempt, Delivery, Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::stats::{Rollup, Scope, Totals, Unfinished};
use webhook_core::store::{
    Added, AttemptFilter, Changed, Changes, ConfigVersion, DeliveryFilter, DeliveryStore, Ended, EventFilter,
    EventRecord, Expire, Expired, History, Inbox, InboxEvent, InboxId, InboxOutcome, Insert, Inserted, Load,
    Loaded, Matched, NewDelivery, NewReplay, OfEvent, Owed, Page, PageRequest, Purged, Record, Recorded,
    RejectedEvent, Replay, ReplayPage, ReplayRecorded, ReplayStore, Snapshot, StatisticsStore, Store,
    SubscriptionFilter, SubscriptionStore,
};
use webhook_core::testing::RecordingDeliverer;
use webhook_http_axum::{Draining, HttpOptions, probes, router};

use super::harness::{TARGET, request, send};

/// Fails every call in the same way.
#[derive(Debug, Clone, Copy)]
enum Broken {
    With(BackendErrorKind),
    Panics,
}

type Answer<T> = Result<T, BackendError>;

impl Broken {
    fn fail<T>(self) -> Answer<T> {
        match self {
            Self::With(kind) => Err(BackendError::new(kind, "broken-backend", "anything", "internal text")),
            Self::Panics => panic!("internal text"),
        }
    }
}

#[async_trait]
impl SubscriptionStore for Broken {
    async fn create(&self, _: &Subscription) -> Answer<Arc<Subscription>> {
        self.fail()
    }
    async fn update(&self, _: &Subscription, _: u64) -> Answer<Changed> {
        self.fail()
    }
    async fn delete(&self, _: &Tenant, _: SubscriptionId, _: Option<u64>) -> Answer<Changed> {
        self.fail()
    }
    async fn get(&self, _: &[SubscriptionId]) -> Answer<Vec<Option<Arc<Subscription>>>> {
        self.fail()
    }
    async fn list(
        &self,
        _: &SubscriptionFilter,
        _: PageRequest<SubscriptionId>,
    ) -> Answer<Page<Arc<Subscription>, SubscriptionId>> {
        self.fail()
    }
    async fn snapshot(&self, _: &Tenant) -> Answer<Snapshot> {
        self.fail()
    }
    async fn changes_since(&self, _: &Tenant, _: ConfigVersion) -> Answer<Option<Changes>> {
        self.fail()
    }
}

#[async_trait]
impl DeliveryStore for Broken {
    async fn insert(&self, _: &[Insert], _: Option<&HandOff>) -> Answer<Vec<Inserted>> {
        self.fail()
    }
    async fn load(&self, _: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        self.fail()
    }
    async fn record(&self, _: &[Record]) -> Answer<Vec<Recorded>> {
        self.fail()
    }
    async fn cancel_deleted(&self, _: u32) -> Answer<Vec<Ended>> {
        self.fail()
    }
    async fn expire(&self, _: Expire, _: u32) -> Answer<Expired> {
        self.fail()
    }
    async fn of_event(&self, _: &Tenant, _: EventId) -> Answer<Option<OfEvent>> {
        self.fail()
    }
    async fn add_deliveries(&self, _: EventId, _: &[NewDelivery], _: ConfigVersion) -> Answer<Added> {
        self.fail()
    }
    async fn owed(&self, _: Option<DeliveryId>, _: u32) -> Answer<Vec<Owed>> {
        self.fail()
    }
    async fn prune(&self, _: Duration, _: u32) -> Answer<u64> {
        self.fail()
    }
    async fn purge(&self, _: &Tenant, _: Duration, _: Option<EventId>, _: u32) -> Answer<Purged> {
        self.fail()
    }
}

#[async_trait]
impl ReplayStore for Broken {
    async fn replay_count(&self, _: &DeliveryFilter) -> Answer<Matched> {
        self.fail()
    }
    async fn replay_start(&self, _: &NewReplay) -> Answer<Replay> {
        self.fail()
    }
    async fn replay(&self, _: &Tenant, _: ReplayId) -> Answer<Option<Replay>> {
        self.fail()
    }
    async fn replay_next(&self, _: u32) -> Answer<Option<ReplayPage>> {
        self.fail()
    }
    async fn replay_record(
        &self,
        _: ReplayId,
        _: Option<DeliveryId>,
        _: Option<DeliveryId>,
        _: &[Record],
    ) -> Answer<ReplayRecorded> {
        self.fail()
    }
}

#[async_trait]
impl Inbox for Broken {
    async fn inbox_take(&self, _: u32) -> Answer<Vec<InboxEvent>> {
        self.fail()
    }
    async fn inbox_settle(&self, _: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        self.fail()
    }
    async fn inbox_rejected(
        &self,
        _: Option<&Tenant>,
        _: PageRequest<EventId>,
    ) -> Answer<Page<RejectedEvent, EventId>> {
        self.fail()
    }
    async fn inbox_delete(&self, _: Option<&Tenant>, _: EventId) -> Answer<bool> {
        self.fail()
    }
}

#[async_trait]
impl StatisticsStore for Broken {
    async fn add_rollups(&self, _: &[Rollup]) -> Answer<()> {
        self.fail()
    }
    async fn totals(&self, _: &Scope, _: Duration, _: u32) -> Answer<Totals> {
        self.fail()
    }
    async fn compact_rollups(&self, _: u32) -> Answer<u64> {
        self.fail()
    }
    async fn unfinished(&self, _: &Scope, _: u32) -> Answer<Unfinished> {
        self.fail()
    }
}

#[async_trait]
impl Store for Broken {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        None
    }
    async fn ping(&self) -> Answer<()> {
        self.fail()
    }
    async fn queue_epoch(&self) -> Answer<u64> {
        self.fail()
    }
    async fn advance_epoch(&self, _: u64, _: u64) -> Answer<bool> {
        self.fail()
    }
}

#[async_trait]
impl History for Broken {
    async fn events(&self, _: &EventFilter, _: PageRequest<EventId>) -> Answer<Page<EventRecord, EventId>> {
        self.fail()
    }
    async fn event(&self, _: Option<&Tenant>, _: EventId) -> Answer<Option<EventRecord>> {
        self.fail()
    }
    async fn payload(&self, _: Option<&Tenant>, _: EventId) -> Answer<Option<Bytes>> {
        self.fail()
    }
    async fn deliveries(
        &self,
        _: &DeliveryFilter,
        _: PageRequest<DeliveryId>,
    ) -> Answer<Page<Delivery, DeliveryId>> {
        self.fail()
    }
    async fn delivery(&self, _: Option<&Tenant>, _: DeliveryId) -> Answer<Option<Delivery>> {
        self.fail()
    }
    async fn attempts(
        &self,
        _: &AttemptFilter,
        _: PageRequest<AttemptId>,
    ) -> Answer<Page<Attempt, AttemptId>> {
        self.fail()
    }
    async fn attempts_of(&self, _: Option<&Tenant>, _: DeliveryId) -> Answer<Vec<Attempt>> {
        self.fail()
    }
}

fn engine(broken: Broken) -> Webhooks {
    Webhooks::builder(Arc::new(broken))
        .queue(Arc::new(MemoryQueue::new()))
        .deliverer(Arc::new(RecordingDeliverer::new()))
        .build()
        .unwrap()
}

fn api(broken: Broken) -> Router {
    router(engine(broken), Arc::new(broken), HttpOptions::new())
}

/// Every route that touches the store.
fn requests() -> Vec<(Method, String, String)> {
    let id = "0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d";
    let subscription = json!({"target_url": TARGET}).to_string();
    let event = json!({"event_type": "a", "payload": 1});
    let mut requests = vec![
        (Method::POST, "/subscriptions".to_owned(), subscription.clone()),
        (Method::PUT, format!("/subscriptions/{id}"), subscription),
        (Method::PATCH, format!("/subscriptions/{id}"), "{}".to_owned()),
        (Method::DELETE, format!("/subscriptions/{id}"), String::new()),
        (Method::POST, "/events".to_owned(), event.to_string()),
        (Method::POST, "/events/batch".to_owned(), json!({"events": [event, event, 7]}).to_string()),
        (Method::POST, format!("/ingest/{id}"), "{}".to_owned()),
        (Method::DELETE, format!("/inbox/{id}"), String::new()),
        (
            Method::POST,
            format!("/subscriptions/{id}/replay"),
            json!({"since": "2026-01-01T00:00:00Z"}).to_string(),
        ),
        (Method::POST, "/deliveries/retry".to_owned(), json!({"dry_run": true}).to_string()),
        (Method::POST, "/purge".to_owned(), json!({"older_than": "72h"}).to_string()),
    ];
    for path in [
        "/subscriptions/ID/pause",
        "/subscriptions/ID/resume",
        "/subscriptions/ID/rotate-secret",
        "/subscriptions/ID/test",
        "/events/ID/cancel",
        "/events/ID/replay",
        "/deliveries/ID/retry",
        "/deliveries/ID/cancel",
        "/deliveries/retry",
    ] {
        requests.push((Method::POST, path.replace("ID", id), String::new()));
    }
    for path in [
        "/subscriptions",
        "/subscriptions/ID",
        "/subscriptions/ID/secret",
        "/subscriptions/ID/attempts",
        "/subscriptions/ID/deliveries",
        "/events",
        "/events/ID",
        "/events/ID/payload",
        "/deliveries",
        "/deliveries/ID",
        "/attempts",
        "/replays/ID",
        "/inbox",
        "/stats",
        "/subscriptions/ID/stats",
    ] {
        requests.push((Method::GET, path.replace("ID", id), String::new()));
    }
    requests
}

/// Promise 15, as a client sees it.
#[tokio::test]
async fn a_store_that_is_away_is_503_with_retry_after_on_every_route() {
    let json = [("content-type", "application/json")];
    for kind in [BackendErrorKind::Unavailable, BackendErrorKind::Timeout] {
        let broken = Broken::With(kind);
        let app = api(broken);
        for (method, path, body) in requests() {
            let answer = send(app.clone(), request(method.clone(), &path, &json, body)).await;
            assert_eq!(answer.problem(), (503, "unavailable".into()), "{method} {path}");
            assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{method} {path}");
            assert!(!answer.text().contains("internal text") && !answer.text().contains("broken-backend"));
        }
    }
}

#[tokio::test]
async fn a_panic_is_500_and_keeps_its_words_to_itself() {
    let app = api(Broken::Panics);
    for path in ["/events", "/deliveries", "/subscriptions"] {
        let answer = send(app.clone(), request(Method::GET, path, &[], "")).await;
        assert_eq!(answer.problem(), (500, "internal".into()), "{path}");
        assert!(!answer.text().contains("internal text"));
    }
}

#[tokio::test]
async fn a_defect_of_the_store_is_500_without_its_text() {
    let broken = Broken::With(BackendErrorKind::Corrupt);
    let app = api(broken);
    let answer = send(app, request(Method::GET, "/deliveries", &[], "")).await;
    assert_eq!(answer.problem(), (500, "internal".into()));
    assert!(!answer.text().contains("internal text"));
}

#[tokio::test]
async fn a_process_whose_store_is_away_is_healthy_and_not_ready() {
    let app = probes(engine(Broken::With(BackendErrorKind::Unavailable)), Draining::new());
    let health = send(app.clone(), request(Method::GET, "/health", &[], "")).await;
    assert_eq!(health.status, 200);
    let ready = send(app, request(Method::GET, "/ready", &[], "")).await;
    assert_eq!(ready.status, 503);
    let expected = json!({
        "status": "unavailable", "checks": {"store": {"status": "down"}, "queue": {"status": "ok"}}
    });
    assert_eq!(ready.value(), expected);
}
