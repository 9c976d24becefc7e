//! The macros, and with them the list of all cases.

/// One named `#[tokio::test]` for each case of the suite for queues, in modules `queue::contract` and so on.
///
/// The crate that calls it needs tokio with `macros` and `rt`.
#[macro_export]
macro_rules! queue_tests {
    ($fixture:ty) => {
        $crate::__tests! { $fixture; queue
            cancellation {
                a_dropped_claim_loses_nothing
                a_dropped_enqueue_can_be_repeated
                a_dropped_settle_can_be_repeated
            }
            contract {
                a_job_is_claimed_once
                a_lease_tells_what_its_worker_needs
                enqueueing_again_finds_the_job_present
                a_job_of_an_unknown_lane_is_not_queued
                a_job_that_knows_newer_settings_is_not_queued
                answers_come_in_input_order
                every_job_of_a_batch_is_kept
                empty_batches_are_no_error
                a_claim_gives_no_more_than_its_room
                a_repeated_claim_gives_the_same_leases
                a_finished_job_is_nowhere
                a_retried_job_is_due_exactly_once
                a_released_job_is_due_at_once_and_its_token_is_settled
                a_removed_job_is_nowhere
                depth_tells_due_scheduled_and_held
                the_epoch_stays_while_nothing_is_lost
                a_claim_avoids_the_lanes_that_it_names
            }
            fences {
                settle_with_a_stale_token_changes_nothing
                a_settle_does_not_count_twice
                extend_with_a_stale_token_changes_nothing
                a_stale_worker_cannot_finish_what_another_retries
            }
            hand_off {
                a_fresh_job_is_handed_off
                a_handed_off_job_is_claimed_when_its_lease_has_run_out
                a_hand_off_gives_no_more_than_its_room
                a_hand_off_keeps_its_lanes_limit
                a_hand_off_avoids_the_lanes_that_it_names
                what_waits_is_not_handed_off
            }
            lanes {
                lanes_are_served_in_turn
                a_full_lane_does_not_starve_the_others
                a_lane_never_exceeds_its_limit
                the_limit_is_the_lanes_or_else_the_claims
                a_held_lane_is_not_served_until_it_is_resumed
                older_settings_change_nothing
                new_settings_keep_strikes_and_counts
                a_claim_keeps_to_the_shares_of_its_room
                a_slow_answer_makes_a_lane_doubtful
                strikes_follow_the_reference
                one_blip_of_many_time_outs_is_one_strike
                a_lane_with_many_strikes_is_parked
                a_lane_that_asked_for_time_is_parked
                urgent_jobs_ignore_parking_and_no_other_limit
                a_lane_keeps_its_rate
                no_end_of_an_attempt_leaks_the_lanes_count
            }
            model {
                random_calls_do_what_the_model_says
            }
            races {
                concurrent_claims_never_share_a_job
                a_limit_holds_under_concurrent_claims
                concurrent_repeats_of_a_claim_share_its_leases
                concurrent_enqueues_of_a_job_queue_it_once
                concurrent_settles_of_a_lease_count_once
            }
            time {
                a_job_is_never_claimed_early
                a_retry_is_never_claimed_early
                enqueueing_again_only_makes_a_job_due_earlier
                a_lease_holds_for_its_whole_time
                a_lapsed_lease_is_claimed_again_and_its_token_is_unsettled
                a_release_keeps_the_unsettled_tokens_of_others
                a_token_is_good_until_another_worker_claims
                an_extended_lease_holds_on
                extending_a_lapsed_lease_tells_the_truth
                a_wait_ends_when_a_job_is_added
                a_wait_ends_at_once_when_a_job_came_before_it
                a_wait_ends_when_a_job_becomes_due
                a_wait_ends_at_its_time_out
            }
        }
    };
}

