//! From a digest to bytes that have it.

use std::io;

use bulkhead_types::Digest;
use http::header::{ACCEPT, CONTENT_RANGE, RANGE};
use http::{HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::failure::Cause;
use crate::manifest::{self, Layer, Leads};
use crate::session::{Header, Session};
use crate::signature::{ANNOTATION, MAX_PAYLOAD_BYTES, MAX_SIGNATURES, PAYLOAD, Signature};
use crate::tries::Tries;

/// What leads from a reference to a layer: a manifest, or an index and a manifest.
pub(crate) struct Found {
    pub documents: Vec<Vec<u8>>,
    pub layer: Layer,
}

/// Reads the manifest, of at most two documents.
pub(crate) async fn manifest(session: &Session, until: Instant) -> Result<Found, Cause> {
    let digest = session.reference().digest();
    let first = document(session, digest, until).await?;
    let manifest = match manifest::read(digest, &first, false)? {
        Leads::ToLayer(layer) => return Ok(Found { documents: vec![first], layer }),
        Leads::ToManifest(manifest) => manifest,
    };
    let second = document(session, manifest, until).await?;
    match manifest::read(manifest, &second, true)? {
        Leads::ToLayer(layer) => Ok(Found { documents: vec![first, second], layer }),
        Leads::ToManifest(_) => unreachable!("an index does not lead to another one"),
    }
}

/// A manifest or an index with this digest.
async fn document(session: &Session, digest: Digest, until: Instant) -> Result<Vec<u8>, Cause> {
    let mut tries = Tries::until(until);
    loop {
        let (path, what) =
            (format!("manifests/sha256:{digest}"), format!("manifest sha256:{digest}"));
        match small(session, &path, &what, manifest::MAX_BYTES).await {
            Ok(bytes) => {
                let got = Digest(Sha256::digest(&bytes).into());
                return match got == digest {
                    true => Ok(bytes),
                    false => Err(Cause::WrongDigest { what, at: session.at(), got }),
                };
            }
            Err(cause) => tries.again_after(cause).await?,
        }
    }
}

/// An answer that fits into memory.
async fn small(
    session: &Session,
    path: &str,
    what: &str,
    max_bytes: usize,
) -> Result<Vec<u8>, Cause> {
    let accept: Header = (ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
    session.get(path, what, &[accept]).await?.whole(what, max_bytes).await
}

/// The signatures beside a component, none if there are none.
pub(crate) async fn signatures(session: &Session, until: Instant) -> Result<Vec<Signature>, Cause> {
    let mut tries = Tries::until(until);
    loop {
        match signatures_once(session).await {
            Ok(found) => return Ok(found),
            Err(Cause::NotFound { .. }) => return Ok(Vec::new()),
            Err(cause) => tries.again_after(cause).await?,
        }
    }
}

async fn signatures_once(session: &Session) -> Result<Vec<Signature>, Cause> {
    let digest = session.reference().digest();
    let path = format!("manifests/sha256-{digest}.sig");
    let bytes = small(session, &path, "manifest of signatures", manifest::MAX_BYTES).await?;
    let mut found = Vec::new();
    for layer in manifest::layers(digest, &bytes)?.into_iter().take(MAX_SIGNATURES) {
        let Some(signature) = layer.annotations.get(ANNOTATION) else { continue };
        let Ok(payload) = layer.layer() else { continue };
        if layer.media_type != PAYLOAD || payload.bytes > MAX_PAYLOAD_BYTES as u64 {
            continue;
        }
        // Whether it is the right one is what the signature is for.
        let path = format!("blobs/sha256:{}", payload.digest);
        let payload = small(session, &path, "what is signed", MAX_PAYLOAD_BYTES).await?;
        found.push(Signature::new(&payload, signature));
    }
    Ok(found)
}

/// Writes a layer into an empty file, and returns when its digest is right and it is on the disk. What a try left is
/// where the next one goes on.
pub(crate) async fn layer(
    session: &Session,
    layer: Layer,
    file: File,
    until: Instant,
) -> Result<(), Cause> {
    let (mut tries, mut part) = (Tries::until(until), Part::new(layer, file));
    loop {
        let was_begun = part.bytes > 0;
        let failed = match part.receive(session).await {
            Ok(()) => match part.judge(&session.at()) {
                Ok(()) => return part.sync().await,
                // Perhaps it does not go on where it was asked to.
                Err(Cause::WrongDigest { at, .. }) if was_begun => {
                    part.restart().await?;
                    Cause::Interrupted { at, reason: "the pieces do not fit".into() }
                }
                Err(cause) => cause,
            },
            Err(cause) => cause,
        };
        tries.again_after(failed).await?;
    }
}

/// What is there of a layer.
struct Part {
    layer: Layer,
    file: File,
    bytes: u64,
    hash: Sha256,
}

impl Part {
    fn new(layer: Layer, file: File) -> Self {
        Self { layer, file, bytes: 0, hash: Sha256::new() }
    }

    fn what(&self) -> String {
        format!("layer sha256:{}", self.layer.digest)
    }

    /// Takes what is missing.
    async fn receive(&mut self, session: &Session) -> Result<(), Cause> {
        let path = format!("blobs/sha256:{}", self.layer.digest);
        let range = format!("bytes={}-", self.bytes).parse().map(|range| (RANGE, range));
        let range: Vec<Header> = range.ok().filter(|_| self.bytes > 0).into_iter().collect();
        let mut answer = match session.get(&path, &self.what(), &range).await {
            Err(Cause::Status { at, status: 416, .. }) => {
                self.restart().await?;
                return Err(Cause::Interrupted { at, reason: "it does not resume".into() });
            }
            answer => answer?,
        };
        let begins = format!("bytes {}-", self.bytes);
        let range = answer.head.headers.get(CONTENT_RANGE).and_then(|it| it.to_str().ok());
        let is_rest = answer.head.status == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.starts_with(&begins));
        if self.bytes > 0 && !is_rest {
            self.restart().await?;
        }
        while let Some(piece) = answer.piece().await? {
            self.take(&piece).await?;
        }
        if self.bytes < self.layer.bytes {
            let reason = format!("it ended after {} of {} bytes", self.bytes, self.layer.bytes);
            return Err(Cause::Interrupted { at: answer.at().to_owned(), reason });
        }
        Ok(())
    }

    async fn take(&mut self, piece: &[u8]) -> Result<(), Cause> {
        let (bytes, max_bytes) = (self.bytes + piece.len() as u64, self.layer.bytes);
        if bytes > max_bytes {
            return Err(Cause::TooLarge { what: self.what(), bytes, max_bytes });
        }
        let written = self.file.write_all(piece).await;
        written.map_err(|error| self.failed(&error))?;
        self.hash.update(piece);
        self.bytes = bytes;
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), Cause> {
        self.file.rewind().await.map_err(|error| self.failed(&error))?;
        self.file.set_len(0).await.map_err(|error| self.failed(&error))?;
        (self.bytes, self.hash) = (0, Sha256::new());
        Ok(())
    }

    fn judge(&self, at: &str) -> Result<(), Cause> {
        let got = Digest(self.hash.clone().finalize().into());
        match got == self.layer.digest {
            true => Ok(()),
            false => Err(Cause::WrongDigest { what: self.what(), at: at.to_owned(), got }),
        }
    }

    async fn sync(&mut self) -> Result<(), Cause> {
        self.file.flush().await.map_err(|error| self.failed(&error))?;
        self.file.sync_all().await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Cause {
        Cause::disk(format!("write {}", self.what()), error)
    }
}
