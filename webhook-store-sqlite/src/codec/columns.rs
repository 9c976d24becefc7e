//! Single values of a row.

use std::str::FromStr;

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type};
use webhook_core::id::{AttemptId, DeliveryId, EventId, LaneId, SubscriptionId, Token};
use webhook_core::model::{EventType, Tenant};
use webhook_core::time::Timestamp;

use crate::error::Fault;

macro_rules! ids {
    ($($function:ident => $name:ident),* $(,)?) => {
        $(pub(crate) fn $function(row: &SqliteRow, column: &'static str) -> Result<$name, Fault> {
            $name::from_slice(blob(row, column)?).map_err(|error| Fault::corrupt(column, error))
        })*
    };
}

ids! {
    attempt_id => AttemptId,
    delivery_id => DeliveryId,
    event_id => EventId,
    lane_id => LaneId,
    subscription_id => SubscriptionId,
    token => Token,
}

pub(crate) fn blob<'r>(row: &'r SqliteRow, column: &'static str) -> Result<&'r [u8], Fault> {
    Ok(row.try_get::<&[u8], _>(column)?)
}

pub(crate) fn text<'r>(row: &'r SqliteRow, column: &'static str) -> Result<&'r str, Fault> {
    Ok(row.try_get::<&str, _>(column)?)
}

pub(crate) fn int(row: &SqliteRow, column: &'static str) -> Result<i64, Fault> {
    Ok(row.try_get::<i64, _>(column)?)
}

pub(crate) fn optional<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<Option<T>, Fault>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    Ok(row.try_get::<Option<T>, _>(column)?)
}

/// An integer of any narrower type.
pub(crate) fn small<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, Fault> {
    let value = int(row, column)?;
    T::try_from(value).map_err(|_| Fault::corrupt(column, format!("{value} is out of its range")))
}

pub(crate) fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, Fault> {
    small(row, column)
}

pub(crate) fn span(row: &SqliteRow, column: &'static str) -> Result<std::time::Duration, Fault> {
    Ok(std::time::Duration::from_micros(unsigned(row, column)?))
}

pub(crate) fn moment(row: &SqliteRow, column: &'static str) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_micros(int(row, column)?))
}

pub(crate) fn optional_moment(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, Fault> {
    Ok(optional::<i64>(row, column)?.map(Timestamp::from_micros))
}

pub(crate) fn optional_subscription(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<SubscriptionId>, Fault> {
    match optional::<&[u8]>(row, column)? {
        None => Ok(None),
        Some(bytes) => {
            SubscriptionId::from_slice(bytes).map(Some).map_err(|error| Fault::corrupt(column, error))
        }
    }
}

pub(crate) fn tenant(row: &SqliteRow, column: &'static str) -> Result<Tenant, Fault> {
    parsed(row, column)
}

pub(crate) fn event_type(row: &SqliteRow, column: &'static str) -> Result<EventType, Fault> {
    parsed(row, column)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(row: &SqliteRow, column: &'static str) -> Result<T, Fault> {
    text(row, column)?.parse().map_err(|error| Fault::corrupt(column, error))
}

/// One of a list of names, or none.
pub(crate) fn name<T>(
    row: &SqliteRow,
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

/// Tokens one after the other.
pub(crate) fn tokens(row: &SqliteRow, column: &'static str) -> Result<Vec<Token>, Fault> {
    let Some(bytes) = optional::<&[u8]>(row, column)? else { return Ok(Vec::new()) };
    bytes
        .chunks(16)
        .map(|token| Token::from_slice(token).map_err(|error| Fault::corrupt(column, error)))
        .collect()
}
