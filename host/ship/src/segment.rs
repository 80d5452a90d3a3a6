//! A segment: one object of the log.
//!
//! ```text
//!   "BHSHIP1\n"  length of the head  head (JSON)  pages, deflated: number, bytes, number, bytes …  SHA-256 of all before it
//! ```

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::fault::ShipError;

const MAGIC: &[u8; 8] = b"BHSHIP1\n";
const DIGEST: usize = 32;

/// Largest head, in bytes.
const MAX_HEAD: usize = 4096;

/// Most that the pages of one segment may unpack to.
const MAX_PAGES_BYTES: u64 = 64 * 1024 * 1024;

/// What stands before the pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SegmentHead {
    /// Its number: the name of its object.
    pub number: u64,
    /// The digest of the one before it. Empty: it is the first one.
    pub previous: String,
    /// Of the lease under which it was written.
    pub epoch: u64,
    /// The process that wrote it, in its time. A random number.
    pub session: String,
    /// No two segments have the same one.
    pub nonce: String,
    pub kind: Kind,
    /// Size of each page, in bytes.
    pub page_bytes: u32,
    /// Pages of the database after it.
    pub page_count: u32,
    /// Milliseconds since the Unix epoch, for people.
    pub written_at: i64,
    /// Version of the program, for people.
    pub version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Kind {
    /// A session begins. No pages.
    Begin,
    /// A part of a copy of all pages. With its last part it takes the place of all before it.
    Copy { part: u32, is_last: bool },
    /// Pages that were changed since the segment before.
    Changes,
    /// The session ends, and everything that was committed in it is in the log. No pages.
    End,
}

/// A segment as it is read.
#[derive(Debug)]
pub(crate) struct Segment {
    pub head: SegmentHead,
    pub digest: String,
    packed: Bytes,
}

/// Writes one. `pages`: numbers and bytes.
pub(crate) fn encode<'a>(
    head: &SegmentHead,
    pages: impl Iterator<Item = (u32, &'a [u8])>,
) -> Result<(Bytes, String), ShipError> {
    let failed = |error: &dyn std::fmt::Display| ShipError::Local(format!("pack pages: {error}"));
    let json = serde_json::to_vec(head).map_err(|error| failed(&error))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(json);
    let mut packer = DeflateEncoder::new(bytes, Compression::fast());
    for (number, page) in pages {
        packer.write_all(&number.to_be_bytes()).map_err(|error| failed(&error))?;
        packer.write_all(page).map_err(|error| failed(&error))?;
    }
    let mut bytes = packer.finish().map_err(|error| failed(&error))?;
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Ok((bytes.into(), hex(&digest)))
}

/// Reads one. `object` names it in errors.
pub(crate) fn decode(object: &str, bytes: &Bytes) -> Result<Segment, ShipError> {
    let damaged = |what: &str| ShipError::damaged(object, what);
    let (content, digest) = bytes
        .len()
        .checked_sub(DIGEST)
        .map(|at| bytes.split_at(at))
        .ok_or_else(|| damaged("it is too short"))?;
    if Sha256::digest(content).as_slice() != digest {
        return Err(damaged("its checksum is wrong"));
    }
    let rest = content.strip_prefix(MAGIC);
    let rest = rest.ok_or_else(|| damaged("it is no segment that this version knows"))?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| damaged("it has no head"))?;
    let length = u32::from_be_bytes(*length) as usize;
    let json = rest.get(..length).filter(|_| length <= MAX_HEAD);
    let json = json.ok_or_else(|| damaged("its head has no end"))?;
    let head: SegmentHead = serde_json::from_slice(json)
        .map_err(|error| damaged(&format!("its head is not understood: {error}")))?;
    let at = MAGIC.len() + 4 + length;
    let packed = bytes.slice(at..bytes.len() - DIGEST);
    Ok(Segment { head, digest: hex(digest), packed })
}

impl Segment {
    /// Calls `each` for each page.
    pub fn pages(
        &self,
        object: &str,
        mut each: impl FnMut(u32, &[u8]) -> Result<(), ShipError>,
    ) -> Result<(), ShipError> {
        let mut unpacker = DeflateDecoder::new(&*self.packed).take(MAX_PAGES_BYTES);
        let mut page = vec![0; self.head.page_bytes as usize];
        loop {
            let mut number = [0; 4];
            match unpacker.read(&mut number[..1]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(ShipError::damaged(object, error.to_string())),
            }
            let rest = unpacker.read_exact(&mut number[1..]);
            let rest = rest.and_then(|()| unpacker.read_exact(&mut page));
            rest.map_err(|error| ShipError::damaged(object, error.to_string()))?;
            each(u32::from_be_bytes(number), &page)?;
        }
    }
}

/// The key of a segment.
pub(crate) fn key(number: u64) -> String {
    format!("log/{number:020}")
}

/// A random number.
pub(crate) fn random() -> Result<u128, ShipError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| ShipError::Local(format!("no random number: {error}")))?;
    Ok(u128::from_ne_bytes(bytes))
}

/// The SHA-256 of bytes, as text.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
