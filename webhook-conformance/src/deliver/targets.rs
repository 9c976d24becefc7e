//! Where a request may go: the rules of [`webhook_core::target`], held at every dial.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use webhook_core::deliver::Deliverer;
use webhook_core::model::ErrorKind;
use webhook_core::target::TargetRules;

use super::{DelivererFixture, Lookup, OK, Receiver, answer, deliver, failure, local_rules, request};
use crate::Missing;

/// Only this address of the loopback range is allowed where names are resolved.
const ALLOWED: &str = "127.0.0.1";

fn addrs(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|addr| addr.parse().unwrap()).collect()
}

/// None, with the reason printed, when the deliverer cannot be given a lookup.
fn resolving<F: DelivererFixture>(lookup: Lookup) -> Option<Arc<dyn Deliverer>> {
    let rules =
        TargetRules { allow: vec![format!("{ALLOWED}/32").parse().unwrap()], ..TargetRules::default() };
    F::resolving(rules, lookup).map_err(|Missing(reason)| eprintln!("skipped: {reason}")).ok()
}

/// The default rules let nothing inside through, in whatever spelling.
pub async fn loopback_in_every_spelling_is_blocked<F: DelivererFixture>() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.addr.port();
    let deliverer = F::deliverer(TargetRules::default());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "①②⑦.0.0.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/hooks?token=s3cret");
        assert_eq!(failure(&*deliverer, request(&url)).await.kind, ErrorKind::Blocked, "{host}");
    }
    assert_eq!(receiver.connections(), 0, "it was dialled");
}

/// Scheme, user information and ports.
pub async fn what_else_the_rules_refuse_is_blocked<F: DelivererFixture>() {
    let receiver = Receiver::answering(OK).await;
    let https_only = F::deliverer(TargetRules { https_only: true, ..local_rules() });
    assert_eq!(failure(&*https_only, request(&receiver.url())).await.kind, ErrorKind::Blocked);
    let deliverer = F::deliverer(local_rules());
    for url in [
        receiver.url().replace("http://", "http://user:s3cret@"),
        format!("{}#fragment", receiver.url()),
        "http://127.0.0.1:6379/".to_owned(),
        "ftp://127.0.0.1/".to_owned(),
    ] {
        assert_eq!(failure(&*deliverer, request(&url)).await.kind, ErrorKind::Blocked, "{url}");
    }
    assert_eq!(receiver.connections(), 0, "it was dialled");
}

/// By the system's own lookup.
pub async fn a_name_that_leads_to_an_allowed_address_is_dialled<F: DelivererFixture>() {
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://localhost:{}/", receiver.addr.port());
    assert_eq!(answer(&*F::deliverer(local_rules()), &url).await.status, 200);
}

/// A name must not mix an internal address among good ones and wait for a fallback to it.
pub async fn one_refused_address_keeps_all_from_being_dialled<F: DelivererFixture>() {
    let receiver = Receiver::answering(OK).await;
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
        let Some(deliverer) = resolving::<F>(Arc::new(move |_| Ok(addrs.clone()))) else { return };
        let url = format!("http://hooks.example:{}/hooks", receiver.addr.port());
        let error = failure(&*deliverer, request(&url)).await;
        assert_eq!(error.kind, ErrorKind::Blocked, "{answer:?}");
        for addr in answer {
            assert!(!error.detail.contains(addr), "{error:?} names a resolved address");
        }
    }
    assert_eq!(receiver.connections(), 0, "it was dialled");
}

/// What was vetted is what is dialled: the second answer of a name that changes is refused.
pub async fn every_dial_is_vetted_anew<F: DelivererFixture>() {
    let closing = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    let receiver = Receiver::closing_after(closing).await;
    let calls = AtomicUsize::new(0);
    let lookup = move |_: &str| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(addrs(if first { &[ALLOWED] } else { &["127.0.0.2"] }))
    };
    let Some(deliverer) = resolving::<F>(Arc::new(lookup)) else { return };
    let url = format!("http://rebinding.example:{}/hooks", receiver.addr.port());
    assert_eq!(answer(&*deliverer, &url).await.status, 204);
    assert_eq!(failure(&*deliverer, request(&url)).await.kind, ErrorKind::Blocked);
    assert_eq!(receiver.connections(), 1);
}

/// Clients do not look up literals, so the check of addresses alone would miss them.
pub async fn a_literal_is_checked_although_it_is_not_looked_up<F: DelivererFixture>() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.addr.port();
    let Some(deliverer) = resolving::<F>(Arc::new(|name| panic!("{name} was looked up"))) else { return };
    let other = deliver(&*deliverer, &format!("http://127.0.0.2:{port}/")).await.result;
    assert_eq!(other.expect_err("it is not allowed").kind, ErrorKind::Blocked);
    assert_eq!(answer(&*deliverer, &format!("http://{ALLOWED}:{port}/")).await.status, 200);
    assert_eq!(receiver.connections(), 1);
}

/// A name without addresses, and a lookup that fails.
pub async fn a_name_without_addresses_is_dns<F: DelivererFixture>() {
    let lookup = |name: &str| match name {
        "empty.example" => Ok(Vec::new()),
        _ => Err(std::io::Error::other("no such name")),
    };
    let Some(deliverer) = resolving::<F>(Arc::new(lookup)) else { return };
    for url in ["http://empty.example/", "https://empty.example/", "http://unknown.example/"] {
        assert_eq!(failure(&*deliverer, request(url)).await.kind, ErrorKind::Dns, "{url}");
    }
}

/// One address that does not answer leaves time for the next.
pub async fn the_next_address_is_tried_when_one_refuses<F: DelivererFixture>() {
    let receiver = Receiver::answering(OK).await;
    // Nobody listens on the other one, which the rules of this case allow too.
    let rules = TargetRules { allow: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRules::default() };
    let lookup: Lookup = Arc::new(|_| Ok(addrs(&["127.0.0.9", ALLOWED])));
    let Ok(deliverer) = F::resolving(rules, lookup) else { return };
    let url = format!("http://hooks.example:{}/", receiver.addr.port());
    assert_eq!(answer(&*deliverer, &url).await.status, 200);
}
