//! What the values mean: from texts of the command line and the environment to a checked configuration.
//!
//! Each setting is read by one function whichever source it came from, and a flag wins over the environment. An
//! empty environment variable counts as not set, as container tools cannot leave one out. An error names the flag,
//! the variable when the value came from there, the value unless it may hold a secret, and what is accepted.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::filter::{LevelFilter, Targets};
use webhook_core::engine::{IN_FLIGHT, TIMEOUTS};
use webhook_core::retry::RetrySpec;
use webhook_core::secret::Secret;
use webhook_core::signature::SignatureScheme;
use webhook_core::target::TargetRules;
use webhook_core::units::{format_duration, format_size, parse_duration, parse_size};
use webhook_http_axum::Keys;

use crate::backend::Database;
use crate::cli::{DemoFlags, ListenFlags, MigrateFlags, ServeFlags};

/// Most attempts in flight in one process: each may hold a connection.
const CONCURRENCY: RangeInclusive<u32> = 1..=100_000;
const LEASES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const RETENTIONS: RangeInclusive<Duration> = Duration::from_secs(1)..=webhook_core::units::MAX_DURATION;
const PAYLOADS: RangeInclusive<u64> = 1..=256 * 1024 * 1024;

/// Variables of settings that other versions of this server have. One that is set would change nothing here, and
/// whoever set `WEBHOOK_ENCRYPTION_KEYS` believes to be protected.
const UNKNOWN_HERE: &[&str] = &["WEBHOOK_DISABLE_AFTER", "WEBHOOK_ENCRYPTION_KEYS", "WEBHOOK_CONFIG"];

/// A value that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A setting's value is wrong.
    #[error("{flag}{value}{origin}: {detail}")]
    Value {
        flag: &'static str,
        /// With a blank before it; empty when it must not be shown.
        value: String,
        origin: String,
        detail: String,
    },
    /// A variable that this version does not know.
    #[error(
        "the environment variable {0} is set, but this version of the server has no such setting: unset it"
    )]
    Unknown(&'static str),
}

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

/// The process's environment, for [`ServeConfig::read`].
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// One setting: where its value may come from.
struct Setting<'a> {
    flag: &'static str,
    variable: Option<(&'static str, Option<OsString>)>,
    given: Option<&'a str>,
    secret: bool,
}

impl<'a> Setting<'a> {
    fn of_flag(flag: &'static str, given: Option<&'a String>) -> Self {
        Self { flag, variable: None, given: given.map(String::as_str), secret: false }
    }

    fn of_both(
        flag: &'static str,
        variable: &'static str,
        given: Option<&'a String>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Self {
        Self { variable: Some((variable, environment(variable))), ..Self::of_flag(flag, given) }
    }

    fn refuse(&self, text: &str, origin: &str, detail: impl Display) -> ConfigError {
        let value = if self.secret { String::new() } else { format!(" {:?}", shown(text)) };
        ConfigError::Value { flag: self.flag, value, origin: origin.to_owned(), detail: detail.to_string() }
    }

    /// The value by `parse`, from the flag or else from the environment; `None` when neither has it.
    fn read<T, E: Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        if let Some(text) = self.given {
            return parse(text).map(Some).map_err(|error| self.refuse(text, "", error));
        }
        let Some((name, Some(value))) = &self.variable else { return Ok(None) };
        let origin = format!(" (from {name})");
        let Some(text) = value.to_str() else {
            return Err(self.refuse(&value.to_string_lossy(), &origin, "the value is not UTF-8 text"));
        };
        if text.is_empty() {
            return Ok(None);
        }
        parse(text).map(Some).map_err(|error| self.refuse(text, &origin, error))
    }
}

/// As much of a value as fits in a line, and nothing of a URL that may carry a password.
fn shown(text: &str) -> String {
    if let Some((scheme, _)) = text.split_once("://")
        && !matches!(scheme, "sqlite" | "http" | "https")
    {
        return format!("{scheme}://…");
    }
    if text.chars().count() > 100 {
        return text.chars().take(100).chain(['…']).collect();
    }
    text.to_owned()
}

