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
            epoch {
                an_epoch_advances_from_the_one_that_is_expected
                of_nodes_that_advance_together_one_leads
            }
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
                its_epoch_is_nobody_elses_to_change
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
            purge {
                purge_deletes_what_finished_long_ago_of_one_tenant
                purge_keeps_what_is_unfinished
                purge_goes_through_all_events_page_by_page
                a_key_is_kept_when_its_event_is_purged
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
            statistics {
                roll_ups_of_a_scope_add_up
                a_roll_up_that_is_inserted_again_adds_nothing
                a_window_leaves_out_what_is_older
                merging_roll_ups_changes_no_sum
                roll_ups_are_merged_scope_by_scope
                roll_ups_are_forgotten_after_a_month
                the_worst_subscriptions_come_first
                what_is_unfinished_is_counted
                what_a_person_asked_for_is_due
                held_subscriptions_are_told_apart
                counting_what_is_unfinished_stops_at_its_bound
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

/// One named `#[tokio::test]` for each case of the suite for deliverers, in modules `deliver::answers` and so on.
///
/// The crate that calls it needs tokio with `macros` and `rt`.
#[macro_export]
macro_rules! deliverer_tests {
    ($fixture:ty) => {
        $crate::__tests! { async $fixture; deliver
            answers {
                an_answer_carries_status_headers_and_body
                every_status_from_200_to_599_is_an_answer
                statuses_outside_200_to_599_are_protocol
                informational_answers_are_passed_over
                redirects_are_not_followed
                headers_are_kept_to_the_limit_and_retry_after_always
            }
            bodies {
                a_body_that_never_ends_is_cut_at_the_limit
                a_body_that_trickles_is_kept_as_far_as_it_came
                a_body_that_stops_is_kept_as_far_as_it_came
                a_body_that_breaks_off_does_not_undo_the_status
                a_compressed_body_is_left_as_it_is
                an_answer_before_the_whole_request_is_read_counts
            }
            connections {
                connections_are_used_again
                a_connection_is_kept_after_every_framing
                a_connection_is_kept_after_a_body_a_little_over_the_limit
                a_connection_that_its_peer_gives_up_is_not_kept
                a_request_that_is_read_and_not_answered_is_not_repeated
                a_receiver_that_closes_after_each_answer_gets_no_request_twice
                a_kept_connection_that_was_closed_is_replaced
                dropping_the_exchange_closes_the_connection
                a_connection_whose_exchange_timed_out_is_not_kept
                concurrent_requests_get_their_own_answers
            }
            deadlines {
                a_receiver_that_does_not_answer_is_timeout
                a_head_that_drips_is_timeout
                a_flood_of_informational_answers_is_timeout
                a_receiver_that_does_not_read_is_timeout
                a_deadline_of_nothing_sends_nothing
            }
            failures {
                a_closed_port_is_connect
                a_name_that_does_not_exist_is_dns
                closing_before_any_byte_is_reset
                a_tcp_reset_is_reset
                closing_in_the_middle_of_the_head_is_protocol
                what_is_not_http_is_protocol
                a_greeting_before_the_request_is_protocol
                endless_headers_are_protocol
            }
            requests {
                a_request_is_a_post_to_the_path_and_query
                every_character_of_a_url_is_sent_as_it_stands
                a_body_arrives_byte_for_byte
                an_empty_body_has_a_length
                the_given_headers_arrive
                only_what_http_needs_is_added
                the_host_is_that_of_the_url
                headers_that_cannot_be_sent_are_a_defect_and_no_panic
            }
            targets {
                loopback_in_every_spelling_is_blocked
                what_else_the_rules_refuse_is_blocked
                a_name_that_leads_to_an_allowed_address_is_dialled
                one_refused_address_keeps_all_from_being_dialled
                every_dial_is_vetted_anew
                a_literal_is_checked_although_it_is_not_looked_up
                a_name_without_addresses_is_dns
                the_next_address_is_tried_when_one_refuses
            }
        }
    };
}

/// One named `#[tokio::test]` for each case of the suite for deliverers over TLS, in a module `deliver_tls`. The fixture
/// is a [`TlsFixture`](crate::deliver::tls::TlsFixture) too.
#[cfg(feature = "tls")]
#[macro_export]
macro_rules! deliverer_tls_tests {
    ($fixture:ty) => {
        mod deliver_tls {
            use super::*;
            $crate::__tests! { async $fixture; deliver
                tls {
                    an_authority_that_was_added_is_trusted_and_the_connection_kept
                    an_unknown_authority_is_tls
                    a_certificate_for_another_name_is_tls
                    a_target_without_http_1_is_tls
                    a_target_that_does_not_speak_tls_is_tls
                }
            }
        }
    };
}

/// One named `#[test]` for each case of the suite for retry policies, in modules `retry::contract` and so on.
#[macro_export]
macro_rules! retry_tests {
    ($fixture:ty) => {
        $crate::__tests! { pure $fixture; retry
            contract {
                the_same_arguments_give_the_same_wait
                no_chain_outlives_its_span
                no_wait_is_longer_than_the_longest
                the_end_of_a_chain_is_its_end
                nothing_failed_is_no_end
                jitter_stays_within_its_share
                no_arguments_make_it_panic
            }
        }
    };
}

/// Not for use: what the public macros expand to.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (async $fixture:ty; $suite:ident $($family:ident { $($case:ident)* })*) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;
            $(mod $family {
                #[allow(unused_imports)]
                use super::*;
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let name = concat!(stringify!($suite), "::", stringify!($family), "::", stringify!($case));
                    $crate::$suite::run::<$fixture>(name, $crate::$suite::$family::$case::<$fixture>()).await;
                })*
            })*
        }
    };
    (pure $fixture:ty; $suite:ident $($family:ident { $($case:ident)* })*) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;
            $(mod $family {
                #[allow(unused_imports)]
                use super::*;
                $(#[test]
                fn $case() {
                    let name = concat!(stringify!($suite), "::", stringify!($family), "::", stringify!($case));
                    $crate::$suite::run::<$fixture>(name, $crate::$suite::$family::$case::<$fixture>);
                })*
            })*
        }
    };
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
            include_str!("deliver/answers.rs"),
            include_str!("deliver/bodies.rs"),
            include_str!("deliver/connections.rs"),
            include_str!("deliver/deadlines.rs"),
            include_str!("deliver/failures.rs"),
            include_str!("deliver/requests.rs"),
            include_str!("deliver/targets.rs"),
            include_str!("deliver/tls.rs"),
            include_str!("queue/cancellation.rs"),
            include_str!("queue/contract.rs"),
            include_str!("queue/fences.rs"),
            include_str!("queue/hand_off.rs"),
            include_str!("queue/lanes.rs"),
            include_str!("queue/model.rs"),
            include_str!("queue/races.rs"),
            include_str!("queue/time.rs"),
            include_str!("retry/contract.rs"),
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
            include_str!("store/statistics.rs"),
            include_str!("store/subscriptions.rs"),
            include_str!("store/sweeps.rs"),
        ];
        let mut cases = 0;
        for file in files {
            let public = file.lines().filter_map(|line| line.strip_prefix("pub "));
            let functions =
                public.filter_map(|line| line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn "));
            for line in functions {
                let name = line.split('<').next().unwrap_or_default();
                assert!(listed(name), "{name} is in no list");
                cases += 1;
            }
        }
        assert!(cases > 100, "only {cases} cases were found");
    }
}
