//! What the tests of this crate share: a server, a fresh schema in it for each case, and its clock.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(unreachable_pub, reason = "each test program includes it as a module")]
#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

pub mod desk;
pub mod proxy;

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use webhook_conformance::Missing;
use webhook_store_postgres::sqlx::{self, Connection as _, Executor as _, PgConnection};
use webhook_store_postgres::{PgOptions, PgStore};

/// A schema of its own in the tests' server.
#[derive(Debug)]
pub struct Case {
    pub url: String,
    pub schema: String,
    /// Where its clock stands, once it is stopped: microseconds since the epoch.
    now: AtomicI64,
}

impl Case {
    /// A schema that does not exist yet.
    pub async fn create() -> Result<Self, Missing> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Off the runtime's thread: the first one starts a server.
        let url = tokio::task::spawn_blocking(test_servers::postgres::shared)
            .await
            .unwrap()
            .map_err(Missing::because)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{number}", std::process::id());
        Ok(Self { url: url.to_owned(), schema, now: AtomicI64::new(0) })
    }

    /// As [`create`](Self::create), for a test that is no conformance case: `None`, and a word about it, when
    /// there is no server.
    pub async fn create_or_skip(test: &str) -> Option<Self> {
        test_servers::or_skip(test, Self::create().await.map_err(|missing| format!("{missing:?}")))
    }

    /// The same in a database of its own, for what is counted by database; `None`, and a word about it, where the user
    /// may not make one.
    pub async fn in_a_database_of_its_own(self) -> Option<Self> {
        let mut conn = self.connect().await;
        let made = conn.execute(format!("CREATE DATABASE {}", self.schema).as_str()).await;
        let made = made.map_err(|error| format!("no database of its own: {error}"));
        test_servers::or_skip(&self.schema, made)?;
        let (server, _) = self.url.rsplit_once('/').unwrap();
        Some(Self { url: format!("{server}/{}", self.schema), ..self })
    }

    /// Removes a database of its own.
    pub async fn drop_database(&self) {
        let (server, name) = self.url.rsplit_once('/').unwrap();
        let mut conn = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
        conn.execute(format!("DROP DATABASE {name} WITH (FORCE)").as_str()).await.unwrap();
    }

    pub fn options(&self) -> PgOptions {
        PgOptions::from_url(&self.url).unwrap().schema(&self.schema).unwrap()
    }

    pub async fn open(&self) -> PgStore {
        PgStore::open(self.options()).await.unwrap()
    }

    /// A connection as an application has one, to the same database and with the usual settings.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Runs statements on a connection of their own, with the case's schema in the path.
    pub async fn execute(&self, sql: &str) {
        let mut conn = self.connect().await;
        let sql = format!("SET search_path = {}; {sql}", self.schema);
        conn.execute(sql.as_str()).await.unwrap();
        conn.close().await.unwrap();
    }

    /// Waits until another session waits for a lock that `holder` has.
    pub async fn wait_until_blocked_by(&self, holder: &mut PgConnection) {
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(holder).await.unwrap();
        let mut conn = self.connect().await;
        let deadline = Instant::now() + Duration::from_secs(10);
        let look = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))";
        while !sqlx::query_scalar::<_, bool>(look).bind(pid).fetch_one(&mut conn).await.unwrap() {
            assert!(Instant::now() < deadline, "nobody waits");
        }
        conn.close().await.unwrap();
    }

    /// Stops the store's clock at the present moment; [`advance`](Self::advance) moves it from then on.
    pub async fn stop_clock(&self) {
        let mut conn = self.connect().await;
        let now: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        self.now.store(now, Ordering::SeqCst);
        self.advance(Duration::ZERO).await;
    }

    /// Moves the stopped clock on.
    pub async fn advance(&self, span: Duration) {
        let span = i64::try_from(span.as_micros()).unwrap();
        let now = self.now.fetch_add(span, Ordering::SeqCst) + span;
        self.execute(&format!(
            "CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
                 AS 'SELECT timestamptz ''epoch'' + interval ''{now} microseconds'''"
        ))
        .await;
    }

    /// Removes the schema.
    pub async fn clean_up(&self) {
        self.execute(&format!("SET client_min_messages = warning; DROP SCHEMA {} CASCADE", self.schema))
            .await;
    }
}
