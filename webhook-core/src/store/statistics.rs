use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::BackendError;
use crate::stats::{Rollup, Scope, Totals, Unfinished};

/// What is counted, and what has to be done. See [`stats`](crate::stats) for what roll-ups are.
///
/// No method looks through events, deliveries or attempts without a bound.
#[async_trait]
pub trait StatisticsStore: Debug + Send + Sync + 'static {
    /// Inserts roll-ups as parts of the minute that it is by the store's clock. Rows of other processes, and of
    /// this one from before, are left as they are.
    ///
    /// # Errors
    /// When nothing is known; a repeat within [`PARTS_KEPT`](crate::stats::PARTS_KEPT) adds nothing twice.
    async fn add_rollups(&self, rollups: &[Rollup]) -> Result<(), BackendError>;

    /// The sums of a window that ends now, and the `worst` subscriptions of the scope; which of several with equally
    /// many failed attempts are among them is left open. All roll-ups count that lie in the window at least in part.
    ///
    /// It looks at the scope's own roll-ups, at those of its subscriptions that count failed attempts, and at those
    /// of the subscriptions that it names: at no others.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Result<Totals, BackendError>;

    /// Merges up to `limit` roll-ups of each span into fewer that last longer, and deletes up to `limit`
    /// that are older than [`KEPT`](crate::stats::KEPT). Returns how many went, by either; 0 when nothing is left
    /// to do.
    ///
    /// Those of one call have their [`merged_start`](crate::stats::Span::merged_start) in common, the oldest, and
    /// are taken scope by scope: each scope ends in one row, or in one more for each time that a limit, or another
    /// process, cut through its rows. Rows that were cut apart stay apart.
    ///
    /// To ensure correctness: the merged ones come and the others go in one commit, so that no sum changes; of two
    /// processes that merge at once each merges other rows, or one waits.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn compact_rollups(&self, limit: u32) -> Result<u64, BackendError>;

    /// What the subscriptions of a scope have to be done now, counted up to `most` deliveries; those of deleted
    /// subscriptions, which are about to be cancelled, are left out.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn unfinished(&self, scope: &Scope, most: u32) -> Result<Unfinished, BackendError>;
}
