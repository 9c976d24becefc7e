//! The table of settings: one row for each, with its names, default, meaning and reader, and the list of rows that each
//! command takes.
//!
//! A row without a reader is read by [`keys`](super::keys), whose items come from two settings, or is refused whatever
//! its value. A new setting is a row here, its place in a list below, and a field of the command's configuration. What follows
//! from several settings at once (an address and the keys, a role and the database) is judged in
//! [`config`](super), where all are known.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::filter::Targets;
use webhook_core::engine::{IN_FLIGHT, TIMEOUTS};
use webhook_core::retry::RetrySpec;
use webhook_core::secret::Secret;
use webhook_core::signature::SignatureScheme;

use super::spec::{Secrecy, Setting, Shape, Spec};
use super::values::{
    CONCURRENCY, GRACES, LEASES, address_ranges, count, duration, listen_address, log_filter, log_format,
    max_age, never_disabled, payload_size, queue_kind, retention, role, switch, text, within,
};
use super::{LogFormat, QueueKind, Role};
use crate::backend::Database;

/// What `serve` and `check-config` take.
pub(crate) static SERVE: &[&Spec] = &[
    &LISTEN.spec,
    &DATABASE_URL.spec,
    &REDIS_URL.spec,
    &ROLE.spec,
    &API_KEY,
    &API_KEY_FILE.spec,
    &ALLOW_CIDR.spec,
    &HTTPS_ONLY.spec,
    &CONCURRENCY_LIMIT.spec,
    &MAX_IN_FLIGHT.spec,
    &TIMEOUT.spec,
    &RETRY.spec,
    &LEASE.spec,
    &RETENTION.spec,
    &MAX_PAYLOAD.spec,
    &MAX_AGE.spec,
    &DISABLE_AFTER.spec,
    &MIGRATE.spec,
    &ENCRYPTION_KEY,
    &LOG_FORMAT.spec,
    &LOG.spec,
    &SHUTDOWN_GRACE.spec,
    &CONFIG.spec,
];

/// What `migrate` takes.
pub(crate) static MIGRATION: &[&Spec] =
    &[&DATABASE_URL.spec, &QUEUE.spec, &LOG_FORMAT.spec, &LOG.spec, &CONFIG.spec];

/// What `healthcheck` takes.
pub(crate) static HEALTHCHECK: &[&Spec] = &[&LISTEN.spec, &READY.spec, &WITHIN.spec, &CONFIG.spec];

/// What `demo` takes.
pub(crate) static DEMO: &[&Spec] = &[&SECONDS.spec];

/// What `listen` takes.
pub(crate) static RECEIVER: &[&Spec] =
    &[&PORT.spec, &SECRET.spec, &STATUS.spec, &FAIL_FIRST.spec, &DELAY_MS.spec];

pub(crate) static LISTEN: Setting<SocketAddr> = Setting {
    spec: Spec::service(
        "listen",
        "WEBHOOK_LISTEN",
        "ADDRESS",
        "Where the API listens, and with --role worker the probes; without API keys loopback only",
    )
    .default("127.0.0.1:8080"),
    read: listen_address,
};

pub(crate) static DATABASE_URL: Setting<Database> = Setting {
    spec: Spec::service(
        "database-url",
        "DATABASE_URL",
        "URL",
        "sqlite://PATH, postgres://USER:PASSWORD@HOST/DATABASE or memory: (gone when the process ends)",
    )
    .default("sqlite://webhooks.db")
    .secrecy(Secrecy::Url),
    read: str::parse,
};

pub(crate) static REDIS_URL: Setting<String> = Setting {
    spec: Spec::service(
        "redis-url",
        "REDIS_URL",
        "URL",
        "Redis as the queue of a PostgreSQL database: redis://, rediss://, redis-cluster:// or redis-sentinel://; \
         without it the database is the queue",
    )
    .secrecy(Secrecy::Url),
    read: text,
};

pub(crate) static ROLE: Setting<Role> = Setting {
    spec: Spec::service(
        "role",
        "WEBHOOK_ROLE",
        "ROLE",
        "all, api (takes events and delivers none) or worker (delivers, and answers probes alone); on PostgreSQL \
         several of each can share a database",
    )
    .default("all"),
    read: role,
};

