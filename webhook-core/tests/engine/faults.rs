use webhook_core::model::NewEvent;
use webhook_core::model::{DeliveryStatus, ErrorKind, Outcome};
use webhook_core::queue::{Claim, JobQueue as _};
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{PublishError, SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::support::{TARGET, World, seconds};

/// Promise 2.
#[tokio::test(start_paused = true)]
async fn what_a_queue_lost_is_found_in_the_store() {
    let world = World::new(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let mut deliveries = Vec::new();
    for _ in 0..100 {
        deliveries.push(world.publish("a.b").await.deliveries[0].0);
    }
    while world.webhooks.depth().await.unwrap().due < 100 {
        tokio::task::yield_now().await;
    }
    world.queue.forget_everything();
    assert_eq!(world.webhooks.depth().await.unwrap().due, 0);
    world.webhooks.spawn(Workers::default()).unwrap();
    for delivery in deliveries {
        assert_eq!(world.finished(delivery).await.state.attempts, 1);
    }
}

/// Promise 7: a worker crashed between the claim and the record.
#[tokio::test(start_paused = true)]
async fn a_claim_that_crashed_leaves_an_unknown_attempt_and_the_delivery_goes_on() {
    let world = World::new(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    let claim = Claim {
        id: webhook_core::id::Token::new(),
        worker: webhook_core::id::WorkerId::new(),
        lease: seconds(30),
        room: webhook_core::lane::Room::of(8),
        max_in_flight: 64,
        avoid: Vec::new(),
    };
    while world.queue.claim(&claim).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    world.webhooks.spawn(Workers::default()).unwrap();
    let finished = world.finished(delivery).await;
    assert_eq!((finished.state.status, finished.state.failed), (DeliveryStatus::Succeeded, 0));
    let attempts = world.attempts(delivery).await;
    let outcomes: Vec<_> = attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect();
    assert_eq!(outcomes, [(1, Outcome::Unknown), (2, Outcome::Succeeded)]);
    assert_eq!(attempts[0].token, claim.id);
}

/// Promise 14.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_deliverer_is_that_attempts_failure() {
    let world = World::running(RecordingDeliverer::scripted(|request| {
        let poison =
            request.headers.iter().any(|(name, value)| name == "webhook-event-type" && value == "bad");
        assert!(!poison, "boom");
        Scripted::status(200)
    }));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let bad = world.publish("bad").await.deliveries[0].0;
    let good = world.publish("good").await.deliveries[0].0;
    assert_eq!(world.finished(good).await.state.status, DeliveryStatus::Succeeded);
    let bad = world.finished(bad).await;
    assert_eq!(bad.state.status, DeliveryStatus::Exhausted);
    assert_eq!(bad.state.last_error.map(|error| error.kind), Some(ErrorKind::Internal));
}

/// Promise 14.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_retry_policy_leaves_the_delivery_with_the_standard_schedule() {
    #[derive(Debug)]
    struct Panics;
    impl webhook_core::retry::RetryPolicy for Panics {
        fn wait(&self, _: u32, _: f64) -> Option<std::time::Duration> {
            panic!("boom")
        }
        fn span(&self) -> std::time::Duration {
            seconds(1)
        }
        fn longest(&self) -> std::time::Duration {
            seconds(1)
        }
    }
    let target = RecordingDeliverer::new();
    target.answer(TARGET, Scripted::status(500));
    let world = World::with(target, |builder| builder.retry(Panics));
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
}

/// Promise 15.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_publishing_fails_clearly_and_results_wait_for_it() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.webhooks.spawn(Workers::default()).unwrap();
    world.target.answer(TARGET, Scripted::status(200).after(seconds(5)));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.target.wait_for(1).await;
    store.set_away(true);
    let refused = world.webhooks.publish(NewEvent::json("a.b", "{}")).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    assert!(world.webhooks.readiness().await.store.is_err());
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(world.webhooks.in_flight(), 1, "the result is kept");
    store.set_away(false);
    let finished = world.finished(delivery).await;
    assert_eq!((finished.state.status, finished.state.attempts), (DeliveryStatus::Succeeded, 1));
    assert_eq!(world.target.requests().len(), 1);
}

/// Promises 1 and 11: the reply to a commit is lost.
#[tokio::test(start_paused = true)]
async fn after_a_lost_acknowledgement_a_repeat_with_the_key_stores_nothing_twice() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let event = || NewEvent::json("a.b", "{}").idempotency_key("k");
    store.fail(Call::Insert, Fault::After);
    assert!(matches!(world.webhooks.publish(event()).await, Err(PublishError::Unavailable(_))));
    let again = world.webhooks.publish(event()).await.unwrap();
    assert!(again.duplicate);
    world.webhooks.spawn(Workers::default()).unwrap();
    world.finished(again.deliveries[0].0).await;
    assert_eq!(world.target.requests().len(), 1);
}

/// Promise 7: the reply to a record is lost.
#[tokio::test(start_paused = true)]
async fn a_result_whose_reply_was_lost_has_one_row() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    store.fail(Call::Record, Fault::After);
    store.fail(Call::Record, Fault::Before);
    let delivery = world.publish("a.b").await.deliveries[0].0;
    world.webhooks.spawn(Workers::default()).unwrap();
    let finished = world.finished(delivery).await;
    assert_eq!(finished.state.attempts, 1);
    tokio::time::sleep(seconds(120)).await;
    assert_eq!(world.attempts(delivery).await.len(), 1);
    assert_eq!((world.target.requests().len(), world.webhooks.in_flight()), (1, 0));
}

/// Promise 14: publishing alike.
#[tokio::test(start_paused = true)]
async fn an_event_that_the_store_cannot_take_is_refused_alone() {
    let (world, _store) = World::on_faulty_store(RecordingDeliverer::new(), Some("bad"));
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let types = (0..50).map(|n| if n == 17 { "bad" } else { "good" });
    let answers = world.webhooks.publish_all(types.map(|name| NewEvent::json(name, "{}")).collect()).await;
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(matches!(answer, Err(PublishError::Rejected(_))), index == 17, "{index}: {answer:?}");
        assert_eq!(answer.is_ok(), index != 17, "{index}: {answer:?}");
    }
}
