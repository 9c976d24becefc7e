//! Broken stores: subscriptions, publishing, results, sweeps, history.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use webhook_core::id::{DeliveryId, EventId};
use webhook_core::lifecycle::Next;
use webhook_core::memory::MemoryStore;
use webhook_core::model::{Delivery, DeliveryStatus, Event, Subscription, Tenant};
use webhook_core::store::{
    Changed, Changes, ConfigVersion, DeliveryStore as _, Ended, EventFilter, EventRecord, History as _,
    Insert, Inserted, Load, Loaded, Owed, Page, PageRequest, Purged, Record, Recorded, Snapshot, Store as _,
    SubscriptionStore as _,
};

use crate::bent::{Answer, Broken, Defect, bend, revision};

bend! { IgnoresRevisions:
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        let mut answers = Vec::new();
        for result in results {
            let now = revision(store, result.id).await?.map_or(result.revision, |now| now.state.revision);
            answers.extend(store.record(&[Record { revision: now, ..result.clone() }]).await?);
        }
        Ok(answers)
    }
}

bend! { KeepsTheRowsOfARefusedResult:
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        let answers = store.record(results).await?;
        for (result, answer) in results.iter().zip(&answers) {
            if let Recorded::Stale { state, .. } = answer {
                let rows = Record {
                    revision: state.revision,
                    state: (**state).clone(),
                    next: Next::AsBefore,
                    ..result.clone()
                };
                store.record(&[rows]).await?;
            }
        }
        Ok(answers)
    }
}

bend! { StoresTheStateWithoutItsRows:
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        let bare = |result: &Record| Record { attempts: Vec::new(), ..result.clone() };
        store.record(&results.iter().map(bare).collect::<Vec<_>>()).await
    }
}

bend! { DropsTheLastResult:
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        let Some((_, others)) = results.split_last().filter(|(_, others)| !others.is_empty()) else {
            return store.record(results).await;
        };
        let mut answers = store.record(others).await?;
        answers.push(Recorded::Applied { released: Vec::new(), strikes: None });
        Ok(answers)
    }
}

bend! { RefusesARepeatedResult:
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        let mut answers = Vec::new();
        for result in results {
            let now = revision(store, result.id).await?;
            answers.extend(match now.filter(|now| now.state.revision != result.revision) {
                Some(now) => vec![Recorded::Stale { state: Box::new(now.state), unknown: None }],
                None => store.record(std::slice::from_ref(result)).await?,
            });
        }
        Ok(answers)
    }
}

bend! { ReleasesNobody:
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        let answers = store.record(results).await?;
        let silent = |answer| match answer {
            Recorded::Applied { strikes, .. } => Recorded::Applied { released: Vec::new(), strikes },
            other @ (Recorded::Stale { .. } | Recorded::Gone) => other,
        };
        Ok(answers.into_iter().map(silent).collect())
    }
}

bend! { ReordersLoads:
    async fn load(&self, store: &MemoryStore, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        let mut sorted = deliveries.to_vec();
        sorted.sort_by_key(|load| load.id);
        store.load(&sorted).await
    }
}

bend! { MakesEveryOrderedDeliveryAHead:
    async fn load(&self, store: &MemoryStore, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        let loaded = store.load(deliveries).await?;
        Ok(loaded.into_iter().map(|found| found.map(|found| Loaded { waiting: false, ..found })).collect())
    }
}

bend! { TakesRecordedTokensForUnknown:
    async fn load(&self, store: &MemoryStore, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        let loaded = store.load(deliveries).await?;
        let all = |(load, found): (&Load, Option<Loaded>)| {
            found.map(|found| Loaded { unrecorded: load.unsettled.clone(), ..found })
        };
        Ok(deliveries.iter().zip(loaded).map(all).collect())
    }
}

bend! { LoadsAtOnceWhatIsNotDue:
    async fn load(&self, store: &MemoryStore, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        let loaded = store.load(deliveries).await?;
        let due = |found: Loaded| Loaded { due_in: Duration::ZERO, ..found };
        Ok(loaded.into_iter().map(|found| found.map(due)).collect())
    }
}

