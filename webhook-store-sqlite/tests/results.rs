//! What `record` owes: fences, rows, jobs.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use std::time::Duration;

use support::*;
use webhook_core::id::Token;
use webhook_core::lane::Effect;
use webhook_core::lifecycle::{Ending, Input, step};
use webhook_core::model::*;
use webhook_core::queue::*;
use webhook_core::store::*;

#[tokio::test]
async fn a_failed_attempt_is_due_again_after_its_wait_and_not_before() {
    // Promises 4 and 6.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    assert!(is_applied(&f.attempt(&lease, &failure(), Effect::Fast).await));
    f.check().await;
    let delivery = f.delivery(published.ids[0]).await;
    assert_eq!((delivery.state.status, delivery.state.failed), (DeliveryStatus::Retrying, 1));
    assert_eq!(delivery.state.last_error, Some(AttemptError::new(ErrorKind::Status, "500")));
    f.clock.advance(10 * SECOND - Duration::from_micros(1));
    assert!(f.claim(1).await.is_empty());
    f.clock.advance(Duration::from_micros(1));
    let lease = f.claim(1).await.remove(0);
    assert!(lease.unsettled.is_empty());
    f.succeed(&lease).await;
    let attempts = f.store.attempts_of(None, published.ids[0]).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((f.count("jobs").await, f.lane(s.id).await.in_flight), (0, 0));
    f.check().await;
}

#[tokio::test]
async fn every_field_of_an_attempt_is_kept() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    let loaded = f.load(&lease).await;
    let record = result(&loaded, &lease, &failure(), Effect::Slow);
    f.store.record(std::slice::from_ref(&record)).await.unwrap();
    assert_eq!(f.store.attempts_of(None, lease.id).await.unwrap(), record.attempts);
    let listed = f.store.attempts(&AttemptFilter::default(), page(10)).await.unwrap().items.remove(0);
    let bare = Attempt {
        response_headers: Vec::new(),
        response_body: Default::default(),
        ..record.attempts[0].clone()
    };
    assert_eq!(listed, bare);
}

#[tokio::test]
async fn a_result_on_another_revision_changes_nothing_and_tells_where_it_stands() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    let loaded = f.load(&lease).await;
    f.ask(lease.id, Input::Cancel(StatusReason::CancelledByUser)).await;
    f.check().await;
    let stale = f.store.record(&[result(&loaded, &lease, &success(), Effect::Fast)]).await.unwrap().remove(0);
    let Recorded::Stale { state, unknown } = stale else { panic!("{stale:?}") };
    assert_eq!((state.status, state.revision, unknown), (DeliveryStatus::Cancelled, 1, None));
    assert_eq!(f.count("attempts").await, 0);
    // The recorder decides anew: the row is added and the state kept (promise 5).
    let ending = success();
    let input = Input::Ended { ending: &ending, chain: 0, late: true, replaces: None };
    let decided = step(&state, &input, &policy(), 0.5).unwrap();
    let record = Record {
        id: lease.id,
        revision: state.revision,
        lease: None,
        attempts: vec![row(&loaded, lease.id, lease.token, 1, &ending)],
        state: decided.state,
        next: decided.next,
        new_chain: None,
    };
    assert!(is_applied(&f.store.record(&[record]).await.unwrap()[0]));
    let delivery = f.delivery(published.ids[0]).await;
    assert_eq!((delivery.state.status, delivery.state.attempts), (DeliveryStatus::Cancelled, 1));
    assert_eq!((f.count("jobs").await, f.lane(s.id).await.in_flight), (0, 0));
    f.check().await;
}

#[tokio::test]
async fn a_result_under_another_workers_lease_is_stale() {
    // Promise 3.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let first = f.claim(1).await.remove(0);
    let loaded = f.load(&first).await;
    f.clock.advance(LEASE);
    let second = f.claim(1).await.remove(0);
    assert_eq!(second.unsettled, [first.token]);
    let late = f.store.record(&[result(&loaded, &first, &success(), Effect::Fast)]).await.unwrap();
    assert!(matches!(&late[0], Recorded::Stale { state, .. } if state.revision == 0), "{late:?}");
    assert_eq!(f.lane(s.id).await.in_flight, 1);
    f.check().await;
    assert!(is_applied(&f.attempt(&second, &success(), Effect::Fast).await));
    f.check().await;
}

#[tokio::test]
async fn a_lease_whose_time_is_over_is_good_until_another_claims_the_job() {
    // Promise 3.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    f.clock.advance(2 * LEASE);
    // A claim that avoids the lane notices that the time is over, and takes nothing.
    let avoiding = Claim { avoid: vec![s.id], ..claim(1) };
    assert!(f.store.claim(&avoiding).await.unwrap().is_empty());
    assert_eq!(f.lane(s.id).await.in_flight, 0);
    f.check().await;
    assert!(is_applied(&f.succeed(&lease).await));
    assert_eq!((f.lane(s.id).await.in_flight, f.count("jobs").await), (0, 0));
    f.check().await;
}

