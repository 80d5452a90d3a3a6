//! A record as the register has it.
//!
//! ```text
//!   {"format":1,"holder":"node-7","endpoint":"10.0.0.7:8080","epoch":12,"counter":345,"ttlMs":10000,"released":false,
//!    "nonce":"0f…"}
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fault::RegisterError;
use crate::protocol::Record;
use crate::settings::Ttl;

/// Largest document that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 4096;

/// Another one is not read.
const FORMAT: u32 = 1;

/// Longest name of a holder, and longest endpoint, in bytes.
pub(crate) const MAX_TEXT: usize = 256;

/// Highest number that every reader of JSON keeps: 2^53 - 1.
const MAX_NUMBER: u64 = (1 << 53) - 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    format: u32,
    holder: Arc<str>,
    endpoint: Arc<str>,
    epoch: u64,
    counter: u64,
    ttl_ms: u64,
    released: bool,
    /// 32 hexadecimal digits.
    nonce: String,
}

pub(crate) fn encode(record: &Record) -> Result<Bytes, RegisterError> {
    let document = Document {
        format: FORMAT,
        holder: Arc::clone(&record.holder),
        endpoint: Arc::clone(&record.endpoint),
        epoch: record.epoch,
        counter: record.counter,
        ttl_ms: u64::try_from(record.ttl.as_millis()).unwrap_or(u64::MAX),
        released: record.released,
        nonce: nonce(record),
    };
    let text = serde_json::to_vec(&document);
    text.map(Bytes::from).map_err(|error| RegisterError::misbehaves(error.to_string()))
}

/// The nonce as text, which also names this content.
pub(crate) fn nonce(record: &Record) -> String {
    format!("{:032x}", record.nonce)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Record, RegisterError> {
    let wrong = |what: &str| RegisterError::misbehaves(format!("the record of the lease {what}"));
    if bytes.len() > MAX_BYTES {
        return Err(wrong("is too large"));
    }
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if document.format != FORMAT {
        return Err(wrong("has another format: another version of this program wrote it"));
    }
    let nonce = Some(&document.nonce).filter(|text| text.len() == 32);
    let nonce = nonce.and_then(|text| u128::from_str_radix(text, 16).ok());
    let ttl = Duration::from_millis(document.ttl_ms);
    let is_plausible = document.holder.len().max(document.endpoint.len()) <= MAX_TEXT
        && (1..=MAX_NUMBER).contains(&document.epoch)
        && document.counter <= MAX_NUMBER
        && Ttl::new(ttl).is_ok();
    let Some(nonce) = nonce.filter(|_| is_plausible) else {
        return Err(wrong("holds values that it cannot have"));
    };
    Ok(Record {
        holder: document.holder,
        endpoint: document.endpoint,
        epoch: document.epoch,
        counter: document.counter,
        ttl,
        nonce,
        released: document.released,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            holder: "node-7".into(),
            endpoint: "10.0.0.7:8080".into(),
            epoch: 12,
            counter: 345,
            ttl: Duration::from_secs(10),
            nonce: 15,
            released: true,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(&record()).unwrap()), Ok(record()));
    }

    #[test]
    fn what_no_holder_wrote_is_refused() {
        let text = String::from_utf8(encode(&record()).unwrap().to_vec()).unwrap();
        for (is, is_not) in [
            ("\"format\":1", "\"format\":2"),
            ("\"epoch\":12", "\"epoch\":0"),
            ("\"epoch\":12", "\"epoch\":9007199254740992"),
            ("\"ttlMs\":10000", "\"ttlMs\":0"),
            ("\"ttlMs\":10000", "\"ttlMs\":86400000"),
            ("000f\"", "00f\""),
            ("node-7", &"x".repeat(257)),
            ("{", "<"),
        ] {
            let damaged = text.replacen(is, is_not, 1);
            assert_ne!(damaged, text, "{is}");
            assert!(decode(damaged.as_bytes()).is_err(), "{damaged}");
        }
        assert!(decode(&[b' '; MAX_BYTES + 1]).is_err());
    }
}
