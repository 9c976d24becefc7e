//! The epoch of a queue apart from the store: who notes it leads the rebuild.

use futures::future::join_all;

use crate::StoreFixture;
use crate::sample::Desk;

const NODES: u64 = 8;

/// Promise 2: compared and changed in one step. What is not as expected changes nothing.
pub async fn an_epoch_advances_from_the_one_that_is_expected<F: StoreFixture>(fixture: &F) {
    let store = Desk::new(fixture).store;
    if store.own_queue().is_some() {
        return;
    }
    let first = store.queue_epoch().await.unwrap();
    // As large as microseconds since 1970 are.
    let second = first + 1_800_000_000_000_000;
    assert!(!store.advance_epoch(first + 1, second).await.unwrap(), "another one was expected");
    assert_eq!(store.queue_epoch().await.unwrap(), first);
    assert!(store.advance_epoch(first, second).await.unwrap());
    assert_eq!(store.queue_epoch().await.unwrap(), second);
    assert!(!store.advance_epoch(first, second).await.unwrap(), "a repeat leads nothing");
    // An older memory came back: numbers need not grow.
    assert!(store.advance_epoch(second, first).await.unwrap());
    assert_eq!(store.queue_epoch().await.unwrap(), first);
}

/// Promise 2: no matter how many notice it together.
pub async fn of_nodes_that_advance_together_one_leads<F: StoreFixture>(fixture: &F) {
    let store = Desk::new(fixture).store;
    if store.own_queue().is_some() {
        return;
    }
    let before = store.queue_epoch().await.unwrap();
    let nodes = (1..=NODES).map(|node| store.advance_epoch(before, before + node));
    let led: Vec<bool> = join_all(nodes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(led.iter().filter(|led| **led).count(), 1, "{led:?}");
    let leader = led.iter().position(|led| *led).map_or(0, |node| node as u64 + 1);
    assert_eq!(store.queue_epoch().await.unwrap(), before + leader);
}
