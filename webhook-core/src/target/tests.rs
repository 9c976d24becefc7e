//! Tables of URLs and ranges, and properties over all addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn allowing(ranges: &[&str]) -> TargetRules {
    let allow = ranges.iter().map(|range| range.parse().unwrap()).collect::<Vec<IpNet>>();
    TargetRules { allow, ..TargetRules::default() }
}

fn check(url: &str) -> Result<String, TargetError> {
    TargetRules::default().check_url(url).map(String::from)
}

#[test]
fn an_allowed_range_lets_through_itself_and_what_embeds_it_and_nothing_else() {
    let rules = allowing(&["10.1.0.0/16", "fd00:1::/32"]);
    for (text, passes) in [
        ("10.1.2.3", true),
        ("10.2.0.1", false),
        ("::ffff:10.1.2.3", true),
        ("64:ff9b::10.1.2.3", true),
        ("64:ff9b:1::10.1.2.3", false),
        ("2002:a01:203::1", true),
        ("2001:0:a01:203::f5fe:fdfc", true),
        ("2001:0:a01:203::80ff:fffe", false),
        ("2606:4700::5efe:10.1.2.3", true),
        ("fe80::5efe:10.1.2.3", false),
        ("fd00:1::5efe:10.1.2.3", true),
        ("fd00:1::1", true),
        ("fd00:2::1", false),
        ("127.0.0.1", false),
        ("8.8.8.8", true),
    ] {
        assert_eq!(rules.check_addr(addr(text)).is_ok(), passes, "{text}");
    }
    assert!(allowing(&["168.63.129.16/32"]).check_addr(addr("168.63.129.16")).is_ok());
    assert!(allowing(&["64:ff9b:1::/48"]).check_addr(addr("64:ff9b:1::8.8.8.8")).is_ok());
}

#[test]
fn one_refused_address_refuses_all_of_a_name() {
    let rules = TargetRules::default();
    let [public, other, inside] = [addr("1.1.1.1"), addr("2606:4700:4700::1111"), addr("10.0.0.1")];
    assert_eq!(rules.check_addrs(&[public, other]), Ok(()));
    let refused = Err(TargetError::Address { addr: inside, class: AddressClass::Private });
    assert_eq!(rules.check_addrs(&[inside, public]), refused);
    assert_eq!(rules.check_addrs(&[public, other, inside]), refused);
    assert_eq!(rules.check_addrs(&[]), Err(TargetError::NoAddress));
}

#[test]
fn messages_name_no_address() {
    let rules = TargetRules::default();
    for text in ["10.11.12.13", "fd00:abcd::7", "64:ff9b::10.11.12.13"] {
        let message = rules.check_addr(addr(text)).unwrap_err().to_string();
        assert!(
            message.contains("private") && !message.contains("12") && !message.contains("abcd"),
            "{message}"
        );
    }
}

