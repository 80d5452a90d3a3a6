//! Signatures of components: what cosign stores beside an artifact when it signs with a key. Pure.
//!
//! The artifact `repository@sha256:HEX` has its signatures in a manifest of the same repository with the tag
//! `sha256-HEX.sig`. Each is a layer of the media type [`PAYLOAD`]: a JSON document that names the digest, and in the
//! annotation [`ANNOTATION`] the signature of the document's bytes, in base64: ECDSA on P-256 over SHA-256, in ASN.1.
//! What else the document holds, a name of the artifact for example, is not checked: the digest is all that is run.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_types::Digest;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::reference::digest_of;

/// Media type of what is signed.
pub(crate) const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Where the signature is.
pub(crate) const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// Most signatures of one component that are tried.
pub(crate) const MAX_SIGNATURES: usize = 16;

/// Largest document that is signed, in bytes.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// What a key on P-256 begins with in DER, before its uncompressed point of 65 bytes (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A public key that a component has to be signed by: `cosign.pub`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 65]);

/// A text that is no [`PublicKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM of a public key.
    #[error("is no public key in PEM: it begins with -----BEGIN PUBLIC KEY-----")]
    Pem,
    /// RSA, Ed25519 or another curve.
    #[error(
        "is a public key of another kind: it has to be ECDSA on P-256, as `cosign generate-key-pair` makes it"
    )]
    Kind,
}

/// A document and its signature, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// The document, in base64.
    pub payload: String,
    /// In base64.
    pub signature: String,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

/// The one kind of document.
const KIND: &str = "cosign container image signature";

impl PublicKey {
    /// Reads a public key in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::Pem)?;
        let point = der.strip_prefix(&P256).ok_or(KeyError::Kind)?;
        point.try_into().map(Self).map_err(|_| KeyError::Kind)
    }

    /// Whether `signature` is this key's, and about the manifest with this digest. The error says what is wrong.
    pub(crate) fn verify(&self, signature: &Signature, manifest: Digest) -> Result<(), String> {
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| "it is no base64".to_owned());
        let (payload, bytes) = (decoded(&signature.payload)?, decoded(&signature.signature)?);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.0);
        key.verify(&payload, &bytes).map_err(|_| "it is another key's, or of other bytes")?;
        let payload: Payload = serde_json::from_slice(&payload)
            .map_err(|error| format!("what it signs cannot be read: {error}"))?;
        if payload.critical.kind != KIND {
            return Err("what it signs is no signature of an artifact".into());
        }
        match digest_of(&payload.critical.image.docker_manifest_digest) {
            Some(digest) if digest == manifest => Ok(()),
            _ => Err("it signs another digest".into()),
        }
    }
}

impl Signature {
    pub(crate) fn new(payload: &[u8], signature: &str) -> Self {
        Self { payload: STANDARD.encode(payload), signature: signature.to_owned() }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", STANDARD.encode(&self.0[1..9]))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;

    /// A pair of keys.
    pub(crate) struct Signer(EcdsaKeyPair);

    impl Signer {
        pub(crate) fn new() -> Self {
            let (kind, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
            let der = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(kind, der.as_ref(), &random).unwrap())
        }

        pub(crate) fn pem(&self) -> String {
            let der = [&P256, self.0.public_key().as_ref()].concat();
            let body = STANDARD.encode(der);
            format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
        }

        pub(crate) fn key(&self) -> PublicKey {
            PublicKey::from_pem(self.pem().as_bytes()).unwrap()
        }

        pub(crate) fn sign(&self, payload: &[u8]) -> String {
            STANDARD.encode(self.0.sign(&SystemRandom::new(), payload).unwrap())
        }
    }

    pub(crate) fn payload(digest: Digest) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"h/a"}},"image":{{"docker-manifest-digest":"sha256:{digest}"}},"type":"{KIND}"}},"optional":null}}"#
        )
    }

    const DIGEST: Digest = Digest([7; 32]);

    #[test]
    fn a_signature_is_of_its_key_and_its_digest() {
        let (signer, other) = (Signer::new(), Signer::new());
        let text = payload(DIGEST);
        let signature = Signature::new(text.as_bytes(), &signer.sign(text.as_bytes()));
        assert_eq!(signer.key().verify(&signature, DIGEST), Ok(()));
        let error = other.key().verify(&signature, DIGEST).unwrap_err();
        assert!(error.contains("another key"), "{error}");
        let error = signer.key().verify(&signature, Digest([8; 32])).unwrap_err();
        assert!(error.contains("another digest"), "{error}");
        let changed = payload(Digest([8; 32]));
        let moved = Signature::new(changed.as_bytes(), &signature.signature);
        assert!(signer.key().verify(&moved, Digest([8; 32])).is_err());
    }

    #[test]
    fn what_else_a_key_signs_is_no_signature_of_a_component() {
        let signer = Signer::new();
        for text in ["{}", "", &payload(DIGEST).replace(KIND, "something else")] {
            let signature = Signature::new(text.as_bytes(), &signer.sign(text.as_bytes()));
            let error = signer.key().verify(&signature, DIGEST).unwrap_err();
            assert!(error.starts_with("what it signs"), "{error}");
        }
        let signature = Signature { payload: "?".into(), signature: "?".into() };
        assert!(signer.key().verify(&signature, DIGEST).unwrap_err().contains("base64"));
    }

    #[test]
    fn a_key_of_another_kind_says_so() {
        assert_eq!(PublicKey::from_pem(b"hello"), Err(KeyError::Pem));
        let ed25519 = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::from_pem(ed25519.as_bytes()), Err(KeyError::Kind));
    }

    /// Made by `openssl dgst -sha256 -sign`, which is what cosign's own signatures are beneath.
    #[test]
    fn a_signature_that_another_program_made_is_believed() {
        let pem = include_bytes!("../tests/signed/cosign.pub");
        let payload = include_bytes!("../tests/signed/payload.json");
        let signature = include_str!("../tests/signed/signature");
        let key = PublicKey::from_pem(pem).unwrap();
        let signature = Signature::new(payload, signature.trim());
        assert_eq!(key.verify(&signature, DIGEST), Ok(()));
    }
}
