//! Which URLs and addresses are let through.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use super::address::{AddressClass, endpoints};

/// The longest target URL in bytes, as typed and as normalised.
pub const MAX_URL_LEN: usize = 2048;

/// Ports that no target may have, ascending: 0, the "bad ports" of the [Fetch standard], which speak
/// protocols that an HTTP request can be mistaken for, and the usual ports of databases.
///
/// [Fetch standard]: https://fetch.spec.whatwg.org/#port-blocking
const BLOCKED_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
    6697, 10080, 11211, 27017,
];

/// Names under which only a host inside can be meant (RFC 6761, 6762, 8375; ICANN reserved `internal` in
/// 2024).
const INTERNAL_SUFFIXES: &[&str] = &["localhost", "local", "internal", "home.arpa"];

/// An operator's rules for targets. The default refuses everything but the public internet.
///
/// An address passes when it lies in an allowed range, or when every place that it leads to is global unicast
/// or lies in an allowed range. An IPv6 address leads to what it embeds: IPv4-mapped, IPv4-compatible, NAT64,
/// 6to4, Teredo (server and client) and ISATAP forms are unwrapped.
///
/// ```
/// use webhook_core::target::TargetRules;
///
/// let rules = TargetRules::default();
/// assert!(rules.check_url("https://example.com/hooks?token=1").is_ok());
/// assert!(rules.check_url("http://0x7f.1/").is_err());
///
/// let rules = TargetRules { allow: vec!["10.1.0.0/16".parse()?], ..TargetRules::default() };
/// assert!(rules.check_url("http://10.1.2.3:9000/").is_ok());
/// assert!(rules.check_url("http://receiver.internal/").is_ok()); // its addresses are vetted at every dial
/// assert!(rules.check_url("http://10.2.0.1/").is_err());
/// # Ok::<(), ipnet::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetRules {
    /// Ranges let through whatever their class. With any range, internal names are taken too, as they may
    /// lead there.
    pub allow: Vec<IpNet>,
    /// Refuse `http://`.
    pub https_only: bool,
}

impl TargetRules {
    /// Reads and checks a target URL: http or https, without user information or fragment, not on a blocked
    /// port, and with a host that may be a target. Names are not resolved.
    ///
    /// The URL comes back normalised by the [URL standard]: host in lower case and ASCII, every spelling of
    /// an IPv4 literal in dots and decimals. Dial that, not the text. White space and control characters are
    /// refused, as the standard would drop some of them silently.
    ///
    /// A fragment is refused and not dropped: it is never sent, and where somebody typed one, a `#` in a
    /// token was most likely meant as a part of the request.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with a message for the caller of an API.
    ///
    /// [URL standard]: https://url.spec.whatwg.org/
    pub fn check_url(&self, text: &str) -> Result<Url, TargetError> {
        if text.len() > MAX_URL_LEN {
            return Err(TargetError::TooLong);
        }
        if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err(TargetError::WhiteSpace);
        }
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => TargetError::Scheme,
            error => TargetError::Invalid(error),
        })?;
        self.check(&url)?;
        Ok(url)
    }

    /// Checks a URL that was read before: what [`TargetRules::check_url`] does after parsing. Before a
    /// request is sent this is the only check of an IP literal, since HTTP clients do not resolve those.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check(&self, url: &Url) -> Result<(), TargetError> {
        match url.scheme() {
            "https" => {}
            "http" if self.https_only => return Err(TargetError::HttpsOnly),
            "http" => {}
            _ => return Err(TargetError::Scheme),
        }
        if url.as_str().len() > MAX_URL_LEN {
            return Err(TargetError::TooLong);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        match url.port_or_known_default() {
            Some(port) if BLOCKED_PORTS.binary_search(&port).is_ok() => {
                return Err(TargetError::Port { port });
            }
            _ => {}
        }
        match url.host() {
            Some(Host::Ipv4(addr)) => self.check_addr(addr.into()),
            Some(Host::Ipv6(addr)) => self.check_addr(addr.into()),
            Some(Host::Domain(name)) => self.check_name(name),
            None => Err(TargetError::Invalid(url::ParseError::EmptyHost)),
        }
    }

    /// Checks one address; see [`TargetRules`] for what passes.
    ///
    /// # Errors
    ///
    /// [`TargetError::Address`] with the class of the place that is refused.
    pub fn check_addr(&self, addr: IpAddr) -> Result<(), TargetError> {
        if self.allows(addr) {
            return Ok(());
        }
        for endpoint in endpoints(addr) {
            let class = AddressClass::of_endpoint(endpoint);
            if class != AddressClass::Global && !self.allows(endpoint) {
                return Err(TargetError::Address { addr, class });
            }
        }
        Ok(())
    }

    /// Checks all addresses of a name: each must pass, or none may be dialled, so that a name cannot mix an
    /// internal address among public ones and wait for a fallback to it.
    ///
    /// # Errors
    ///
    /// [`TargetError::Address`] for the first that is refused; [`TargetError::NoAddress`] when there are
    /// none.
    pub fn check_addrs(&self, addrs: &[IpAddr]) -> Result<(), TargetError> {
        if addrs.is_empty() {
            return Err(TargetError::NoAddress);
        }
        addrs.iter().try_for_each(|addr| self.check_addr(*addr))
    }

    fn allows(&self, addr: IpAddr) -> bool {
        self.allow.iter().any(|range| range.contains(&addr))
    }

    fn check_name(&self, name: &str) -> Result<(), TargetError> {
        // One trailing dot marks a name as absolute and changes nothing else.
        let name = name.strip_suffix('.').unwrap_or(name);
        let labels_fit = name.split('.').all(|label| (1..=63).contains(&label.len()));
        if name.len() > 253 || !labels_fit {
            return Err(TargetError::Name);
        }
        if self.allow.is_empty() && is_internal(name) {
            return Err(TargetError::InternalName);
        }
        Ok(())
    }
}