pub(crate) static API_KEY: Spec = Spec::service(
    "api-key",
    "WEBHOOK_API_KEYS",
    "KEY",
    "A bearer key of 16 characters or more: KEY for an admin, TENANT:KEY for one tenant. Other users of this machine \
     can read arguments, not --api-key-file",
)
.shape(Shape::List)
.secrecy(Secrecy::Secret)
.together(&["api-key-file"]);

pub(crate) static API_KEY_FILE: Setting<String> = Setting {
    spec: Spec::service(
        "api-key-file",
        "WEBHOOK_API_KEY_FILE",
        "PATH",
        "A file with such keys, one a line; added to those that the same source gives by --api-key",
    )
    .together(&["api-key"]),
    read: text,
};

pub(crate) static ALLOW_CIDR: Setting<Vec<IpNet>> = Setting {
    spec: Spec::service(
        "allow-cidr",
        "WEBHOOK_ALLOW_CIDRS",
        "CIDR",
        "A range of addresses let through the private-network guard, such as 10.0.0.0/8",
    )
    .shape(Shape::List),
    read: address_ranges,
};

pub(crate) static HTTPS_ONLY: Setting<bool> = Setting {
    spec: Spec::service("https-only", "WEBHOOK_HTTPS_ONLY", "BOOL", "Refuse http:// targets")
        .default("false")
        .shape(Shape::Switch),
    read: switch,
};

pub(crate) static CONCURRENCY_LIMIT: Setting<u32> = Setting {
    spec: Spec::service("concurrency", "WEBHOOK_CONCURRENCY", "N", "Attempts in flight in this process")
        .default("512"),
    read: |text| count(text, CONCURRENCY),
};

pub(crate) static MAX_IN_FLIGHT: Setting<u32> = Setting {
    spec: Spec::service(
        "max-in-flight",
        "WEBHOOK_MAX_IN_FLIGHT",
        "N",
        "Attempts in flight per subscription that sets no limit of its own, over all workers",
    )
    .default("64"),
    read: |text| count(text, IN_FLIGHT),
};

pub(crate) static TIMEOUT: Setting<Duration> = Setting {
    spec: Spec::service(
        "timeout",
        "WEBHOOK_TIMEOUT",
        "DURATION",
        "Deadline of one attempt, from dialling to the end of the answer",
    )
    .default("15s"),
    read: |text| duration(text, TIMEOUTS),
};

pub(crate) static RETRY: Setting<RetrySpec> = Setting {
    spec: Spec::service(
        "retry",
        "WEBHOOK_RETRY",
        "POLICY",
        "standard (5s,5m,30m,2h,5h,10h,14h,20h,24h, each ± 20 %), schedule:10s,30s,1m or \
         exponential:10s,x2,max=1h,attempts=7,jitter=0.2",
    )
    .default("standard"),
    read: |text| text.parse().map_err(|error: webhook_core::retry::RetryError| error.to_string()),
};

pub(crate) static LEASE: Setting<Duration> = Setting {
    spec: Spec::service(
        "lease",
        "WEBHOOK_LEASE",
        "DURATION",
        "How long a crashed worker's deliveries wait; a live worker renews it",
    )
    .default("30s"),
    read: |text| duration(text, LEASES),
};

pub(crate) static RETENTION: Setting<Option<Duration>> = Setting {
    spec: Spec::service(
        "retention",
        "WEBHOOK_RETENTION",
        "DURATION",
        "Finished events are deleted after this, with their deliveries and attempts; 0 keeps them",
    )
    .default("72h"),
    read: retention,
};

pub(crate) static MAX_PAYLOAD: Setting<usize> = Setting {
    spec: Spec::service(
        "max-payload",
        "WEBHOOK_MAX_PAYLOAD",
        "SIZE",
        "Largest payload of an event; a batch may be eight times as large in all",
    )
    .default("1MiB"),
    read: payload_size,
};

pub(crate) static MAX_AGE: Setting<Option<Duration>> = Setting {
    spec: Spec::service(
        "max-age",
        "WEBHOOK_MAX_AGE",
        "DURATION",
        "What is unfinished for longer is exhausted as expired; 0 never",
    )
    .default("30d"),
    read: max_age,
};

pub(crate) static DISABLE_AFTER: Setting<()> = Setting {
    spec: Spec::service(
        "disable-after",
        "WEBHOOK_DISABLE_AFTER",
        "DURATION",
        "A subscription with nothing but failures for this long is disabled; 0 never, which is all that this version \
         takes",
    )
    .default("0"),
    read: never_disabled,
};

