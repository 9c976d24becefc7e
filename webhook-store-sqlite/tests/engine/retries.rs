//! Waits between attempts, and the answer that ends them.

use webhook_core::SubscriptionDraft;
use webhook_core::deliver::Request;
use webhook_core::model::{DeliveryStatus, DisabledReason, Outcome, StatusReason, SubscriptionStatus};
use webhook_core::retry::RetrySpec;
use webhook_core::testing::Scripted;

use crate::target::{Reply, attempt};
use crate::world::{TARGET, World, seconds, tenant};

const MOVED: &str = "https://moved.example.com/hook";

/// The first attempt is answered so, all others with 200.
fn first(answer: Scripted) -> impl Fn(&Request) -> Reply {
    move |request| if attempt(request) == 1 { Reply::With(answer.clone()) } else { Reply::status(200) }
}

/// Promise 6.
#[tokio::test]
async fn a_failing_delivery_is_retried_to_the_microsecond_and_then_exhausted() {
    let world = World::running(|_| Reply::status(500)).await;
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let start = world.now();
    let delivery = world.publish("a.b").await;
    world.tried(delivery, 1).await;
    world.comes_exactly_at(start.after(seconds(10))).await;
    world.tried(delivery, 2).await;
    world.comes_exactly_at(start.after(seconds(70))).await;
    let state = world.finished(delivery).await.state;
    assert_eq!((state.status, state.attempts), (DeliveryStatus::Exhausted, 3));
    assert_eq!(state.reason, Some(StatusReason::AttemptsExhausted));
    world.end().await;
}

#[tokio::test]
async fn a_subscriptions_own_policy_wins_over_the_builders() {
    let world = World::running(|_| Reply::status(500)).await;
    let retry = Some("schedule:1s".parse::<RetrySpec>().unwrap());
    world.subscribe(SubscriptionDraft { retry, ..SubscriptionDraft::to(TARGET) }).await;
    let start = world.now();
    let delivery = world.publish("a.b").await;
    world.tried(delivery, 1).await;
    world.comes_exactly_at(start.after(seconds(1))).await;
    let state = world.finished(delivery).await.state;
    assert_eq!((state.reason, state.attempts), (Some(StatusReason::AttemptsExhausted), 2));
    world.end().await;
}

/// Promise 6: the policy says ten seconds, and its longest wait is a minute.
#[tokio::test]
async fn retry_after_lengthens_the_wait_never_shortens_it_and_is_capped() {
    let busy = |status: u16, after: &str| Scripted::status(status).header("retry-after", after);
    // The clocks of all tests begin at this moment's midnight.
    let date = "Thu, 01 Jan 2026 00:02:00 GMT";
    let past = "Wed, 31 Dec 2025 23:00:00 GMT";
    let cases = [
        (busy(503, "100"), 100),
        (busy(429, "100"), 100),
        (busy(503, date), 120),
        (busy(429, "3"), 10),
        (busy(503, past), 10),
        (busy(503, "86400"), 3600),
        (busy(429, "Fri, 02 Jan 2026 00:00:00 GMT"), 3600),
        // Only 429 and 503 may ask.
        (busy(500, "100"), 10),
    ];
    for (answer, wait) in cases {
        let world = World::running(first(answer.clone())).await;
        world.subscribe(SubscriptionDraft::to(TARGET)).await;
        let start = world.now();
        let delivery = world.publish("a.b").await;
        let next = world.tried(delivery, 1).await.next_attempt_at;
        assert_eq!(next, Some(start.after(seconds(wait))), "{answer:?}");
        world.comes_exactly_at(start.after(seconds(wait))).await;
        assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
        world.end().await;
    }
}

#[tokio::test]
async fn a_gone_target_exhausts_the_delivery_and_disables_its_subscription_until_it_is_resumed() {
    let world = World::running(first(Scripted::status(410))).await;
    let id = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    let gone = world.publish("a.b").await;
    assert_eq!(world.finished(gone).await.state.reason, Some(StatusReason::Gone));
    let now = world.status_after(id, SubscriptionStatus::Active).await;
    assert_eq!((now.status, now.disabled_reason), (SubscriptionStatus::Disabled, Some(DisabledReason::Gone)));
    let waiting = world.publish("a.b").await;
    world.clock.advance(seconds(600));
    let depth = world.webhooks.depth().await.unwrap();
    assert_eq!((depth.due, world.target.count()), (0, 1), "a disabled subscription's deliveries wait");
    world.webhooks.subscriptions().resume(&tenant(), id).await.unwrap();
    // Its first attempt is answered with 410 too; that it is made is what counts.
    world.finished(waiting).await;
    assert_eq!(world.target.count(), 2);
    world.end().await;
}

/// Whoever is told where to deliver while an attempt is on the wire is not told by the old target that it is gone.
#[tokio::test]
async fn gone_from_a_target_that_was_changed_in_mid_flight_is_an_ordinary_failure() {
    let world =
        World::running(|request| if attempt(request) == 1 { Reply::Held } else { Reply::status(200) }).await;
    let stored = world.subscribe(SubscriptionDraft::to(TARGET)).await;
    let start = world.now();
    let delivery = world.publish("a.b").await;
    world.requested(1).await;
    let subscriptions = world.webhooks.subscriptions();
    subscriptions.replace(&tenant(), stored.id, &SubscriptionDraft::to(MOVED), None).await.unwrap();
    world.target.release(Scripted::status(410));
    let state = world.tried(delivery, 1).await.state;
    assert_eq!((state.status, state.reason), (DeliveryStatus::Retrying, None));
    world.comes_exactly_at(start.after(seconds(10))).await;
    assert_eq!(world.finished(delivery).await.state.status, DeliveryStatus::Succeeded);
    assert_eq!(world.target.got()[1].request.url.as_str(), MOVED);
    let now = subscriptions.get(&tenant(), stored.id).await.unwrap();
    assert_eq!((now.status, now.disabled_reason), (SubscriptionStatus::Active, None));
    let outcomes: Vec<_> = world.attempts(delivery).await.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Succeeded]);
    world.end().await;
}

/// What the target says is newer than what a person said; resuming re-enables either way.
#[tokio::test]
async fn gone_in_mid_flight_disables_a_subscription_that_was_paused_meanwhile() {
    let world =
        World::running(|request| if attempt(request) == 1 { Reply::Held } else { Reply::status(200) }).await;
    let id = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    let delivery = world.publish("a.b").await;
    world.requested(1).await;
    world.webhooks.subscriptions().pause(&tenant(), id).await.unwrap();
    world.target.release(Scripted::status(410));
    assert_eq!(world.finished(delivery).await.state.reason, Some(StatusReason::Gone));
    let now = world.status_after(id, SubscriptionStatus::Paused).await;
    assert_eq!((now.status, now.disabled_reason), (SubscriptionStatus::Disabled, Some(DisabledReason::Gone)));
    let resumed = world.webhooks.subscriptions().resume(&tenant(), id).await.unwrap();
    assert_eq!((resumed.status, resumed.disabled_reason), (SubscriptionStatus::Active, None));
    world.end().await;
}
