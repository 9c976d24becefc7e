//! Broken stores: statistics.

use std::time::Duration;

use async_trait::async_trait;
use webhook_core::memory::MemoryStore;
use webhook_core::stats::{Rollup, Scope, Totals, Unfinished};
use webhook_core::store::StatisticsStore as _;

use crate::bent::{Answer, Broken, Defect, bend};

bend! { AddsARepeatedRollUpTwice:
    async fn add_rollups(&self, store: &MemoryStore, rollups: &[Rollup]) -> Answer<()> {
        let fresh = rollups.iter().map(|rollup| Rollup::new(rollup.scope.clone(), rollup.counts.clone()));
        store.add_rollups(&fresh.collect::<Vec<_>>()).await
    }
}

bend! { DropsTheLastRollUp:
    async fn add_rollups(&self, store: &MemoryStore, rollups: &[Rollup]) -> Answer<()> {
        store.add_rollups(&rollups[..rollups.len().saturating_sub(1)]).await
    }
}

bend! { ForgetsTheWindow:
    async fn totals(&self, store: &MemoryStore, scope: &Scope, _: Duration, worst: u32) -> Answer<Totals> {
        store.totals(scope, Duration::from_secs(40 * 86_400), worst).await
    }
}

bend! { AddsUpEverybodysForEachTenant:
    async fn totals(&self, store: &MemoryStore, _: &Scope, window: Duration, worst: u32) -> Answer<Totals> {
        store.totals(&Scope::All, window, worst).await
    }
}

bend! { NamesTheWorstOfEverybody:
    async fn totals(
        &self,
        store: &MemoryStore,
        scope: &Scope,
        window: Duration,
        worst: u32,
    ) -> Answer<Totals> {
        let all = store.totals(&Scope::All, window, worst).await?;
        Ok(Totals { worst: all.worst, ..store.totals(scope, window, worst).await? })
    }
}

bend! { NeverForgetsARollUp:
    async fn compact_rollups(&self, _: &MemoryStore, _: u32) -> Answer<u64> {
        Ok(0)
    }
}

bend! { MergesMoreThanAskedFor:
    async fn compact_rollups(&self, store: &MemoryStore, _: u32) -> Answer<u64> {
        store.compact_rollups(u32::MAX).await
    }
}

bend! { MergesEachRollUpByItself:
    async fn compact_rollups(&self, store: &MemoryStore, limit: u32) -> Answer<u64> {
        let mut went = 0;
        for _ in 0..limit {
            went += store.compact_rollups(1).await?;
        }
        Ok(went)
    }
}

bend! { CountsWithoutABound:
    async fn unfinished(&self, store: &MemoryStore, scope: &Scope, _: u32) -> Answer<Unfinished> {
        store.unfinished(scope, u32::MAX).await
    }
}

bend! { TakesPausedSubscriptionsForActive:
    async fn unfinished(&self, store: &MemoryStore, scope: &Scope, most: u32) -> Answer<Unfinished> {
        let mut found = store.unfinished(scope, most).await?;
        found.lanes.iter_mut().for_each(|lane| lane.held = false);
        Ok(found)
    }
}

bend! { CountsOtherTenantsDeliveries:
    async fn unfinished(&self, store: &MemoryStore, _: &Scope, most: u32) -> Answer<Unfinished> {
        store.unfinished(&Scope::All, most).await
    }
}

crate::defects! { Broken, store;
    adds_a_repeated_roll_up_twice: AddsARepeatedRollUpTwice => statistics::a_roll_up_that_is_inserted_again_adds_nothing;
    drops_the_last_roll_up: DropsTheLastRollUp => statistics::roll_ups_of_a_scope_add_up;
    forgets_the_window: ForgetsTheWindow => statistics::a_window_leaves_out_what_is_older;
    adds_up_everybodys_for_each_tenant: AddsUpEverybodysForEachTenant => statistics::roll_ups_of_a_scope_add_up;
    names_the_worst_of_everybody: NamesTheWorstOfEverybody => statistics::the_worst_subscriptions_come_first;
    never_forgets_a_roll_up: NeverForgetsARollUp => statistics::roll_ups_are_forgotten_after_a_month;
    merges_more_than_asked_for: MergesMoreThanAskedFor => statistics::merging_roll_ups_changes_no_sum;
    merges_each_roll_up_by_itself: MergesEachRollUpByItself => statistics::roll_ups_are_merged_scope_by_scope;
    counts_without_a_bound: CountsWithoutABound => statistics::counting_what_is_unfinished_stops_at_its_bound;
    takes_paused_subscriptions_for_active: TakesPausedSubscriptionsForActive => statistics::held_subscriptions_are_told_apart;
    counts_other_tenants_deliveries: CountsOtherTenantsDeliveries => statistics::what_is_unfinished_is_counted;
}