#[test]
fn good_urls_come_back_normalised() {
    for (url, normalised) in [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM:443/Hooks?a=%20b", "https://example.com/Hooks?a=%20b"),
        ("http://example.com:8080/", "http://example.com:8080/"),
        ("http://example.com.:81/", "http://example.com.:81/"),
        ("https://my_hooks.example.com/", "https://my_hooks.example.com/"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("http://1.1.1.1/", "http://1.1.1.1/"),
        ("http://0x01010101/", "http://1.1.1.1/"),
        ("https://[2606:4700:4700::1111]:8443/x", "https://[2606:4700:4700::1111]:8443/x"),
        ("https://[::ffff:8.8.8.8]/", "https://[::ffff:808:808]/"),
        ("https://notlocalhost.com/", "https://notlocalhost.com/"),
        ("https://local.example.com/", "https://local.example.com/"),
        ("https://internal.example/", "https://internal.example/"),
        ("https://127.0.0.1.nip.example/", "https://127.0.0.1.nip.example/"),
    ] {
        assert_eq!(check(url).as_deref(), Ok(normalised), "{url}");
        assert_eq!(check(normalised).as_deref(), Ok(normalised), "read back and sent again");
    }
}

#[test]
fn urls_of_the_wrong_form_are_refused_with_the_rule() {
    let long_label = format!("https://{}.example/", "a".repeat(64));
    let long_name = format!("https://{}example/", "a2345678.".repeat(28));
    let long_url = format!("https://example.com/{}", "a".repeat(MAX_URL_LEN));
    let grows = format!("https://example.com/{}", "é".repeat(MAX_URL_LEN / 3));
    for (url, error) in [
        ("", TargetError::Scheme),
        ("example.com/hooks", TargetError::Scheme),
        ("/hooks", TargetError::Scheme),
        ("ftp://example.com/", TargetError::Scheme),
        ("file:///etc/passwd", TargetError::Scheme),
        ("gopher://example.com/", TargetError::Scheme),
        ("javascript:alert(1)", TargetError::Scheme),
        ("ws://example.com/", TargetError::Scheme),
        ("https://", TargetError::Invalid(url::ParseError::EmptyHost)),
        ("https://:443/", TargetError::Invalid(url::ParseError::EmptyHost)),
        ("https://exa%00mple.com/", TargetError::Invalid(url::ParseError::IdnaError)),
        ("https://1.2.3.256/", TargetError::Invalid(url::ParseError::InvalidIpv4Address)),
        ("https://example.1/", TargetError::Invalid(url::ParseError::InvalidIpv4Address)),
        ("https://[::1/", TargetError::Invalid(url::ParseError::InvalidIpv6Address)),
        ("https://[fe80::1%25eth0]/", TargetError::Invalid(url::ParseError::InvalidIpv6Address)),
        ("https://example.com:65536/", TargetError::Invalid(url::ParseError::InvalidPort)),
        ("https://user@example.com/", TargetError::UserInfo),
        ("https://user:pass@example.com/", TargetError::UserInfo),
        ("https://:pass@example.com/", TargetError::UserInfo),
        ("https://example.com/#top", TargetError::Fragment),
        ("https://example.com/?token=a#b", TargetError::Fragment),
        ("https://example.com/#", TargetError::Fragment),
        (" https://example.com/", TargetError::WhiteSpace),
        ("https://example.com/\n", TargetError::WhiteSpace),
        ("https://exam\tple.com/", TargetError::WhiteSpace),
        ("https://example.com/a b", TargetError::WhiteSpace),
        ("https://example.com/\u{7f}", TargetError::WhiteSpace),
        ("https://example..com/", TargetError::Name),
        ("https://.example.com/", TargetError::Name),
        ("https://example.com../", TargetError::Name),
        ("https://./", TargetError::Name),
        (&long_label, TargetError::Name),
        (&long_name, TargetError::Name),
        (&long_url, TargetError::TooLong),
        (&grows, TargetError::TooLong),
    ] {
        assert!(error.is_malformed());
        assert_eq!(check(url), Err(error), "{url}");
    }
}

#[test]
fn literals_are_refused_in_every_spelling() {
    for url in [
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://%31%32%37.0.0.1/",
        "http://127。0。0。1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://0/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://10.0.0.1/",
        "http://168.63.129.16/",
        "http://255.255.255.255/",
        "http://[::]/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[64:ff9b:1::a9fe:a9fe]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:808:808::80ff:fffe]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://[ff02::1]/",
    ] {
        let error = check(url).unwrap_err();
        assert!(matches!(error, TargetError::Address { .. }), "{url}: {error}");
        assert!(!error.is_malformed());
        assert!(allowing(&["0.0.0.0/0", "::/0"]).check_url(url).is_ok(), "{url} in an allowed range");
        assert!(allowing(&["203.0.113.0/24"]).check_url(url).is_err(), "{url} outside an allowed range");
    }
}

#[test]
fn internal_names_are_refused_unless_a_range_is_allowed() {
    for host in [
        "localhost",
        "LocalHost",
        "localhost.",
        "%6cocalhost",
        "ⓛocalhost",
        "api.localhost",
        "api.localhost.",
        "printer.local",
        "metadata.google.internal",
        "metadata.google.internal.",
        "router.home.arpa",
        "home.arpa",
        "local",
        "internal",
        "intranet",
        "redis.",
    ] {
        let url = format!("http://{host}:8080/");
        assert_eq!(check(&url), Err(TargetError::InternalName), "{host}");
        assert!(allowing(&["10.0.0.0/8"]).check_url(&url).is_ok(), "{host}");
    }
}

#[test]
fn ports_of_other_protocols_are_refused_whatever_the_scheme() {
    for port in [0, 1, 22, 25, 53, 110, 143, 465, 587, 993, 2049, 4190, 5060, 6000, 6667, 10080] {
        assert_eq!(check(&format!("https://example.com:{port}/")), Err(TargetError::Port { port }));
    }
    for port in [3306, 5432, 6379, 11211, 27017] {
        assert_eq!(check(&format!("http://example.com:{port}/")), Err(TargetError::Port { port }));
        let allowed = allowing(&["10.0.0.0/8"]).check_url(&format!("http://10.0.0.1:{port}/"));
        assert_eq!(allowed, Err(TargetError::Port { port }), "allowing a range opens no port");
    }
    for port in [80, 81, 443, 3000, 5000, 8000, 8080, 8443, 9000, 65535] {
        assert!(check(&format!("https://example.com:{port}/")).is_ok(), "{port}");
    }
}

#[test]
fn https_only_refuses_http() {
    let rules = TargetRules { https_only: true, ..TargetRules::default() };
    assert!(rules.check_url("https://example.com/").is_ok());
    assert_eq!(rules.check_url("http://example.com/"), Err(TargetError::HttpsOnly));
}

/// Every IPv6 address that leads to `v4`, next to places that are global themselves.
fn embeddings(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = v4.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    vec![
        v4.to_ipv6_mapped(),
        v4.to_ipv6_compatible(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, high, low >> 8, low << 8, 0, 0),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x808, !0x808),
        Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0x8000, 0x1234, !high, !low),
        Ipv6Addr::new(0x2606, 0x4700, 1, 2, 0, 0x5efe, high, low),
        Ipv6Addr::new(0x2606, 0x4700, 1, 2, 0x200, 0x5efe, high, low),
    ]
}

