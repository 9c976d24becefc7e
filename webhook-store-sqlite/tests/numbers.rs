//! What is added to an event later, and what a replay takes in, over restarts: numbers do not come again.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod support;

use support::*;
use webhook_core::id::{DeliveryId, ReplayId};
use webhook_core::lifecycle::Input;
use webhook_core::model::*;
use webhook_core::store::*;

fn to(s: &Subscription) -> NewDelivery {
    NewDelivery { id: DeliveryId::new(), subscription_id: s.id, ordered: s.ordered, give_up_after: GIVE_UP }
}

/// Promise 12.
#[tokio::test]
async fn an_added_delivery_keeps_its_turn_over_a_restart() {
    let f = Fixture::new().await;
    let early = f.publish(&[], None).await;
    let s = f.subscribe_with(|s| s.ordered = true).await;
    let head = f.publish(&[&s], None).await;
    let added = to(&s);
    f.store.add_deliveries(early.event.id, std::slice::from_ref(&added), f.config().await).await.unwrap();
    let f = f.reopen().await;
    let last = f.publish(&[&s], None).await;
    f.check().await;
    for id in [head.ids[0], added.id, last.ids[0]] {
        let lease = f.claim(10).await;
        assert_eq!(lease.iter().map(|lease| lease.id).collect::<Vec<_>>(), [id]);
        f.succeed(&lease[0]).await;
    }
    f.check().await;
}

#[tokio::test]
async fn a_replay_takes_in_nothing_that_came_after_a_restart() {
    let f = Fixture::new().await;
    let s = f.subscribe().await;
    let published = f.publish(&[&s], None).await;
    f.ask(published.ids[0], Input::Cancel(StatusReason::CancelledByUser)).await;
    // The event with the last number goes, and with it what would tell that number.
    f.publish(&[], None).await;
    let filter = DeliveryFilter { statuses: vec![DeliveryStatus::Cancelled], ..DeliveryFilter::default() };
    let new = NewReplay { id: ReplayId::new(), tenant: Tenant::default(), filter };
    assert_eq!(f.store.replay_start(&new).await.unwrap().matched, Matched { matched: 1, more: false });
    sqlx::query("DELETE FROM webhooks_events WHERE delivery_count = 0")
        .execute(&mut raw_writer(&f.path).await)
        .await
        .unwrap();
    let f = f.reopen().await;
    let later = f.publish(&[&s], None).await;
    f.ask(later.ids[0], Input::Cancel(StatusReason::CancelledByUser)).await;
    let page = f.store.replay_next(10).await.unwrap().unwrap();
    assert_eq!(page.deliveries.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), published.ids);
}

/// Two tenants may publish under one id; neither is given the other's event.
#[tokio::test]
async fn deliveries_are_added_to_the_event_of_their_subscriptions_tenant() {
    let f = Fixture::new().await;
    let acme: Tenant = "acme".parse().unwrap();
    let s = f.subscribe_with(|s| s.tenant = "acme".parse().unwrap()).await;
    let ours = event();
    let theirs = Event { tenant: acme.clone(), payload: "theirs".into(), ..ours.clone() };
    f.publish_this(insert_of(ours.clone(), &[], f.config().await), None).await;
    let version = f.store.snapshot(&acme).await.unwrap().version;
    f.publish_this(insert_of(theirs, &[], version), None).await;
    let added = to(&s);
    let answer = f.store.add_deliveries(ours.id, std::slice::from_ref(&added), version).await.unwrap();
    assert_eq!(answer, Added::Stored { added: vec![added.id], waiting: Vec::new() });
    assert_eq!(f.store.of_event(&Tenant::default(), ours.id).await.unwrap().unwrap().deliveries, []);
    let found = f.store.of_event(&acme, ours.id).await.unwrap().unwrap();
    assert_eq!((found.deliveries.len(), &*found.event.payload), (1, &b"theirs"[..]));
    f.check().await;
}

/// Each by an index over what is unfinished, and so the pages of a replay by one over what is dead. Counting what is
/// unfinished looks at indexes alone, and a window at its own roll-ups.
#[tokio::test]
async fn expiry_reads_no_more_than_it_ends() {
    let f = Fixture::new().await;
    let mut conn = f.raw().await;
    for (sql, index) in [
        (
            "SELECT d.* FROM webhooks_deliveries d WHERE d.finished_at IS NULL AND d.subscription = x'00'
             AND d.give_up_at <= 1 ORDER BY d.give_up_at, d.id LIMIT 1",
            "webhooks_deliveries_open",
        ),
        (
            "SELECT d.* FROM webhooks_deliveries d WHERE d.finished_at IS NULL AND d.chain_start < 1
             ORDER BY d.chain_start, d.id LIMIT 1",
            "webhooks_deliveries_chain",
        ),
        (
            "SELECT d.status FROM webhooks_subscriptions s CROSS JOIN webhooks_deliveries d
             ON d.subscription = s.id AND d.finished_at IS NULL LIMIT 1",
            "COVERING INDEX webhooks_deliveries_open",
        ),
        (
            "SELECT j.lane, j.due FROM webhooks_subscriptions s CROSS JOIN webhooks_jobs j
             ON j.lane = s.id AND j.leased = 0 LIMIT 1",
            "COVERING INDEX webhooks_jobs_due",
        ),
        (
            "SELECT latency FROM webhooks_rollups r WHERE r.tenant = 'a' AND r.subscription IS NULL
             AND r.start >= 1 AND (r.span = 2 OR r.start >= 2)",
            "webhooks_rollups_tenant",
        ),
        (
            "SELECT r.subscription, r.attempts_failed FROM webhooks_rollups r WHERE r.tenant = 'a'
             AND r.subscription IS NOT NULL AND r.attempts_failed > 0 AND r.start >= 1
             AND (r.span = 2 OR r.start >= 2)",
            "COVERING INDEX webhooks_rollups_failed",
        ),
        (
            "SELECT * FROM webhooks_rollups WHERE span = 0 AND merged_start = 1
             ORDER BY tenant, subscription LIMIT 1",
            "webhooks_rollups_merge",
        ),
        ("SELECT * FROM webhooks_replays WHERE finished = 0 ORDER BY id LIMIT 1", "webhooks_replays_running"),
        (
            "SELECT * FROM webhooks_inbox WHERE problem IS NULL ORDER BY number LIMIT 1",
            "webhooks_inbox_waiting",
        ),
    ] {
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(&format!("EXPLAIN QUERY PLAN {sql}")).fetch_all(&mut conn).await.unwrap();
        let text = plan.iter().map(|step| step.3.as_str()).collect::<Vec<_>>().join("; ");
        assert!(text.contains(index) && !text.contains("TEMP B-TREE"), "{sql}: {text}");
    }
}