bend! { ShowsDeletedSubscriptions:
    async fn load(&self, store: &MemoryStore, deliveries: &[Load]) -> Answer<Vec<Option<Loaded>>> {
        let loaded = store.load(deliveries).await?;
        let alive = |found: Loaded| {
            Loaded { subscription_version: Some(found.subscription_version.unwrap_or(1)), ..found }
        };
        Ok(loaded.into_iter().map(|found| found.map(alive)).collect())
    }
}

bend! { IgnoresTheConfigurationVersion:
    async fn insert(&self, store: &MemoryStore, events: &[Insert]) -> Answer<Vec<Inserted>> {
        let mut answers = Vec::new();
        for event in events {
            let config_version = store.snapshot(&event.event.tenant).await?.version;
            answers.extend(store.insert(&[Insert { config_version, ..event.clone() }], None).await?);
        }
        Ok(answers)
    }
}

fn without_key(insert: &Insert) -> Insert {
    let event = Arc::new(Event { idempotency_key: None, ..(*insert.event).clone() });
    Insert { event, ..insert.clone() }
}

bend! { ForgetsIdempotencyKeys:
    async fn insert(&self, store: &MemoryStore, events: &[Insert]) -> Answer<Vec<Inserted>> {
        store.insert(&events.iter().map(without_key).collect::<Vec<_>>(), None).await
    }
}

bend! { TakesAnyRequestWithAKeyForARepeat:
    async fn insert(&self, store: &MemoryStore, events: &[Insert]) -> Answer<Vec<Inserted>> {
        let same = |insert: &Insert| Insert { fingerprint: [0; 32], ..insert.clone() };
        store.insert(&events.iter().map(same).collect::<Vec<_>>(), None).await
    }
}

bend! { DropsTheLastDelivery:
    async fn insert(&self, store: &MemoryStore, events: &[Insert]) -> Answer<Vec<Inserted>> {
        let cut = |insert: &Insert| {
            let keep = insert.deliveries.len().saturating_sub(usize::from(insert.deliveries.len() > 1));
            Insert { deliveries: insert.deliveries[..keep].to_vec(), ..insert.clone() }
        };
        store.insert(&events.iter().map(cut).collect::<Vec<_>>(), None).await
    }
}

bend! { InsertsInTheOrderOfIds:
    async fn insert(&self, store: &MemoryStore, events: &[Insert]) -> Answer<Vec<Inserted>> {
        let mut sorted = events.to_vec();
        sorted.sort_by_key(|insert| insert.event.id);
        store.insert(&sorted, None).await
    }
}

bend! { OverwritesOnCreate:
    async fn create(&self, store: &MemoryStore, new: &Subscription) -> Answer<Arc<Subscription>> {
        let stored = store.create(new).await?;
        match store.update(new, stored.version).await? {
            Changed::Done(stored) => Ok(stored),
            Changed::VersionMismatch { .. } | Changed::NotFound => Ok(stored),
        }
    }
}

bend! { IgnoresExpectedVersions:
    async fn update(&self, store: &MemoryStore, new: &Subscription, expected: u64) -> Answer<Changed> {
        let stored = store.get(&[new.id]).await?.remove(0);
        store.update(new, stored.map_or(expected, |stored| stored.version)).await
    }
}

bend! { TellsNoDeletions:
    async fn changes_since(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        version: ConfigVersion,
    ) -> Answer<Option<Changes>> {
        let changes = store.changes_since(tenant, version).await?;
        Ok(changes.map(|changes| Changes { deleted: Vec::new(), ..changes }))
    }
}

bend! { CountsNoChanges:
    async fn snapshot(&self, store: &MemoryStore, tenant: &Tenant) -> Answer<Snapshot> {
        Ok(Snapshot { version: 0, ..store.snapshot(tenant).await? })
    }
}

bend! { CancelsNothingOfTheDeleted:
    async fn cancel_deleted(&self, _: &MemoryStore, _: u32) -> Answer<Vec<Ended>> {
        Ok(Vec::new())
    }
}

bend! { CancelsAllAtOnce:
    async fn cancel_deleted(&self, store: &MemoryStore, _: u32) -> Answer<Vec<Ended>> {
        store.cancel_deleted(u32::MAX).await
    }
}

bend! { SkipsARowBetweenPages:
    async fn owed(&self, store: &MemoryStore, after: Option<DeliveryId>, limit: u32) -> Answer<Vec<Owed>> {
        let mut page = store.owed(after, limit + 1).await?;
        if after.is_some() && !page.is_empty() {
            page.remove(0);
        }
        page.truncate(limit as usize);
        Ok(page)
    }
}

