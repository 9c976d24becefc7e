//! Lookups: bounded, shared, dead names apart. And what of a name's addresses is dialled.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use webhook_core::target::TargetRules;

use crate::lookup::{Limits, Lookups};
use crate::{DialError, Lookup, LookupError, MAX_PER_FAMILY, Resolver, TlsError, tls_config};

fn addrs(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|addr| addr.parse().unwrap()).collect()
}

fn answering(list: &[&str]) -> Resolver {
    let list = addrs(list);
    Resolver::with_lookup(TargetRules::default(), Arc::new(move |_| Ok(list.clone())))
}

#[tokio::test]
async fn all_addresses_pass_or_none_is_dialled() {
    for list in [
        &["1.1.1.1", "10.0.0.1"][..],
        &["10.0.0.1", "1.1.1.1"],
        // Also one that would not be dialled anyway.
        &["1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "127.0.0.1"],
        &["1.1.1.1", "::1"],
        &["2606:4700:4700::1111", "64:ff9b::a9fe:a9fe"],
    ] {
        assert_eq!(answering(list).resolve("hooks.example").await, Err(DialError::Blocked), "{list:?}");
    }
}

#[tokio::test]
async fn a_few_of_each_family_are_dialled_in_the_systems_order() {
    let many = ["2606:4700:4700::1111", "1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9"];
    let dialled = answering(&many).resolve("hooks.example").await;
    assert_eq!(dialled, Ok(addrs(&many[..=MAX_PER_FAMILY])));
}

#[tokio::test]
async fn a_name_without_addresses_a_failed_lookup_and_a_panic_are_told_apart() {
    let outcome = |name: &str| match name {
        "empty.example" => Ok(Vec::new()),
        "panics.example" => panic!("the lookup panics"),
        _ => Err(io::Error::other("failed to lookup address information: Name or service not known")),
    };
    let resolver = Resolver::with_lookup(TargetRules::default(), Arc::new(outcome));
    let failed = LookupError::Failed("Name or service not known".to_owned());
    for (name, error) in [
        ("empty.example", DialError::NoAddress),
        ("unknown.example", failed.into()),
        ("panics.example", LookupError::NotRun.into()),
    ] {
        assert_eq!(resolver.resolve(name).await, Err(error));
    }
}

#[test]
fn roots_that_are_no_certificates_are_refused() {
    let error = |pem: &str| tls_config(&[pem.into()]).unwrap_err();
    assert!(matches!(error("nonsense"), TlsError::NotPem));
    assert!(matches!(
        error("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n"),
        TlsError::NotPem
    ));
    let not_x509 = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(matches!(error(not_x509), TlsError::Certificate(_)));
}

/// Polls until it is so, at most ten seconds.
async fn until(mut condition: impl FnMut() -> bool) {
    let polling = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), polling).await.expect("it never came to be so");
}

/// A lookup whose names beginning with `dead` do not answer until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    calls: Mutex<HashMap<String, usize>>,
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
}

impl Gate {
    fn lookup(self: &Arc<Self>) -> Lookup {
        let gate = Arc::clone(self);
        Arc::new(move |name| {
            *gate.calls.lock().unwrap().entry(name.to_owned()).or_default() += 1;
            if name.starts_with("dead") {
                let waiting = gate.waiting.fetch_add(1, Ordering::SeqCst) + 1;
                gate.most_waiting.fetch_max(waiting, Ordering::SeqCst);
                let open = gate.opened.wait_while(gate.open.lock().unwrap(), |open| !*open).unwrap();
                drop(open);
                gate.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            Ok(addrs(&["1.1.1.1"]))
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn calls(&self, name: &str) -> usize {
        self.calls.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn dead_names_hold_up_neither_others_nor_more_than_their_threads() {
    let gate = Arc::new(Gate::default());
    let limits = Limits { quick: 4, slow: 2, moved: 8, patience: Duration::from_millis(20) };
    let lookups = Arc::new(Lookups::new(gate.lookup(), limits));
    let dead = |round: usize, count: usize| {
        (0..count)
            .map(|number| {
                let lookups = Arc::clone(&lookups);
                tokio::spawn(async move { lookups.resolve(&format!("dead-{round}-{number}.example")).await })
            })
            .collect::<Vec<_>>()
    };
    // More at once than there are quick places: each gives its place up after its patience.
    let waiting = dead(0, 8);
    lookups.resolve("healthy.example").await.unwrap();
    until(|| (0..8).all(|number| lookups.is_slow(&format!("dead-0-{number}.example")))).await;
    gate.open();
    for task in waiting {
        task.await.unwrap().unwrap();
    }

    // Now all of them are known to be slow, and even more than there are threads leave the quick places free.
    *gate.open.lock().unwrap() = false;
    let waiting = dead(0, 8);
    for number in 0..50 {
        lookups.resolve(&format!("healthy-{number}.example")).await.unwrap();
    }
    assert!(gate.waiting.load(Ordering::SeqCst) <= limits.slow);
    gate.open();
    for task in waiting {
        task.await.unwrap().unwrap();
    }

    // With new ones that never end, the threads stay bounded.
    *gate.open.lock().unwrap() = false;
    let waiting = dead(1, 40);
    let most = limits.quick + limits.moved;
    until(|| gate.waiting.load(Ordering::SeqCst) >= most).await;
    gate.open();
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert!(gate.most_waiting.load(Ordering::SeqCst) <= most + limits.slow);
}

#[tokio::test]
async fn dials_of_one_name_share_a_lookup_and_keep_nothing_of_it() {
    let gate = Arc::new(Gate::default());
    let lookups = Lookups::new(gate.lookup(), Limits::default());
    let both = futures::future::join(lookups.resolve("dead.example"), lookups.resolve("dead.example"));
    let mut both = std::pin::pin!(both);
    until(|| {
        assert!(futures::FutureExt::now_or_never(both.as_mut()).is_none());
        gate.waiting.load(Ordering::SeqCst) > 0
    })
    .await;
    gate.open();
    let (first, second) = both.await;
    assert_eq!((first, second), (Ok(addrs(&["1.1.1.1"]).into()), Ok(addrs(&["1.1.1.1"]).into())));
    assert_eq!(gate.calls("dead.example"), 1);
    lookups.resolve("dead.example").await.unwrap();
    assert_eq!(gate.calls("dead.example"), 2);
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_is_not_begun_and_one_that_runs_can_be_joined() {
    let gate = Arc::new(Gate::default());
    let limits = Limits { quick: 1, slow: 1, moved: 0, patience: Duration::from_secs(60) };
    let lookups = Lookups::new(gate.lookup(), limits);
    let poll = |name: &'static str| futures::FutureExt::now_or_never(lookups.resolve(name));
    assert!(poll("dead.example").is_none());
    until(|| gate.waiting.load(Ordering::SeqCst) > 0).await;
    // The only place is taken, so this one waits, and is dropped.
    assert!(poll("impatient.example").is_none());
    let joined = lookups.resolve("dead.example");
    gate.open();
    assert_eq!(joined.await, Ok(addrs(&["1.1.1.1"]).into()));
    lookups.resolve("next.example").await.unwrap();
    assert_eq!((gate.calls("dead.example"), gate.calls("impatient.example")), (1, 0));
    assert_eq!(lookups.running(), 0);
}
