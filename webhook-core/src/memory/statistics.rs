//! Roll-ups of statistics, and what has to be done.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::store::{DeliveryRow, MemoryStore, Tables};
use crate::error::BackendError;
use crate::id::{DeliveryId, SubscriptionId};
use crate::model::{DeliveryStatus, SubscriptionStatus};
use crate::stats::{self, LaneLoad, Rollup, Scope, Span, Totals, Unfinished, Worst};
use crate::store::StatisticsStore;
use crate::time::Timestamp;

/// A roll-up with the time that it counts for.
#[derive(Debug)]
pub(super) struct RollupRow {
    span: Span,
    /// In microseconds since the epoch.
    start: i64,
    rollup: Rollup,
}

impl RollupRow {
    /// What it is merged by.
    fn key(&self) -> (i64, Scope) {
        (self.span.merged_start(self.start), self.rollup.scope.clone())
    }
}

#[async_trait]
impl StatisticsStore for MemoryStore {
    async fn add_rollups(&self, rollups: &[Rollup]) -> Result<(), BackendError> {
        let start = stats::minute(self.now().as_micros());
        let mut tables = self.tables();
        for rollup in rollups {
            let row = RollupRow { span: Span::Part, start, rollup: rollup.clone() };
            tables.rollups.entry(rollup.id).or_insert(row);
        }
        Ok(())
    }

    async fn totals(&self, scope: &Scope, window: Duration, worst: u32) -> Result<Totals, BackendError> {
        let (minutes, hours) = stats::window_start(self.now().as_micros(), window);
        let tables = self.tables();
        let counts = |row: &&RollupRow| row.start >= if row.span == Span::Hour { hours } else { minutes };
        let mut totals = Totals::default();
        let mut failing: BTreeMap<SubscriptionId, Worst> = BTreeMap::new();
        let of_scope = |of: &&Scope| scope.includes(of);
        for RollupRow { rollup, .. } in tables.rollups.values().filter(counts) {
            if rollup.scope == *scope {
                totals.counts.merge(&rollup.counts);
            }
            let Some(id) = Some(&rollup.scope).filter(of_scope).and_then(Scope::subscription) else {
                continue;
            };
            let sums = failing.entry(id).or_insert(Worst { subscription_id: id, succeeded: 0, failed: 0 });
            sums.succeeded += rollup.counts.attempts_succeeded;
            sums.failed += rollup.counts.attempts_failed;
        }
        totals.worst = failing.into_values().filter(|sums| sums.failed > 0).collect();
        Worst::sort(&mut totals.worst);
        totals.worst.truncate(worst as usize);
        Ok(totals)
    }

    async fn compact_rollups(&self, limit: u32) -> Result<u64, BackendError> {
        let ages = stats::Ages::at(self.now().as_micros());
        let mut tables = self.tables();
        let merged = tables.merge_rollups(Span::Part, ages.parts_before, limit)
            + tables.merge_rollups(Span::Minute, ages.minutes_before, limit);
        let old = tables.rollups.iter().filter(|(_, row)| row.start < ages.forget_before);
        let old: Vec<_> = old.map(|(id, _)| *id).take(limit as usize).collect();
        old.iter().for_each(|id| {
            tables.rollups.remove(id);
        });
        Ok(merged + old.len() as u64)
    }

    async fn unfinished(&self, scope: &Scope, most: u32) -> Result<Unfinished, BackendError> {
        let now = self.now();
        let tables = self.tables();
        let mut lanes: BTreeMap<SubscriptionId, LaneLoad> = BTreeMap::new();
        let open = tables.open.iter().filter_map(|id| Some((*id, tables.deliveries.get(id)?)));
        let mut left = most;
        for (id, row) in open.filter(|(_, row)| !row.state.status.is_finished()) {
            let Some(subscription) = tables.subscription(row.subscription_id) else { continue };
            let own = Scope::Subscription(subscription.tenant.clone(), subscription.id);
            if !scope.includes(&own) {
                continue;
            }
            if left == 0 {
                return Ok(Unfinished { lanes: lanes.into_values().collect(), more: true });
            }
            left -= 1;
            let lane = lanes.entry(subscription.id).or_insert_with(|| LaneLoad {
                subscription_id: subscription.id,
                held: subscription.status != SubscriptionStatus::Active,
                pending: 0,
                retrying: 0,
                due: 0,
                scheduled: 0,
                behind: 0,
                oldest_due: None,
            });
            tables.count(lane, id, row, now);
        }
        Ok(Unfinished { lanes: lanes.into_values().collect(), more: false })
    }
}

impl Tables {
    /// Merges roll-ups of one span that start before this into such of the next longer one: the oldest, scope by
    /// scope.
    fn merge_rollups(&mut self, span: Span, before: i64, limit: u32) -> u64 {
        let is_old = |row: &RollupRow| row.span == span && row.start < before;
        let mut old: Vec<_> =
            self.rollups.iter().filter(|(_, row)| is_old(row)).map(|(id, row)| (row.key(), *id)).collect();
        old.sort_unstable();
        let first = old.first().map(|((start, _), _)| *start);
        old.retain(|((start, _), _)| Some(*start) == first);
        old.truncate(limit as usize);
        let rows: Vec<RollupRow> = old.iter().filter_map(|(_, id)| self.rollups.remove(id)).collect();
        let longer = if span == Span::Part { Span::Minute } else { Span::Hour };
        let parts =
            rows.into_iter().map(|row| (span.merged_start(row.start), row.rollup.scope, row.rollup.counts));
        for (start, rollup) in stats::merge(parts) {
            self.rollups.insert(rollup.id, RollupRow { span: longer, start, rollup });
        }
        old.len() as u64
    }

    fn count(&self, lane: &mut LaneLoad, id: DeliveryId, row: &DeliveryRow, now: Timestamp) {
        if row.state.status == DeliveryStatus::Pending {
            lane.pending += 1;
        } else {
            lane.retrying += 1;
        }
        if self.is_waiting(id, row) {
            lane.behind += 1;
            return;
        }
        match row.due(now) {
            Some(due) if due > now => lane.scheduled += 1,
            Some(due) => {
                lane.due += 1;
                if row.state.request.is_none() {
                    lane.oldest_due = lane.oldest_due.max(Some(now.since(due)));
                }
            }
            None => {}
        }
    }
}
