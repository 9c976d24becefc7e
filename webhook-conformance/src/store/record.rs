//! Committing what becomes of deliveries.

use std::time::Duration;

use webhook_core::id::{DeliveryId, Token};
use webhook_core::lifecycle::{Input, Next};
use webhook_core::model::{DeliveryState, DeliveryStatus, Outcome, Request, StatusReason};
use webhook_core::store::{Load, Record, Recorded};

use crate::sample::{Desk, asked, due, event, late, result, row};
use crate::{Fixture, StoreFixture};

/// Rows and state, together.
pub async fn a_result_is_committed_whole<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let loaded = desk.load(id).await;
    let record = result(id, &loaded, Outcome::Failed, Token::new());
    assert_eq!(desk.apply(&record).await, []);
    let after = desk.load(id).await;
    assert!(after.state.revision > loaded.state.revision);
    assert_eq!(DeliveryState { revision: record.state.revision, ..after.state }, record.state);
    assert_eq!(desk.attempts(id).await, record.attempts, "with headers and body");
}

/// The fence: whoever decided on what is no longer there changes nothing.
pub async fn a_result_on_a_stale_revision_changes_nothing<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let seen = desk.load(id).await;
    desk.cancel(id).await;
    let before = desk.load(id).await;
    let record = result(id, &seen, Outcome::Succeeded, Token::new());
    let stale = Recorded::Stale { state: Box::new(before.state.clone()), unknown: None };
    assert_eq!(desk.record(&record).await, stale);
    assert_eq!(desk.load(id).await, before);
    assert_eq!(desk.attempts(id).await, [], "not even its rows");
}

/// A repeat after a lost answer: the row of its token shows that it took effect, whatever came after it.
pub async fn a_repeated_result_is_harmless<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let record = result(id, &desk.load(id).await, Outcome::Failed, Token::new());
    desk.apply(&record).await;
    for _ in 0..2 {
        let before = desk.load(id).await.state;
        assert!(matches!(desk.record(&record).await, Recorded::Applied { .. }));
        assert_eq!(desk.load(id).await.state, before, "it changes nothing");
        assert_eq!(desk.attempts(id).await, record.attempts, "it is there once");
        if before.status.is_finished() {
            return;
        }
        desk.cancel(id).await;
    }
}

/// Of what was pruned or never was, nothing is known.
pub async fn a_result_of_an_unknown_delivery_is_gone<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let record = result(id, &desk.load(id).await, Outcome::Succeeded, Token::new());
    assert_eq!(desk.record(&Record { id: DeliveryId::new(), ..record }).await, Recorded::Gone);
}

/// Outcomes stand where their results stood, and none depends on another.
pub async fn the_results_of_a_batch_are_independent<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(desk.publish(&subscription).await);
    }
    let mut batch = Vec::new();
    for id in &ids {
        batch.push(result(*id, &desk.load(*id).await, Outcome::Succeeded, Token::new()));
    }
    desk.cancel(ids[1]).await;
    batch.insert(1, Record { id: DeliveryId::new(), ..batch[0].clone() });
    let answers = desk.store.record(&batch).await.unwrap();
    assert_eq!(answers.len(), 4);
    assert!(matches!(answers[0], Recorded::Applied { .. }));
    assert_eq!(answers[1], Recorded::Gone);
    assert!(
        matches!(&answers[2], Recorded::Stale { state, .. } if state.status == DeliveryStatus::Cancelled)
    );
    assert!(matches!(answers[3], Recorded::Applied { .. }));
    assert_eq!(desk.status(ids[0]).await, DeliveryStatus::Succeeded);
    assert_eq!(desk.status(ids[2]).await, DeliveryStatus::Succeeded, "the last one too");
}

/// Promise 7: only tokens without a row stand for something unknown.
pub async fn load_tells_which_unsettled_tokens_have_no_row<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let (recorded, lost) = (Token::new(), Token::new());
    desk.apply(&result(id, &desk.load(id).await, Outcome::Failed, recorded)).await;
    let load = Load { id, unsettled: vec![recorded, lost] };
    let loaded = desk.store.load(&[load]).await.unwrap().remove(0).expect("it is stored");
    assert_eq!(loaded.unrecorded, [lost]);
}