bend! { AdvancesFromAnyEpoch:
    async fn advance_epoch(&self, store: &MemoryStore, _: u64, to: u64) -> Answer<bool> {
        store.advance_epoch(store.queue_epoch().await?, to).await
    }
}

bend! { ForgetsTheEpoch:
    async fn queue_epoch(&self, _: &MemoryStore) -> Answer<u64> {
        Ok(1)
    }
}

// Compares in one step and changes in another.
bend! { AdvancesInTwoSteps:
    async fn advance_epoch(&self, store: &MemoryStore, expected: u64, to: u64) -> Answer<bool> {
        let is_expected = store.queue_epoch().await? == expected;
        tokio::task::yield_now().await;
        if is_expected {
            store.advance_epoch(store.queue_epoch().await?, to).await?;
        }
        Ok(is_expected)
    }
}

bend! { PrunesEarly:
    async fn prune(&self, store: &MemoryStore, _: Duration, limit: u32) -> Answer<u64> {
        store.prune(Duration::ZERO, limit).await
    }
}

bend! { PrunesWithoutLimit:
    async fn prune(&self, store: &MemoryStore, retention: Duration, _: u32) -> Answer<u64> {
        store.prune(retention, u32::MAX).await
    }
}

bend! { PurgesOtherTenants:
    async fn purge(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        let theirs = store.prune(older_than, limit).await?;
        let page = store.purge(tenant, older_than, after, limit).await?;
        Ok(Purged { deleted: page.deleted + theirs, ..page })
    }
}

bend! { PurgesEarly:
    async fn purge(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        _: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        store.purge(tenant, Duration::ZERO, after, limit).await
    }
}

