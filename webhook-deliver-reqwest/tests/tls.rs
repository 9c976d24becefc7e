//! TLS against real handshakes with certificates made here.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

mod support;

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use support::{Connection, OK, Receiver, answer, failure, local, request};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use webhook_core::model::ErrorKind;
use webhook_deliver_reqwest::{BuildError, TlsError};

/// A private authority.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A receiver with a certificate of `authority` for `name`, which answers 200 and offers these protocols.
async fn receiver(authority: &CertifiedIssuer<'static, KeyPair>, name: &str, alpn: &[&str]) -> Receiver {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let wrap = move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream).await.ok() }
    };
    let script = |mut connection: Connection| async move {
        while connection.request().await.is_some() {
            connection.send(OK).await;
        }
    };
    Receiver::start_with(wrap, script).await
}

fn url(receiver: &Receiver, host: &str) -> String {
    format!("https://{host}:{}/hooks?token=s3cret", receiver.addr.port())
}

#[tokio::test]
async fn a_private_authority_that_was_added_is_trusted_and_the_connection_kept() {
    let authority = authority();
    for (san, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let receiver = receiver(&authority, san, &["h2", "http/1.1"]).await;
        let deliverer = local().root_certificates(authority.pem()).build().unwrap();
        for _ in 0..3 {
            assert_eq!(answer(&deliverer, &url(&receiver, host)).await.status, 200);
        }
        assert_eq!(receiver.connections(), 1);
    }
}

#[tokio::test]
async fn an_unknown_authority_is_tls() {
    let receiver = receiver(&authority(), "localhost", &[]).await;
    let error = failure(&local().build().unwrap(), request(&url(&receiver, "localhost"))).await;
    assert_eq!(error.kind, ErrorKind::Tls);
    assert_eq!(error.detail, "the target's certificate is not from a trusted authority");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_tls() {
    let authority = authority();
    let receiver = receiver(&authority, "other.example", &[]).await;
    let deliverer = local().root_certificates(authority.pem()).build().unwrap();
    let error = failure(&deliverer, request(&url(&receiver, "localhost"))).await;
    assert_eq!(
        (error.kind, &*error.detail),
        (ErrorKind::Tls, "the target's certificate is for another name")
    );
}

#[tokio::test]
async fn a_target_without_http_1_is_tls() {
    let authority = authority();
    let receiver = receiver(&authority, "localhost", &["h2"]).await;
    let deliverer = local().root_certificates(authority.pem()).build().unwrap();
    assert_eq!(failure(&deliverer, request(&url(&receiver, "localhost"))).await.kind, ErrorKind::Tls);
}

#[tokio::test]
async fn a_target_that_does_not_speak_tls_is_tls() {
    for bytes in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let receiver = Receiver::start(move |mut connection| async move {
            connection.send(bytes).await;
        })
        .await;
        let error = failure(&local().build().unwrap(), request(&url(&receiver, "127.0.0.1"))).await;
        assert_eq!(error.kind, ErrorKind::Tls, "{bytes:?} {error:?}");
    }
}

#[test]
fn roots_that_are_no_certificates_are_refused() {
    let build = |pem: &str| local().root_certificates(pem).build().unwrap_err();
    assert!(matches!(build("nonsense"), BuildError::Tls(TlsError::NotPem)));
    assert!(matches!(
        build("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n"),
        BuildError::Tls(TlsError::NotPem)
    ));
    let not_x509 = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(matches!(build(not_x509), BuildError::Tls(TlsError::Certificate(_))));
}
