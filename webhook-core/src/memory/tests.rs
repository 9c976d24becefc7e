//! What the conformance suites cannot see: hooks for tests, the log's end, and that nobody spins.

use std::sync::Arc;
use std::time::Duration;

use super::{MemoryQueue, MemoryStore};
use crate::id::{DeliveryId, LaneId, Token, WorkerId};
use crate::lane::Room;
use crate::model::{Subscription, SubscriptionStatus, Tenant};
use crate::queue::{Claim, Enqueued, JobQueue as _, LaneSettings, NewJob};
use crate::store::{Changed, SubscriptionStore as _};
use crate::testing::TokioClock;
use crate::time::Timestamp;

async fn queue_with_a_job() -> (MemoryQueue, NewJob) {
    let queue = MemoryQueue::with_clock(Arc::new(TokioClock::new()));
    let lane = LaneId::new();
    let settings = LaneSettings { lane, version: 1, max_in_flight: None, rate: None, hold: None };
    queue.lanes(&[settings]).await.unwrap();
    let job = NewJob { id: DeliveryId::new(), lane, wait: Duration::ZERO, lane_version: 1, urgent: false };
    assert_eq!(queue.enqueue(std::slice::from_ref(&job), None).await.unwrap(), [Enqueued::Queued]);
    (queue, job)
}

fn claim(room: Room) -> Claim {
    Claim {
        id: Token::new(),
        worker: WorkerId::new(),
        lease: Duration::from_secs(30),
        room,
        max_in_flight: 64,
        avoid: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_flushed_queue_is_empty_has_another_epoch_and_knows_no_lane() {
    let (queue, job) = queue_with_a_job().await;
    let before = queue.epoch().await.unwrap();
    queue.forget_everything();
    assert_ne!(queue.epoch().await.unwrap(), before);
    assert_eq!(queue.claim(&claim(Room::of(8))).await.unwrap(), []);
    assert_eq!(queue.enqueue(&[job], None).await.unwrap(), [Enqueued::LaneBehind]);
}

/// Promise 15: a worker without room for what is due waits, and does not ask again and again.
#[tokio::test(start_paused = true)]
async fn what_a_claim_passed_over_does_not_make_a_worker_spin() {
    let (queue, _) = queue_with_a_job().await;
    let none_doubtful = Room { all: 8, doubtful: 0, dead: 0 };
    let second = tokio::time::Instant::now() + Duration::from_secs(1);
    let mut claims = 0;
    while tokio::time::Instant::now() < second {
        assert_eq!(queue.claim(&claim(none_doubtful)).await.unwrap(), []);
        claims += 1;
        queue.wait(Duration::from_secs(60)).await;
    }
    assert!(claims <= 50, "{claims} claims in a second");
    assert_eq!(queue.claim(&claim(Room::of(8))).await.unwrap().len(), 1, "another worker has room");
}

#[tokio::test]
async fn who_is_too_far_behind_needs_a_snapshot() {
    let store = MemoryStore::new();
    let tenant = Tenant::default();
    let draft = Subscription {
        id: LaneId::new(),
        tenant: tenant.clone(),
        target_url: "https://example.com/".parse().unwrap(),
        description: None,
        event_types: Vec::new(),
        filter: None,
        headers: std::collections::BTreeMap::new(),
        metadata: std::collections::BTreeMap::new(),
        status: SubscriptionStatus::Active,
        disabled_reason: None,
        retry: None,
        timeout: None,
        max_in_flight: None,
        rate_limit: None,
        ordered: false,
        signature: crate::signature::SignatureScheme::None,
        verify: None,
        secrets: Vec::new(),
        version: 0,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    };
    store.create(&draft).await.unwrap();
    for version in 1..=1_000 {
        assert!(matches!(store.update(&draft, version).await.unwrap(), Changed::Done(_)));
    }
    assert_eq!(store.changes_since(&tenant, 0).await.unwrap(), None);
    let changes = store.changes_since(&tenant, 1).await.unwrap().expect("a thousand changes are kept");
    assert_eq!((changes.version, changes.changed.len()), (1_001, 1));
}
