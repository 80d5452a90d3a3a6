//! What agents remember: up after it was stored, down before a start at boot.
//!
//! ```text
//!   stored ─▶ what has the town? ── known, else asked ─▶ nothing, or an older one of ours ─▶ up
//!                                                   ├─▶ one that is as new: done
//!                                                   └─▶ a foreign format: it stays as it is, and is checked again
//! ```
//!
//! Nothing is uploaded over a snapshot that was not seen: another system may have left what it knows of an agent
//! there ([`bulkhead_api::town_snapshot`]).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bulkhead_api::town_snapshot::{self, Foreign};
use bulkhead_types::{AgentId, Timestamp};
use bytes::Bytes;
use http::HeaderMap;
use http::header::LAST_MODIFIED;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::attempts::{Attempts, Failure};
use super::sweep::{Over, Sweep, work_or_due};
use super::{Loop, PARALLEL, Shared, Woken, changed};
use crate::call::{About, Call, Payload, Request};
use crate::client::Client;
use crate::container::{Remembered, TownCopy};
use crate::fault::{Cause, Fault};

/// Agents of which it is remembered what the town has. Past it all of them are forgotten, which costs some
/// uploads that were not needed.
const REMEMBERED: usize = 20_000;

/// How long a foreign snapshot is taken to be there still, at first and at most: twice as long each time. Then the
/// town is asked again, because somebody may have taken it away, or something between here and the town answered
/// for it.
const FOREIGN_FOR: Duration = Duration::from_secs(10);
const FOREIGN_FOR_MAX: Duration = Duration::from_secs(600);

/// What the town has, and what it has to get.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// What the town has of each agent.
    has: HashMap<AgentId, Has>,
    waiting: HashSet<AgentId>,
}

/// What the town has of one agent.
#[derive(Debug, Clone, Copy)]
enum Has {
    /// Nothing that counts.
    Nothing,
    /// A snapshot of ours, taken then.
    Ours(Timestamp),
    /// Something of another format, seen then for the last time, so often in a row.
    Foreign(Instant, u32),
}

/// What came of an upload.
enum Upload {
    /// The town has it, or something newer, or does not want it.
    Done,
    /// Something foreign replaces it.
    Blocked,
    /// To be tried again.
    Failed(Fault),
}

impl Snapshots {
    /// How many agents' snapshots wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    fn town_has(&self, id: &AgentId, has: Has) {
        let mut inner = self.0.lock();
        if inner.has.len() >= REMEMBERED {
            inner.has.clear();
        }
        inner.has.insert(id.clone(), has);
    }

    /// What the town is known to have.
    fn known(&self, id: &AgentId) -> Option<Has> {
        let has = self.0.lock().has.get(id).copied();
        has.filter(|has| match has {
            Has::Foreign(seen, times) => seen.elapsed() < foreign_for(*times),
            Has::Nothing | Has::Ours(_) => true,
        })
    }

    /// Something foreign is there, once more.
    fn town_has_foreign(&self, id: &AgentId) {
        let before = self.0.lock().has.get(id).copied();
        let times = match before {
            Some(Has::Foreign(_, times)) => times.saturating_add(1),
            _ => 1,
        };
        self.town_has(id, Has::Foreign(Instant::now(), times));
    }
}

/// How long what was foreign so often in a row is taken to be there.
fn foreign_for(times: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times.saturating_sub(1));
    FOREIGN_FOR.saturating_mul(doubled).min(FOREIGN_FOR_MAX)
}

/// What goes on.
struct Uploads {
    attempts: Attempts,
    sweep: Sweep<AgentId, Upload>,
    /// Agents whose state changed while their upload was under way.
    changed_again: HashSet<AgentId>,
}