fn is_internal(name: &str) -> bool {
    let is_at_or_below =
        |suffix: &&str| name.strip_suffix(*suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !name.contains('.') || INTERNAL_SUFFIXES.iter().any(is_at_or_below)
}

/// Why something cannot be a target. The messages are for the caller of an API and name no address: a
/// resolved one is nobody's business outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Longer than [`MAX_URL_LEN`].
    #[error("the URL is longer than {MAX_URL_LEN} bytes")]
    TooLong,
    /// White space or control characters.
    #[error("the URL contains white space or control characters; percent-encode or remove them")]
    WhiteSpace,
    /// Not a URL.
    #[error("this is not a valid URL: {0}")]
    Invalid(url::ParseError),
    /// Neither http nor https, or no scheme at all.
    #[error("the URL must start with https:// or http://")]
    Scheme,
    /// `http://` where only https is taken.
    #[error("the URL must start with https://; this server is set to refuse http://")]
    HttpsOnly,
    /// `user:password@`.
    #[error("the URL must not contain a user name or password; set an `authorization` header instead")]
    UserInfo,
    /// `#…`.
    #[error("the URL must not contain a fragment (`#…`), which is never sent; write %23 for a literal #")]
    Fragment,
    /// A port of another protocol.
    #[error("port {port} is not allowed for targets")]
    Port {
        /// The port, given or implied.
        port: u16,
    },
    /// A host name that DNS cannot hold.
    #[error("the host name is not valid: labels have 1 to 63 characters, all of it at most 253")]
    Name,
    /// A name that only a host inside can have.
    #[error(
        "the host name can only be internal (a single label, .localhost, .local, .internal or .home.arpa); use a \
         public name, or let the server's operator allow the address range it is in"
    )]
    InternalName,
    /// Not global unicast and not in an allowed range.
    #[error(
        "the address is not allowed as a target ({class}); use a public address, or let the server's operator \
         allow its range"
    )]
    Address {
        /// The address as it was given, for logs inside; the message leaves it out.
        addr: IpAddr,
        /// The class of it or of what it embeds.
        class: AddressClass,
    },
    /// A name without addresses.
    #[error("the host name has no address")]
    NoAddress,
}

impl TargetError {
    /// Whether the text itself is wrong, as opposed to where it leads: an API may answer the first as invalid
    /// and the second as not allowed.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::TooLong
            | Self::WhiteSpace
            | Self::Invalid(_)
            | Self::Scheme
            | Self::UserInfo
            | Self::Fragment
            | Self::Name => true,
            Self::HttpsOnly
            | Self::Port { .. }
            | Self::InternalName
            | Self::Address { .. }
            | Self::NoAddress => false,
        }
    }
}
