//! Which archives there are, as the object `workspaces.json`: written last, so what it names is there, and by one holder of the
//! lease at a time, as the head of the log is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_types::AgentId;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as Turn;

use crate::fault::ShipError;
use crate::place::{Place, Put};

pub(super) const KEY: &str = "workspaces.json";

const FORMAT: u32 = 1;

/// Times that it is read again which another process has just written.
const CLAIMS: u32 = 8;

/// Agents that it has at most.
const MAX_ARCHIVES: usize = 10_000;

/// What an agent left, packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Packed {
    /// Its objects are named by it. A random number, so two archives have no object in common.
    pub id: String,
    /// Of the lease under which it was written.
    pub epoch: u64,
    /// Objects that it is in.
    pub parts: u32,
    /// Bytes of them.
    pub packed_bytes: u64,
    /// SHA-256 of all of them.
    pub digest: String,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// When it was written, in milliseconds since 1970: for people.
    pub written_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    format: u32,
    /// The highest epoch that has claimed it. Lower ones are refused.
    epoch: u64,
    /// Who wrote it.
    session: String,
    archives: BTreeMap<AgentId, Packed>,
}

impl Document {
    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

async fn read(place: &Place) -> Result<Option<(Document, String)>, ShipError> {
    let Some((bytes, version)) = place.get(KEY).await? else { return Ok(None) };
    let object = place.shown(KEY);
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|error| ShipError::damaged(&object, error.to_string()))?;
    if document.format != FORMAT {
        let what = format!("it has format {}, and this version knows {FORMAT}", document.format);
        return Err(ShipError::damaged(&object, what));
    }
    Ok(Some((document, version)))
}

/// The index, claimed by this process.
pub(crate) struct Index {
    epoch: u64,
    session: String,
    archives: Mutex<BTreeMap<AgentId, Packed>>,
    /// What is to be written: each change with its number. Whoever writes takes all of them.
    waiting: Mutex<Waiting>,
    /// Who writes now, and the version that is replaced.
    version: Turn<String>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    changes: Changes,
}

type Changes = BTreeMap<AgentId, (u64, Option<Packed>)>;

/// A change that waits until it is written, or this is dropped.
struct Own<'a> {
    index: &'a Index,
    agent: &'a AgentId,
    number: u64,
}

impl Own<'_> {
    fn is_in(&self, changes: &Changes) -> bool {
        changes.get(self.agent).is_some_and(|(of, _)| *of == self.number)
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let mut waiting = self.index.waiting.lock();
        if self.is_in(&waiting.changes) {
            waiting.changes.remove(self.agent);
        }
    }
}

impl Index {
    /// Writes this epoch into the index, so that no lower one may write it any more.
    pub async fn claim(place: &Place, epoch: u64, session: &str) -> Result<Self, ShipError> {
        let object = place.shown(KEY);
        for _ in 0..CLAIMS {
            let found = read(place).await?;
            let (archives, version) = match found {
                None => (BTreeMap::new(), None),
                Some((there, _)) if there.epoch > epoch => {
                    return Err(ShipError::Newer { object, found: there.epoch, own: epoch });
                }
                Some((there, version)) => (there.archives, Some(version)),
            };
            let document =
                Document { format: FORMAT, epoch, session: session.to_owned(), archives };
            let bytes = document.encode();
            let put = match version {
                None => place.create(KEY, bytes).await?,
                Some(version) => place.replace(KEY, bytes, &version).await?,
            };
            if let Put::Stored(version) = put {
                let (session, archives) = (document.session, Mutex::new(document.archives));
                let (waiting, version) = (Mutex::default(), Turn::new(version));
                return Ok(Self { epoch, session, archives, waiting, version });
            }
        }
        Err(ShipError::Unavailable(format!("{object} is written by others all the time")))
    }

    /// The archive of an agent.
    pub fn get(&self, agent: &AgentId) -> Option<Packed> {
        self.archives.lock().get(agent).cloned()
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether there is room for one more.
    pub fn takes(&self, agent: &AgentId) -> bool {
        let archives = self.archives.lock();
        archives.len() < MAX_ARCHIVES || archives.contains_key(agent)
    }

    /// Names another archive of an agent, or none. Changes of many agents at a time are one write. After an error that
    /// [may pass](ShipError::may_pass) it may be there.
    pub async fn change(
        &self,
        place: &Arc<Place>,
        agent: &AgentId,
        to: Option<Packed>,
    ) -> Result<(), ShipError> {
        let number = {
            let mut waiting = self.waiting.lock();
            waiting.last += 1;
            let number = waiting.last;
            waiting.changes.insert(agent.clone(), (number, to));
            number
        };
        // Nobody writes it later for one that has failed, or was dropped.
        let own = Own { index: self, agent, number };
        let mut version = self.version.lock().await;
        let taken = self.waiting.lock().changes.clone();
        if !own.is_in(&taken) {
            // Somebody has written it meanwhile.
            return Ok(());
        }
        let mut archives = self.archives.lock().clone();
        for (agent, (_, to)) in &taken {
            match to {
                Some(packed) => archives.insert(agent.clone(), packed.clone()),
                None => archives.remove(agent),
            };
        }
        let written = self.write(place, &mut version, &archives).await;
        if written.is_ok() {
            *self.archives.lock() = archives;
            let is_taken = |agent: &AgentId, number: u64| {
                taken.get(agent).is_some_and(|(of, _)| *of == number)
            };
            self.waiting.lock().changes.retain(|agent, (number, _)| !is_taken(agent, *number));
        }
        written
    }

    async fn write(
        &self,
        place: &Place,
        version: &mut String,
        archives: &BTreeMap<AgentId, Packed>,
    ) -> Result<(), ShipError> {
        let (epoch, session) = (self.epoch, self.session.clone());
        let document = Document { format: FORMAT, epoch, session, archives: archives.clone() };
        let (bytes, object) = (document.encode(), place.shown(KEY));
        for _ in 0..2 {
            if let Put::Stored(now) = place.replace(KEY, bytes.clone(), version).await? {
                *version = now;
                return Ok(());
            }
            // An answer of this process may have been lost.
            match read(place).await? {
                Some((there, now)) if there.session == self.session => *version = now,
                Some((there, _)) if there.epoch > epoch => {
                    return Err(ShipError::Newer { object, found: there.epoch, own: epoch });
                }
                _ => return Err(ShipError::Fenced { object }),
            }
        }
        // One that was given up may still be on its way.
        Err(ShipError::Unavailable(format!("{object} is not written, and is this host's")))
    }
}
