//! The tables, and how a file gets them.
//!
//! All names begin with `webhooks_`, so that the file may hold an application's own tables too. Ids are their
//! sixteen bytes, moments are microseconds since the epoch by the store's clock, names are the API's.
//!
//! - The narrow part that changes with every attempt: `jobs`, `deliveries`. The wide part that is written
//!   once: `events` with their payloads, `attempts`.
//! - No foreign keys: the one writer keeps the tables together, and each key would cost a look-up a row.
//! - An index is there because a query needs it; its comment names the query. None is on a column that
//!   changes with every attempt.
//!
//! Migrations are numbered from 1 and kept in `webhooks_migrations`; each runs in one transaction with its
//! number. A file from a newer version is refused.

use sqlx::SqliteConnection;
use webhook_core::error::{BackendError, BackendErrorKind};

use crate::error::{BACKEND, Fault};

/// One script a version, the first being version 1. A released one never changes.
const MIGRATIONS: [&str; 4] = [STORE, REPLAY_ENDS, STATISTICS, TRACEPARENT];

/// Events, deliveries, attempts, jobs and what is kept beside them.
const STORE: &str = "
CREATE TABLE webhooks_meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    last_number INTEGER NOT NULL -- at least: numbers up to it are given, though no event may have one
) STRICT;
INSERT INTO webhooks_meta (id, epoch, last_number) VALUES (1, 1, 0);

