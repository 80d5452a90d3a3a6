//! What a TLS server of a test needs: a certificate, signed by an authority that exists for it alone.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server whose certificate is for `name`, and the certificate of the authority that signed it, as PEM.
///
/// # Panics
///
/// If `name` is neither a DNS name nor an IP address.
pub fn server(name: &str) -> (ServerConfig, String) {
    let mut params = rcgen::CertificateParams::new([]).expect("no names are valid names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("make a key");
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).expect("sign itself");
    let key = rcgen::KeyPair::generate().expect("make a key");
    let params = rcgen::CertificateParams::new([name.to_owned()]).expect("a valid name");
    let certificate = params.signed_by(&key, &authority).expect("sign it");
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate belong together");
    (config, authority.pem())
}