pub(super) async fn run(this: Loop) {
    let mut changes = this.container.snapshot_changes();
    changes.mark_changed();
    let mut uploads = Uploads {
        attempts: Attempts::new(this.shared.give_up),
        sweep: Sweep::new(PARALLEL / 2),
        changed_again: HashSet::new(),
    };
    let each = |id: AgentId| {
        let this = this.clone();
        async move { this.upload(&id).await }
    };
    loop {
        let failed = uploads.attempts.pause(Instant::now(), |id| uploads.sweep.has(id));
        // Something foreign may be in the place of one.
        let blocked = (this.shared.snapshots.waiting() > 0).then_some(FOREIGN_FOR);
        let pause = failed.into_iter().chain(blocked).min();
        let mut over = None;
        let work = async {
            tokio::select! {
                one = uploads.sweep.next(this.client(), each) => over = Some(one),
                () = work_or_due(changed(&mut changes), pause) => {}
            }
        };
        let woken = this.wait(work).await;
        if woken == Woken::Fenced {
            return;
        }
        match over {
            Some(over) => this.end_upload(&mut uploads, over),
            None if woken == Woken::Work => {
                changes.mark_unchanged();
                this.begin_uploads(&mut uploads, false);
            }
            None => {}
        }
        if woken == Woken::Closing {
            break;
        }
    }
    // Everything, and once more what changed meanwhile.
    for _ in 0..2 {
        this.begin_uploads(&mut uploads, true);
        while !uploads.sweep.is_empty() {
            let over = uploads.sweep.next(this.client(), each).await;
            this.end_upload(&mut uploads, over);
        }
    }
}

impl Loop {
    /// Begins to upload what is due; of a container that ends: everything.
    fn begin_uploads(&self, uploads: &mut Uploads, is_last: bool) {
        let Uploads { attempts, sweep, changed_again } = uploads;
        let now = Instant::now();
        let changed = self.container.take_changed_snapshots();
        changed_again.extend(changed.iter().filter(|id| sweep.has(id)).cloned());
        let mut inner = self.shared.snapshots.0.lock();
        inner.waiting.extend(changed);
        for id in inner.waiting.iter().filter(|id| is_last || attempts.is_due(id, now)) {
            sweep.push(id.clone(), id.clone(), attempts.has_failed(id));
        }
    }

    fn end_upload(&self, uploads: &mut Uploads, (id, _, came_to): Over<AgentId, Upload>) {
        let Uploads { attempts, sweep, changed_again } = uploads;
        let is_through = match came_to {
            Some(Upload::Done) => true,
            Some(Upload::Failed(fault)) => {
                !self.is_tried_again(attempts, Call::SnapshotPost, &id, &fault)
            }
            // It is checked again by what is there, and not by what failed before.
            Some(Upload::Blocked) => {
                attempts.forget(&id);
                false
            }
            // The town is silent.
            None => {
                attempts.failed(&id, Failure::Silence, Instant::now());
                false
            }
        };
        if is_through {
            attempts.forget(&id);
        }
        if is_through && !changed_again.remove(&id) {
            self.shared.snapshots.0.lock().waiting.remove(&id);
        } else if is_through {
            sweep.push(id.clone(), id, false);
        }
    }

    async fn upload(&self, id: &AgentId) -> Upload {
        let refused =
            |fault: Fault| if fault.is_final() { Upload::Done } else { Upload::Failed(fault) };
        let (container, of) = (self.container.clone(), id.clone());
        let read = tokio::task::spawn_blocking(move || container.newest_snapshot(&of));
        // One that panicked was logged by the hook.
        let Ok(Some(Remembered { taken_at, bytes })) = read.await else { return Upload::Done };
        let rig_id = self.container.agent(id).and_then(|view| view.rig_id);
        let path = self.client().paths.agent(rig_id.as_deref(), id.as_str(), "db-snapshot");
        let about = About { agent_id: id.clone(), rig_id };
        match self.has(&about).await {
            Ok(Has::Nothing) => {}
            Ok(Has::Ours(has)) if has < taken_at => {}
            Ok(Has::Ours(_)) => return Upload::Done,
            Ok(Has::Foreign(..)) => return Upload::Blocked,
            Err(fault) => return refused(fault),
        }
        let bytes = Bytes::from(town_snapshot::seal(&bytes));
        let sha256 = hex(&bytes);
        let payload = Payload::Octets { bytes, taken_at_ms: taken_at.0, sha256 };
        match self
            .client()
            .send(Request::new(Call::SnapshotPost, path, payload).about(&about))
            .await
        {
            Ok(_) => {
                self.shared.snapshots.town_has(id, Has::Ours(taken_at));
                Upload::Done
            }
            Err(fault) => refused(fault),
        }
    }