#[tokio::test]
async fn a_repeated_result_answers_applied_and_changes_nothing() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    let record = result(&f.load(&lease).await, &lease, &failure(), Effect::Unanswered);
    f.store.record(std::slice::from_ref(&record)).await.unwrap();
    let (delivery, lane) = (f.delivery(lease.id).await, f.lane(s.id).await);
    let again = f.store.record(std::slice::from_ref(&record)).await.unwrap();
    assert_eq!(again, [Recorded::Applied { released: Vec::new(), strikes: None }]);
    assert_eq!((f.delivery(lease.id).await, f.lane(s.id).await), (delivery, lane));
    f.check().await;
}

#[tokio::test]
async fn of_two_results_for_one_delivery_in_one_batch_the_second_sees_the_first() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    let loaded = f.load(&lease).await;
    let first = result(&loaded, &lease, &failure(), Effect::Fast);
    let mut second = result(&loaded, &lease, &failure(), Effect::Fast);
    second.attempts[0].token = Token::new();
    let answers = f.store.record(&[first, second]).await.unwrap();
    assert!(is_applied(&answers[0]));
    assert!(matches!(&answers[1], Recorded::Stale { state, .. } if state.revision == 1));
    f.check().await;
}

#[tokio::test]
async fn a_late_result_replaces_its_own_unknown_row() {
    // Promise 7.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let crashed = f.claim(1).await.remove(0);
    let seen = f.load(&crashed).await;
    f.clock.advance(LEASE);
    let next = f.claim(1).await.remove(0);
    let loaded = f.load(&next).await;
    assert_eq!(loaded.unrecorded, [crashed.token]);
    let mut record = result(&loaded, &next, &unknown(), Effect::Neutral);
    record.attempts[0].token = crashed.token;
    let row_id = record.attempts[0].id;
    f.store.record(&[record]).await.unwrap();
    f.check().await;
    let next = f.claim(1).await.remove(0);
    assert!(next.unsettled.is_empty(), "the first unknown is retried at once, with nothing unsettled");
    assert_eq!(f.load(&next).await.unrecorded, []);

    let late = f.store.record(&[result(&seen, &crashed, &success(), Effect::Fast)]).await.unwrap().remove(0);
    let Recorded::Stale { state, unknown } = late else { panic!("{late:?}") };
    assert_eq!(unknown, Some(1));
    let ending = success();
    let input = Input::Ended { ending: &ending, chain: 0, late: true, replaces: unknown };
    let decided = step(&state, &input, &policy(), 0.5).unwrap();
    let record = Record {
        id: crashed.id,
        revision: state.revision,
        lease: None,
        attempts: vec![row(&seen, crashed.id, crashed.token, decided.number.unwrap(), &ending)],
        state: decided.state,
        next: decided.next,
        new_chain: None,
    };
    assert!(is_applied(&f.store.record(&[record]).await.unwrap()[0]));
    let attempts = f.store.attempts_of(None, crashed.id).await.unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].outcome, attempts[0].id), (Outcome::Succeeded, row_id));
    // The late success ended it, whoever holds the lease.
    assert_eq!((f.count("jobs").await, f.lane(s.id).await.in_flight), (0, 0));
    let stale = f.store.settle(&[settle(&next, Verdict::Done, Effect::Neutral)]).await.unwrap();
    assert_eq!(stale, [Settled::Stale]);
    f.check().await;
}

#[tokio::test]
async fn a_number_that_is_taken_fails_the_batch_and_changes_nothing() {
    // Promises 7 and 14.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    f.attempt(&f.claim(1).await[0], &failure(), Effect::Fast).await;
    f.clock.advance(10 * SECOND);
    let lease = f.claim(1).await.remove(0);
    let mut record = result(&f.load(&lease).await, &lease, &success(), Effect::Fast);
    record.attempts[0].number = 1;
    let error = f.store.record(&[record]).await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!((f.count("attempts").await, f.lane(s.id).await.in_flight), (1, 1));
    f.check().await;
    assert!(is_applied(&f.succeed(&lease).await));
    f.check().await;
}

#[tokio::test]
async fn a_result_for_a_delivery_that_is_gone_says_so() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    let record = result(&f.load(&lease).await, &lease, &success(), Effect::Fast);
    f.store.record(std::slice::from_ref(&record)).await.unwrap();
    f.clock.advance(SECOND);
    f.store.prune(Duration::ZERO, 10).await.unwrap();
    assert_eq!(f.store.record(&[record]).await.unwrap(), [Recorded::Gone]);
    assert_eq!(f.store.load(&[Load { id: lease.id, unsettled: Vec::new() }]).await.unwrap(), [None]);
    f.check().await;
}