CREATE TABLE webhooks_tenants (
    tenant TEXT PRIMARY KEY,
    config_version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks_subscriptions (
    id BLOB PRIMARY KEY,
    tenant TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    config_version INTEGER NOT NULL, -- of the tenant, at the last change
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    draining INTEGER NOT NULL DEFAULT 0, -- deleted, and may still have unfinished deliveries
    settings TEXT NOT NULL, -- JSON
    secrets BLOB NOT NULL -- JSON, sealed: secrets and header values
) STRICT, WITHOUT ROWID;
-- list of a tenant, snapshot
CREATE INDEX webhooks_subscriptions_tenant ON webhooks_subscriptions (tenant, id) WHERE deleted_at IS NULL;
-- changes_since
CREATE INDEX webhooks_subscriptions_config ON webhooks_subscriptions (tenant, config_version);
-- cancel_deleted
CREATE INDEX webhooks_subscriptions_draining ON webhooks_subscriptions (id) WHERE draining = 1;

CREATE TABLE webhooks_events (
    seq INTEGER PRIMARY KEY, -- the order in which events were stored
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    event_type TEXT NOT NULL,
    content_type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    delivery_count INTEGER NOT NULL,
    payload_size INTEGER NOT NULL,
    ordering_key TEXT,
    deliver_at INTEGER,
    idempotency_key TEXT,
    only_subscription BLOB,
    payload BLOB NOT NULL -- last, so that lists do not read through it
) STRICT;
-- that an event is there once, look-up, list of a tenant
CREATE UNIQUE INDEX webhooks_events_id ON webhooks_events (tenant, id);

CREATE TABLE webhooks_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    event_id BLOB NOT NULL,
    delivery_count INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
-- prune
CREATE INDEX webhooks_keys_expiry ON webhooks_keys (expires_at);

CREATE TABLE webhooks_deliveries (
    id BLOB PRIMARY KEY,
    event INTEGER NOT NULL, -- seq
    subscription BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    added INTEGER, -- the number of one that its event's publish did not make
    turn INTEGER, -- of an ordered one: its number
    chain_start INTEGER NOT NULL,
    give_up_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    attempts INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    unknowns INTEGER NOT NULL,
    chain INTEGER NOT NULL,
    request TEXT,
    last_status_code INTEGER,
    error_kind TEXT,
    error_detail TEXT,
    next_attempt_at INTEGER, -- by the schedule, whether or not it waits behind another; NULL when finished
    finished_at INTEGER
) STRICT, WITHOUT ROWID;
-- deliveries of an event: lists, duplicates, prune
CREATE INDEX webhooks_deliveries_event ON webhooks_deliveries (event);
-- list of a subscription; lists of a tenant are merged from those of its subscriptions
CREATE INDEX webhooks_deliveries_subscription ON webhooks_deliveries (subscription, id);
-- list of dead letters, however many succeeded; that of unfinished ones reads jobs and turns
CREATE INDEX webhooks_deliveries_dead ON webhooks_deliveries (id) WHERE status IN ('exhausted', 'cancelled');

-- expire by lane
CREATE INDEX webhooks_deliveries_give_up ON webhooks_deliveries (subscription, give_up_at)
    WHERE finished_at IS NULL;
-- expire by age
CREATE INDEX webhooks_deliveries_chain ON webhooks_deliveries (chain_start) WHERE finished_at IS NULL;

CREATE TABLE webhooks_attempts (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    delivery BLOB NOT NULL,
    number INTEGER NOT NULL,
    subscription BLOB NOT NULL,
    token BLOB NOT NULL,
    trigger TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status_code INTEGER,
    error_kind TEXT,
    error_detail TEXT,
    target_url TEXT NOT NULL,
    response_headers TEXT NOT NULL, -- JSON
    response_body BLOB NOT NULL
) STRICT;
-- attempts of a delivery, and that each number is there once
CREATE UNIQUE INDEX webhooks_attempts_delivery ON webhooks_attempts (delivery, number);
-- list of a subscription; those of a tenant are merged
CREATE INDEX webhooks_attempts_subscription ON webhooks_attempts (subscription, id);

-- When the deliveries of an event finished: what prune reads. Written once for each moment.
CREATE TABLE webhooks_finished (
    at INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (at, event)
) STRICT, WITHOUT ROWID;

-- The unfinished deliveries that take turns.
CREATE TABLE webhooks_turns (
    subscription BLOB NOT NULL,
    ordering_key TEXT NOT NULL, -- '' when the event has none
    turn INTEGER NOT NULL,
    delivery BLOB NOT NULL,
    head INTEGER NOT NULL, -- 1: it is this one's turn
    PRIMARY KEY (subscription, ordering_key, turn)
) STRICT, WITHOUT ROWID;
-- to end the turn of a delivery
CREATE UNIQUE INDEX webhooks_turns_delivery ON webhooks_turns (delivery);
-- one head a key
CREATE UNIQUE INDEX webhooks_turns_head ON webhooks_turns (subscription, ordering_key) WHERE head = 1;

CREATE TABLE webhooks_jobs (
    id BLOB PRIMARY KEY,
    lane BLOB NOT NULL,
    due INTEGER NOT NULL,
    leased INTEGER NOT NULL,
    ordered INTEGER NOT NULL, -- its delivery takes turns
    token BLOB, -- of the lease, or of one that ran out
    unsettled BLOB -- tokens of earlier leases that ran out, one after the other
) STRICT, WITHOUT ROWID;
-- claim
CREATE INDEX webhooks_jobs_due ON webhooks_jobs (lane, due) WHERE leased = 0;

-- What outlives a restart of the lanes; how many are in flight does not, because leases do not.
CREATE TABLE webhooks_lanes (
    lane BLOB PRIMARY KEY,
    version INTEGER, -- NULL: no settings yet
    hold TEXT,
    max_in_flight INTEGER,
    rate_requests INTEGER,
    rate_per INTEGER,
    strikes INTEGER NOT NULL,
    slow INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    parked_until INTEGER NOT NULL,
    permit_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks_replays (
    id BLOB PRIMARY KEY,
    tenant TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    statuses TEXT NOT NULL, -- names with commas between; '' for any
    subscription BLOB,
    event_id BLOB,
    event_type TEXT,
    since INTEGER,
    until INTEGER,
    last_number INTEGER NOT NULL, -- given when it started: what has a later one is no part of it
    after BLOB, -- the last delivery of the page before
    finished INTEGER NOT NULL,
    matched INTEGER NOT NULL,
    more INTEGER NOT NULL,
    done INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- the oldest that runs
CREATE INDEX webhooks_replays_running ON webhooks_replays (id) WHERE finished = 0;

-- Written by applications, in any language: its columns are documented in the README and only ever added to.
-- AUTOINCREMENT: a number is never given twice, so that settling a row again cannot mean a later one.
CREATE TABLE webhooks_inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id ANY NOT NULL -- UUID: 36 characters, 32 hexadecimal digits, or 16 bytes
        DEFAULT (lower(
            substr(printf('%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 1, 8) || '-' ||
            substr(printf('%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 9, 4) || '-7' ||
            substr(hex(randomblob(2)), 2) || '-' ||
            substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' ||
            hex(randomblob(6))))
        CHECK (CASE typeof(id)
            WHEN 'blob' THEN length(id) = 16
            WHEN 'text' THEN length(replace(id, '-', '')) = 32 AND replace(id, '-', '') NOT GLOB '*[^0-9A-Fa-f]*'
            ELSE 0 END),
    tenant TEXT NOT NULL DEFAULT 'default',
    event_type TEXT NOT NULL,
    payload ANY NOT NULL CHECK (typeof(payload) IN ('text', 'blob')),
    content_type TEXT NOT NULL DEFAULT 'application/json',
    ordering_key TEXT,
    deliver_at INTEGER, -- microseconds since 1970, UTC
    idempotency_key TEXT,
    created_at INTEGER NOT NULL
        DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000), -- microseconds since 1970
    problem TEXT -- the store's: why it cannot be published. Then its id has been made 16 bytes
) STRICT;
-- take
CREATE INDEX webhooks_inbox_waiting ON webhooks_inbox (number) WHERE problem IS NULL;
-- list of rejected ones
CREATE INDEX webhooks_inbox_rejected ON webhooks_inbox (id) WHERE problem IS NOT NULL;
";

/// When a replay ended, so that it can be pruned.
const REPLAY_ENDS: &str = "
ALTER TABLE webhooks_replays ADD COLUMN finished_at INTEGER;
UPDATE webhooks_replays SET finished_at = started_at WHERE finished = 1;
-- prune
CREATE INDEX webhooks_replays_finished ON webhooks_replays (finished_at) WHERE finished = 1;
";

/// Roll-ups, and the indexes by which what is unfinished is counted.
const STATISTICS: &str = "
-- Statistics. Inserted once and never changed: docs/decisions/statistics.md.
CREATE TABLE webhooks_rollups (
    id BLOB PRIMARY KEY,
    tenant TEXT NOT NULL, -- '' in those of everybody
    subscription BLOB, -- NULL in those of a tenant, and of everybody
    span INTEGER NOT NULL, -- 0: part of a minute, 1: minute, 2: hour
    start INTEGER NOT NULL, -- of the minute or the hour
    merged_start INTEGER NOT NULL, -- of the minute or the hour that it is merged into
    events INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    exhausted INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    attempts_succeeded INTEGER NOT NULL,
    attempts_failed INTEGER NOT NULL,
    attempts_unknown INTEGER NOT NULL,
    latency BLOB NOT NULL -- a histogram
) STRICT, WITHOUT ROWID;
-- totals of a tenant, and of everybody
CREATE INDEX webhooks_rollups_tenant ON webhooks_rollups (tenant, start) WHERE subscription IS NULL;
-- which are the worst, of a tenant and of all: of the failing ones, by these indexes alone
CREATE INDEX webhooks_rollups_failed ON webhooks_rollups (tenant, start, span, subscription, attempts_failed)
    WHERE subscription IS NOT NULL AND attempts_failed > 0;
CREATE INDEX webhooks_rollups_failed_of_all ON webhooks_rollups (start, span, subscription, attempts_failed)
    WHERE subscription IS NOT NULL AND attempts_failed > 0;
-- totals of a subscription, and what the worst ones succeeded in
CREATE INDEX webhooks_rollups_subscription ON webhooks_rollups (subscription, start)
    WHERE subscription IS NOT NULL;
-- compact: the oldest, scope by scope
CREATE INDEX webhooks_rollups_merge ON webhooks_rollups (span, merged_start, tenant, subscription);

-- The last column of both is the same in all of their entries: with it, counting looks at the index alone.
-- expire by lane, in the order of the first three; and what is unfinished of a subscription, counted by status
CREATE INDEX webhooks_deliveries_open ON webhooks_deliveries (subscription, give_up_at, id, status, finished_at)
    WHERE finished_at IS NULL;
DROP INDEX webhooks_deliveries_give_up;
-- claim; and what is due of a subscription, counted
DROP INDEX webhooks_jobs_due;
CREATE INDEX webhooks_jobs_due ON webhooks_jobs (lane, due, leased) WHERE leased = 0;
";

/// Which trace an event was published in, as the value of its `traceparent`.
const TRACEPARENT: &str = "
ALTER TABLE webhooks_events ADD COLUMN traceparent TEXT;
ALTER TABLE webhooks_inbox ADD COLUMN traceparent TEXT;
";

/// Brings the file's schema to this version.
///
/// # Errors
/// When it is newer, when it is older and `migrate` is off, or when SQLite fails.
pub(crate) async fn bring_up_to_date(
    conn: &mut SqliteConnection,
    migrate: bool,
    now: i64,
) -> Result<(), BackendError> {
    let refuse = |detail: String| BackendError::new(BackendErrorKind::Misconfigured, BACKEND, "open", detail);
    let fault = |error: sqlx::Error| Fault::from(error).during("migrate");
    let found = version(conn).await.map_err(fault)?;
    if found > MIGRATIONS.len() {
        return Err(refuse(format!(
            "the file's schema has version {found}, this program knows {}: run a newer one",
            MIGRATIONS.len()
        )));
    }
    if found < MIGRATIONS.len() && !migrate {
        return Err(refuse(format!(
            "the file's schema has version {found}, this program needs {}: run the migration first",
            MIGRATIONS.len()
        )));
    }
    for (index, script) in MIGRATIONS.iter().enumerate().skip(found) {
        apply(conn, index + 1, script, now).await.map_err(fault)?;
    }
    Ok(())
}

async fn version(conn: &mut SqliteConnection) -> Result<usize, sqlx::Error> {
    let known: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'webhooks_migrations'")
            .fetch_one(&mut *conn)
            .await?;
    if known == 0 {
        return Ok(0);
    }
    let version: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM webhooks_migrations")
        .fetch_one(&mut *conn)
        .await?;
    Ok(usize::try_from(version).unwrap_or(0))
}

async fn apply(
    conn: &mut SqliteConnection,
    version: usize,
    script: &'static str,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    let done = async {
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS webhooks_migrations (
                 version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT",
        )
        .execute(&mut *conn)
        .await?;
        sqlx::raw_sql(script).execute(&mut *conn).await?;
        sqlx::query("INSERT INTO webhooks_migrations (version, applied_at) VALUES (?, ?)")
            .bind(i64::try_from(version).unwrap_or(i64::MAX))
            .bind(now)
            .execute(&mut *conn)
            .await?;
        sqlx::raw_sql("COMMIT").execute(&mut *conn).await
    }
    .await;
    if done.is_err() {
        // The error that matters is the first one; a failed rollback leaves a connection that is closed next.
        let _ = sqlx::raw_sql("ROLLBACK").execute(conn).await;
    }
    done.map(|_| ())
}
