//! What earlier runs left at the sink: their documents, together.

use std::collections::HashMap;
use std::sync::Arc;

use bulkhead_blackbox::Previous;
use bulkhead_blackbox::runs::KnownRun;
use bulkhead_types::{CrashRecord, Incarnation, Symbolized, Timestamp};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agents::{self, AgentHistory, Agents};
use crate::digest::Digest;
use crate::document::{self, Head, Kind};
use crate::sink::Sink;
use crate::{Fault, Name, Settings};

/// What earlier runs left.
#[derive(Debug, Default)]
pub struct Left {
    /// The newest run that has a document that can be read.
    pub run: Option<LeftRun>,
    /// Crash records, oldest first.
    pub crashes: Vec<Arc<CrashRecord>>,
    /// Documents that are not believed, one sentence each.
    pub damaged: Vec<String>,
    /// The highest number of a run at the sink; 0 without any.
    pub epoch: u64,
}

/// A run that wrote to the sink.
#[derive(Debug)]
pub struct LeftRun {
    /// Its number there.
    pub epoch: u64,
    /// Its id.
    pub run_id: String,
    /// When it last stored a digest.
    pub written_at: Timestamp,
    /// Its black box in short; absent when it had none.
    pub previous: Option<Previous>,
    /// The runs whose end nobody had reported then, itself the last.
    pub runs: Vec<KnownRun>,
    /// Runs that made room in that list.
    pub forgotten_runs: u64,
    /// Agents, with their numbers and histories.
    pub agents: Vec<AgentHistory>,
    /// Agents that are not listed go on after this number.
    pub others_go_on_after: Incarnation,
}

/// The content of a document of [`Kind::Run`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunContent {
    pub digest: Option<Digest>,
    pub runs: Vec<KnownRun>,
    pub forgotten_runs: u64,
    pub agents: Agents,
}

/// The content of one of [`Kind::Crashes`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct CrashContent {
    /// Oldest first.
    pub records: Vec<Arc<CrashRecord>>,
}

impl Left {
    /// Fetches all documents at once. An error when one of them may be there and does not come.
    pub(crate) async fn fetch(sink: &Sink, name: &Name) -> Result<Self, Fault> {
        let get = |kind: Kind, epoch| sink.get(name, kind.document(epoch));
        let (run_0, run_1, crashes_0, crashes_1) = tokio::try_join!(
            get(Kind::Run, 0),
            get(Kind::Run, 1),
            get(Kind::Crashes, 0),
            get(Kind::Crashes, 1),
        )?;
        Ok(Self::of(name, [run_0, run_1], [crashes_0, crashes_1]))
    }

    fn of(name: &Name, runs: [Option<Bytes>; 2], crashes: [Option<Bytes>; 2]) -> Self {
        let mut left = Self::default();
        let runs: Vec<(Head, RunContent)> = left.read_all(name, Kind::Run, runs);
        let newest = runs.into_iter().max_by_key(|(head, _)| head.epoch);
        left.run = newest.map(|(head, content)| LeftRun::of(head, content));
        let crashes: Vec<(Head, CrashContent)> = left.read_all(name, Kind::Crashes, crashes);
        left.crashes = merged(crashes.into_iter().flat_map(|(_, content)| content.records));
        left
    }

    /// Those that can be read. The others count as damaged.
    fn read_all<T: DeserializeOwned>(
        &mut self,
        name: &Name,
        kind: Kind,
        documents: [Option<Bytes>; 2],
    ) -> Vec<(Head, T)> {
        let mut read: Vec<(Head, T)> = Vec::new();
        for (parity, bytes) in (0..).zip(documents) {
            let Some(bytes) = bytes else { continue };
            match document::open(kind, name, &bytes) {
                Ok(document) => {
                    self.epoch = self.epoch.max(document.0.epoch);
                    read.push(document);
                }
                Err(problem) => self.damaged.push(format!("{} {problem}", kind.document(parity))),
            }
        }
        read
    }
}

impl LeftRun {
    fn of(head: Head, content: RunContent) -> Self {
        let Head { epoch, run_id, written_at } = head;
        let RunContent { digest, runs, forgotten_runs, agents } = content;
        let (listed, _) = agents.read();
        Self {
            epoch,
            run_id,
            written_at,
            previous: digest.map(Digest::into_previous),
            runs,
            forgotten_runs,
            agents: listed,
            others_go_on_after: agents::after(agents.forgotten),
        }
    }
}

/// Each record once, oldest first. One whose frames are known replaces one whose are not.
fn merged(records: impl Iterator<Item = Arc<CrashRecord>>) -> Vec<Arc<CrashRecord>> {
    let mut by_id = HashMap::new();
    for record in records {
        let known = by_id.get(&record.crash_id);
        let is_better = |known: &Arc<CrashRecord>| known.symbolized == Symbolized::Pending;
        if known.is_none_or(is_better) {
            by_id.insert(record.crash_id.clone(), record);
        }
    }
    let mut records: Vec<_> = by_id.into_values().collect();
    records.sort_by(|one, other| {
        (one.crashed_at, &one.crash_id).cmp(&(other.crashed_at, &other.crash_id))
    });
    records
}

/// Asks the sink for what a boot asks it, and changes nothing. What is there of which run: [`Left::epoch`] and
/// [`Left::damaged`].
pub async fn look(settings: &Settings) -> Result<Left, Fault> {
    Left::fetch(&Sink::new(settings)?, &settings.name).await
}
