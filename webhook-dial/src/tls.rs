//! TLS: whom we trust, and what we offer.
//!
//! The system's authorities count, so that `SSL_CERT_FILE`, an administrator's additions and the distribution's
//! updates work as everywhere else on the host. Where the system has none at all (an image built from scratch),
//! Mozilla's, as compiled in, take their place. ALPN offers HTTP/1.1 alone.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Not PEM, or without a certificate in it.
    #[error("root certificates: this is not PEM with a certificate (-----BEGIN CERTIFICATE-----)")]
    NotPem,
    /// A certificate that cannot be an authority.
    #[error("root certificates: a certificate cannot be used as an authority")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// rustls does not take these settings.
    #[error("TLS could not be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// TLS 1.2 and 1.3 with ring, trusting the system's authorities and those in `extra`, each one certificate or several
/// in PEM.
///
/// # Errors
///
/// A certificate that cannot be read.
pub fn tls_config(extra: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(Box::new(error)))?
        .with_root_certificates(roots(extra)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(extra: &[Vec<u8>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificate authorities could not be read");
    }
    // Old systems carry certificates that today's rules refuse; one such must not cost all the others.
    let (added, _) = roots.add_parsable_certificates(system.certs);
    if added == 0 {
        tracing::info!("the system has no certificate authorities; those compiled in are used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for pem in extra {
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| TlsError::NotPem)?;
            roots.add(certificate).map_err(|error| TlsError::Certificate(Box::new(error)))?;
            found = true;
        }
        if !found {
            return Err(TlsError::NotPem);
        }
    }
    Ok(roots)
}
