//! The envelope of a document.
//!
//! ```text
//!   {"format":1,"kind":"run","name":"town-7","epoch":12,"runId":"…","writtenAt":"…","sha256":"…","content":{…}}
//! ```
//!
//! The checksum is that of the text of `content`. A document that was written in part is no JSON, or its checksum is
//! wrong; both are damage, and damage is not believed.

use bulkhead_types::Timestamp;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};

use crate::Name;

/// Largest document, in bytes. Larger ones are neither written nor read.
pub(crate) const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Version of the envelope and of what is in it. Another one is not read.
const FORMAT: u32 = 1;

/// What a document is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Run,
    Crashes,
}

impl Kind {
    /// The document of the run with this epoch.
    pub fn document(self, epoch: u64) -> &'static str {
        match (self, epoch % 2) {
            (Self::Run, 0) => "run-0.json",
            (Self::Run, _) => "run-1.json",
            (Self::Crashes, 0) => "crashes-0.json",
            (Self::Crashes, _) => "crashes-1.json",
        }
    }
}

/// Which run wrote a document, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    pub epoch: u64,
    pub run_id: String,
    pub written_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    format: u32,
    kind: Kind,
    name: String,
    epoch: u64,
    run_id: String,
    written_at: Timestamp,
    sha256: String,
    content: Box<RawValue>,
}

/// Makes a document. The error says why there is none.
pub(crate) fn seal(
    kind: Kind,
    name: &Name,
    head: &Head,
    content: &impl Serialize,
) -> Result<Bytes, String> {
    let content = to_raw_value(content).map_err(|error| error.to_string())?;
    let Head { epoch, run_id, written_at } = head.clone();
    let sha256 = hash(content.get());
    let (format, name) = (FORMAT, name.as_str().to_owned());
    let envelope = Envelope { format, kind, name, epoch, run_id, written_at, sha256, content };
    let bytes = serde_json::to_vec(&envelope).map_err(|error| error.to_string())?;
    match bytes.len() {
        0..=MAX_BYTES => Ok(bytes.into()),
        bytes => Err(format!("it has {bytes} bytes, at most {MAX_BYTES} are stored")),
    }
}

/// Reads a document that is there. The error says what is wrong with it, as the end of a sentence.
pub(crate) fn open<T: DeserializeOwned>(
    kind: Kind,
    name: &Name,
    bytes: &[u8],
) -> Result<(Head, T), String> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let half = |_| "is half-written or damaged".to_owned();
    let Version { format } = serde_json::from_slice(bytes).map_err(half)?;
    if format != FORMAT {
        return Err(format!("is of format {format}, this program reads {FORMAT}"));
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(half)?;
    if envelope.name != name.as_str() || envelope.kind != kind {
        return Err(format!("is another one: {:?} of {:?}", envelope.kind, envelope.name));
    }
    if envelope.sha256 != hash(envelope.content.get()) {
        return Err("is half-written or damaged".into());
    }
    let content = serde_json::from_str(envelope.content.get())
        .map_err(|error| format!("is of another shape: {error}"))?;
    let Envelope { epoch, run_id, written_at, .. } = envelope;
    Ok((Head { epoch, run_id, written_at }, content))
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn head() -> Head {
        Head { epoch: 7, run_id: "run-7".into(), written_at: Timestamp(1000) }
    }

    fn sealed() -> Bytes {
        seal(Kind::Run, &name("a"), &head(), &vec!["one", "two"]).unwrap()
    }

    #[test]
    fn a_document_reads_back() {
        let read = open::<Vec<String>>(Kind::Run, &name("a"), &sealed()).unwrap();
        assert_eq!(read, (head(), vec!["one".to_owned(), "two".to_owned()]));
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_the_content_is_damage() {
        let bytes = sealed();
        for end in 0..bytes.len() {
            open::<Vec<String>>(Kind::Run, &name("a"), &bytes[..end]).unwrap_err();
        }
        // The end of an older, longer one behind the beginning of a newer one.
        let longer = [&bytes[..], b"\"]}"].concat();
        open::<Vec<String>>(Kind::Run, &name("a"), &longer).unwrap_err();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let error =
            open::<Vec<String>>(Kind::Run, &name("a"), text.replace("two", "six").as_bytes());
        assert_eq!(error.unwrap_err(), "is half-written or damaged");
    }

    #[test]
    fn one_of_another_name_kind_or_format_is_not_believed() {
        let bytes = sealed();
        let error = open::<Vec<String>>(Kind::Run, &name("b"), &bytes).unwrap_err();
        assert!(error.contains("another one"), "{error}");
        open::<Vec<String>>(Kind::Crashes, &name("a"), &bytes).unwrap_err();
        let text =
            String::from_utf8(bytes.to_vec()).unwrap().replace("\"format\":1", "\"format\":2");
        let error = open::<Vec<String>>(Kind::Run, &name("a"), text.as_bytes()).unwrap_err();
        assert_eq!(error, "is of format 2, this program reads 1");
    }

    #[test]
    fn one_that_is_too_large_is_not_made() {
        let error = seal(Kind::Run, &name("a"), &head(), &"x".repeat(MAX_BYTES)).unwrap_err();
        assert!(error.contains("at most 2097152"), "{error}");
    }
}
