//! Broken stores: expiry, whole events, replays and the inbox.

use std::time::Duration;

use async_trait::async_trait;
use webhook_core::id::{DeliveryId, EventId, ReplayId};
use webhook_core::memory::MemoryStore;
use webhook_core::model::Tenant;
use webhook_core::store::{
    Added, ConfigVersion, DeliveryFilter, DeliveryStore as _, Expire, Expired, History as _, Inbox as _,
    InboxEvent, InboxId, InboxOutcome, Insert, Inserted, Matched, NewDelivery, NewReplay, OfEvent, Record,
    Recorded, Replay, ReplayRecorded, ReplayStore as _, SubscriptionStore as _,
};

use crate::bent::{Answer, Broken, Defect, bend, revision};

bend! { ExpiresTooEarly:
    async fn expire(&self, store: &MemoryStore, _: Expire, limit: u32) -> Answer<Expired> {
        store.expire(Expire::OlderThan(Duration::ZERO), limit).await
    }
}

bend! { ExpiresWithoutLimit:
    async fn expire(&self, store: &MemoryStore, which: Expire, _: u32) -> Answer<Expired> {
        store.expire(which, u32::MAX).await
    }
}

bend! { ExpiresAndReleasesNobody:
    async fn expire(&self, store: &MemoryStore, which: Expire, limit: u32) -> Answer<Expired> {
        Ok(Expired { released: Vec::new(), ..store.expire(which, limit).await? })
    }
}

bend! { IgnoresNewChains:
    async fn record(&self, store: &MemoryStore, results: &[Record]) -> Answer<Vec<Recorded>> {
        let old = |result: &Record| Record { new_chain: None, ..result.clone() };
        store.record(&results.iter().map(old).collect::<Vec<_>>()).await
    }
}

bend! { ShowsOtherTenantsEvents:
    async fn of_event(&self, store: &MemoryStore, _: &Tenant, event: EventId) -> Answer<Option<OfEvent>> {
        match store.event(None, event).await? {
            Some(found) => store.of_event(&found.tenant, event).await,
            None => Ok(None),
        }
    }
}

