//! Real handshakes, with certificates made here. [`deliverer_tls_tests!`](crate::deliverer_tls_tests) runs them all.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use webhook_core::deliver::Deliverer;
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_core::target::TargetRules;

use super::{Connection, DelivererFixture, OK, Receiver, answer, failure, local_rules, request};

/// How the cases come by a deliverer that trusts an authority.
pub trait TlsFixture: DelivererFixture {
    /// A fresh deliverer with these rules that trusts this authority, in PEM, beside those that it always does.
    fn trusting(rules: TargetRules, authority: &str) -> Arc<dyn Deliverer>;
}

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

async fn failed<F: TlsFixture>(
    authority: &CertifiedIssuer<'static, KeyPair>,
    receiver: &Receiver,
) -> AttemptError {
    let deliverer = F::trusting(local_rules(), &authority.pem());
    failure(&*deliverer, request(&url(receiver, "localhost"))).await
}

/// By name and by address.
pub async fn an_authority_that_was_added_is_trusted_and_the_connection_kept<F: TlsFixture>() {
    let authority = authority();
    for (san, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let mut receiver = receiver(&authority, san, &["h2", "http/1.1"]).await;
        let deliverer = F::trusting(local_rules(), &authority.pem());
        for _ in 0..20 {
            assert_eq!(answer(&*deliverer, &url(&receiver, host)).await.status, 200);
        }
        assert_eq!(receiver.requests().len(), 20);
        assert!(receiver.connections() <= 5, "{} connections", receiver.connections());
    }
}

/// Nobody vouches for it.
pub async fn an_unknown_authority_is_tls<F: TlsFixture>() {
    let receiver = receiver(&authority(), "localhost", &[]).await;
    assert_eq!(failed::<F>(&authority(), &receiver).await.kind, ErrorKind::Tls);
}

/// It is somebody else.
pub async fn a_certificate_for_another_name_is_tls<F: TlsFixture>() {
    let authority = authority();
    let receiver = receiver(&authority, "other.example", &[]).await;
    assert_eq!(failed::<F>(&authority, &receiver).await.kind, ErrorKind::Tls);
}

/// Only HTTP/1.1 is offered.
pub async fn a_target_without_http_1_is_tls<F: TlsFixture>() {
    let authority = authority();
    let receiver = receiver(&authority, "localhost", &["h2"]).await;
    assert_eq!(failed::<F>(&authority, &receiver).await.kind, ErrorKind::Tls);
}

/// Plain HTTP on that port, or nothing.
pub async fn a_target_that_does_not_speak_tls_is_tls<F: TlsFixture>() {
    for bytes in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let receiver = Receiver::start(move |mut connection| async move {
            connection.send(bytes).await;
        })
        .await;
        let error = failed::<F>(&authority(), &receiver).await;
        assert_eq!(error.kind, ErrorKind::Tls, "{bytes:?} {error:?}");
    }
}
