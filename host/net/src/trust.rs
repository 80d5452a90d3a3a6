//! Which certificates are believed.
//!
//! | first that is set | what is believed |
//! | --- | --- |
//! | a `ca_file` of the configuration or the command line | its certificates, for the destination that it is about |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` | the certificates of both, for everything |
//! | neither | the public CAs that the program was built with |

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::Destination;

/// Largest file of certificates, in bytes.
const MAX_CA_BYTES: u64 = 4 * 1024 * 1024;

/// Most files of a directory of certificates. Distributions have some hundred.
const MAX_CA_FILES: usize = 4096;

/// Whom a client believes, by destination. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trust {
    all: Arc<ClientConfig>,
    /// Other certificates for single destinations. The scheme is left out of the comparison.
    some: Vec<(Destination, Arc<ClientConfig>)>,
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The process may open nothing more.
    #[error("cannot read {}: the process has as many files open as it may (RLIMIT_NOFILE)", path.display())]
    NoDescriptor {
        /// Which.
        path: PathBuf,
    },
    /// It is larger than a file of certificates is.
    #[error("{} has {bytes} bytes or more, at most {MAX_CA_BYTES} are read", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size, as far as it was read.
        bytes: u64,
    },
    /// It is there and holds no usable certificates.
    #[error("{} {problem}", path.display())]
    Bad {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Default for Trust {
    /// The public CAs.
    fn default() -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        Self { all: client(roots), some: Vec::new() }
    }
}

impl Trust {
    /// What the environment says: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the public CAs. The error comes with the
    /// variable that it is about.
    pub fn from_env(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, (&'static str, TrustError)> {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let (file, dir) = (path("SSL_CERT_FILE"), path("SSL_CERT_DIR"));
        if file.is_none() && dir.is_none() {
            return Ok(Self::default());
        }
        let mut roots = RootCertStore::empty();
        if let Some(file) = file {
            add_file(&mut roots, &file).map_err(|error| ("SSL_CERT_FILE", error))?;
        }
        if let Some(dir) = dir {
            add_directory(&mut roots, &dir).map_err(|error| ("SSL_CERT_DIR", error))?;
        }
        Ok(Self { all: client(roots), some: Vec::new() })
    }

    /// The certificates of one PEM file and no others.
    pub fn from_file(path: &Path) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        add_file(&mut roots, path)?;
        Ok(Self { all: client(roots), some: Vec::new() })
    }

    /// Believes for this destination what `other` believes for all.
    #[must_use]
    pub fn with(mut self, destination: Destination, other: Self) -> Self {
        self.some.push((destination, other.all));
        self
    }

    /// Offers these protocols to all servers (ALPN), the preferred one first.
    #[must_use]
    pub fn offering(mut self, protocols: &[&[u8]]) -> Self {
        for config in self.some.iter_mut().map(|(_, config)| config).chain([&mut self.all]) {
            let protocols = protocols.iter().map(|it| it.to_vec()).collect();
            Arc::make_mut(config).alpn_protocols = protocols;
        }
        self
    }

    /// How TLS is set up with this destination.
    pub fn of(&self, to: &Destination) -> &Arc<ClientConfig> {
        let is_it = |other: &Destination| {
            other.port == to.port && other.host.eq_ignore_ascii_case(&to.host)
        };
        self.some.iter().find(|(other, _)| is_it(other)).map_or(&self.all, |(_, config)| config)
    }
}

