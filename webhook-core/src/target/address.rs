//! Classes of addresses, by the IANA special-purpose registries ([IPv4], [IPv6]).
//!
//! [IPv4]: https://www.iana.org/assignments/iana-ipv4-special-registry
//! [IPv6]: https://www.iana.org/assignments/iana-ipv6-special-registry

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// What kind of place an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AddressClass {
    /// Global unicast: the public internet.
    Global,
    /// "This network": `0.0.0.0/8` and `::`, which reach the own host on many systems.
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// Private networks: RFC 1918, unique local and site-local IPv6, and a site's own NAT64 (RFC 8215).
    Private,
    /// Shared between a provider and its customers, `100.64.0.0/10` (RFC 6598).
    Shared,
    /// `169.254.0.0/16`, where clouds serve instance metadata, and `fe80::/10`.
    LinkLocal,
    /// A service inside a cloud on an address that looks public: `168.63.129.16` of Azure.
    CloudPlatform,
    /// Groups of hosts.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// Set aside for examples.
    Documentation,
    /// Set aside for laboratory networks.
    Benchmarking,
    /// Set aside for protocols or for the future.
    Reserved,
}

impl AddressClass {
    /// The class of `addr`; for an IPv6 address that embeds IPv4, the first class that is not global among
    /// all the addresses it leads to (see [`TargetRules`](super::TargetRules) for the forms).
    ///
    /// ```
    /// use webhook_core::target::AddressClass;
    ///
    /// assert_eq!(AddressClass::of("1.1.1.1".parse()?), AddressClass::Global);
    /// assert_eq!(AddressClass::of("169.254.169.254".parse()?), AddressClass::LinkLocal);
    /// assert_eq!(AddressClass::of("64:ff9b::10.0.0.1".parse()?), AddressClass::Private);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        endpoints(addr).map(Self::of_endpoint).find(|class| *class != Self::Global).unwrap_or(Self::Global)
    }

    /// The class of an address by itself, with nothing unwrapped.
    pub(super) fn of_endpoint(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }

    /// The name in `snake_case`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::LinkLocal => "link_local",
            Self::CloudPlatform => "cloud_platform",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The places that a packet to `addr` may end up at: itself, or what it embeds. All of them count.
///
/// - IPv4-mapped `::ffff:0:0/96` and IPv4-compatible `::/96` (RFC 4291): the last 32 bits
/// - NAT64 `64:ff9b::/96` (RFC 6052): the last 32 bits. A site's own `64:ff9b:1::/48` (RFC 8215) is private
///   by itself, as where it keeps the IPv4 address is the site's choice
/// - 6to4 `2002::/16` (RFC 3056): bits 16 to 48
/// - Teredo `2001::/32` (RFC 4380): the server, and the client with its bits inverted
/// - ISATAP (RFC 5214), an interface identifier behind any prefix: the last 32 bits, and the address itself
pub(super) fn endpoints(addr: IpAddr) -> impl Iterator<Item = IpAddr> {
    let IpAddr::V6(v6) = addr else {
        return [Some(addr), None, None].into_iter().flatten();
    };
    let v4 =
        |high: u16, low: u16| Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))));
    let isatap = match v6.segments() {
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, high, low] => v4(high, low),
        _ => None,
    };
    let found = match v6.segments() {
        // `::` and `::1` are not IPv4-compatible.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [Some(addr), None, None],
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            [v4(high, low), None, None]
        }
        [0x2002, high, low, ..] => [v4(high, low), isatap, None],
        [0x2001, 0, high, low, _, _, inverted_high, inverted_low] => {
            [v4(high, low), v4(!inverted_high, !inverted_low), isatap]
        }
        _ => [Some(addr), isatap, None],
    };
    found.into_iter().flatten()
}

type Block4 = ([u8; 4], u32, AddressClass);
type Block6 = ([u16; 8], u32, AddressClass);

