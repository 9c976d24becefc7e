//! How a single value is read from its text, whichever source it came from.
//!
//! An error says what is accepted and leaves the value out: who reports it knows whether the value may be shown.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::filter::{LevelFilter, Targets};
use webhook_core::units::{format_duration, format_size, parse_duration, parse_size};

use super::{LogFormat, QueueKind, Role};

/// Most attempts in flight in one process: each may hold a connection.
pub(super) const CONCURRENCY: RangeInclusive<u32> = 1..=100_000;
pub(super) const LEASES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
pub(super) const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const RETENTIONS: RangeInclusive<Duration> = Duration::from_secs(1)..=webhook_core::units::MAX_DURATION;
const PAYLOADS: RangeInclusive<u64> = 1..=256 * 1024 * 1024;
const ANSWERS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);

/// A text that is judged elsewhere, with other settings or by opening what it names.
#[allow(clippy::unnecessary_wraps, reason = "a reader of the table, where others can refuse")]
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) fn role(text: &str) -> Result<Role, String> {
    match text {
        "all" => Ok(Role::All),
        "api" => Ok(Role::Api),
        "worker" => Ok(Role::Worker),
        _ => Err("expected all, api or worker".to_owned()),
    }
}

pub(super) fn queue_kind(text: &str) -> Result<QueueKind, String> {
    match text {
        "database" => Ok(QueueKind::Database),
        "redis" => Ok(QueueKind::Redis),
        _ => Err("expected database or redis".to_owned()),
    }
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into()).ok(),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| {
        "expected an address and a port, such as 127.0.0.1:8080 or [::1]:8080 (port 0 takes a free one)"
            .to_owned()
    })
}

pub(super) fn address_ranges(text: &str) -> Result<Vec<IpNet>, String> {
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

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

pub(super) fn count<N: FromStr + PartialOrd + Display>(
    text: &str,
    accepted: RangeInclusive<N>,
) -> Result<N, String> {
    let number = text.parse().ok().filter(|number| accepted.contains(number));
    number.ok_or_else(|| format!("expected a whole number from {} to {}", accepted.start(), accepted.end()))
}

pub(super) fn duration(text: &str, accepted: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if accepted.contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (format_duration(*accepted.start()), format_duration(*accepted.end()));
    Err(format!("expected a duration from {least} to {most}"))
}

pub(super) fn within(text: &str) -> Result<Duration, String> {
    duration(text, ANSWERS)
}

pub(super) fn retention(text: &str) -> Result<Option<Duration>, String> {
    duration_or_never(text).map_err(|error| format!("{error}, or 0 to keep everything"))
}

pub(super) fn max_age(text: &str) -> Result<Option<Duration>, String> {
    duration_or_never(text).map_err(|error| format!("{error}, or 0 for never"))
}

/// Whoever gives a time believes in what it does, so one is refused until something is done.
pub(super) fn never_disabled(text: &str) -> Result<(), String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Ok(()),
        _ => Err(
            "expected 0 for never: this version of the server disables no subscription by itself for failing"
                .to_owned(),
        ),
    }
}

fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    if parse_duration(text) == Ok(Duration::ZERO) {
        return Ok(None);
    }
    duration(text, RETENTIONS).map(Some)
}

pub(super) fn payload_size(text: &str) -> Result<usize, String> {
    let size = parse_size(text).map_err(|error| error.to_string())?;
    let fits = usize::try_from(size).ok().filter(|_| PAYLOADS.contains(&size));
    fits.ok_or_else(|| format!("expected a size from 1 byte to {}", format_size(*PAYLOADS.end())))
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected pretty or json".to_owned()),
    }
}

/// A filter such as `info,webhook_core=debug`. A word alone must be a level: taken as the name of a target, as
/// tracing would, a misspelt level would silence everything.
pub(super) fn log_filter(text: &str) -> Result<Targets, String> {
    let expected = "expected a level (off, error, warn, info, debug, trace), also by target, as in \
                    info,webhook_core=debug";
    let mut words = text.split(',').filter(|word| !word.contains('=')).map(str::trim);
    if !words.all(|word| word.parse::<LevelFilter>().is_ok() && !word.is_empty()) {
        return Err(expected.to_owned());
    }
    text.replace(' ', "").parse().map_err(|_| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_log_level_is_not_taken_for_a_target() {
        assert!(log_filter("inof").is_err());
        assert!(log_filter("webhook_core=loud").is_err());
        assert!(log_filter("warn, webhook_core=debug").is_ok());
        assert!(log_filter("").is_err());
    }

    #[test]
    fn an_address_needs_a_port_and_no_name_but_localhost() {
        for address in ["127.0.0.1:0", "[::]:8080", "192.168.1.5:80", "localhost:8080"] {
            assert!(listen_address(address).is_ok(), "{address}");
        }
        for address in ["8080", "localhost", "example.com:80", ""] {
            assert!(listen_address(address).is_err(), "{address}");
        }
    }

    #[test]
    fn zero_keeps_everything_and_never_expires_anything() {
        assert_eq!((retention("0"), max_age("0s")), (Ok(None), Ok(None)));
        assert_eq!((never_disabled("0"), never_disabled("0s")), (Ok(()), Ok(())));
        assert!(never_disabled("5d").is_err() && never_disabled("never").is_err());
        assert_eq!(retention("72h"), Ok(Some(Duration::from_secs(72 * 3600))));
        assert!(retention("1ms").unwrap_err().ends_with("or 0 to keep everything"));
    }
}