pub(crate) static MIGRATE: Setting<bool> = Setting {
    spec: Spec::service(
        "migrate",
        "WEBHOOK_MIGRATE",
        "BOOL",
        "Bring the schema up to date at start; when off and behind, refuse to start",
    )
    .default("true")
    .shape(Shape::Switch),
    read: switch,
};

pub(crate) static ENCRYPTION_KEY: Spec = Spec::service(
    "encryption-key",
    "WEBHOOK_ENCRYPTION_KEYS",
    "KEY",
    "Seals signing secrets and header values in the database: the first seals, all open",
)
.shape(Shape::List)
.secrecy(Secrecy::Secret)
.unbuilt("this version of the server seals nothing in the database; unset it");

pub(crate) static LOG_FORMAT: Setting<LogFormat> = Setting {
    spec: Spec::service("log-format", "WEBHOOK_LOG_FORMAT", "FORMAT", "pretty or json").default("pretty"),
    read: log_format,
};

pub(crate) static LOG: Setting<Targets> = Setting {
    spec: Spec::service(
        "log",
        "WEBHOOK_LOG",
        "FILTER",
        "A level (off, error, warn, info, debug, trace), or levels by target such as info,webhook_core=debug",
    )
    .default("info"),
    read: log_filter,
};

pub(crate) static SHUTDOWN_GRACE: Setting<Duration> = Setting {
    spec: Spec::service(
        "shutdown-grace",
        "WEBHOOK_SHUTDOWN_GRACE",
        "DURATION",
        "On SIGTERM and SIGINT, time to finish what is in flight",
    )
    .default("30s"),
    read: |text| duration(text, GRACES),
};

pub(crate) static CONFIG: Setting<String> = Setting {
    spec: Spec::service(
        "config",
        "WEBHOOK_CONFIG",
        "PATH",
        "A TOML file of settings, by the flags' names with underscores; whatever else names a setting wins over it",
    )
    .outside_files(),
    read: text,
};

pub(crate) static QUEUE: Setting<QueueKind> = Setting {
    spec: Spec::flag(
        "queue",
        "KIND",
        "database or redis: move all jobs to that kind of queue, every node stopped",
    ),
    read: queue_kind,
};

pub(crate) static READY: Setting<bool> = Setting {
    spec: Spec::flag(
        "ready",
        "BOOL",
        "Ask /ready instead of /health: fails also while the database is away or the server stops",
    )
    .default("false")
    .shape(Shape::Switch),
    read: switch,
};

pub(crate) static WITHIN: Setting<Duration> = Setting {
    spec: Spec::flag("within", "DURATION", "Longest wait for the answer").default("5s"),
    read: within,
};

pub(crate) static SECONDS: Setting<u32> = Setting {
    spec: Spec::flag("seconds", "N", "Stop after so many seconds; without it, at Ctrl-C"),
    read: |text| count(text, 1..=86_400),
};

pub(crate) static PORT: Setting<u16> = Setting {
    spec: Spec::flag("port", "PORT", "Port on 127.0.0.1; 0 takes a free one").default("9000"),
    read: |text| count(text, 0..=u16::MAX),
};

pub(crate) static SECRET: Setting<Secret> = Setting {
    spec: Spec::flag(
        "secret",
        "SECRET",
        "The subscription's signing secret; what it did not sign is answered 401. Without it nothing is verified",
    )
    .secrecy(Secrecy::Secret),
    read: |text| Secret::parse(text, SignatureScheme::Standard).map_err(|error| error.to_string()),
};

pub(crate) static STATUS: Setting<u16> = Setting {
    spec: Spec::flag("status", "STATUS", "Status of the answers").default("200"),
    read: |text| count(text, 200..=599),
};

pub(crate) static FAIL_FIRST: Setting<u32> = Setting {
    spec: Spec::flag(
        "fail-first",
        "N",
        "Answer 500 to the first N requests, all paths and events counted together",
    )
    .default("0"),
    read: |text| count(text, 0..=u32::MAX),
};

pub(crate) static DELAY_MS: Setting<u32> = Setting {
    spec: Spec::flag("delay-ms", "MS", "Wait so long before each answer").default("0"),
    read: |text| count(text, 0..=3_600_000),
};
