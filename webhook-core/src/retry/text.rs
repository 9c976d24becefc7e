//! A retry policy in one line: the grammar of the `--retry` flag.
//!
//! ```text
//! policy      = preset name
//!             | "schedule:" [ wait { "," wait } ] [ "," "jitter=" share ]
//!             | "exponential:" base { "," option }
//! option      = "x" factor | "max=" wait | "attempts=" count | "jitter=" share
//! ```
//!
//! Options come in any order, each at most once, with blanks around commas allowed; `attempts` is required.
//! Errors name the same fields as the JSON form, so that one list of field names serves both.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::spec::DEFAULT_FACTOR;
use super::{Exponential, MAX_WAIT, RetryError, RetrySpec, Schedule};
use crate::units::{format_duration, parse_duration};

impl FromStr for RetrySpec {
    type Err = RetryError;

    fn from_str(text: &str) -> Result<Self, RetryError> {
        let text = text.trim();
        if let Some(list) = text.strip_prefix("schedule:") {
            return read_schedule(list).map(Self::Schedule);
        }
        if let Some(list) = text.strip_prefix("exponential:") {
            return read_exponential(list).map(Self::Exponential);
        }
        Self::preset(text).ok_or_else(|| {
            let names = Self::preset_names().collect::<Vec<_>>().join(", ");
            RetryError::new(
                "retry",
                format!(
                    "expected {names}, schedule:10s,30s,1m,5m,15m or \
                     exponential:10s,x2,max=1h,attempts=7,jitter=0.2"
                ),
            )
        })
    }
}

pub(super) fn write(spec: &RetrySpec, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match spec {
        RetrySpec::Schedule(policy) => {
            let mut items: Vec<String> = policy.waits().iter().copied().map(format_duration).collect();
            if policy.jitter() != 0.0 {
                items.push(format!("jitter={}", policy.jitter()));
            }
            write!(f, "schedule:{}", items.join(","))
        }
        RetrySpec::Exponential(policy) => write!(
            f,
            "exponential:{},x{},max={},attempts={},jitter={}",
            format_duration(policy.base()),
            policy.factor(),
            format_duration(policy.max()),
            policy.attempts(),
            policy.jitter()
        ),
    }
}

/// The items between commas; none in an empty list.
fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).take(if list.trim().is_empty() { 0 } else { usize::MAX })
}

fn read_duration(text: &str, field: &str) -> Result<Duration, RetryError> {
    parse_duration(text).map_err(|error| RetryError::new(field, error.to_string()))
}

fn read_number(text: &str, field: &str) -> Result<f64, RetryError> {
    // `f64::from_str` also takes `inf` and `nan`; the ranges of the policies refuse both.
    text.parse().map_err(|_| RetryError::new(field, "expected a number"))
}

/// Stores an option, refusing its second occurrence.
fn set<T>(slot: &mut Option<T>, value: T, field: &str) -> Result<(), RetryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(RetryError::new(field, "given twice")),
    }
}

fn read_schedule(list: &str) -> Result<Schedule, RetryError> {
    let mut waits = Vec::new();
    let mut jitter = None;
    for item in items(list) {
        if let Some(share) = item.strip_prefix("jitter=") {
            set(&mut jitter, read_number(share, "retry.jitter")?, "retry.jitter")?;
        } else {
            let field = format!("retry.schedule[{}]", waits.len());
            waits.push(read_duration(item, &field)?);
        }
    }
    Schedule::new(waits, jitter.unwrap_or(0.0))
}

fn read_exponential(list: &str) -> Result<Exponential, RetryError> {
    const BASE: &str = "retry.exponential.base";
    const FACTOR: &str = "retry.exponential.factor";
    const MAX: &str = "retry.exponential.max";
    const ATTEMPTS: &str = "retry.exponential.attempts";
    const JITTER: &str = "retry.exponential.jitter";

    let mut items = items(list);
    let base =
        items.next().ok_or_else(|| RetryError::new(BASE, "the first wait is missing: exponential:10s,…"))?;
    let base = read_duration(base, BASE)?;
    let (mut factor, mut max, mut attempts, mut jitter) = (None, None, None, None);
    for item in items {
        if let Some(number) = item.strip_prefix('x') {
            set(&mut factor, read_number(number, FACTOR)?, FACTOR)?;
        } else if let Some(wait) = item.strip_prefix("max=") {
            set(&mut max, read_duration(wait, MAX)?, MAX)?;
        } else if let Some(count) = item.strip_prefix("attempts=") {
            let count = count
                .parse()
                .map_err(|_| RetryError::new(ATTEMPTS, "expected a whole number of attempts in total"))?;
            set(&mut attempts, count, ATTEMPTS)?;
        } else if let Some(share) = item.strip_prefix("jitter=") {
            set(&mut jitter, read_number(share, JITTER)?, JITTER)?;
        } else {
            return Err(RetryError::new(
                "retry.exponential",
                "after the first wait come x2 (the factor), max=1h, attempts=7 and jitter=0.2",
            ));
        }
    }
    let attempts =
        attempts.ok_or_else(|| RetryError::new(ATTEMPTS, "the attempts in total are missing: attempts=7"))?;
    Exponential::new(
        base,
        factor.unwrap_or(DEFAULT_FACTOR),
        max.unwrap_or(MAX_WAIT),
        attempts,
        jitter.unwrap_or(0.0),
    )
}
