//! From a name to addresses that may be dialled, or to none.
//!
//! The client dials exactly what this resolver returns, so a check here cannot be undone by another resolution.
//! It never sees IP literals, which clients do not resolve; [`crate::deliverer`] checks those in the URL.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use webhook_core::target::{TargetError, TargetRules};

use crate::lookup::{LookupError, Lookups};

/// So many addresses of each family are tried: the time to connect is shared among them.
const MAX_PER_FAMILY: usize = 4;

/// Why nothing is dialled. It travels through the client's error to [`crate::failure`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the host name leads to an address that is not allowed as a target")]
    Blocked,
    #[error("the host name has no address")]
    NoAddress,
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

pub(crate) struct VettedResolver {
    rules: Arc<TargetRules>,
    lookups: Arc<Lookups>,
}

impl VettedResolver {
    pub(crate) fn new(rules: Arc<TargetRules>, lookups: Lookups) -> Self {
        Self { rules, lookups: Arc::new(lookups) }
    }
}

impl Resolve for VettedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.rules);
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let addrs = lookups.resolve(name.as_str()).await.map_err(DialError::from)?;
            let dialled = vet(&rules, &addrs).inspect_err(|error| {
                tracing::debug!(host = name.as_str(), %error, "the target is not dialled");
            })?;
            Ok(Box::new(dialled.into_iter()) as Addrs)
        })
    }
}

/// All addresses pass, or none is dialled.
fn vet(rules: &TargetRules, addrs: &[IpAddr]) -> Result<Vec<SocketAddr>, DialError> {
    rules.check_addrs(addrs).map_err(|error| match error {
        TargetError::NoAddress => DialError::NoAddress,
        _ => DialError::Blocked,
    })?;
    let family = |wanted: fn(&IpAddr) -> bool| addrs.iter().copied().filter(wanted).take(MAX_PER_FAMILY);
    let mut dialled: Vec<IpAddr> = family(IpAddr::is_ipv6).chain(family(IpAddr::is_ipv4)).collect();
    // The system puts the addresses it would rather use first; the client prefers the first one's family.
    dialled.sort_by_key(|addr| addrs.iter().position(|other| other == addr));
    // The client sets the port.
    Ok(dialled.into_iter().map(|addr| SocketAddr::new(addr, 0)).collect())
}