fn client(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// What is wrong with a file or directory that cannot be read.
fn unreadable(path: &Path, source: io::Error) -> TrustError {
    let path = path.into();
    match Errno::from_io_error(&source) {
        Some(Errno::MFILE | Errno::NFILE) => TrustError::NoDescriptor { path },
        _ => TrustError::Read { path, source },
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let read = |source| unreadable(path, source);
    let bad = |problem: String| TrustError::Bad { path: path.into(), problem };
    let bytes = std::fs::metadata(path).map_err(read)?.len();
    if bytes > MAX_CA_BYTES {
        return Err(TrustError::TooLarge { path: path.into(), bytes });
    }
    let mut pem = Vec::new();
    // A pipe and a device have no length, and may have no end.
    let opened = File::open(path).map_err(read)?;
    let bytes = opened.take(MAX_CA_BYTES + 1).read_to_end(&mut pem).map_err(read)? as u64;
    if bytes > MAX_CA_BYTES {
        return Err(TrustError::TooLarge { path: path.into(), bytes });
    }
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(format!("is no PEM file: {error}")))?;
        roots.add(certificate).map_err(|error| bad(format!("has a bad certificate: {error}")))?;
        found = true;
    }
    match found {
        true => Ok(()),
        false => Err(bad("has no certificate; it has to be in PEM".into())),
    }
}

/// Adds what is there. Files that hold no certificates are usual beside those that do.
fn add_directory(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let read = |source| unreadable(path, source);
    let before = roots.len();
    for entry in std::fs::read_dir(path).map_err(read)?.take(MAX_CA_FILES) {
        let file = entry.map_err(read)?.path();
        if let Some(Err(error @ TrustError::NoDescriptor { .. })) =
            file.is_file().then(|| add_file(roots, &file))
        {
            return Err(error);
        }
    }
    match roots.len() > before {
        true => Ok(()),
        false => Err(TrustError::Bad {
            path: path.into(),
            problem: "has no certificate; they have to be in PEM".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::error::chain;

    use super::*;

    fn authority() -> String {
        tls_fixture::server("ca.example").1
    }

    fn env(file: Option<&Path>, dir: Option<&Path>) -> Result<Trust, String> {
        let variable = |name: &str| match name {
            "SSL_CERT_FILE" => file.map(Into::into),
            _ => dir.map(Into::into),
        };
        Trust::from_env(variable).map_err(|(name, error)| format!("{name}: {}", chain(&error)))
    }

    #[test]
    fn a_file_without_certificates_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            chain(&Trust::from_file(&path).unwrap_err())
        };
        assert!(error("").contains("has no certificate"));
        let no_pem = "-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n";
        assert!(error(no_pem).contains("no PEM"));
        let bad = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(error(bad).contains("bad certificate"));
        assert!(env(Some(&path), None).unwrap_err().starts_with("SSL_CERT_FILE: "));
        let error = chain(&Trust::from_file(Path::new("/nowhere/ca.pem")).unwrap_err());
        assert!(error.contains("cannot read /nowhere/ca.pem: "), "{error}");
        let error = env(None, Some(&dir.path().join("none"))).unwrap_err();
        assert!(error.starts_with("SSL_CERT_DIR: cannot read "), "{error}");
    }

    #[test]
    fn a_directory_is_searched_and_other_files_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("README"), "none here").unwrap();
        let error = env(None, Some(dir.path())).unwrap_err();
        assert!(error.contains("has no certificate"), "{error}");
        std::fs::write(dir.path().join("a.pem"), authority()).unwrap();
        assert!(env(None, Some(dir.path())).is_ok());
    }

    #[test]
    fn a_process_without_descriptors_blames_no_certificate() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            let error = unreadable(Path::new("/certs"), errno.into());
            assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
        }
        let error = unreadable(Path::new("/certs"), Errno::ACCESS.into());
        assert_eq!(error.to_string(), "cannot read /certs");
    }

    #[test]
    fn a_destination_may_have_certificates_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, authority()).unwrap();
        let to = |host: &str, port| Destination { host: host.into(), port, tls: true };
        let trust = Trust::default().with(to("h", 1), Trust::from_file(&path).unwrap());
        assert!(!Arc::ptr_eq(trust.of(&to("H", 1)), &trust.all));
        assert!(Arc::ptr_eq(trust.of(&to("h", 2)), &trust.all));
        assert!(Arc::ptr_eq(trust.of(&to("i", 1)), &trust.all));
    }
}
