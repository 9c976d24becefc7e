//! What the process was told to do: from texts of the command line, the environment and files to a checked
//! configuration.
//!
//! | module | owes |
//! |---|---|
//! | [`spec`] | what is known of a setting |
//! | [`settings`] | the table of them all |
//! | [`sources`] | which text holds, and where it came from; the one line of a refusal |
//! | [`files`] | the TOML file, and where `.env` is |
//! | [`dot_env`] | variables from the text of `.env` |
//! | [`values`] | a value from its text |
//! | [`keys`] | the API keys |
//! | [`show`] | what `check-config` prints |
//! | [`page`] | `docs/configuration.md` |
//!
//! Here is what follows from several settings at once. A value is judged alike wherever it was written, and nothing is
//! opened or started: a configuration that was read may still name a database that is away.

mod dot_env;
mod files;
mod keys;
pub(crate) mod page;
pub(crate) mod settings;
pub(crate) mod show;
pub(crate) mod sources;
pub(crate) mod spec;
#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use webhook_core::retry::RetrySpec;
use webhook_core::secret::Secret;
use webhook_core::target::TargetRules;
use webhook_http_axum::Keys;

use self::settings as table;
pub(crate) use self::sources::{ConfigError, Flags, Sources};
use crate::backend::Database;

/// How `serve` runs.
#[derive(Debug, Clone)]
pub(crate) struct ServeConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) database: Database,
    pub(crate) role: Role,
    pub(crate) keys: Option<Keys>,
    pub(crate) rules: TargetRules,
    pub(crate) concurrency: u32,
    pub(crate) max_in_flight: u32,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetrySpec,
    pub(crate) lease: Duration,
    pub(crate) retention: Option<Duration>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_payload: usize,
    pub(crate) migrate: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) log: Targets,
    pub(crate) shutdown_grace: Duration,
}

/// What this process does of the service. Processes that share a database can share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    All,
    /// The API: it takes events and starts no workers.
    Api,
    /// Workers: they deliver, and probes are all that is answered.
    Worker,
}

impl Role {
    pub(crate) fn serves_api(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }

    pub(crate) fn delivers(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
}

/// How `migrate` runs.
#[derive(Debug, Clone)]
pub(crate) struct MigrateConfig {
    pub(crate) database: Database,
    /// To be the queue from now on.
    pub(crate) queue: Option<QueueKind>,
    pub(crate) log_format: LogFormat,
    pub(crate) log: Targets,
}

/// Where the jobs of a shared database are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueKind {
    Database,
    Redis,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Pretty,
    Json,
}

/// How `healthcheck` runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HealthcheckConfig {
    /// Where the server was told to listen, which may be every address of the machine.
    pub(crate) listen: SocketAddr,
    /// Whether to ask if it can work, not only if it is there.
    pub(crate) ready: bool,
    pub(crate) within: Duration,
}

/// How `demo` runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DemoConfig {
    pub(crate) duration: Option<Duration>,
}

/// How `listen` runs.
#[derive(Debug, Clone)]
pub(crate) struct ListenConfig {
    pub(crate) port: u16,
    pub(crate) secret: Option<Secret>,
    pub(crate) status: u16,
    pub(crate) fail_first: u64,
    pub(crate) delay: Duration,
}

impl ServeConfig {
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        for (spec, why) in table::SERVE.iter().filter_map(|spec| Some((spec, spec.unbuilt?))) {
            if let Some(given) = sources.find(spec)? {
                return Err(given.refuse(why));
            }
        }
        let mut database = sources.value(&table::DATABASE_URL)?;
        if let Some(url) = sources.optional(&table::REDIS_URL)? {
            database.take_queue(&url).map_err(|error| sources.refuse(&table::REDIS_URL.spec, error))?;
        }
        let keys = keys::read(sources)?;
        // There is one value so far.
        sources.value(&table::DISABLE_AFTER)?;
        Ok(Self {
            listen: listen(sources, keys.is_some())?,
            role: role_on(sources, &database)?,
            database,
            keys,
            rules: TargetRules {
                allow: sources.optional(&table::ALLOW_CIDR)?.unwrap_or_default(),
                https_only: sources.value(&table::HTTPS_ONLY)?,
            },
            concurrency: sources.value(&table::CONCURRENCY_LIMIT)?,
            max_in_flight: sources.value(&table::MAX_IN_FLIGHT)?,
            timeout: sources.value(&table::TIMEOUT)?,
            retry: sources.value(&table::RETRY)?,
            lease: sources.value(&table::LEASE)?,
            retention: sources.value(&table::RETENTION)?,
            max_age: sources.value(&table::MAX_AGE)?,
            max_payload: sources.value(&table::MAX_PAYLOAD)?,
            migrate: sources.value(&table::MIGRATE)?,
            log_format: sources.value(&table::LOG_FORMAT)?,
            log: sources.value(&table::LOG)?,
            shutdown_grace: sources.value(&table::SHUTDOWN_GRACE)?,
        })
    }
}

impl MigrateConfig {
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let database = sources.value(&table::DATABASE_URL)?;
        let queue = sources.optional(&table::QUEUE)?;
        if queue.is_some() && !database.is_shared() {
            let why = "SQLite and memory have one kind of queue, their own; others need postgres://…";
            return Err(sources.refuse(&table::QUEUE.spec, why));
        }
        Ok(Self {
            queue,
            database,
            log_format: sources.value(&table::LOG_FORMAT)?,
            log: sources.value(&table::LOG)?,
        })
    }
}

impl HealthcheckConfig {
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let listen = sources.value(&table::LISTEN)?;
        if listen.port() == 0 {
            let why =
                "a port that the server took by itself is not known here; give the one it says it listens on";
            return Err(sources.refuse(&table::LISTEN.spec, why));
        }
        Ok(Self { listen, ready: sources.value(&table::READY)?, within: sources.value(&table::WITHIN)? })
    }
}

impl DemoConfig {
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let seconds = sources.optional(&table::SECONDS)?;
        Ok(Self { duration: seconds.map(|seconds| Duration::from_secs(seconds.into())) })
    }
}

impl ListenConfig {
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        Ok(Self {
            port: sources.value(&table::PORT)?,
            secret: sources.optional(&table::SECRET)?,
            status: sources.value(&table::STATUS)?,
            fail_first: sources.value(&table::FAIL_FIRST)?.into(),
            delay: Duration::from_millis(sources.value(&table::DELAY_MS)?.into()),
        })
    }
}

/// An address to listen on. To a server that is not `locked` nobody has to prove anything, so only this machine may
/// reach it.
fn listen(sources: &Sources, locked: bool) -> Result<SocketAddr, ConfigError> {
    let address = sources.value(&table::LISTEN)?;
    if !locked && !address.ip().to_canonical().is_loopback() {
        let why = "without API keys the server listens on loopback only, such as 127.0.0.1:8080: whoever reaches the \
                   port may do everything; give it keys with --api-key";
        return Err(sources.refuse(&table::LISTEN.spec, why));
    }
    Ok(address)
}

/// A role that a process on this database can have.
fn role_on(sources: &Sources, database: &Database) -> Result<Role, ConfigError> {
    let role = sources.value(&table::ROLE)?;
    if role != Role::All && !database.is_shared() {
        let why = "expected all: SQLite and memory are one process's own, roles apart need a database that processes \
                   share, such as postgres://…";
        return Err(sources.refuse(&table::ROLE.spec, why));
    }
    Ok(role)
}