impl ServeConfig {
    /// Reads the flags, and `environment` for what they leave out.
    ///
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(
        flags: &ServeFlags,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let is_set = |name: &&&str| environment(name).is_some_and(|value| !value.is_empty());
        if let Some(name) = UNKNOWN_HERE.iter().find(is_set) {
            return Err(ConfigError::Unknown(name));
        }
        let setting = |flag, variable, given: Option<_>| Setting::of_both(flag, variable, given, environment);
        let ranges = flags.allow_cidr.join(",");
        let ranges = (!flags.allow_cidr.is_empty()).then_some(&ranges);
        let f = flags;
        let role = setting("--role", "WEBHOOK_ROLE", f.role.as_ref());
        let mut database = database(f.database_url.as_ref(), environment)?;
        let redis = setting("--redis-url", "REDIS_URL", f.redis_url.as_ref());
        redis.read(|url| database.take_queue(url))?;
        let keys = keys::read(flags, environment)?;
        Ok(Self {
            listen: setting("--listen", "WEBHOOK_LISTEN", f.listen.as_ref())
                .read(|text| listen_address(text, keys.is_some()))?
                .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            role: role.read(|text| role_on(text, &database))?.unwrap_or(Role::All),
            database,
            keys,
            rules: TargetRules {
                allow: setting("--allow-cidr", "WEBHOOK_ALLOW_CIDRS", ranges)
                    .read(address_ranges)?
                    .unwrap_or_default(),
                https_only: setting("--https-only", "WEBHOOK_HTTPS_ONLY", f.https_only.as_ref())
                    .read(switch)?
                    .unwrap_or(false),
            },
            concurrency: setting("--concurrency", "WEBHOOK_CONCURRENCY", f.concurrency.as_ref())
                .read(|text| count(text, CONCURRENCY))?
                .unwrap_or(512),
            max_in_flight: setting("--max-in-flight", "WEBHOOK_MAX_IN_FLIGHT", f.max_in_flight.as_ref())
                .read(|text| count(text, IN_FLIGHT))?
                .unwrap_or(64),
            timeout: setting("--timeout", "WEBHOOK_TIMEOUT", f.timeout.as_ref())
                .read(|text| duration(text, TIMEOUTS))?
                .unwrap_or(Duration::from_secs(15)),
            retry: setting("--retry", "WEBHOOK_RETRY", f.retry.as_ref())
                .read(str::parse)?
                .unwrap_or_else(RetrySpec::standard),
            lease: setting("--lease", "WEBHOOK_LEASE", f.lease.as_ref())
                .read(|text| duration(text, LEASES))?
                .unwrap_or(Duration::from_secs(30)),
            max_age: setting("--max-age", "WEBHOOK_MAX_AGE", f.max_age.as_ref())
                .read(max_age)?
                .unwrap_or(Some(Duration::from_secs(30 * 86_400))),
            retention: setting("--retention", "WEBHOOK_RETENTION", f.retention.as_ref())
                .read(retention)?
                .unwrap_or(Some(Duration::from_secs(72 * 3600))),
            max_payload: setting("--max-payload", "WEBHOOK_MAX_PAYLOAD", f.max_payload.as_ref())
                .read(payload_size)?
                .unwrap_or(1024 * 1024),
            migrate: setting("--migrate", "WEBHOOK_MIGRATE", f.migrate.as_ref())
                .read(switch)?
                .unwrap_or(true),
            log_format: format_of_log(f.log_format.as_ref(), environment)?,
            log: filter_of_log(f.log.as_ref(), environment)?,
            shutdown_grace: setting("--shutdown-grace", "WEBHOOK_SHUTDOWN_GRACE", f.shutdown_grace.as_ref())
                .read(|text| duration(text, GRACES))?
                .unwrap_or(Duration::from_secs(30)),
        })
    }
}

impl MigrateConfig {
    /// Reads the flags, and `environment` for what they leave out.
    ///
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(
        flags: &MigrateFlags,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let database = database(flags.database_url.as_ref(), environment)?;
        let queue = Setting::of_flag("--queue", flags.queue.as_ref());
        Ok(Self {
            queue: queue.read(|text| kind_of_queue(text, &database))?,
            database,
            log_format: format_of_log(flags.log_format.as_ref(), environment)?,
            log: filter_of_log(flags.log.as_ref(), environment)?,
        })
    }
}

impl DemoConfig {
    /// Reads the flags of `demo`.
    ///
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(flags: &DemoFlags) -> Result<Self, ConfigError> {
        let seconds =
            Setting::of_flag("--seconds", flags.seconds.as_ref()).read(|text| count(text, 1..=86_400))?;
        Ok(Self { duration: seconds.map(|seconds| Duration::from_secs(seconds.into())) })
    }
}

impl ListenConfig {
    /// Reads the flags of `listen`.
    ///
    /// # Errors
    /// The first value that is not accepted.
    pub(crate) fn read(flags: &ListenFlags) -> Result<Self, ConfigError> {
        let secret = Setting { secret: true, ..Setting::of_flag("--secret", flags.secret.as_ref()) };
        let number = |flag, given: &Option<String>, range| {
            Setting::of_flag(flag, given.as_ref()).read(|text| count(text, range))
        };
        let to_u16 = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Ok(Self {
            port: number("--port", &flags.port, 0..=65_535)?.map_or(9000, to_u16),
            secret: secret.read(|text| Secret::parse(text, SignatureScheme::Standard))?,
            status: number("--status", &flags.status, 200..=599)?.map_or(200, to_u16),
            fail_first: number("--fail-first", &flags.fail_first, 0..=u32::MAX)?.unwrap_or(0).into(),
            delay: Duration::from_millis(
                number("--delay-ms", &flags.delay_ms, 0..=3_600_000)?.unwrap_or(0).into(),
            ),
        })
    }
}

