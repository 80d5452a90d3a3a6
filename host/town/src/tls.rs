//! Whom the town's certificate is believed.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Largest file of certificates, in bytes.
const MAX_CA_BYTES: u64 = 4 * 1024 * 1024;

/// The roots of the web, or instead of them the certificates of one PEM file. An error says what is wrong
/// with the file.
pub(crate) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca_file {
        Some(path) => from_file(path)?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() },
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let shown = path.display();
    let bytes =
        std::fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?.len();
    if bytes > MAX_CA_BYTES {
        return Err(format!("{shown} has {bytes} bytes, at most {MAX_CA_BYTES} are read"));
    }
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| format!("{shown} is no PEM file: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("{shown} has a bad certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{shown} has no certificate; it has to be in PEM"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_says_so() {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            config(Some(file.path())).unwrap_err()
        };
        assert!(file("").contains("has no certificate"));
        assert!(
            file("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")
                .contains("no PEM")
        );
        let bad = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(file(bad).contains("bad certificate"));
        assert!(
            config(Some(Path::new("/nowhere/ca.pem")))
                .unwrap_err()
                .contains("cannot read /nowhere")
        );
        assert!(config(None).is_ok());
    }
}
