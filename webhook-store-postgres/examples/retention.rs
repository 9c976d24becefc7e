//! Measures what stored history costs: how many events a second are published and delivered on an empty database,
//! beside so many stored attempts, and while half of these are being pruned; and how much disk the tables take before
//! and after, and when the pruned half has come again.
//!
//! ```text
//! cargo run --release -p webhook-store-postgres --example retention -- postgres://USER@HOST/DATABASE [ATTEMPTS] [SECONDS]
//! ```
//!
//! ATTEMPTS is 5,000,000 unless given, each of one event with one delivery, finished at even distances over the last
//! three days; SECONDS is how long each rate is measured, 20. One process publishes, 64 events at once, and delivers to
//! a target in memory that answers at once: what is measured is the store. Pruning is the engine's own, with a
//! retention of 36 hours. It makes the schema `retention_bench` and removes it.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use webhook_core::deliver::{Answer, Deliverer, Exchange, Request};
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _, PgConnection};
use webhook_store_postgres::{PgOptions, PgStore};

type Error = Box<dyn std::error::Error>;

const SCHEMA: &str = "retention_bench";
const RETENTION: Duration = Duration::from_secs(36 * 3600);
const PUBLISHERS: usize = 64;
/// Rows of one statement that fills.
const CHUNK: u64 = 100_000;

/// Answers at once, and counts.
#[derive(Debug, Default)]
struct Target(AtomicU64);

