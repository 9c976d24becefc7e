//! Runs the shop on the database that `DATABASE_URL` names, until Ctrl-C.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use webhook_core::target::TargetRules;
use webhook_core::{Webhooks, Workers};
use webhook_deliver_reqwest::ReqwestDeliverer;
use webhook_example_embedded::{prepare, router};
use webhook_store_postgres::sqlx::PgPool;
use webhook_store_postgres::{PgOptions, PgStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL names no database")?;
    // The application's own connections, and those of the engine, to the same database.
    let pool = PgPool::connect(&url).await?;
    prepare(&pool).await?;
    let store = Arc::new(PgStore::open(PgOptions::from_url(&url)?).await?);

    // So that it can be tried on one machine. Without this, no target in a private network is dialled.
    let rules = TargetRules { allow: vec!["127.0.0.0/8".parse()?], https_only: false };
    let webhooks = Webhooks::builder(store.clone())
        .deliverer(Arc::new(ReqwestDeliverer::builder().target_rules(rules.clone()).build()?))
        .target_rules(rules)
        .build()?;
    webhooks.spawn(Workers::default())?;

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("the shop is at http://{}, its webhook API below /webhooks", listener.local_addr()?);
    axum::serve(listener, router(pool, webhooks.clone(), store))
        .with_graceful_shutdown(async {
            // Where there is no such signal, it runs until it is killed, and that loses nothing either.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    webhooks.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
