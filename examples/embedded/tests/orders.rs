//! An order and its event are one: both are there, or neither.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests, whose helpers clippy does not know as such"
)]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tower::ServiceExt as _;
use webhook_core::model::Tenant;
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_example_embedded::{prepare, router};
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _, PgConnection, PgPool};
use webhook_store_postgres::{PgOptions, PgStore};

/// Longer than anything takes that is not broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// The application with a subscriber, on a database of its own.
struct Shop {
    app: Router,
    pool: PgPool,
    webhooks: Webhooks,
    target: RecordingDeliverer,
}

impl Shop {
    /// `None`, with a word, when there is no server.
    async fn open(test: &str) -> Option<Self> {
        // Off the runtime's threads: the first one starts a server.
        let shared = tokio::task::spawn_blocking(test_servers::postgres::shared).await.unwrap();
        let url = test_servers::or_skip(test, shared)?;
        let name = format!("shop_{test}_{}", std::process::id());
        let mut conn = PgConnection::connect(url).await.expect("the tests' server answers");
        conn.execute(format!("CREATE DATABASE \"{name}\"").as_str()).await.expect("a database can be made");
        let (server, _) = url.rsplit_once('/').expect("a URL with a database");
        let url = format!("{server}/{name}");

        let pool = PgPool::connect(&url).await.unwrap();
        prepare(&pool).await.unwrap();
        let store = Arc::new(PgStore::open(PgOptions::from_url(&url).unwrap()).await.unwrap());
        let target = RecordingDeliverer::new();
        let webhooks = Webhooks::builder(store.clone()).deliverer(Arc::new(target.clone())).build().unwrap();
        webhooks.spawn(Workers::default()).unwrap();
        let draft = SubscriptionDraft::to("https://example.com/hooks");
        webhooks.subscriptions().create(&Tenant::default(), &draft).await.unwrap();
        Some(Self { app: router(pool.clone(), webhooks.clone(), store), pool, webhooks, target })
    }

    async fn order(&self, body: &'static str) -> (StatusCode, Bytes) {
        let request = Request::post("/orders").header("content-type", "application/json");
        self.answer(request.body(Body::from(body)).unwrap()).await
    }

    async fn get(&self, path: &str) -> String {
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        let (status, body) = self.answer(request).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        String::from_utf8(body.into()).unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(&sql).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn an_order_that_is_committed_is_delivered() {
    let Some(shop) = Shop::open("committed").await else { return };
    let (status, order) = shop.order(r#"{"item": "teapot", "quantity": 2}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{order:?}");
    let came = timeout(DEADLINE, shop.target.wait_for(1)).await.expect("the order is delivered");
    assert_eq!(came[0].header("webhook-event-type"), Some("order.created"));
    assert_eq!(came[0].request.body, order, "what was answered is what was published");
    shop.webhooks.shutdown(DEADLINE).await;
    assert_eq!((shop.count("orders").await, shop.count("webhooks.inbox").await), (1, 0));
}

#[tokio::test]
async fn an_order_that_is_rolled_back_leaves_nothing_behind() {
    let Some(shop) = Shop::open("rolled_back").await else { return };
    let (status, body) = shop.order(r#"{"item": "teapot", "quantity": 200}"#).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body:?}");
    assert_eq!((shop.count("orders").await, shop.count("webhooks.inbox").await), (0, 0));

    // Whatever was published before the next order would have come before it.
    let (status, order) = shop.order(r#"{"item": "cup", "quantity": 1}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{order:?}");
    let came = timeout(DEADLINE, shop.target.wait_for(1)).await.expect("the second order is delivered");
    assert_eq!((came.len(), &came[0].request.body), (1, &order));
    let events = shop.get("/webhooks/events").await;
    assert_eq!(events.matches("order.created").count(), 1, "{events}");
    shop.webhooks.shutdown(DEADLINE).await;
}
