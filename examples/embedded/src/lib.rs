//! A shop that takes orders and tells other systems of each: `order.created`, published in the transaction that stores
//! the order. So there is never an order that nobody hears of, nor news of an order that does not exist, whatever
//! fails in between.
//!
//! What to look at:
//!
//! - [`PgStore::publish_in`] in `create_order` inserts one row on the application's own connection. Whatever ends the
//!   transaction decides on the event too.
//! - [`Webhooks::wake`] after the commit: the event leaves at once. Without it, or when the process dies between the
//!   two, it leaves within seconds, from whichever process runs workers.
//! - [`router`] nests the whole webhook API beside the shop's own routes, so that other systems can subscribe.

#![forbid(unsafe_code)]

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use webhook_core::Webhooks;
use webhook_core::error::BackendError;
use webhook_core::model::NewEvent;
use webhook_core::store::History;
use webhook_http_axum::HttpOptions;
use webhook_store_postgres::PgStore;
use webhook_store_postgres::sqlx::{self, Executor as _, PgPool};

/// What the shop keeps of its own, in the same database.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS stock (item text PRIMARY KEY, quantity bigint NOT NULL CHECK (quantity >= 0));
    CREATE TABLE IF NOT EXISTS orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        item text NOT NULL,
        quantity bigint NOT NULL CHECK (quantity > 0)
    );
    INSERT INTO stock VALUES ('teapot', 10), ('cup', 100) ON CONFLICT DO NOTHING;
";

/// Makes the shop's own tables, with something to sell.
///
/// # Errors
/// The database's.
pub async fn prepare(pool: &PgPool) -> Result<(), sqlx::Error> {
    pool.execute(TABLES).await.map(drop)
}

/// What a handler of the shop needs.
#[derive(Debug, Clone)]
struct Shop {
    pool: PgPool,
    webhooks: Webhooks,
}

/// Everything that the application answers: `POST /orders`, and the webhook API below `/webhooks`.
pub fn router(pool: PgPool, webhooks: Webhooks, history: Arc<dyn History>) -> Router {
    // Nobody has to prove anything here, so it is for loopback alone; a real application puts its own
    // authentication around this.
    let api = webhook_http_axum::router(webhooks.clone(), history, HttpOptions::new().loopback_only(true));
    Router::new()
        .route("/orders", post(create_order))
        .with_state(Shop { pool, webhooks })
        .nest("/webhooks", api)
}

/// What somebody wants.
#[derive(Debug, Deserialize)]
struct NewOrder {
    item: String,
    quantity: u32,
}

/// An order, as it is answered and published.
#[derive(Debug, Serialize)]
struct Order {
    id: i64,
    item: String,
    quantity: u32,
}

async fn create_order(
    State(shop): State<Shop>,
    Json(NewOrder { item, quantity }): Json<NewOrder>,
) -> Result<(StatusCode, Json<Order>), OrderError> {
    let mut tx = shop.pool.begin().await?;
    let id = sqlx::query_scalar("INSERT INTO orders (item, quantity) VALUES ($1, $2) RETURNING id")
        .bind(&item)
        .bind(i64::from(quantity))
        .fetch_one(&mut *tx)
        .await?;
    let order = Order { id, item, quantity };
    let payload = serde_json::to_vec(&order).map_err(OrderError::Payload)?;
    PgStore::publish_in(&mut tx, NewEvent::json("order.created", payload)).await?;

    let taken = sqlx::query("UPDATE stock SET quantity = quantity - $2 WHERE item = $1 AND quantity >= $2")
        .bind(&order.item)
        .bind(i64::from(quantity))
        .execute(&mut *tx)
        .await?;
    if taken.rows_affected() == 0 {
        // Dropping the transaction takes back the order, and the event with it.
        return Err(OrderError::OutOfStock);
    }
    tx.commit().await?;
    shop.webhooks.wake();
    Ok((StatusCode::CREATED, Json(order)))
}

/// Why there is no order.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("there is not enough in stock")]
    OutOfStock,
    #[error("the database did not take the order")]
    Database(#[from] sqlx::Error),
    #[error("the event could not be stored")]
    Event(#[from] BackendError),
    #[error("the order cannot be written as JSON")]
    Payload(#[source] serde_json::Error),
}

impl IntoResponse for OrderError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::OutOfStock => StatusCode::CONFLICT,
            Self::Database(_) | Self::Event(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Payload(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.to_string()).into_response()
    }
}