bend! { PurgesTheFirstPageAlone:
    async fn purge(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Answer<Purged> {
        Ok(Purged { next: None, ..store.purge(tenant, older_than, after, limit).await? })
    }
}

bend! { PurgesWithoutPages:
    async fn purge(
        &self,
        store: &MemoryStore,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        _: u32,
    ) -> Answer<Purged> {
        store.purge(tenant, older_than, after, u32::MAX).await
    }
}

bend! { ShowsOtherTenantsDeliveries:
    async fn delivery(
        &self,
        store: &MemoryStore,
        _: Option<&Tenant>,
        id: DeliveryId,
    ) -> Answer<Option<Delivery>> {
        store.delivery(None, id).await
    }
}

bend! { ShowsAnEndedDeliveryAsDue:
    async fn delivery(
        &self,
        store: &MemoryStore,
        tenant: Option<&Tenant>,
        id: DeliveryId,
    ) -> Answer<Option<Delivery>> {
        let found = store.delivery(tenant, id).await?;
        Ok(found.map(|found| match found.state.status {
            DeliveryStatus::Cancelled => Delivery { next_attempt_at: found.finished_at, ..found },
            _ => found,
        }))
    }
}

bend! { RepeatsARowOnTheNextPage:
    async fn events(
        &self,
        store: &MemoryStore,
        filter: &EventFilter,
        page: PageRequest<EventId>,
    ) -> Answer<Page<EventRecord, EventId>> {
        let mut found = store.events(filter, page).await?;
        if let (Some(_), [.., second_last, _]) = (found.next, found.items.as_slice()) {
            found.next = Some(second_last.id);
        }
        Ok(found)
    }
}

crate::defects! { Broken, store;
    ignores_revisions: IgnoresRevisions => record::a_result_on_a_stale_revision_changes_nothing;
    keeps_the_rows_of_a_refused_result: KeepsTheRowsOfARefusedResult => record::a_result_on_a_stale_revision_changes_nothing;
    stores_the_state_without_its_rows: StoresTheStateWithoutItsRows => record::a_result_is_committed_whole;
    drops_the_last_result: DropsTheLastResult => record::the_results_of_a_batch_are_independent;
    refuses_a_repeated_result: RefusesARepeatedResult => record::a_repeated_result_is_harmless;
    releases_nobody: ReleasesNobody => order::the_end_of_a_head_releases_the_next;
    reorders_loads: ReordersLoads => publish::loads_are_answered_in_input_order;
    promotes_two_heads: MakesEveryOrderedDeliveryAHead => order::ordered_deliveries_wait_behind_their_head;
    takes_recorded_tokens_for_unknown: TakesRecordedTokensForUnknown => record::load_tells_which_unsettled_tokens_have_no_row;
    loads_at_once_what_is_not_due: LoadsAtOnceWhatIsNotDue => record::a_wait_is_counted_from_the_commit;
    shows_deleted_subscriptions: ShowsDeletedSubscriptions => sweeps::deliveries_of_a_deleted_subscription_are_cancelled;
    ignores_the_configuration_version: IgnoresTheConfigurationVersion => publish::an_event_matched_against_another_configuration_is_not_stored;
    forgets_idempotency_keys: ForgetsIdempotencyKeys => publish::the_same_request_with_a_key_is_a_duplicate;
    takes_any_request_with_a_key_for_a_repeat: TakesAnyRequestWithAKeyForARepeat => publish::another_request_with_the_key_is_refused;
    drops_the_last_delivery: DropsTheLastDelivery => publish::every_delivery_of_an_event_is_stored;
    inserts_in_the_order_of_ids: InsertsInTheOrderOfIds => order::the_order_of_a_batch_is_the_order_of_delivery;
    overwrites_on_create: OverwritesOnCreate => subscriptions::creating_again_returns_what_is_stored;
    ignores_expected_versions: IgnoresExpectedVersions => subscriptions::an_update_of_another_version_changes_nothing;
    tells_no_deletions: TellsNoDeletions => subscriptions::changes_since_a_version_are_told;
    counts_no_changes: CountsNoChanges => subscriptions::every_change_raises_the_configuration_version;
    cancels_nothing_of_the_deleted: CancelsNothingOfTheDeleted => sweeps::deliveries_of_a_deleted_subscription_are_cancelled;
    cancels_all_at_once: CancelsAllAtOnce => sweeps::deliveries_of_a_deleted_subscription_are_cancelled;
    skips_a_row_between_pages: SkipsARowBetweenPages => sweeps::everything_unfinished_is_owed;
    advances_from_any_epoch: AdvancesFromAnyEpoch => epoch::an_epoch_advances_from_the_one_that_is_expected;
    forgets_the_epoch: ForgetsTheEpoch => epoch::an_epoch_advances_from_the_one_that_is_expected;
    advances_in_two_steps: AdvancesInTwoSteps => epoch::of_nodes_that_advance_together_one_leads;
    prunes_early: PrunesEarly => sweeps::prune_deletes_what_finished_long_ago;
    prunes_without_limit: PrunesWithoutLimit => sweeps::prune_keeps_to_its_limit;
    purges_other_tenants: PurgesOtherTenants => purge::purge_deletes_what_finished_long_ago_of_one_tenant;
    purges_early: PurgesEarly => purge::purge_deletes_what_finished_long_ago_of_one_tenant;
    purges_the_first_page_alone: PurgesTheFirstPageAlone => purge::purge_goes_through_all_events_page_by_page;
    purges_without_pages: PurgesWithoutPages => purge::purge_goes_through_all_events_page_by_page;
    shows_other_tenants_deliveries: ShowsOtherTenantsDeliveries => history::another_tenants_rows_do_not_exist;
    shows_an_ended_delivery_as_due: ShowsAnEndedDeliveryAsDue => record::a_finished_delivery_shows_when_and_why;
    repeats_a_row_on_the_next_page: RepeatsARowOnTheNextPage => history::pages_are_newest_first_and_stable;

    ignores_revisions_by_the_model: IgnoresRevisions => model::random_calls_do_what_the_reference_does;
    keeps_the_rows_of_a_refused_result_by_the_model: KeepsTheRowsOfARefusedResult => model::random_calls_do_what_the_reference_does;
    refuses_a_repeated_result_by_the_model: RefusesARepeatedResult => model::random_calls_do_what_the_reference_does;
    releases_nobody_by_the_model: ReleasesNobody => model::random_calls_do_what_the_reference_does;
    promotes_two_heads_by_the_model: MakesEveryOrderedDeliveryAHead => model::random_calls_do_what_the_reference_does;
    shows_deleted_subscriptions_by_the_model: ShowsDeletedSubscriptions => model::random_calls_do_what_the_reference_does;
    cancels_nothing_of_the_deleted_by_the_model: CancelsNothingOfTheDeleted => model::random_calls_do_what_the_reference_does;
}
