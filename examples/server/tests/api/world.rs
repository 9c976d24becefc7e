//! A server on one of the backends, called with keys, and a look at what it has stored.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use axum::http::Method;
use serde_json::Value;
use tempfile::TempDir;
use test_servers::redis::Server as Redis;
use webhook_store_postgres::sqlx::{self, Connection as _, PgConnection};
use webhook_store_sqlite::sqlx::SqliteConnection;

use crate::bad_requests::MAX_PAYLOAD;
use crate::operations::{Operation, operations};
use crate::support::api::{Answer, Api};
use crate::support::process::Process;

/// May act for every tenant.
pub(crate) const ADMIN: &str = "the-key-of-an-admin";
/// Bound to the tenant whose things are there.
pub(crate) const ACME: &str = "the-key-of-acme-corp";
/// Bound to a tenant that has nothing.
pub(crate) const OTHER: &str = "the-key-of-another-tenant";
/// No key of the server.
pub(crate) const WRONG: &str = "the-key-of-nobody-at-all";

/// The flag with which this machine is a target.
pub(crate) const REACHABLE: &str = "--allow-cidr=127.0.0.1/32";

/// Where the API is.
pub(crate) const BASE: &str = "/api/v1";

/// What a server keeps its data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
    PostgresAndRedis,
}

/// A running server and its data. Gone when dropped.
pub(crate) struct World {
    pub(crate) operations: Vec<Operation>,
    api: Api,
    database: Database,
    redis: Option<Redis>,
    _server: Process,
    _directory: TempDir,
}

#[derive(Debug)]
enum Database {
    Sqlite(String),
    Postgres(String),
}

impl World {
    /// One for this test, with these flags too; `None`, with a word, when its backend is not installed.
    pub(crate) async fn start(backend: Backend, test: &str, more: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let database = match backend {
            Backend::Sqlite => {
                Database::Sqlite(format!("sqlite://{}", directory.path().join("webhooks.db").display()))
            }
            Backend::Postgres | Backend::PostgresAndRedis => {
                Database::Postgres(postgres(test, backend).await?)
            }
        };
        let redis = match backend {
            Backend::PostgresAndRedis => {
                Some(test_servers::or_skip(test, Redis::start(&["--maxmemory-policy", "noeviction"]))?)
            }
            Backend::Sqlite | Backend::Postgres => None,
        };
        let (Database::Sqlite(url) | Database::Postgres(url)) = &database;
        let mut arguments: Vec<String> =
            ["--listen=127.0.0.1:0", "--log=warn", "--database-url", url, "--api-key", ADMIN]
                .map(str::to_owned)
                .to_vec();
        arguments.push(format!("--max-payload={}KiB", MAX_PAYLOAD / 1024));
        arguments.extend([format!("--api-key=acme:{ACME}"), format!("--api-key=other:{OTHER}")]);
        arguments.extend(redis.as_ref().map(|redis| format!("--redis-url={}", redis.url())));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let mut server = Process::start(&arguments);
        let api = Api::new(server.url());
        let operations = operations(&api).await;
        Some(Self { operations, api, database, redis, _server: server, _directory: directory })
    }

    /// One request below the API's path.
    pub(crate) async fn send(
        &self,
        method: &Method,
        path: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        body: impl Into<axum::body::Bytes>,
    ) -> Answer {
        let bearer = key.map(|key| format!("Bearer {key}"));
        let bearer = bearer.as_deref().map(|bearer| ("authorization", bearer));
        let headers: Vec<_> = headers.iter().copied().chain(bearer).collect();
        let path = format!("{BASE}{path}");
        self.api
            .send(method.clone(), &path, &headers, body)
            .await
            .unwrap_or_else(|| panic!("{method} {path:.200}: no answer"))
    }

