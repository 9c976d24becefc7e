//! The order of locks in the fast path.

use std::sync::Arc;

use sqlx::{Connection as _, Executor as _};
use webhook_core::model::Subscription;
use webhook_core::store::{DeliveryStore as _, SubscriptionStore as _};

use crate::locks::Lock;
use crate::support::Case;
use crate::support::desk::{Desk, check, event, insert_of, is_applied, result, subscription, success};

/// A lane that counts, of an ordered subscription: whoever waits for the order of its key must not have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_waits_for_the_order_of_its_key_locks_no_lane() {
    let Some(case) = Case::create_or_skip("the order of locks").await else { return };
    let store = case.open().await;
    let subscription = store.create(&Subscription { ordered: true, ..subscription() }).await.unwrap();
    let desk = Desk { store, subscription };
    let inserts: Vec<_> = (0..2).map(|_| insert_of(event(), &[&desk.subscription], 1)).collect();
    desk.store.insert(&inserts, None).await.unwrap();
    let leases = desk.claim(1).await;
    let loaded = desk.load(&[leases[0].id]).await;
    let record = result(leases[0].id, &loaded[0], Some(&leases[0]), &success());

    let mut holder = case.connect().await;
    let lock = Lock::order(&desk.subscription.id, "").number(&case.schema);
    holder.execute(format!("BEGIN; SELECT pg_advisory_xact_lock({lock})").as_str()).await.unwrap();
    let recording = Arc::new(desk.store.clone());
    let recording = tokio::spawn(async move { recording.record(&[record]).await.unwrap() });
    case.wait_until_blocked_by(&mut holder).await;
    let look = format!("SELECT id FROM {}.lanes FOR UPDATE NOWAIT", case.schema);
    assert_eq!(holder.fetch_all(look.as_str()).await.unwrap().len(), 1);
    holder.execute("ROLLBACK").await.unwrap();

    let answers = recording.await.unwrap();
    assert!(is_applied(&answers[0]), "{answers:?}");
    assert_eq!(desk.claim(1).await.len(), 1, "the next of the key follows");
    check(&case).await;
    holder.close().await.unwrap();
    case.clean_up().await;
}
