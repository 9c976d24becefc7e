//! Replays: where each stands, and the step that reopens a page and moves it on.

use std::ops::Bound;
use std::time::Duration;

use async_trait::async_trait;

use super::store::{DeliveryRow, MemoryStore, Tables};
use crate::error::BackendError;
use crate::id::{DeliveryId, LaneId, ReplayId};
use crate::model::Tenant;
use crate::store::{
    DeliveryFilter, MATCHED_LIMIT, Matched, NewReplay, Record, Recorded, Replay, ReplayPage, ReplayRecorded,
    ReplayStore,
};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct ReplayRow {
    tenant: Tenant,
    filter: DeliveryFilter,
    /// The number of the last delivery that was published before the start.
    until: u64,
    /// The last delivery of the page before.
    after: Option<DeliveryId>,
    finished_at: Option<Timestamp>,
    matched: Matched,
    done: u64,
}

impl ReplayRow {
    fn seen(&self, id: ReplayId) -> Replay {
        Replay { id, finished: self.finished_at.is_some(), matched: self.matched, done: self.done }
    }
}

impl Tables {
    /// Whether a replay with this filter reopens a delivery, as it stands now.
    fn is_replayable(&self, row: &DeliveryRow, filter: &DeliveryFilter) -> bool {
        row.state.status.is_finished()
            && self.subscription(row.subscription_id).is_some()
            && self.is_wanted(row, filter)
    }

    fn replay_count(&self, filter: &DeliveryFilter) -> Matched {
        let matching = self.deliveries.values().filter(|row| self.is_replayable(row, filter));
        // One past the limit tells that there are more.
        let counted = (0..=MATCHED_LIMIT).zip(matching).count() as u64;
        Matched { matched: counted.min(MATCHED_LIMIT), more: counted > MATCHED_LIMIT }
    }

    fn replay_start(&mut self, replay: &NewReplay) -> Replay {
        if let Some(row) = self.replays.get(&replay.id) {
            return row.seen(replay.id);
        }
        let filter = DeliveryFilter { tenant: Some(replay.tenant.clone()), ..replay.filter.clone() };
        let row = ReplayRow {
            tenant: replay.tenant.clone(),
            matched: self.replay_count(&filter),
            filter,
            until: self.last_number,
            after: None,
            finished_at: None,
            done: 0,
        };
        let seen = row.seen(replay.id);
        self.replays.insert(replay.id, row);
        seen
    }

    fn replay_next(&self, limit: u32) -> Option<ReplayPage> {
        let (id, replay) = self.replays.iter().find(|(_, replay)| replay.finished_at.is_none())?;
        let start = replay.after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.deliveries.range((start, Bound::Unbounded));
        let deliveries = rows
            .filter(|(_, row)| row.number <= replay.until && self.is_replayable(row, &replay.filter))
            .map(|(id, row)| (*id, row.subscription_id, row.state.clone()))
            .take(limit as usize)
            .collect();
        Some(ReplayPage { id: *id, after: replay.after, deliveries })
    }

    fn replay_record(
        &mut self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
        now: Timestamp,
    ) -> ReplayRecorded {
        let stands = |row: &ReplayRow| row.finished_at.is_none() && row.after == after;
        if !self.replays.get(&id).is_some_and(stands) {
            return ReplayRecorded::Stale;
        }
        let applied = |record: &&Record| matches!(self.record(record, now), Recorded::Applied { .. });
        let applied: Vec<&Record> = records.iter().filter(applied).collect();
        if let Some(row) = self.replays.get_mut(&id) {
            row.done += applied.len() as u64;
            match last {
                Some(last) => row.after = Some(last),
                None => row.finished_at = Some(now),
            }
        }
        let heads = applied.into_iter().filter_map(|record| self.head(record.id));
        ReplayRecorded::Applied { reopened: heads.collect() }
    }

    /// Forgets those that finished longer ago.
    pub(super) fn prune_replays(&mut self, retention: Duration, limit: u32, now: Timestamp) {
        let old = |row: &ReplayRow| row.finished_at.is_some_and(|end| end.after(retention) <= now);
        let replays = self.replays.iter().filter(|(_, row)| old(row)).map(|(id, _)| *id);
        let batch: Vec<ReplayId> = replays.take(limit as usize).collect();
        for id in batch {
            self.replays.remove(&id);
        }
    }

    /// A delivery with its lane, unless it waits behind another.
    fn head(&self, id: DeliveryId) -> Option<(DeliveryId, LaneId)> {
        let row = self.deliveries.get(&id).filter(|row| !self.is_waiting(id, row))?;
        Some((id, row.subscription_id))
    }
}

#[async_trait]
impl ReplayStore for MemoryStore {
    async fn replay_count(&self, filter: &DeliveryFilter) -> Result<Matched, BackendError> {
        Ok(self.tables().replay_count(filter))
    }

    async fn replay_start(&self, replay: &NewReplay) -> Result<Replay, BackendError> {
        Ok(self.tables().replay_start(replay))
    }

    async fn replay(&self, tenant: &Tenant, id: ReplayId) -> Result<Option<Replay>, BackendError> {
        let tables = self.tables();
        let found = tables.replays.get(&id).filter(|row| row.tenant == *tenant);
        Ok(found.map(|row| row.seen(id)))
    }

    async fn replay_next(&self, limit: u32) -> Result<Option<ReplayPage>, BackendError> {
        Ok(self.tables().replay_next(limit))
    }

    async fn replay_record(
        &self,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Result<ReplayRecorded, BackendError> {
        let now = self.now();
        Ok(self.tables().replay_record(id, after, last, records, now))
    }
}
