//! TLS for the connection: rustls on ring, against the system's authorities or given ones.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use webhook_core::error::BackendErrorKind as Kind;

use crate::error::Fault;

/// A client's configuration that trusts these authorities (DER), else the system's.
pub(crate) fn client(roots: Option<&[Vec<u8>]>) -> Result<ClientConfig, Fault> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(roots) => {
            for der in roots {
                store.add(der.clone().into()).map_err(|error| Fault {
                    source: Some(Box::new(error)),
                    ..Fault::new(Kind::Misconfigured, "a root certificate cannot be read: it must be DER")
                })?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        let detail = "the system has no certificate authorities: give one with root_certificate";
        return Err(Fault::new(Kind::Misconfigured, detail));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault {
            source: Some(Box::new(error)),
            ..Fault::new(Kind::Internal, "TLS cannot be set up")
        })?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(config)
}