/// The first match counts; no match is global.
const BLOCKS_4: &[Block4] = &[
    ([0, 0, 0, 0], 8, AddressClass::Unspecified),
    ([10, 0, 0, 0], 8, AddressClass::Private),
    ([100, 64, 0, 0], 10, AddressClass::Shared),
    ([127, 0, 0, 0], 8, AddressClass::Loopback),
    ([168, 63, 129, 16], 32, AddressClass::CloudPlatform),
    ([169, 254, 0, 0], 16, AddressClass::LinkLocal),
    ([172, 16, 0, 0], 12, AddressClass::Private),
    // With .9 and .10 in it, anycast that the nearest gateway answers (RFC 7723, RFC 8155).
    ([192, 0, 0, 0], 24, AddressClass::Reserved),
    ([192, 0, 2, 0], 24, AddressClass::Documentation),
    // The former 6to4 relays (RFC 7526).
    ([192, 88, 99, 0], 24, AddressClass::Reserved),
    ([192, 168, 0, 0], 16, AddressClass::Private),
    ([198, 18, 0, 0], 15, AddressClass::Benchmarking),
    ([198, 51, 100, 0], 24, AddressClass::Documentation),
    ([203, 0, 113, 0], 24, AddressClass::Documentation),
    ([224, 0, 0, 0], 4, AddressClass::Multicast),
    ([255, 255, 255, 255], 32, AddressClass::Broadcast),
    ([240, 0, 0, 0], 4, AddressClass::Reserved),
];

/// The first match counts; no match is reserved, as only `2000::/3` is assigned for global unicast.
const BLOCKS_6: &[Block6] = &[
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, AddressClass::Unspecified),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, AddressClass::Loopback),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, AddressClass::Private),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, AddressClass::Private),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, AddressClass::LinkLocal),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, AddressClass::Private),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, AddressClass::Multicast),
    // The parts of 2001::/23 that are registered as globally reachable: AMT, AS112, ORCHIDv2, DETs. Not
    // 2001:1::1 to 3: anycast that the nearest gateway answers (RFC 7723, RFC 8155, RFC 9665).
    ([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, AddressClass::Global),
    ([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, AddressClass::Global),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, AddressClass::Global),
    ([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, AddressClass::Global),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, AddressClass::Benchmarking),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, AddressClass::Reserved),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, AddressClass::Documentation),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, AddressClass::Documentation),
    ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, AddressClass::Global),
];

fn of_v4(addr: Ipv4Addr) -> AddressClass {
    let inside =
        |block: &&Block4| (addr.to_bits() ^ Ipv4Addr::from(block.0).to_bits()).leading_zeros() >= block.1;
    BLOCKS_4.iter().find(inside).map_or(AddressClass::Global, |block| block.2)
}

