//! What applications inserted in transactions of their own.

use webhook_core::id::EventId;
use webhook_core::model::{DeliveryStatus, NewEvent, Tenant};
use webhook_core::store::{DeliveryFilter, History as _, Inbox as _, InboxEvent, PageRequest, RejectedEvent};
use webhook_core::testing::RecordingDeliverer;
use webhook_core::{SubscriptionDraft, Workers};

use crate::faulty::{Call, Fault};
use crate::support::{TARGET, World, seconds, tenant};

fn event() -> NewEvent {
    NewEvent::json("a.b", r#"{"id":42}"#)
}

async fn rejected(world: &World) -> Vec<RejectedEvent> {
    world.store.inbox_rejected(None, PageRequest { before: None, limit: 100 }).await.unwrap().items
}

async fn is_empty(world: &World) -> bool {
    world.store.inbox_take(1).await.unwrap().is_empty()
}

/// Within the reconcile period, or at once when the engine is woken.
#[tokio::test(start_paused = true)]
async fn an_event_of_the_inbox_is_published_under_its_id() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    tokio::time::sleep(seconds(1)).await;
    let start = tokio::time::Instant::now();
    let id = world.store.publish_later(event());
    let request = &world.target.wait_for(1).await[0];
    assert_eq!(request.header("webhook-id"), Some(id.to_string().as_str()));
    assert!(request.at - start <= seconds(6), "{:?}", request.at - start);
    assert!(is_empty(&world).await);

    tokio::time::sleep(seconds(1)).await;
    let start = tokio::time::Instant::now();
    world.store.publish_later(event());
    world.webhooks.wake();
    let request = &world.target.wait_for(2).await[1];
    assert!(request.at - start < std::time::Duration::from_millis(50), "{:?}", request.at - start);
}

/// Promise 1, in another tenant, with a key, an order and a time.
#[tokio::test(start_paused = true)]
async fn an_event_of_the_inbox_is_published_whole() {
    let world = World::running(RecordingDeliverer::new());
    let whose: Tenant = "acme".parse().unwrap();
    let at = webhook_core::testing::START.after(seconds(3600));
    let later = event().tenant(whose.clone()).idempotency_key("k").ordering_key("o").deliver_at(at);
    let id = world.store.publish_later(later);
    world.webhooks.wake();
    tokio::time::sleep(seconds(1)).await;
    let stored = world.store.event(Some(&whose), id).await.unwrap().expect("it is published");
    assert_eq!((stored.idempotency_key.as_deref(), stored.ordering_key.as_deref()), (Some("k"), Some("o")));
    assert_eq!((stored.deliver_at, stored.payload_size), (Some(at), 9));
    assert_eq!(&*stored.content_type, "application/json");
}

/// A relay that crashed between the publish and the deletion of its rows; and a row that was published
/// already.
#[tokio::test(start_paused = true)]
async fn relaying_a_row_again_sends_nothing_twice() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    store.fail(Call::InboxSettle, Fault::Before);
    store.fail(Call::InboxSettle, Fault::After);
    for _ in 0..3 {
        world.store.publish_later(event());
    }
    let known = world.publish("a.b").await;
    world.store.publish_later(event().id(known.id));
    world.webhooks.spawn(Workers::default()).unwrap();
    tokio::time::sleep(seconds(60)).await;
    assert!(is_empty(&world).await && rejected(&world).await.is_empty());
    assert_eq!(world.target.requests().len(), 4);
}

/// Promise 8: two processes relay.
#[tokio::test(start_paused = true)]
async fn two_relays_send_nothing_twice() {
    let (world, _store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    for _ in 0..500 {
        world.store.publish_later(event());
    }
    let another = world.another();
    another.spawn(Workers::default()).unwrap();
    world.webhooks.spawn(Workers::default()).unwrap();
    world.target.wait_for(500).await;
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(world.target.requests().len(), 500);
    assert!(is_empty(&world).await);
}

/// They stay to be seen, and hold up nobody.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_stays_with_its_problem() {
    let world = World::running(RecordingDeliverer::new());
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    world.webhooks.publish(NewEvent::json("other", "{}").idempotency_key("k")).await.unwrap();
    let nobodys = InboxEvent { tenant: "not a tenant".into(), ..event().into() };
    let bad = [
        world.store.publish_later(nobodys),
        world.store.publish_later(NewEvent::json("not a type", "{}")),
        world.store.publish_later(NewEvent::json("a.b", "{")),
        world.store.publish_later(event().idempotency_key("k")),
    ];
    let good = world.store.publish_later(event());
    world.webhooks.wake();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(world.target.requests().len(), 2);
    assert!(world.store.event(None, good).await.unwrap().is_some());

    let mut seen = rejected(&world).await;
    seen.reverse();
    assert_eq!(seen.iter().map(|event| event.id).collect::<Vec<EventId>>(), bad);
    for (event, problem) in seen.iter().zip(["tenant", "event_type", "payload", "key"]) {
        assert!(event.problem.contains(problem), "{problem}: {}", event.problem);
    }
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(rejected(&world).await.len(), 4, "they are not tried again");
    assert!(world.store.inbox_delete(Some(&tenant()), bad[1]).await.unwrap());
    assert_eq!(rejected(&world).await.len(), 3);
}

/// Promises 14 and 15.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_rows_wait_and_one_that_it_cannot_take_is_rejected_alone() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), Some("bad"));
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(SubscriptionDraft::to(TARGET)).await;
    store.set_away(true);
    for name in ["good", "bad", "good"] {
        world.store.publish_later(NewEvent::json(name, "{}"));
    }
    tokio::time::sleep(seconds(300)).await;
    assert!(world.target.requests().is_empty());
    assert_eq!(world.store.inbox_take(10).await.unwrap().len(), 3);
    store.set_away(false);
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(world.target.requests().len(), 2);
    let types: Vec<_> = rejected(&world).await.into_iter().map(|event| event.event_type).collect();
    assert_eq!(types, ["bad"]);
}

/// Promise 12: rows are in order, also when the store fails in the middle of them.
#[tokio::test(start_paused = true)]
async fn rows_of_one_ordering_key_are_published_in_their_order() {
    let (world, store) = World::on_faulty_store(RecordingDeliverer::new(), None);
    world.subscribe(SubscriptionDraft { ordered: true, ..SubscriptionDraft::to(TARGET) }).await;
    let mut ids = Vec::new();
    for number in 0..10 {
        // Large enough for a commit of its own, so that one may fail and the next succeed.
        let payload = format!("{}{number}", " ".repeat(900_000));
        let key = ["a", "b"][number % 2];
        ids.push(world.store.publish_later(NewEvent::json("a.b", payload).ordering_key(key)));
    }
    store.fail(Call::Insert, Fault::Before);
    world.webhooks.spawn(Workers::default()).unwrap();
    tokio::time::sleep(seconds(60)).await;
    let requests = world.target.requests();
    let order = |half: usize| {
        let wanted: Vec<String> = ids.iter().skip(half).step_by(2).map(ToString::to_string).collect();
        let came = requests.iter().filter_map(|request| request.header("webhook-id"));
        (
            came.filter(|id| wanted.iter().any(|wanted| wanted == id)).map(str::to_owned).collect::<Vec<_>>(),
            wanted,
        )
    };
    for half in [0, 1] {
        let (came, wanted) = order(half);
        assert_eq!(came, wanted);
    }
    let page = PageRequest { before: None, limit: 100 };
    let stored = world.store.deliveries(&DeliveryFilter::default(), page).await.unwrap().items;
    assert!(stored.iter().all(|delivery| delivery.state.status == DeliveryStatus::Succeeded));
}
