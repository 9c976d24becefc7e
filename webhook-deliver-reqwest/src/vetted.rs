//! The hook by which reqwest asks for addresses.
//!
//! The client dials exactly what this returns. It never asks about IP literals; [`crate::deliverer`] checks those in
//! the URL.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use webhook_dial::Resolver;

pub(crate) struct Vetted(pub(crate) Resolver);

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let addrs = resolver.resolve(name.as_str()).await?;
            // The client sets the port.
            Ok(Box::new(addrs.into_iter().map(|addr| SocketAddr::new(addr, 0))) as Addrs)
        })
    }
}
