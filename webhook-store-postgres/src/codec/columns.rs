//! Single values of a row.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use uuid::Uuid;
use webhook_core::id::{AttemptId, DeliveryId, EventId, ReplayId, SubscriptionId, Token};
use webhook_core::model::{EventType, Tenant};
use webhook_core::time::Timestamp;

use super::Moment;
use crate::error::Fault;

macro_rules! ids {
    ($($function:ident => $name:ident),* $(,)?) => {
        $(pub(crate) fn $function(row: &PgRow, column: &'static str) -> Result<$name, Fault> {
            Ok($name::from_uuid(row.try_get::<Uuid, _>(column)?))
        })*
    };
}

ids! {
    attempt_id => AttemptId,
    delivery_id => DeliveryId,
    event_id => EventId,
    replay_id => ReplayId,
    subscription_id => SubscriptionId,
    token => Token,
}

/// A value of exactly this type.
pub(crate) fn get<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T, Fault>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    Ok(row.try_get::<T, _>(column)?)
}

pub(crate) fn optional<'r, T>(row: &'r PgRow, column: &'static str) -> Result<Option<T>, Fault>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    get(row, column)
}

pub(crate) fn text<'r>(row: &'r PgRow, column: &'static str) -> Result<&'r str, Fault> {
    get(row, column)
}

pub(crate) fn blob<'r>(row: &'r PgRow, column: &'static str) -> Result<&'r [u8], Fault> {
    get(row, column)
}

pub(crate) fn flag(row: &PgRow, column: &'static str) -> Result<bool, Fault> {
    get(row, column)
}

/// A `bigint` that counts.
pub(crate) fn unsigned(row: &PgRow, column: &'static str) -> Result<u64, Fault> {
    in_range(get::<i64>(row, column)?, column)
}

/// An `int` that counts.
pub(crate) fn small<T: TryFrom<i32>>(row: &PgRow, column: &'static str) -> Result<T, Fault> {
    in_range(get::<i32>(row, column)?, column)
}

fn in_range<F: Copy + std::fmt::Display, T: TryFrom<F>>(value: F, column: &'static str) -> Result<T, Fault> {
    T::try_from(value).map_err(|_| Fault::corrupt(column, format!("{value} is out of its range")))
}

pub(crate) fn span(row: &PgRow, column: &'static str) -> Result<Duration, Fault> {
    Ok(Duration::from_micros(unsigned(row, column)?))
}

pub(crate) fn moment(row: &PgRow, column: &'static str) -> Result<Timestamp, Fault> {
    Ok(get::<Moment>(row, column)?.into())
}

pub(crate) fn optional_moment(row: &PgRow, column: &'static str) -> Result<Option<Timestamp>, Fault> {
    Ok(optional::<Moment>(row, column)?.map(Timestamp::from))
}

pub(crate) fn tenant(row: &PgRow, column: &'static str) -> Result<Tenant, Fault> {
    parsed(row, column)
}

pub(crate) fn event_type(row: &PgRow, column: &'static str) -> Result<EventType, Fault> {
    parsed(row, column)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(row: &PgRow, column: &'static str) -> Result<T, Fault> {
    text(row, column)?.parse().map_err(|error| Fault::corrupt(column, error))
}

/// One of a list of names, or none.
pub(crate) fn name<T>(
    row: &PgRow,
    column: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Fault> {
    match optional::<&str>(row, column)? {
        None => Ok(None),
        Some(text) => {
            read(text).map(Some).ok_or_else(|| Fault::corrupt(column, format!("{text:?} is no name for it")))
        }
    }
}

/// One of a list of names.
pub(crate) fn required<T>(
    row: &PgRow,
    column: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Fault> {
    name(row, column, read)?.ok_or_else(|| Fault::corrupt(column, "it is missing"))
}
