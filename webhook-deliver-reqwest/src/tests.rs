//! Names and their addresses: the lookup is the test's own, the sockets are real.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use webhook_core::deliver::{Deliverer, Exchange, Request};
use webhook_core::model::ErrorKind;
use webhook_core::target::TargetRules;

use crate::ReqwestDeliverer;
use crate::lookup::{Limits, Lookup, Lookups};

/// Only this address of the loopback range is allowed.
const ALLOWED: &str = "127.0.0.1";

/// A receiver that answers 204, and how many connections it got.
async fn receiver() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ALLOWED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
            }
        }
    });
    (port, connections)
}

fn deliverer(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> ReqwestDeliverer {
    let rules =
        TargetRules { allow: vec![format!("{ALLOWED}/32").parse().unwrap()], ..TargetRules::default() };
    ReqwestDeliverer::builder().target_rules(rules).lookup(Arc::new(lookup)).build().unwrap()
}

async fn deliver(deliverer: &ReqwestDeliverer, url: &str) -> Exchange {
    let (url, headers) = (url.parse().unwrap(), Vec::new());
    deliverer.deliver(Request { url, headers, body: "{}".into(), deadline: Duration::from_secs(10) }).await
}

fn addrs(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|addr| addr.parse().unwrap()).collect()
}

#[tokio::test]
async fn one_refused_address_among_good_ones_keeps_all_from_being_dialled() {
    let (port, connections) = receiver().await;
    for answer in [
        &[ALLOWED, "10.0.0.1"][..],
        &["10.0.0.1", ALLOWED],
        &[ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED, "127.0.0.2"],
        &[ALLOWED, "::1"],
        &[ALLOWED, "::ffff:10.0.0.1"],
        &[ALLOWED, "64:ff9b::a9fe:a9fe"],
        &["127.0.0.2"],
        &["169.254.169.254"],
        &["0.0.0.0"],
    ] {
        let addrs = addrs(answer);
        let deliverer = deliverer(move |_| Ok(addrs.clone()));
        let error = deliver(&deliverer, &format!("http://hooks.example:{port}/")).await.result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Blocked, "{answer:?}");
        for addr in answer {
            assert!(!error.detail.contains(addr), "{error:?}");
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_with_allowed_addresses_is_dialled_at_one_that_answers() {
    let (port, connections) = receiver().await;
    let deliverer = deliverer(|_| Ok(addrs(&[ALLOWED, ALLOWED])));
    let exchange = deliver(&deliverer, &format!("http://hooks.example:{port}/")).await;
    assert_eq!(exchange.result.unwrap().status, 204);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn every_dial_is_vetted_anew() {
    let (port, connections) = receiver().await;
    let calls = AtomicUsize::new(0);
    let deliverer = deliverer(move |_| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(addrs(if first { &[ALLOWED] } else { &["127.0.0.2"] }))
    });
    let url = format!("http://rebinding.example:{port}/");
    assert_eq!(deliver(&deliverer, &url).await.result.unwrap().status, 204);
    assert_eq!(deliver(&deliverer, &url).await.result.unwrap_err().kind, ErrorKind::Blocked);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_literal_is_checked_although_it_is_not_looked_up() {
    let (port, connections) = receiver().await;
    let deliverer = deliverer(|name| panic!("{name} was looked up"));
    let error = deliver(&deliverer, &format!("http://127.0.0.2:{port}/")).await.result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Blocked);
    assert_eq!(deliver(&deliverer, &format!("http://{ALLOWED}:{port}/")).await.result.unwrap().status, 204);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_without_addresses_and_a_failed_lookup_are_dns_and_a_panic_is_internal() {
    let outcome = |name: &str| match name {
        "empty.example" => Ok(Vec::new()),
        "panics.example" => panic!("the lookup panics"),
        _ => Err(io::Error::other("failed to lookup address information: Name or service not known")),
    };
    let deliverer = deliverer(outcome);
    for (host, kind, detail) in [
        ("empty.example", ErrorKind::Dns, "the host name has no address"),
        ("unknown.example", ErrorKind::Dns, "the host name could not be resolved: Name or service not known"),
        ("panics.example", ErrorKind::Internal, "the lookup of the host name could not be run"),
    ] {
        for scheme in ["http", "https"] {
            let error = deliver(&deliverer, &format!("{scheme}://{host}/")).await.result.unwrap_err();
            assert_eq!((error.kind, &*error.detail), (kind, detail));
        }
    }
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
