//! From a name to addresses that may be dialled, or to none.
//!
//! A client that dials exactly what this resolver returned cannot be undone by another resolution. IP literals are no
//! names and do not come here; the URL's own check is theirs.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use webhook_core::target::{TargetError, TargetRules};

use crate::lookup::{Limits, LookupError, Lookups, system_lookup};

/// So many addresses of each family are returned: the time to connect is shared among them.
pub const MAX_PER_FAMILY: usize = 4;

/// Resolves one name, blocking, on a thread that is its own for that time.
pub type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Why nothing is dialled. No message names an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The rules refuse an address of the name.
    #[error("the host name leads to an address that is not allowed as a target")]
    Blocked,
    /// The name exists and has no address.
    #[error("the host name has no address")]
    NoAddress,
    /// The name could not be resolved.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// Resolves names to vetted addresses. Make one for the whole process: the bounds on lookups are its own. Cloning
/// shares them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::sync::Arc;
/// use webhook_core::target::TargetRules;
/// use webhook_dial::{DialError, Resolver};
///
/// // In place of the system's lookup, such as one in a service registry.
/// let mixed = Arc::new(|_name: &str| Ok(vec!["1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap()]));
/// let resolver = Resolver::with_lookup(TargetRules::default(), mixed);
/// assert_eq!(resolver.resolve("hooks.example").await, Err(DialError::Blocked));
/// # }
/// ```
#[derive(Clone)]
pub struct Resolver {
    rules: Arc<TargetRules>,
    lookups: Arc<Lookups>,
}

impl Resolver {
    /// By the system's lookup: `getaddrinfo`, with the hosts file and whatever else is set up there.
    #[must_use]
    pub fn new(rules: TargetRules) -> Self {
        Self::with_lookup(rules, Arc::new(system_lookup))
    }

    /// By a lookup of the caller's. What it returns is vetted all the same.
    #[must_use]
    pub fn with_lookup(rules: TargetRules, lookup: Lookup) -> Self {
        Self { rules: Arc::new(rules), lookups: Arc::new(Lookups::new(lookup, Limits::default())) }
    }

    /// The rules that addresses are held against.
    #[must_use]
    pub fn rules(&self) -> &TargetRules {
        &self.rules
    }

    /// The addresses to dial, in the system's order, at most [`MAX_PER_FAMILY`] of each family. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// When the name does not resolve, or the rules refuse any of its addresses, returned or not.
    ///
    /// # Cancel safety
    ///
    /// The lookup goes on for whoever else waits for it.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, DialError> {
        let addrs = self.lookups.resolve(name).await?;
        vet(&self.rules, &addrs).inspect_err(|error| {
            tracing::debug!(host = name, %error, "the target is not dialled");
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// All addresses pass, or none is dialled.
fn vet(rules: &TargetRules, addrs: &[IpAddr]) -> Result<Vec<IpAddr>, DialError> {
    rules.check_addrs(addrs).map_err(|error| match error {
        TargetError::NoAddress => DialError::NoAddress,
        _ => DialError::Blocked,
    })?;
    let family = |wanted: fn(&IpAddr) -> bool| addrs.iter().copied().filter(wanted).take(MAX_PER_FAMILY);
    let mut dialled: Vec<IpAddr> = family(IpAddr::is_ipv6).chain(family(IpAddr::is_ipv4)).collect();
    // The system puts the addresses it would rather use first; clients prefer the first one's family.
    dialled.sort_by_key(|addr| addrs.iter().position(|other| other == addr));
    Ok(dialled)
}