    /// What an operation does at a path of it, with a good body.
    pub(crate) async fn ask(&self, operation: &Operation, path: &str, key: Option<&str>) -> Answer {
        let json = [("content-type", "application/json")];
        let (headers, body) = match &operation.body {
            Some(body) => (&json[..], body.to_string()),
            None => (&[][..], String::new()),
        };
        self.send(&operation.method, path, key, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        self.send(&Method::GET, path, Some(key), &[], "").await
    }

    /// A post that must go well.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        let json = [("content-type", "application/json")];
        let answer = self.send(&Method::POST, path, Some(key), &json, body.to_string()).await;
        assert!(answer.status.is_success(), "{path}: {:?}", answer.body);
        answer.json()
    }

    /// Inserts an event as an application does in a transaction of its own, of a type that is none.
    pub(crate) async fn insert_what_cannot_be_published(&self, tenant: &str) {
        match &self.database {
            Database::Sqlite(url) => {
                let mut conn = SqliteConnection::connect(url).await.unwrap();
                let insert = "INSERT INTO webhooks_inbox (tenant, event_type, payload) VALUES (?, ?, ?)";
                let insert = sqlx::query(insert).bind(tenant).bind("not a type").bind("{}");
                insert.execute(&mut conn).await.unwrap();
                conn.close().await.unwrap();
            }
            Database::Postgres(url) => {
                let mut conn = PgConnection::connect(url).await.unwrap();
                let insert = "INSERT INTO webhooks.inbox (tenant, event_type, payload) VALUES ($1, $2, $3)";
                let insert = sqlx::query(insert).bind(tenant).bind("not a type").bind(b"{}".as_slice());
                insert.execute(&mut conn).await.unwrap();
                conn.close().await.unwrap();
            }
        }
    }

    /// How many rows each table has, and how many keys Redis, but for what the server writes by itself, statistics among
    /// it.
    pub(crate) async fn rows(&self) -> BTreeMap<String, i64> {
        let mut rows = match &self.database {
            Database::Sqlite(url) => {
                let mut conn = SqliteConnection::connect(url).await.unwrap();
                let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'webhooks%'
                             AND name <> 'webhooks_rollups'";
                let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut conn).await.unwrap();
                let mut rows = BTreeMap::new();
                for name in names {
                    let count = format!("SELECT count(*) FROM {name}");
                    rows.insert(name, sqlx::query_scalar(&count).fetch_one(&mut conn).await.unwrap());
                }
                rows
            }
            Database::Postgres(url) => {
                let mut conn = PgConnection::connect(url).await.unwrap();
                let names = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'webhooks' AND tablename <> 'rollups'";
                let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut conn).await.unwrap();
                let mut rows = BTreeMap::new();
                for name in names {
                    let count = format!("SELECT count(*) FROM webhooks.{name}");
                    rows.insert(name, sqlx::query_scalar(&count).fetch_one(&mut conn).await.unwrap());
                }
                rows
            }
        };
        if let Some(redis) = &self.redis {
            rows.insert("redis".to_owned(), keys(redis));
        }
        // Its version and its epoch; hints for waiting workers.
        rows.retain(|name, _| !["migrations", "meta", "wakes"].iter().any(|own| name.ends_with(own)));
        rows
    }
}

/// A database of its own in the shared server.
async fn postgres(test: &str, backend: Backend) -> Option<String> {
    // Off the runtime's threads: the first one starts a server.
    let shared = tokio::task::spawn_blocking(test_servers::postgres::shared).await.unwrap();
    let url = test_servers::or_skip(test, shared)?;
    let name = format!("api_{test}_{backend:?}_{}", std::process::id()).to_lowercase();
    let mut conn = PgConnection::connect(url).await.expect("the tests' server answers");
    for statement in [format!("DROP DATABASE IF EXISTS \"{name}\""), format!("CREATE DATABASE \"{name}\"")] {
        sqlx::raw_sql(&statement).execute(&mut conn).await.expect("a database can be made");
    }
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    Some(format!("{server}/{name}"))
}

/// How many keys there are.
fn keys(redis: &Redis) -> i64 {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
    stream.write_all(b"DBSIZE\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().trim_start_matches(':').parse().unwrap_or_else(|_| panic!("DBSIZE: {line}"))
}
