//! Chains: from when on a delivery's age counts, and until when it is worth an attempt.

use webhook_core::store::Record;

use crate::codec::micros;
use crate::error::Fault;
use crate::sql::Bulk;
use crate::writer::Tx;

// The sum is cut off where integers end.
static START: Bulk = Bulk::new(
    "WITH p (now) AS (SELECT ?)
     UPDATE webhooks_deliveries AS d SET chain_start = c.start,
         give_up_at = c.start + min(c.span, 9223372036854775807 - c.start)
     FROM (SELECT w.id, v.column2 AS span,
               max((SELECT now FROM p), coalesce(e.deliver_at, (SELECT now FROM p))) AS start
           FROM (VALUES ",
    2,
    ") v CROSS JOIN webhooks_deliveries w ON w.id = v.column1
         CROSS JOIN webhooks_events e ON e.seq = w.event) c
     WHERE d.id = c.id",
);

/// Starts the chains of those of these results that ask for it: now, or when their event is to be delivered
/// if that is later.
pub(super) async fn start<'a>(
    tx: &mut Tx<'_>,
    results: impl Iterator<Item = &'a Record>,
) -> Result<(), Fault> {
    let new: Vec<_> = results.filter_map(|record| Some((record.id, micros(record.new_chain?)))).collect();
    let now = tx.now;
    START
        .run_with(
            tx.conn,
            |row| {
                row.add(now);
            },
            &new,
            |row, (id, span)| {
                row.add(&id.as_bytes()[..]).add(*span);
            },
        )
        .await?;
    Ok(())
}