    /// What the town has of an agent. It is asked when that is not known.
    async fn has(&self, about: &About) -> Result<Has, Fault> {
        let (snapshots, agent) = (&self.shared.snapshots, &about.agent_id);
        if let Some(known) = snapshots.known(agent) {
            return Ok(known);
        }
        match download(&self.shared, about, self.client().patience()).await {
            Ok(TownCopy::Foreign { bytes, why, .. }) => {
                let why = why.to_string();
                tracing::warn!(%agent, bytes, why, "the town's snapshot is of a foreign format; it stays, and the agent's state is kept here only");
            }
            Ok(TownCopy::Nothing | TownCopy::Ours(_)) => {}
            Err(fault) => return snapshots.known(agent).ok_or(fault),
        }
        Ok(snapshots.known(agent).unwrap_or(Has::Nothing))
    }
}

/// What the town has of what an agent remembers.
pub(crate) async fn download(
    shared: &Shared,
    about: &About,
    within: Duration,
) -> Result<TownCopy, Fault> {
    let client = &shared.client;
    let (id, rig) = (about.agent_id.as_str(), about.rig_id.as_deref());
    let path = client.paths.agent(rig, id, "db-snapshot");
    let call = Call::SnapshotGet;
    let has = |has| shared.snapshots.town_has(&about.agent_id, has);
    let foreign = |taken_at, bytes, why| {
        shared.snapshots.town_has_foreign(&about.agent_id);
        Ok(TownCopy::Foreign { taken_at, bytes, why })
    };
    let reply = match client
        .send(Request::new(call, path, Payload::Nothing).about(about).within(within))
        .await
    {
        Ok(reply) => reply,
        Err(fault) if fault.status == Some(404) => {
            has(Has::Nothing);
            return Ok(TownCopy::Nothing);
        }
        Err(fault) if fault.cause == Cause::TooLarge => {
            return foreign(Timestamp(0), call.max_reply_bytes(), Foreign::TooLarge);
        }
        Err(fault) => return Err(fault),
    };
    // One that says that it is ours and is broken may be replaced.
    check_hash(client, about, &reply.headers, &reply.body).inspect_err(|_| has(Has::Nothing))?;
    let taken_at = taken_at(&reply.headers);
    let is_marked = MARKS.iter().all(|mark| reply.headers.contains_key(*mark));
    match town_snapshot::open(&reply.body, is_marked) {
        Ok(bytes) => {
            has(Has::Ours(taken_at));
            let bytes = reply.body.slice_ref(bytes);
            Ok(TownCopy::Ours(Remembered { taken_at, bytes }))
        }
        Err(why) => foreign(taken_at, reply.body.len(), why),
    }
}

/// What every upload of ours says beside its bytes.
const MARKS: [&str; 2] = ["x-snapshot-taken-at", "x-snapshot-sha256"];

fn check_hash(
    client: &Client,
    about: &About,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<(), Fault> {
    let Some(wanted) = headers.get("x-snapshot-sha256") else { return Ok(()) };
    if wanted.as_bytes().eq_ignore_ascii_case(hex(bytes).as_bytes()) {
        return Ok(());
    }
    let text = format!("the snapshot of {} has another hash than it says", about.agent_id);
    Err(client.failed(Call::SnapshotGet, Fault::new(Cause::Corrupt, text), Some(about)))
}

/// When a snapshot was taken. One that does not say it is older than any other.
fn taken_at(headers: &HeaderMap) -> Timestamp {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let taken_at = text("x-snapshot-taken-at").and_then(|ms| ms.trim().parse().ok());
    let modified = || {
        let date = jiff::fmt::rfc2822::parse(text(LAST_MODIFIED.as_str())?).ok()?;
        Some(date.timestamp().as_millisecond())
    };
    Timestamp(taken_at.or_else(modified).unwrap_or(0))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_its_own_else_that_of_the_file_else_none() {
        let of = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
            });
            taken_at(&headers.collect()).0
        };
        let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(of(&[("x-snapshot-taken-at", "1700000000123"), modified]), 1_700_000_000_123);
        assert_eq!(of(&[("x-snapshot-taken-at", "soon"), modified]), 784_111_777_000);
        assert_eq!((of(&[("last-modified", "soon")]), of(&[])), (0, 0));
    }
}
