//! The desired agents, posted whenever they changed.
//!
//! What counts is the state and not the change: a post that failed is made again, with what is true then,
//! until the town has acknowledged the newest.
//!
//! A post replaces the whole list. So nothing is posted before the town's list was read once, at boot or here: what
//! it holds and this container knows nothing of goes back as it came.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bulkhead_api::TownRegistry;
use bulkhead_types::AgentId;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{Loop, Shared, Woken, backoff, changed};
use crate::call::{Call, Payload, Request};
use crate::container::Listed;
use crate::fault::{Cause, Fault};

/// Where an agent works, as it sees it.
const WORKDIR: &str = "/workspace";

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Row<'a> {
    Agent { agent_id: &'a AgentId, request: &'a RawValue, workdir: &'static str, env: &'a [String] },
    AsItCame(&'a RawValue),
}

/// What the town knows.
struct Known {
    /// The registry that it acknowledged last.
    acknowledged: Option<[u8; 32]>,
    /// Since then it was sent another, and has not acknowledged it.
    may_have_heard: bool,
}

pub(super) async fn run(this: Loop) {
    let mut changes = this.container.registry_changes();
    changes.mark_changed();
    // An earlier run may have sent it something.
    let (mut known, mut failures) = (Known { acknowledged: None, may_have_heard: true }, 0);
    loop {
        let woken = match failures {
            0 => this.wait(changed(&mut changes)).await,
            _ => this.wait(sleep(backoff(failures))).await,
        };
        if woken == Woken::Fenced {
            return;
        }
        // What changes from here on is seen in the next round.
        changes.mark_unchanged();
        match this.post(&mut known).await {
            true => failures = 0,
            false => failures += 1,
        }
        if woken == Woken::Closing {
            return;
        }
    }
}

impl Loop {
    /// Reads the town's list, which the boot could not. Says whether it is known now.
    async fn read(&self) -> bool {
        let registry = match ask_for_registry(&self.shared, self.client().patience).await {
            Ok(registry) => registry,
            // It has none yet.
            Err(fault) if fault.status == Some(404) => TownRegistry::default(),
            // That was logged.
            Err(_) => return false,
        };
        self.container.town_lists(&registry);
        self.shared.registry_is_read.store(true, Relaxed);
        true
    }

    /// Posts the registry, unless the town has it. Says whether it has it now.
    async fn post(&self, known: &mut Known) -> bool {
        if !self.shared.registry_is_read.load(Relaxed) && !self.read().await {
            return false;
        }
        let mut listed = self.container.registry();
        // Those that name nobody keep their order.
        listed.sort_by(|a, b| a.agent_id().cmp(&b.agent_id()));
        let rows: Vec<_> = listed.iter().map(row).collect();
        let payload = Payload::json(&rows);
        let digest: [u8; 32] = Sha256::digest(payload.bytes()).into();
        if known.acknowledged == Some(digest) {
            return true;
        }
        let agents: Vec<_> = listed.iter().filter_map(Listed::agent_id).cloned().collect();
        self.container.notifying(&agents);
        let path = self.client().paths.town("container-registry");
        // Thousands of agents are megabytes.
        let within = self.client().patience + Duration::from_millis(listed.len() as u64);
        let posted =
            self.client().send(Request::new(Call::RegistryPost, path, payload).within(within));
        if let Err(fault) = posted.await {
            known.may_have_heard |= !fault.cause.is_before_sending();
            if !known.may_have_heard {
                self.container.not_notified();
            }
            return false;
        }
        *known = Known { acknowledged: Some(digest), may_have_heard: false };
        self.container.acknowledged(&agents);
        true
    }
}

fn row(listed: &Listed) -> Row<'_> {
    match listed {
        Listed::Agent { agent_id, request, env } => {
            Row::Agent { agent_id, request, workdir: WORKDIR, env }
        }
        Listed::AsItCame { row, .. } => Row::AsItCame(row.json()),
    }
}

/// Asks for the agents that the town wants here. A failure was logged.
pub(crate) async fn ask_for_registry(
    shared: &Shared,
    within: Duration,
) -> Result<TownRegistry, Fault> {
    let client = &shared.client;
    let (call, path) = (Call::RegistryGet, client.paths.town("container-registry"));
    let reply = client.send(Request::new(call, path, Payload::Nothing).within(within)).await?;
    let rows: Option<Vec<Box<RawValue>>> = client.data(call, &reply, None)?;
    // Nothing said is not the same as nothing wanted.
    let rows = rows.ok_or_else(|| "the answer has no data".to_owned());
    let parsed = rows.and_then(|rows| TownRegistry::parse(&rows));
    parsed.map_err(|text| client.failed(call, Fault::new(Cause::NotJson, text), None))
}