#[tokio::test]
async fn a_batch_of_mixed_results_is_committed_item_by_item() {
    let f = Fixture::new().await;
    let s = f.proven().await;
    let config = f.config().await;
    let inserts: Vec<Insert> = (0..60).map(|_| new_insert(&[&s], config)).collect();
    f.store.insert(&inserts, None).await.unwrap();
    let leases = f.claim(60).await;
    assert_eq!(leases.len(), 60);
    let mut records = Vec::new();
    for (index, lease) in leases.iter().enumerate() {
        let loaded = f.load(lease).await;
        let ending = if index % 2 == 0 { success() } else { failure() };
        records.push(result(&loaded, lease, &ending, Effect::Fast));
    }
    records[7].revision = 5;
    let answers = f.store.record(&records).await.unwrap();
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(is_applied(answer), index != 7, "{index}: {answer:?}");
    }
    assert_eq!(f.lane(s.id).await.in_flight, 1);
    assert_eq!(f.count("jobs").await, 30);
    f.check().await;
}

#[tokio::test]
async fn a_persons_retry_is_due_at_once_although_the_lane_is_parked() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let (a, b) = (f.publish(&[&s], None).await, f.publish(&[&s], None).await);
    let leases = f.claim(2).await;
    for lease in &leases {
        f.attempt(lease, &failure(), Effect::Asked(3600 * SECOND)).await;
    }
    f.clock.advance(60 * SECOND);
    assert!(f.claim(8).await.is_empty(), "parked");
    assert_eq!(f.delivery(a.ids[0]).await.state.reason, Some(StatusReason::Parked));
    f.ask(b.ids[0], Input::Retry { force: false }).await;
    let urgent = f.claim(8).await;
    assert_eq!(urgent.iter().map(|lease| lease.id).collect::<Vec<_>>(), b.ids);
    let manual = Ending { trigger: Trigger::Manual, ..failure() };
    // The schedule goes on after it: the wait of the second failure has not begun.
    f.attempt(&urgent[0], &manual, Effect::Fast).await;
    let delivery = f.delivery(b.ids[0]).await;
    assert_eq!((delivery.state.failed, delivery.state.attempts, delivery.state.request), (1, 2, None));
    assert!(f.claim(8).await.is_empty(), "parked again");
    f.check().await;
}

#[tokio::test]
async fn a_request_survives_a_release_a_lapse_and_a_restart() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    f.attempt(&lease, &failure(), Effect::Asked(3600 * SECOND)).await;
    f.ask(published.ids[0], Input::Retry { force: false }).await;
    let lease = f.claim(1).await.remove(0);
    f.store.settle(&[settle(&lease, Verdict::Release, Effect::Neutral)]).await.unwrap();
    f.check().await;
    assert_eq!(f.claim(1).await.len(), 1, "released");
    f.clock.advance(LEASE);
    assert_eq!(f.claim(1).await.len(), 1, "lapsed");
    let f = f.reopen().await;
    assert_eq!(f.claim(1).await.len(), 1, "restarted");
    f.check().await;
}

#[tokio::test]
async fn a_forced_attempt_of_a_succeeded_delivery_has_a_job_until_it_is_made() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    f.succeed(&f.claim(1).await[0]).await;
    f.ask(published.ids[0], Input::Retry { force: true }).await;
    f.check().await;
    f.clock.advance(SECOND);
    assert_eq!(f.store.prune(Duration::ZERO, 10).await.unwrap(), 0, "an attempt is still to be made");
    let lease = f.claim(1).await.remove(0);
    let manual = Ending { trigger: Trigger::Manual, ..failure() };
    assert!(is_applied(&f.attempt(&lease, &manual, Effect::Fast).await));
    assert_eq!(f.delivery(published.ids[0]).await.state.status, DeliveryStatus::Succeeded);
    assert_eq!(f.count("jobs").await, 0);
    f.check().await;
    assert_eq!(f.store.prune(Duration::ZERO, 10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_reopened_delivery_is_tried_again_with_its_numbers_going_on() {
    // Promise 5.
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    f.ask(lease.id, Input::Cancel(StatusReason::CancelledByUser)).await;
    assert_eq!(f.lane(s.id).await.in_flight, 0);
    f.ask(lease.id, Input::Reopen).await;
    f.check().await;
    let lease = f.claim(1).await.remove(0);
    assert!(is_applied(&f.succeed(&lease).await));
    let delivery = f.delivery(published.ids[0]).await;
    assert_eq!((delivery.state.status, delivery.state.chain), (DeliveryStatus::Succeeded, 1));
    f.check().await;
}

#[tokio::test]
async fn a_request_made_while_an_attempt_is_in_flight_leaves_its_lease() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    let lease = f.claim(1).await.remove(0);
    f.ask(published.ids[0], Input::Retry { force: false }).await;
    assert_eq!(f.lane(s.id).await.in_flight, 1);
    assert!(f.claim(1).await.is_empty());
    assert!(is_applied(&f.attempt(&lease, &failure(), Effect::Fast).await));
    f.check().await;
}
