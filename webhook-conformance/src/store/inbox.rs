//! Events that applications inserted in transactions of their own.

use webhook_core::id::EventId;
use webhook_core::model::{NewEvent, TraceParent};
use webhook_core::store::{InboxEvent, InboxId, InboxOutcome, PageRequest, RejectedEvent};
use webhook_core::time::Timestamp;

use crate::StoreFixture;
use crate::sample::{Desk, tenant};

async fn publish_later<F: StoreFixture>(desk: &Desk<'_, F>, event: NewEvent) -> EventId {
    let id = EventId::new();
    desk.fixture.publish_later(event.id(id)).await;
    id
}

fn event() -> NewEvent {
    NewEvent::json("order.created", r#"{"id": 1.0}"#)
}

/// Takes and says at once what becomes of each, as one relay does.
async fn relay<F: StoreFixture>(
    desk: &Desk<'_, F>,
    limit: u32,
    outcome: Option<InboxOutcome>,
) -> Vec<InboxEvent> {
    let rows = desk.store.inbox_take(limit).await.unwrap();
    let outcomes = rows.iter().filter_map(|row| Some((row.row, outcome.clone()?)));
    let outcomes: Vec<(InboxId, InboxOutcome)> = outcomes.collect();
    desk.store.inbox_settle(&outcomes).await.unwrap();
    rows
}

fn ids(rows: &[InboxEvent]) -> Vec<EventId> {
    rows.iter().map(|row| row.id).collect()
}

fn rejected(problem: &str) -> Option<InboxOutcome> {
    Some(InboxOutcome::Rejected(problem.to_owned()))
}

async fn listed<F: StoreFixture>(desk: &Desk<'_, F>, whose: Option<&str>) -> Vec<RejectedEvent> {
    let whose = whose.map(tenant);
    let page = PageRequest { before: None, limit: 100 };
    desk.store.inbox_rejected(whose.as_ref(), page).await.unwrap().items
}

/// The lowest first, again and again until they are settled.
pub async fn rows_are_taken_in_their_order<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    assert_eq!(relay(&desk, 10, None).await, []);
    let mut inserted = Vec::new();
    for _ in 0..5 {
        inserted.push(publish_later(&desk, event()).await);
    }
    for _ in 0..2 {
        let rows = relay(&desk, 3, None).await;
        assert_eq!(ids(&rows), inserted[..3]);
        assert!(rows.windows(2).all(|pair| pair[0].row < pair[1].row));
    }
    relay(&desk, 3, Some(InboxOutcome::Published)).await;
    assert_eq!(ids(&relay(&desk, 3, None).await), inserted[3..]);
}

/// Byte for byte.
pub async fn a_row_is_taken_as_it_was_inserted<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let at = Timestamp::from_micros(1_893_456_000_123_456);
    let full = NewEvent::bytes("a.b", "text/plain", &b"\xff\x00 bytes"[..])
        .tenant(tenant("acme"))
        .ordering_key("o")
        .idempotency_key("k")
        .traceparent(TraceParent::new())
        .deliver_at(at);
    let id = publish_later(&desk, full.clone()).await;
    let bare = publish_later(&desk, event()).await;
    let rows = relay(&desk, 10, None).await;
    let wanted = [full.id(id), event().id(bare)];
    for (row, wanted) in rows.iter().zip(wanted) {
        assert_eq!(*row, InboxEvent { row: row.row, ..wanted.into() });
    }
    assert_eq!(rows.len(), 2);
}

/// And telling it again is harmless.
pub async fn a_published_row_is_gone<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let first = publish_later(&desk, event()).await;
    let second = publish_later(&desk, event()).await;
    let published = relay(&desk, 1, Some(InboxOutcome::Published)).await;
    assert_eq!(ids(&published), [first]);
    desk.store.inbox_settle(&[(published[0].row, InboxOutcome::Published)]).await.unwrap();
    assert_eq!(ids(&relay(&desk, 10, None).await), [second]);
    assert_eq!(listed(&desk, None).await, []);
}

/// It is not taken again, and stays to be seen.
pub async fn a_rejected_row_stays_with_its_problem<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let bad = publish_later(&desk, event().tenant(tenant("acme"))).await;
    let good = publish_later(&desk, event()).await;
    let row = relay(&desk, 1, rejected("no such type")).await.remove(0).row;
    assert_eq!(ids(&relay(&desk, 10, None).await), [good]);
    desk.store.inbox_settle(&[(row, InboxOutcome::Rejected("no such type".to_owned()))]).await.unwrap();
    let seen = listed(&desk, None).await;
    let [seen] = seen.as_slice() else { panic!("one is rejected: {seen:?}") };
    assert_eq!((seen.id, seen.tenant.as_str(), seen.event_type.as_str()), (bad, "acme", "order.created"));
    assert_eq!(seen.problem, "no such type");
    let now = desk.delivery(desk.publish(&desk.subscribe().await).await).await.created_at;
    assert!(seen.created_at <= now && seen.created_at > Timestamp::EPOCH, "when it was inserted");
}

/// Newest first, by tenant.
pub async fn rejected_rows_are_listed_by_tenant_and_page<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let mut ours = Vec::new();
    for _ in 0..5 {
        ours.push(publish_later(&desk, event().tenant(tenant("acme"))).await);
    }
    let theirs = publish_later(&desk, event()).await;
    relay(&desk, 10, rejected("why not")).await;
    ours.reverse();
    let whose = tenant("acme");
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = desk.store.inbox_rejected(Some(&whose), PageRequest { before, limit: 2 }).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|event| event.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, ours);
    let all = listed(&desk, None).await;
    assert_eq!((all.len(), all[0].id), (6, theirs));
}

/// By its tenant or for all, once; never what waits to be published.
pub async fn a_rejected_row_is_deleted_by_its_tenant<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let first = publish_later(&desk, event().tenant(tenant("acme"))).await;
    let second = publish_later(&desk, event().tenant(tenant("acme"))).await;
    let waits = publish_later(&desk, event()).await;
    relay(&desk, 2, rejected("why not")).await;
    let (mallory, acme) = (tenant("mallory"), tenant("acme"));
    assert!(!desk.store.inbox_delete(Some(&mallory), first).await.unwrap());
    assert!(!desk.store.inbox_delete(None, EventId::new()).await.unwrap());
    assert!(!desk.store.inbox_delete(None, waits).await.unwrap(), "it is not rejected");
    assert_eq!(listed(&desk, None).await.len(), 2);
    assert!(desk.store.inbox_delete(Some(&acme), first).await.unwrap());
    assert!(!desk.store.inbox_delete(Some(&acme), first).await.unwrap());
    assert!(desk.store.inbox_delete(None, second).await.unwrap());
    assert_eq!(listed(&desk, None).await, []);
    assert_eq!(ids(&relay(&desk, 10, None).await), [waits]);
}