/// One named `#[tokio::test]` for each case of the suite for stores, in modules `store::publish` and so on.
///
/// The crate that calls it needs tokio with `macros` and `rt`.
#[macro_export]
macro_rules! store_tests {
    ($fixture:ty) => {
        $crate::__tests! { $fixture; store
            events {
                an_event_is_found_with_its_deliveries
                another_tenants_event_is_not_found
                deliveries_are_added_to_a_stored_event
                adding_against_another_configuration_adds_nothing
                nothing_is_added_to_an_event_that_is_gone
                an_added_delivery_takes_its_turn
                an_added_delivery_is_due_at_its_events_time
                a_repeated_publish_is_answered_as_at_first
            }
            expire {
                what_may_be_given_up_of_a_lane_expires
                what_is_unfinished_for_too_long_expires
                expire_keeps_to_its_limit
                what_has_ended_does_not_expire
                a_chain_starts_when_its_event_is_to_be_delivered
                a_new_chain_moves_the_time_to_give_up
                an_expired_head_releases_the_next
            }
            history {
                pages_are_newest_first_and_stable
                the_last_page_says_so
                another_tenants_rows_do_not_exist
                deliveries_are_found_by_every_filter
                events_are_found_and_shown
                attempts_are_listed_without_bodies
            }
            inbox {
                rows_are_taken_in_their_order
                a_row_is_taken_as_it_was_inserted
                a_published_row_is_gone
                a_rejected_row_stays_with_its_problem
                rejected_rows_are_listed_by_tenant_and_page
                a_rejected_row_is_deleted_by_its_tenant
            }
            model {
                random_calls_do_what_the_reference_does
            }
            order {
                ordered_deliveries_wait_behind_their_head
                the_order_of_a_batch_is_the_order_of_delivery
                the_end_of_a_head_releases_the_next
                a_cancelled_one_is_passed_over
                keys_do_not_wait_for_each_other
                a_reopened_delivery_waits_for_the_present_head
                a_delivery_keeps_the_order_that_it_was_published_with
            }
            own_queue {
                a_stored_delivery_is_claimable
                a_stored_delivery_is_handed_off
                a_result_ends_its_lease
                a_retried_delivery_is_claimable_after_its_wait
                a_result_under_a_stale_lease_changes_nothing
                a_request_makes_its_job_due
                a_cancelled_delivery_has_no_job
                a_paused_subscription_holds_its_lane
                a_deleted_subscription_holds_its_lane
                the_next_of_an_order_gets_its_job_when_the_head_ends
                an_expired_delivery_has_no_job
                an_added_delivery_is_claimable
                replayed_deliveries_are_claimable
            }
            publish {
                a_stored_event_is_loaded_as_it_was
                an_event_without_a_match_is_kept
                an_event_matched_against_another_configuration_is_not_stored
                inserting_again_is_a_duplicate
                the_same_request_with_a_key_is_a_duplicate
                another_request_with_the_key_is_refused
                a_key_twice_in_one_batch_is_stored_once
                a_key_is_kept_when_its_event_is_pruned
                a_key_is_free_again_after_its_time
                an_event_with_a_time_is_due_then
                the_events_of_a_batch_are_independent
                every_delivery_of_an_event_is_stored
                loads_are_answered_in_input_order
            }
            races {
                concurrent_publishes_with_one_key_store_one_event
                concurrent_results_on_one_revision_apply_once
                a_publish_never_misses_a_subscription_created_before_it
                concurrent_updates_of_one_version_apply_once
                concurrent_publishes_of_a_key_make_one_head
            }
            record {
                a_result_is_committed_whole
                a_result_on_a_stale_revision_changes_nothing
                a_repeated_result_is_harmless
                a_result_of_an_unknown_delivery_is_gone
                the_results_of_a_batch_are_independent
                load_tells_which_unsettled_tokens_have_no_row
                a_late_result_replaces_its_unknown_row
                rows_are_kept_in_order
                a_wait_is_counted_from_the_commit
                a_request_is_due_at_once_and_leaves_the_schedule
                a_finished_delivery_shows_when_and_why
                a_reopened_delivery_is_unfinished_again
            }
            replay {
                a_replay_counts_what_matches
                starting_again_returns_what_is_stored
                a_replay_reopens_each_match_once
                a_page_is_done_once
                what_has_moved_on_is_left_alone
                what_comes_after_the_start_is_no_part_of_it
                replayed_deliveries_wait_for_their_turn
                the_oldest_replay_is_worked_off_first
                a_finished_replay_leaves_after_the_retention
            }
            subscriptions {
                a_created_subscription_is_there
                creating_again_returns_what_is_stored
                a_subscription_is_stored_whole
                an_update_replaces_what_may_change
                an_update_of_another_version_changes_nothing
                another_tenant_cannot_change_it
                a_deleted_subscription_is_gone
                every_change_raises_the_configuration_version
                changes_since_a_version_are_told
                subscriptions_are_listed_by_filter_and_page
            }
            sweeps {
                everything_unfinished_is_owed
                what_waits_for_its_turn_is_not_owed
                a_forced_attempt_is_owed
                deliveries_of_a_deleted_subscription_are_cancelled
                prune_deletes_what_finished_long_ago
                prune_keeps_what_is_unfinished
                prune_keeps_to_its_limit
                prune_leaves_the_order_of_the_rest
            }
        }
    };
}

/// Not for use: what the public macros expand to.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($fixture:ty; $suite:ident $($family:ident { $($case:ident)* })*) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;
            $(mod $family {
                #[allow(unused_imports)]
                use super::*;
                $(#[tokio::test]
                async fn $case() {
                    let name = concat!(stringify!($suite), "::", stringify!($family), "::", stringify!($case));
                    $crate::run::<$fixture>(name, |fixture| {
                        Box::pin($crate::$suite::$family::$case(fixture))
                    })
                    .await;
                })*
            })*
        }
    };
}

#[cfg(test)]
mod tests {
    /// A case that no macro names would never run.
    #[test]
    fn every_case_is_listed() {
        let list = include_str!("list.rs");
        let listed = |name: &str| list.lines().any(|line| line.trim() == name);
        let files = [
            include_str!("queue/cancellation.rs"),
            include_str!("queue/contract.rs"),
            include_str!("queue/fences.rs"),
            include_str!("queue/hand_off.rs"),
            include_str!("queue/lanes.rs"),
            include_str!("queue/model.rs"),
            include_str!("queue/races.rs"),
            include_str!("queue/time.rs"),
            include_str!("store/events.rs"),
            include_str!("store/expire.rs"),
            include_str!("store/history.rs"),
            include_str!("store/inbox.rs"),
            include_str!("store/model.rs"),
            include_str!("store/order.rs"),
            include_str!("store/own_queue.rs"),
            include_str!("store/publish.rs"),
            include_str!("store/races.rs"),
            include_str!("store/record.rs"),
            include_str!("store/replay.rs"),
            include_str!("store/subscriptions.rs"),
            include_str!("store/sweeps.rs"),
        ];
        let mut cases = 0;
        for file in files {
            for line in file.lines().filter_map(|line| line.strip_prefix("pub async fn ")) {
                let name = line.split('<').next().unwrap_or_default();
                assert!(listed(name), "{name} is in no list");
                cases += 1;
            }
        }
        assert!(cases > 100, "only {cases} cases were found");
    }
}
