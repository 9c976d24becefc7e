use std::fmt::Debug;

use async_trait::async_trait;

use super::{DeliveryFilter, Record};
use crate::error::BackendError;
use crate::id::{DeliveryId, LaneId, ReplayId, SubscriptionId};
use crate::model::{DeliveryState, Tenant};

/// Deliveries that match a replay are counted up to this.
pub const MATCHED_LIMIT: u64 = 100_000;

/// Many deliveries to be reopened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReplay {
    /// The replay's id.
    pub id: ReplayId,
    /// Whose it is, and whose deliveries.
    pub tenant: Tenant,
    /// Which finished deliveries: `statuses` names finished ones only. Those published after the start are no
    /// part of it, nor those of deleted subscriptions.
    pub filter: DeliveryFilter,
}

/// How many deliveries match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// So many, up to [`MATCHED_LIMIT`].
    pub matched: u64,
    /// There are more than were counted.
    pub more: bool,
}

/// A replay as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// It has reached its last delivery.
    pub finished: bool,
    /// How many deliveries matched when it started.
    pub matched: Matched,
    /// How many were reopened so far.
    pub done: u64,
}

/// The next deliveries of a running replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPage {
    /// The replay.
    pub id: ReplayId,
    /// Where it stands: the last delivery of the page before. The fence of
    /// [`replay_record`](ReplayStore::replay_record).
    pub after: Option<DeliveryId>,
    /// The deliveries in the order of their ids; none when it has reached its end.
    pub deliveries: Vec<(DeliveryId, SubscriptionId, DeliveryState)>,
}

/// What became of a page of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayRecorded {
    /// It is committed. Deliveries that had moved on meanwhile were left alone.
    Applied {
        /// Those that were reopened and do not wait behind another.
        reopened: Vec<(DeliveryId, LaneId)>,
    },
    /// Another worker has done this page, or the replay is gone: nothing changed.
    Stale,
}

/// Reopening many deliveries, as work that survives restarts and is done once for each delivery.
///
/// A replay is worked off in pages. Reopening the deliveries of a page and moving the replay on is one commit,
/// fenced by where the replay stood, so that no crash and no second worker does a page twice. What finished is kept
/// for people to look at until [`prune`](super::DeliveryStore::prune) lets it go.
#[async_trait]
pub trait ReplayStore: Debug + Send + Sync + 'static {
    /// How many deliveries a replay with this filter would reopen now.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn replay_count(&self, filter: &DeliveryFilter) -> Result<Matched, BackendError>;

    /// Stores a replay, running, with the count of what matches. A repeat with the same id returns what is
    /// stored.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn replay_start(&self, replay: &NewReplay) -> Result<Replay, BackendError>;

    /// A replay of this tenant.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Result<Option<Replay>, BackendError>;

    /// The next page of the oldest running replay, at most `limit` deliveries; `None` when none runs.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn replay_next(&self, limit: u32) -> Result<Option<ReplayPage>, BackendError>;

    /// Commits `records`, each by the rules of [`record`](super::DeliveryStore::record), and moves the replay
    /// on behind `last`, or finishes it when that is `None`, in one commit; all of it only if the replay still
    /// stands at `after`. `done` grows by the records that applied.
    ///
    /// # Errors
    /// When nothing is known; a repeat answers [`ReplayRecorded::Stale`] for what had taken effect.
    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Result<ReplayRecorded, BackendError>;
}
