//! Advisory locks: what transactions agree on that no row stands for.
//!
//! They queue fairly, which share locks on rows do not: a change of a tenant's configuration gets its turn
//! however many publishers come. Each is held to the end of its transaction. A transaction that takes several
//! takes them in the order of this list, and those of one kind in the order of their numbers; rows that it
//! changes and that others may have, it changes before.

use std::fmt::Write as _;

use sqlx::PgConnection;
use webhook_core::id::SubscriptionId;
use webhook_core::model::Tenant;

use crate::connection::begin_by;
use crate::error::Fault;
use crate::sql;

/// Locks are dealt into so many of each kind, so that a batch cannot fill the server's table of locks.
const BUCKETS: u64 = 256;

/// What a lock is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lock {
    /// Who brings the schema up to date.
    Migration,
    /// A tenant's configuration: publishers share it, changes have it alone.
    Configuration(u64),
    /// The order of deliveries with one key.
    Order(u64),
    /// Who relays the inbox.
    Relay,
}

impl Lock {
    pub(crate) fn configuration(tenant: &Tenant) -> Self {
        Self::Configuration(bucket(&[tenant.as_str().as_bytes()]))
    }

    pub(crate) fn order(subscription: &SubscriptionId, key: &str) -> Self {
        Self::Order(bucket(&[subscription.as_bytes(), key.as_bytes()]))
    }

    /// The server's number for it, which is this schema's alone.
    pub(crate) fn number(self, schema: &str) -> i64 {
        let (kind, bucket) = match self {
            Self::Migration => (0, 0),
            Self::Configuration(bucket) => (1, bucket),
            Self::Order(bucket) => (2, bucket),
            Self::Relay => (3, 0),
        };
        let base = hash(&[b"webhooks", schema.as_bytes()]) & !0xffff;
        (base | (kind << 12) | bucket).cast_signed()
    }

    /// Waits for it and holds it alone to the end of the transaction.
    pub(crate) async fn take(self, conn: &mut PgConnection, schema: &str) -> Result<(), Fault> {
        take_alone(conn, schema, &[self]).await
    }
}

/// Takes each of these locks alone.
pub(crate) async fn take_alone(conn: &mut PgConnection, schema: &str, locks: &[Lock]) -> Result<(), Fault> {
    sqlx::query(sql::TAKE_LOCKS).bind(numbers(schema, locks)).execute(conn).await?;
    Ok(())
}

/// Begins a transaction that has some locks shared and others alone, in one trip.
pub(crate) async fn begin_with(
    conn: &mut PgConnection,
    schema: &str,
    shared: &[Lock],
    alone: &[Lock],
) -> Result<(), Fault> {
    let mut text = "BEGIN".to_owned();
    let kinds = [("pg_advisory_xact_lock_shared", shared), ("pg_advisory_xact_lock", alone)];
    for (function, locks) in kinds {
        for (index, number) in numbers(schema, locks).into_iter().enumerate() {
            let before = if index == 0 { "; SELECT " } else { ", " };
            // Numbers of ours: nothing of a caller's gets into the text.
            let _ = write!(text, "{before}{function}('{number}'::int8)");
        }
    }
    begin_by(conn, text).await
}

/// Takes some locks shared and then others alone, in one trip.
pub(crate) async fn take_all(
    conn: &mut PgConnection,
    schema: &str,
    shared: &[Lock],
    alone: &[Lock],
) -> Result<(), Fault> {
    sqlx::query(sql::SHARE_AND_TAKE_LOCKS)
        .bind(numbers(schema, shared))
        .bind(numbers(schema, alone))
        .execute(conn)
        .await?;
    Ok(())
}

fn numbers(schema: &str, locks: &[Lock]) -> Vec<i64> {
    let mut locks = locks.to_vec();
    locks.sort_unstable();
    locks.dedup();
    locks.iter().map(|lock| lock.number(schema)).collect()
}

fn bucket(parts: &[&[u8]]) -> u64 {
    hash(parts) % BUCKETS
}

/// FNV-1a. Every version and every process must agree on it.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_have_different_numbers_in_different_schemas() {
        let locks =
            [Lock::Migration, Lock::Configuration(0), Lock::Configuration(255), Lock::Order(0), Lock::Relay];
        let mut numbers: Vec<i64> =
            locks.iter().flat_map(|lock| [lock.number("webhooks"), lock.number("other")]).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 2 * locks.len());
    }
}