fn v4_in(range: &'static str) -> impl Strategy<Value = Ipv4Addr> {
    let range: ipnet::Ipv4Net = range.parse().unwrap();
    let (first, last) = (range.network().to_bits(), range.broadcast().to_bits());
    (first..=last).prop_map(Ipv4Addr::from_bits)
}

fn inside() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        v4_in("0.0.0.0/8"),
        v4_in("10.0.0.0/8"),
        v4_in("100.64.0.0/10"),
        v4_in("127.0.0.0/8"),
        v4_in("168.63.129.16/32"),
        v4_in("169.254.0.0/16"),
        v4_in("172.16.0.0/12"),
        v4_in("192.0.0.0/24"),
        v4_in("192.0.2.0/24"),
        v4_in("192.88.99.0/24"),
        v4_in("192.168.0.0/16"),
        v4_in("198.18.0.0/15"),
        v4_in("198.51.100.0/24"),
        v4_in("203.0.113.0/24"),
        v4_in("224.0.0.0/4"),
        v4_in("240.0.0.0/4"),
    ]
}

proptest! {
    #[test]
    fn no_inside_address_passes_in_any_embedding(v4 in inside()) {
        let rules = TargetRules::default();
        prop_assert!(rules.check_addr(v4.into()).is_err());
        for v6 in embeddings(v4) {
            prop_assert!(rules.check_addr(v6.into()).is_err(), "{v6}");
            prop_assert!(rules.check_url(&format!("http://[{v6}]/")).is_err(), "{v6}");
        }
    }

    #[test]
    fn what_passes_in_ipv6_lies_in_2000_3_or_embeds_what_passes(bits: u128, v4: u32) {
        let rules = TargetRules::default();
        let v6 = Ipv6Addr::from_bits(bits);
        if rules.check_addr(v6.into()).is_ok() {
            prop_assert_eq!(v6.segments()[0] >> 13, 1);
        }
        let v4 = Ipv4Addr::from_bits(v4);
        for v6 in embeddings(v4) {
            // A site's own NAT64 stays out whatever it embeds.
            let local = v6.segments().starts_with(&[0x64, 0xff9b, 1]);
            let expected = !local && rules.check_addr(v4.into()).is_ok();
            prop_assert_eq!(rules.check_addr(v6.into()).is_ok(), expected, "{}", v6);
        }
    }

    #[test]
    fn no_text_panics_and_what_passes_passes_again(
        text in "(https?://)?[a-z0-9.:@/#\\[\\]%xA-F ]{0,40}|\\PC{0,40}",
    ) {
        if let Ok(url) = TargetRules::default().check_url(&text) {
            prop_assert_eq!(TargetRules::default().check_url(url.as_str()), Ok(url));
        }
    }
}