/// Promise 7: the late result takes the place and the number of its own `unknown` row.
pub async fn a_late_result_replaces_its_unknown_row<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let (seen, token) = (desk.load(id).await, Token::new());
    desk.apply(&result(id, &seen, Outcome::Unknown, token)).await;
    let second = Token::new();
    desk.apply(&result(id, &desk.load(id).await, Outcome::Failed, second)).await;

    let stale = desk.record(&result(id, &seen, Outcome::Succeeded, token)).await;
    let Recorded::Stale { state, unknown } = stale else { panic!("it is late") };
    assert_eq!(unknown, Some(1), "the row that stands for this very attempt");
    desk.apply(&late(id, &seen, &state, Outcome::Succeeded, token, unknown)).await;

    let rows = desk.attempts(id).await;
    let shown: Vec<_> = rows.iter().map(|row| (row.number, row.token, row.outcome)).collect();
    assert_eq!(shown, [(1, token, Outcome::Succeeded), (2, second, Outcome::Failed)]);
    assert_eq!(desk.status(id).await, DeliveryStatus::Succeeded);
}

/// Promise 7: a row that is no `unknown` one is never changed, and rows come in the order of their numbers.
pub async fn rows_are_kept_in_order<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let loaded = desk.load(id).await;
    let mut record = result(id, &loaded, Outcome::Unknown, Token::new());
    record.attempts.push(row(id, &loaded, 2, Outcome::Failed, Token::new()));
    record.state.attempts = 2;
    desk.apply(&record).await;
    desk.attempt(id, Outcome::Failed).await;
    let rows = desk.attempts(id).await;
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(rows[..2], record.attempts);
}

/// Promise 6: from the commit, by the store's clock.
pub async fn a_wait_is_counted_from_the_commit<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let record = result(id, &desk.load(id).await, Outcome::Failed, Token::new());
    desk.pass(2).await;
    desk.apply(&due(record, Next::After(unit * 8))).await;
    let due_in = desk.load(id).await.due_in;
    assert!(due_in > unit * 4 && due_in <= unit * 8, "{due_in:?}");
    desk.pass(8).await;
    assert_eq!(desk.load(id).await.due_in, Duration::ZERO);
}

/// A person's attempt comes at once, and the schedule goes on after it.
pub async fn a_request_is_due_at_once_and_leaves_the_schedule<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let unit = <F as Fixture>::UNIT;
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    let record = result(id, &desk.load(id).await, Outcome::Failed, Token::new());
    desk.apply(&due(record, Next::After(unit * 600))).await;
    desk.ask(id, &Input::Retry { force: false }).await;
    let loaded = desk.load(id).await;
    assert_eq!((loaded.due_in, loaded.state.request), (Duration::ZERO, Some(Request::Retry)));
    desk.apply(&result(id, &loaded, Outcome::Failed, Token::new())).await;
    let after = desk.load(id).await;
    assert_eq!(after.state.request, None);
    assert!(after.due_in > unit * 300 && after.due_in <= unit * 600, "{:?}", after.due_in);
}

/// Promise 5: the end, and what is left of it for people.
pub async fn a_finished_delivery_shows_when_and_why<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let published = desk.publish_event(event(), &[subscription]).await;
    let id = published.deliveries[0];
    let before = desk.delivery(id).await;
    assert!(before.next_attempt_at.is_some() && before.finished_at.is_none());
    desk.pass(1).await;
    desk.cancel(id).await;
    let after = desk.delivery(id).await;
    assert_eq!(after.state.reason, Some(StatusReason::CancelledByUser));
    assert_eq!(after.next_attempt_at, None);
    assert!(after.finished_at.is_some_and(|end| end > before.created_at));
    assert_eq!(after.created_at, before.created_at);
}

/// Reopening starts a new chain; the numbers go on.
pub async fn a_reopened_delivery_is_unfinished_again<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    desk.succeed(id).await;
    let state = desk.load(id).await.state;
    desk.apply(&asked(id, &state, &Input::Reopen)).await;
    let reopened = desk.load(id).await;
    assert_eq!((reopened.state.status, reopened.due_in), (DeliveryStatus::Pending, Duration::ZERO));
    assert_eq!((reopened.state.chain, reopened.state.attempts), (1, 1));
    assert_eq!(desk.delivery(id).await.finished_at, None);
    desk.succeed(id).await;
    assert_eq!(desk.attempts(id).await.len(), 2);
    assert!(desk.delivery(id).await.finished_at.is_some());
}