bend! { SaysThatItAddedAll:
    async fn add_deliveries(
        &self,
        store: &MemoryStore,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Answer<Added> {
        let answer = store.add_deliveries(event, deliveries, config_version).await?;
        let all = deliveries.iter().map(|delivery| delivery.id).collect();
        Ok(match answer {
            Added::Stored { waiting, .. } => Added::Stored { added: all, waiting },
            Added::Outdated | Added::Gone => answer,
        })
    }
}

bend! { AddsAgainstAnyConfiguration:
    async fn add_deliveries(
        &self,
        store: &MemoryStore,
        event: EventId,
        deliveries: &[NewDelivery],
        _: ConfigVersion,
    ) -> Answer<Added> {
        let version = store.snapshot(&Tenant::default()).await?.version;
        store.add_deliveries(event, deliveries, version).await
    }
}

bend! { AnswersARepeatWithWhatWasAddedLater:
    async fn insert(&self, store: &MemoryStore, events: &[Insert]) -> Answer<Vec<Inserted>> {
        let mut answers = store.insert(events, None).await?;
        for (insert, answer) in events.iter().zip(&mut answers) {
            let Inserted::Duplicate(first) = answer else { continue };
            let Some(found) = store.of_event(&insert.event.tenant, first.event_id).await? else { continue };
            let all = found.deliveries.iter().map(|delivery| (delivery.id, delivery.subscription_id));
            first.deliveries = all.collect();
            first.delivery_count = found.deliveries.len() as u64;
        }
        Ok(answers)
    }
}

bend! { CountsWhateverTheStatus:
    async fn replay_count(&self, store: &MemoryStore, filter: &DeliveryFilter) -> Answer<Matched> {
        store.replay_count(&DeliveryFilter { statuses: Vec::new(), ..filter.clone() }).await
    }
}

bend! { ReplaysEveryTenantsDeliveries:
    async fn replay_count(&self, store: &MemoryStore, filter: &DeliveryFilter) -> Answer<Matched> {
        store.replay_count(&DeliveryFilter { tenant: None, ..filter.clone() }).await
    }
}

bend! { StartsAReplayAgain:
    async fn replay_start(&self, store: &MemoryStore, replay: &NewReplay) -> Answer<Replay> {
        let known = store.replay(&replay.tenant, replay.id).await?.is_some();
        let id = if known { ReplayId::new() } else { replay.id };
        store.replay_start(&NewReplay { id, ..replay.clone() }).await
    }
}

bend! { ReplaysAPageTwice:
    async fn replay_record(
        &self,
        store: &MemoryStore,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        let answer = store.replay_record(id, after, last, records).await?;
        if answer == ReplayRecorded::Stale {
            store.record(records).await?;
        }
        Ok(answer)
    }
}

bend! { MovesOnWithoutRecording:
    async fn replay_record(
        &self,
        store: &MemoryStore,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        _: &[Record],
    ) -> Answer<ReplayRecorded> {
        store.replay_record(id, after, last, &[]).await
    }
}

bend! { RecordsWithoutMovingOn:
    async fn replay_record(
        &self,
        store: &MemoryStore,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        if last.is_none() {
            return store.replay_record(id, after, last, records).await;
        }
        let answers = store.record(records).await?;
        let applied = records.iter().zip(answers).filter_map(|(record, answer)| match answer {
            Recorded::Applied { released, .. } => Some((record.id, released)),
            Recorded::Stale { .. } | Recorded::Gone => None,
        });
        let mut reopened = Vec::new();
        for (id, _) in applied {
            reopened.extend(revision(store, id).await?.map(|loaded| (id, loaded.subscription_id)));
        }
        Ok(ReplayRecorded::Applied { reopened })
    }
}

bend! { ReplaysOverWhatHasMovedOn:
    async fn replay_record(
        &self,
        store: &MemoryStore,
        id: ReplayId,
        after: Option<DeliveryId>,
        last: Option<DeliveryId>,
        records: &[Record],
    ) -> Answer<ReplayRecorded> {
        let mut current = Vec::new();
        for record in records {
            let now = revision(store, record.id).await?.map_or(record.revision, |now| now.state.revision);
            current.push(Record { revision: now, ..record.clone() });
        }
        store.replay_record(id, after, last, &current).await
    }
}

bend! { TakesTheNewestRowsFirst:
    async fn inbox_take(&self, store: &MemoryStore, limit: u32) -> Answer<Vec<InboxEvent>> {
        let mut rows = store.inbox_take(u32::MAX).await?;
        rows.reverse();
        rows.truncate(limit as usize);
        Ok(rows)
    }
}

bend! { LosesWhatIsTaken:
    async fn inbox_take(&self, store: &MemoryStore, limit: u32) -> Answer<Vec<InboxEvent>> {
        let rows = store.inbox_take(limit).await?;
        let outcomes: Vec<_> = rows.iter().map(|row| (row.row, InboxOutcome::Published)).collect();
        store.inbox_settle(&outcomes).await?;
        Ok(rows)
    }
}

fn of_kind(outcomes: &[(InboxId, InboxOutcome)], published: bool) -> Vec<(InboxId, InboxOutcome)> {
    let mut outcomes = outcomes.to_vec();
    outcomes.retain(|(_, outcome)| (*outcome == InboxOutcome::Published) == published);
    outcomes
}

bend! { KeepsPublishedRows:
    async fn inbox_settle(&self, store: &MemoryStore, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        store.inbox_settle(&of_kind(outcomes, false)).await
    }
}

bend! { TakesRejectedRowsAgain:
    async fn inbox_settle(&self, store: &MemoryStore, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        store.inbox_settle(&of_kind(outcomes, true)).await
    }
}

bend! { ForgetsRejectedRows:
    async fn inbox_settle(&self, store: &MemoryStore, outcomes: &[(InboxId, InboxOutcome)]) -> Answer<()> {
        let all: Vec<_> = outcomes.iter().map(|(row, _)| (*row, InboxOutcome::Published)).collect();
        store.inbox_settle(&all).await
    }
}

bend! { DeletesOtherTenantsRows:
    async fn inbox_delete(&self, store: &MemoryStore, _: Option<&Tenant>, id: EventId) -> Answer<bool> {
        store.inbox_delete(None, id).await
    }
}

crate::defects! { Broken, store;
    expires_too_early: ExpiresTooEarly => expire::what_may_be_given_up_of_a_lane_expires;
    expires_without_limit: ExpiresWithoutLimit => expire::expire_keeps_to_its_limit;
    expires_and_releases_nobody: ExpiresAndReleasesNobody => expire::an_expired_head_releases_the_next;
    ignores_new_chains: IgnoresNewChains => expire::a_new_chain_moves_the_time_to_give_up;
    shows_other_tenants_events: ShowsOtherTenantsEvents => events::another_tenants_event_is_not_found;
    says_that_it_added_all: SaysThatItAddedAll => events::deliveries_are_added_to_a_stored_event;
    adds_against_any_configuration: AddsAgainstAnyConfiguration => events::adding_against_another_configuration_adds_nothing;
    answers_a_repeat_with_what_was_added_later: AnswersARepeatWithWhatWasAddedLater => events::a_repeated_publish_is_answered_as_at_first;
    counts_whatever_the_status: CountsWhateverTheStatus => replay::a_replay_counts_what_matches;
    replays_every_tenants_deliveries: ReplaysEveryTenantsDeliveries => replay::a_replay_counts_what_matches;
    starts_a_replay_again: StartsAReplayAgain => replay::starting_again_returns_what_is_stored;
    replays_a_page_twice: ReplaysAPageTwice => replay::a_page_is_done_once;
    moves_on_without_recording: MovesOnWithoutRecording => replay::a_replay_reopens_each_match_once;
    records_without_moving_on: RecordsWithoutMovingOn => replay::a_replay_reopens_each_match_once;
    replays_over_what_has_moved_on: ReplaysOverWhatHasMovedOn => replay::what_has_moved_on_is_left_alone;
    takes_the_newest_rows_first: TakesTheNewestRowsFirst => inbox::rows_are_taken_in_their_order;
    loses_what_is_taken: LosesWhatIsTaken => inbox::rows_are_taken_in_their_order;
    keeps_published_rows: KeepsPublishedRows => inbox::a_published_row_is_gone;
    takes_rejected_rows_again: TakesRejectedRowsAgain => inbox::a_rejected_row_stays_with_its_problem;
    forgets_rejected_rows: ForgetsRejectedRows => inbox::a_rejected_row_stays_with_its_problem;
    deletes_other_tenants_rows: DeletesOtherTenantsRows => inbox::a_rejected_row_is_deleted_by_its_tenant;
}