#[async_trait]
impl Deliverer for Target {
    async fn deliver(&self, _: Request) -> Exchange {
        self.0.fetch_add(1, Ordering::Relaxed);
        let answer = Answer { status: 200, headers: Vec::new(), body: Bytes::from_static(b"ok") };
        Exchange { duration: Duration::from_millis(1), result: Ok(answer) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the server's URL is missing")?;
    let attempts = arguments.next().map_or(Ok(5_000_000), |text| text.parse::<u64>())?;
    let seconds = arguments.next().map_or(Ok(20), |text| text.parse::<u64>())?;
    let span = Duration::from_secs(seconds);
    let mut admin = PgConnection::connect(&url).await?;
    admin.execute(format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE").as_str()).await?;
    let store = PgStore::open(PgOptions::from_url(&url)?.schema(SCHEMA)?).await?;
    admin.execute(format!("SET search_path = {SCHEMA}").as_str()).await?;

    let first = Bench::start(&store, None).await?;
    let draft = SubscriptionDraft::to("https://example.com/hook");
    let subscription = first.webhooks.subscriptions().create(&Tenant::default(), &draft).await?.id;
    first.measure(span / 4).await?;
    println!("empty: {}", first.measure(span).await?);
    first.stop().await;

    // What filling writes is not what is measured: it is gone before the clock starts.
    let started = Instant::now();
    fill(&mut admin, &subscription.to_string(), attempts, 72 * 3600).await?;
    admin.execute("VACUUM (ANALYZE)").await?;
    admin.execute("CHECKPOINT").await?;
    println!("filled with {attempts} attempts in {:.0} s", started.elapsed().as_secs_f64());
    print_sizes(&mut admin, "filled").await?;

    let filled = Bench::start(&store, None).await?;
    filled.measure(span / 4).await?;
    println!("filled: {}", filled.measure(span).await?);
    filled.stop().await;

    let cutoff: String =
        sqlx::query_scalar("SELECT (now() - interval '36 hours')::text").fetch_one(&mut admin).await?;
    let old = format!("finished WHERE at < '{cutoff}'");
    let before = count(&mut admin, &old).await?;
    let pruning = Bench::start(&store, Some(RETENTION)).await?;
    let started = Instant::now();
    println!("while pruning: {}", pruning.measure(span).await?);
    let at_end = count(&mut admin, &old).await?;
    while count(&mut admin, &old).await? > 0 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let took = started.elapsed();
    pruning.stop().await;
    println!(
        "pruned {} events in {:.1} s ({:.0} a second; {at_end} were left when the measured {seconds} s were over)",
        before,
        took.as_secs_f64(),
        before as f64 / took.as_secs_f64()
    );
    print_sizes(&mut admin, "pruned").await?;
    admin.execute("VACUUM (ANALYZE)").await?;
    fill(&mut admin, &subscription.to_string(), attempts / 2, 36 * 3600).await?;
    admin.execute("VACUUM (ANALYZE)").await?;
    print_sizes(&mut admin, "pruned, and filled again with as many").await?;
    store.close().await;
    admin.execute(format!("DROP SCHEMA {SCHEMA} CASCADE").as_str()).await?;
    Ok(())
}

/// An engine at work.
struct Bench {
    webhooks: Webhooks,
    target: Arc<Target>,
}

impl Bench {
    async fn start(store: &PgStore, retention: Option<Duration>) -> Result<Self, Error> {
        let target = Arc::new(Target::default());
        let builder = Webhooks::builder(Arc::new(store.clone())).deliverer(target.clone());
        let webhooks = builder.retention(retention).build()?;
        webhooks.spawn(Workers::default())?;
        Ok(Self { webhooks, target })
    }

    /// Publishes at full speed for so long, and tells what was delivered by then.
    async fn measure(&self, span: Duration) -> Result<String, Error> {
        let (delivered, started) = (self.target.0.load(Ordering::Relaxed), Instant::now());
        let mut publishers = Vec::new();
        for _ in 0..PUBLISHERS {
            let webhooks = self.webhooks.clone();
            publishers.push(tokio::spawn(async move {
                let mut waits = Vec::new();
                while started.elapsed() < span {
                    let asked = Instant::now();
                    webhooks.publish(NewEvent::json("order.created", vec![b'1'; 450])).await?;
                    waits.push(asked.elapsed());
                }
                Ok::<_, webhook_core::engine::PublishError>(waits)
            }));
        }
        let mut waits = Vec::new();
        for publisher in publishers {
            waits.extend(publisher.await??);
        }
        let took = started.elapsed().as_secs_f64();
        let delivered = self.target.0.load(Ordering::Relaxed) - delivered;
        waits.sort_unstable();
        let at = |share: usize| waits[(waits.len() - 1) * share / 1000].as_secs_f64() * 1000.0;
        Ok(format!(
            "{:.0} published/s, {:.0} delivered/s; acknowledged after {:.1} ms (p50), {:.1} ms (p99), {:.0} ms (most)",
            waits.len() as f64 / took,
            delivered as f64 / took,
            at(500),
            at(990),
            at(1000)
        ))
    }

    async fn stop(self) {
        let _ = self.webhooks.run_until_idle().await;
        self.webhooks.shutdown(Duration::from_secs(10)).await;
    }
}

/// Stores finished events over the last `seconds`, each with one delivery and one attempt.
async fn fill(admin: &mut PgConnection, subscription: &str, events: u64, seconds: u64) -> Result<(), Error> {
    let mut done = 0;
    while done < events {
        let count = CHUNK.min(events - done);
        let sql = format!(
            "WITH n AS MATERIALIZED (
                 SELECT new_id() AS event, new_id() AS delivery,
                        now() - interval '{seconds} seconds' * (1 - ({done} + g)::float8 / {events}) AS at
                 FROM generate_series(1, {count}) g),
             e AS (
                 INSERT INTO events (id, tenant, event_type, content_type, created_at, delivery_count, payload_size, payload)
                 SELECT event, 'default', 'order.created', 'application/json', at, 1, 450,
                        convert_to(repeat('1', 450), 'UTF8') FROM n),
             d AS (
                 INSERT INTO deliveries (id, event, subscription, number, created_at, added, ordered, chain_start,
                                         give_up_at, revision, attempts, last_status_code, finished_at, status)
                 SELECT delivery, event, '{subscription}', nextval('numbers'), at, false, false, at, at, 1, 1, 200, at,
                        'succeeded' FROM n),
             a AS (
                 INSERT INTO attempts (id, delivery, subscription, token, started_at, duration, number, status_code,
                                       trigger, outcome, target_url, response_headers, response_body)
                 SELECT new_id(), delivery, '{subscription}', gen_random_uuid(), at, 1000, 1, 200, 'schedule',
                        'succeeded', 'https://example.com/hook', '[]', 'ok' FROM n)
             INSERT INTO finished (at, event) SELECT at, event FROM n"
        );
        admin.execute(sql.as_str()).await?;
        done += count;
    }
    Ok(())
}

async fn count(admin: &mut PgConnection, what: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(&format!("SELECT count(*) FROM {what}")).fetch_one(admin).await?)
}

async fn print_sizes(admin: &mut PgConnection, when: &str) -> Result<(), Error> {
    let sizes: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT c.relname::text, pg_table_size(c.oid), pg_indexes_size(c.oid), coalesce(s.n_dead_tup, 0)
         FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
           AND c.relname IN ('events', 'deliveries', 'attempts', 'finished') ORDER BY 1",
    )
    .fetch_all(&mut *admin)
    .await?;
    let mib = |bytes: i64| bytes as f64 / 1_048_576.0;
    let total: i64 = sizes.iter().map(|(_, table, indexes, _)| table + indexes).sum();
    println!("{when}: {:.0} MiB in all", mib(total));
    for (name, table, indexes, dead) in &sizes {
        println!(
            "  {name}: table {:.0} MiB, indexes {:.0} MiB, {dead} dead rows",
            mib(*table),
            mib(*indexes)
        );
    }
    Ok(())
}