fn database(
    given: Option<&String>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Database, ConfigError> {
    let url = Setting::of_both("--database-url", "DATABASE_URL", given, environment);
    Ok(url.read(str::parse)?.unwrap_or_default())
}

fn format_of_log(
    given: Option<&String>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<LogFormat, ConfigError> {
    let format = Setting::of_both("--log-format", "WEBHOOK_LOG_FORMAT", given, environment);
    Ok(format.read(log_format)?.unwrap_or(LogFormat::Pretty))
}

fn filter_of_log(
    given: Option<&String>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Targets, ConfigError> {
    let filter = Setting::of_both("--log", "WEBHOOK_LOG", given, environment);
    Ok(filter.read(log_filter)?.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
}

/// A role that a process on this database can have.
fn role_on(text: &str, database: &Database) -> Result<Role, &'static str> {
    let role = match text {
        "all" => Role::All,
        "api" => Role::Api,
        "worker" => Role::Worker,
        _ => return Err("expected all, api or worker"),
    };
    if role != Role::All && !database.is_shared() {
        return Err(
            "expected all: SQLite and memory are one process's own, roles apart need a database that \
                    processes share, such as postgres://…",
        );
    }
    Ok(role)
}

/// A kind of queue that a database can be given.
fn kind_of_queue(text: &str, database: &Database) -> Result<QueueKind, &'static str> {
    let kind = match text {
        "database" => QueueKind::Database,
        "redis" => QueueKind::Redis,
        _ => return Err("expected database or redis"),
    };
    if !database.is_shared() {
        return Err("SQLite and memory have one kind of queue, their own; others need postgres://…");
    }
    Ok(kind)
}

/// An address to listen on. To a server that is not `locked` nobody has to prove anything, so only this machine may
/// reach it.
fn listen_address(text: &str, locked: bool) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into()).map_err(|_| ()),
        None => text.parse().map_err(|_| ()),
    }
    .map_err(
        |()| "expected an address and a port, such as 127.0.0.1:8080 or [::1]:8080 (port 0 takes a free one)",
    )?;
    if !locked && !address.ip().to_canonical().is_loopback() {
        return Err("without API keys the server listens on loopback only, such as 127.0.0.1:8080: whoever \
                    reaches the port may do everything; give it keys with --api-key");
    }
    Ok(address)
}

fn address_ranges(text: &str) -> Result<Vec<IpNet>, String> {
    let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
    let parsed = ranges.map(|range| {
        range.parse().or_else(|_| range.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            format!(
                "{range:?} is not a range of addresses: expected ADDRESS/BITS such as 10.0.0.0/8 or fd00::/8"
            )
        })
    });
    let ranges: Vec<IpNet> = parsed.collect::<Result<_, _>>()?;
    if ranges.is_empty() {
        return Err("expected a range of addresses such as 10.0.0.0/8 or fd00::/8".to_owned());
    }
    Ok(ranges)
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false"),
    }
}

fn count(text: &str, accepted: RangeInclusive<u32>) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| accepted.contains(number));
    number.ok_or_else(|| format!("expected a whole number from {} to {}", accepted.start(), accepted.end()))
}

fn duration(text: &str, accepted: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if accepted.contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (format_duration(*accepted.start()), format_duration(*accepted.end()));
    Err(format!("expected a duration from {least} to {most}"))
}

fn retention(text: &str) -> Result<Option<Duration>, String> {
    if parse_duration(text) == Ok(Duration::ZERO) {
        return Ok(None);
    }
    duration(text, RETENTIONS).map(Some).map_err(|error| format!("{error}, or 0 to keep everything"))
}

fn max_age(text: &str) -> Result<Option<Duration>, String> {
    if parse_duration(text) == Ok(Duration::ZERO) {
        return Ok(None);
    }
    duration(text, RETENTIONS).map(Some).map_err(|error| format!("{error}, or 0 for never"))
}

fn payload_size(text: &str) -> Result<usize, String> {
    let size = parse_size(text).map_err(|error| error.to_string())?;
    let fits = usize::try_from(size).ok().filter(|_| PAYLOADS.contains(&size));
    fits.ok_or_else(|| format!("expected a size from 1 byte to {}", format_size(*PAYLOADS.end())))
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected pretty or json"),
    }
}

/// A filter such as `info,webhook_core=debug`. A word alone must be a level: taken as the name of a target, as
/// tracing would, a misspelt level would silence everything.
fn log_filter(text: &str) -> Result<Targets, &'static str> {
    let expected = "expected a level (off, error, warn, info, debug, trace), also by target, as in \
                    info,webhook_core=debug";
    let words = text.split(',').filter(|word| !word.contains('='));
    if !words.map(str::trim).all(|word| word.parse::<LevelFilter>().is_ok() && !word.is_empty()) {
        return Err(expected);
    }
    text.replace(' ', "").parse().map_err(|_| expected)
}

mod keys;
#[cfg(test)]
mod tests;
