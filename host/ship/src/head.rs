//! The head of a log, as the object `head.json`: who may write, and where a reader begins.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fault::ShipError;
use crate::place::Place;
use crate::settings::Settings;

pub(crate) const KEY: &str = "head.json";

const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    pub format: u32,
    /// The highest epoch that has claimed the log. Lower ones are refused.
    pub epoch: u64,
    /// Who wrote the head.
    pub session: String,
    /// The first segment of the newest copy of all pages, with its digest. 0: there is none yet.
    pub copy: u64,
    pub copy_digest: String,
    /// The same of the copy before it. Segments below are removed, but the first one, which says that there is a log.
    pub copy_before: u64,
    /// Those below this one are gone.
    pub removed: u64,
    /// A segment with this number was there when the head was written, and none below `copy_before` is needed.
    pub seen: u64,
}

impl Head {
    /// Of a log that is empty.
    pub fn new(epoch: u64, session: &str) -> Self {
        Self {
            format: FORMAT,
            epoch,
            session: session.to_owned(),
            copy: 0,
            copy_digest: String::new(),
            copy_before: 0,
            removed: 0,
            seen: 0,
        }
    }

    /// The number of the first segment that a reader needs.
    pub fn first(&self) -> u64 {
        self.copy.max(1)
    }

    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// Reads the head, with its version.
pub(crate) async fn read(place: &Place) -> Result<Option<(Head, String)>, ShipError> {
    let Some((bytes, version)) = place.get(KEY).await? else { return Ok(None) };
    let object = place.shown(KEY);
    let head: Head = serde_json::from_slice(&bytes)
        .map_err(|error| ShipError::damaged(&object, error.to_string()))?;
    if head.format != FORMAT {
        let what = format!("it has format {}, and this version knows {FORMAT}", head.format);
        return Err(ShipError::damaged(&object, what));
    }
    Ok(Some((head, version)))
}

/// Asks the place for the head as a boot does, and changes nothing. The epoch that wrote last; `None`: nothing was shipped yet.
pub async fn look(settings: &Settings) -> Result<Option<u64>, ShipError> {
    let head = read(&Place::new(settings)?).await?;
    Ok(head.map(|(head, _)| head.epoch))
}
