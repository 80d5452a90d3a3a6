//! TLS with a certificate that nobody signed. Its key is for tests and protects nothing.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The certificate, as PEM, of `localhost` and `127.0.0.1`. It is what a client has to trust.
pub const CERTIFICATE: &str = include_str!("../tls/certificate.pem");

const KEY: &str = include_str!("../tls/key.pem");

/// Takes connections with that certificate.
pub(crate) fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes());
    let certificate = certificate.expect("the certificate is one");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("the key is one");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("key and certificate belong together");
    TlsAcceptor::from(Arc::new(config))
}