fn of_v6(addr: Ipv6Addr) -> AddressClass {
    let inside =
        |block: &&Block6| (addr.to_bits() ^ Ipv6Addr::from(block.0).to_bits()).leading_zeros() >= block.1;
    BLOCKS_6.iter().find(inside).map_or(AddressClass::Reserved, |block| block.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetRules;

    #[test]
    fn addresses_have_the_class_of_their_block_at_both_ends_and_beyond() {
        use AddressClass::*;
        for (text, class) in [
            ("0.0.0.0", Unspecified),
            ("0.255.255.255", Unspecified),
            ("1.0.0.0", Global),
            ("8.8.8.8", Global),
            ("9.255.255.255", Global),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Global),
            ("100.63.255.255", Global),
            ("100.64.0.0", Shared),
            ("100.100.100.200", Shared),
            ("100.127.255.255", Shared),
            ("100.128.0.0", Global),
            ("126.255.255.255", Global),
            ("127.0.0.0", Loopback),
            ("127.255.255.255", Loopback),
            ("128.0.0.0", Global),
            ("168.63.129.15", Global),
            ("168.63.129.16", CloudPlatform),
            ("168.63.129.17", Global),
            ("169.253.255.255", Global),
            ("169.254.0.0", LinkLocal),
            ("169.254.169.254", LinkLocal),
            ("169.254.255.255", LinkLocal),
            ("169.255.0.0", Global),
            ("172.15.255.255", Global),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Global),
            ("191.255.255.255", Global),
            ("192.0.0.0", Reserved),
            ("192.0.0.9", Reserved),
            ("192.0.0.255", Reserved),
            ("192.0.1.0", Global),
            ("192.0.2.0", Documentation),
            ("192.0.2.255", Documentation),
            ("192.0.3.0", Global),
            ("192.88.98.255", Global),
            ("192.88.99.0", Reserved),
            ("192.88.99.255", Reserved),
            ("192.88.100.0", Global),
            ("192.167.255.255", Global),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("192.169.0.0", Global),
            ("198.17.255.255", Global),
            ("198.18.0.0", Benchmarking),
            ("198.19.255.255", Benchmarking),
            ("198.20.0.0", Global),
            ("198.51.99.255", Global),
            ("198.51.100.0", Documentation),
            ("198.51.100.255", Documentation),
            ("198.51.101.0", Global),
            ("203.0.112.255", Global),
            ("203.0.113.0", Documentation),
            ("203.0.113.255", Documentation),
            ("203.0.114.0", Global),
            ("223.255.255.255", Global),
            ("224.0.0.0", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.0", Reserved),
            ("255.255.255.254", Reserved),
            ("255.255.255.255", Broadcast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::2", Unspecified),
            ("::127.0.0.1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:169.254.169.254", LinkLocal),
            ("::ffff:8.8.8.8", Global),
            ("::ffff:0:8.8.8.8", Reserved),
            ("::fffe:8.8.8.8", Reserved),
            ("64:ff9b::8.8.8.8", Global),
            ("64:ff9b::10.0.0.1", Private),
            ("64:ff9b::168.63.129.16", CloudPlatform),
            ("64:ff9b::1:808:808", Reserved),
            ("64:ff9b:1::8.8.8.8", Private),
            ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Private),
            ("64:ff9b:2::8.8.8.8", Reserved),
            ("100::1", Reserved),
            ("100:0:0:1::1", Reserved),
            ("1fff:ffff::1", Reserved),
            ("2000::1", Global),
            ("2001:0:808:808::f7f7:f7f7", Global),
            ("2001:0:808:808::80ff:fffe", Loopback),
            ("2001:0:7f00:1::f7f7:f7f7", Loopback),
            ("2001:1::1", Reserved),
            ("2001:1::2", Reserved),
            ("2001:1::3", Reserved),
            ("2001:2::1", Benchmarking),
            ("2001:2:1::1", Reserved),
            ("2001:3::1", Global),
            ("2001:4:112::1", Global),
            ("2001:4:113::1", Reserved),
            ("2001:10::1", Reserved),
            ("2001:1f:ffff::1", Reserved),
            ("2001:20::1", Global),
            ("2001:2f::1", Global),
            ("2001:3f::1", Global),
            ("2001:40::1", Reserved),
            ("2001:1ff:ffff::1", Reserved),
            ("2001:200::1", Global),
            ("2001:db7:ffff::1", Global),
            ("2001:db8::1", Documentation),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Documentation),
            ("2001:db9::1", Global),
            ("2001:4860:4860::8888", Global),
            ("2002:808:808::1", Global),
            ("2002:7f00:1::1", Loopback),
            ("2002:a9fe:a9fe::", LinkLocal),
            ("2002:808:808::5efe:10.0.0.1", Private),
            ("2606:4700:4700::1111", Global),
            ("2620:4f:8000::1", Global),
            ("2606:4700::5efe:192.168.0.1", Private),
            ("2606:4700::200:5efe:192.168.0.1", Private),
            ("2606:4700::5efe:8.8.8.8", Global),
            ("3ffe:ffff::1", Global),
            ("3fff::1", Documentation),
            ("3fff:fff:ffff::1", Documentation),
            ("3fff:1000::1", Global),
            ("4000::1", Reserved),
            ("5f00::1", Reserved),
            ("fbff::1", Reserved),
            ("fc00::1", Private),
            ("fd00:ec2::254", Private),
            ("fdff:ffff::1", Private),
            ("fe00::1", Reserved),
            ("fe80::1", LinkLocal),
            ("febf:ffff::1", LinkLocal),
            ("fe80::5efe:8.8.8.8", LinkLocal),
            ("fec0::1", Private),
            ("feff:ffff::1", Private),
            ("ff02::1", Multicast),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Multicast),
        ] {
            assert_eq!(AddressClass::of(text.parse().unwrap()), class, "{text}");
            let passes = TargetRules::default().check_addr(text.parse().unwrap()).is_ok();
            assert_eq!(passes, class == Global, "{text}");
        }
    }
}
