//! The agents that are to be there, posted whenever they changed.
//!
//! What counts is the state and not the change: a post that failed is made again, with what is true then,
//! until the town has acknowledged the newest.

use std::time::Duration;

use bulkhead_model::AgentId;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{Loop, Woken, backoff, changed};
use crate::call::{Call, Payload};
use crate::container::Listed;

/// Where an agent works, as it sees it.
const WORKDIR: &str = "/workspace";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    agent_id: &'a AgentId,
    request: &'a RawValue,
    workdir: &'static str,
    env: &'a [String],
}

/// What the town knows.
struct Known {
    /// The registry that it acknowledged last.
    acknowledged: Option<[u8; 32]>,
    /// Since then it was told another, and nobody knows if it heard it.
    may_have_heard: bool,
}

pub(super) async fn run(this: Loop) {
    let mut changes = this.container.registry_changes();
    changes.mark_changed();
    // An earlier run may have told it something.
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
    /// Posts the registry, unless the town has it. Says whether it has it now.
    async fn post(&self, known: &mut Known) -> bool {
        let mut listed = self.container.registry();
        listed.sort_unstable_by(|a, b| a.agent_id.cmp(&b.agent_id));
        let rows: Vec<_> = listed.iter().map(row).collect();
        let payload = Payload::json(&rows);
        let digest: [u8; 32] = Sha256::digest(payload.bytes()).into();
        if known.acknowledged == Some(digest) {
            return true;
        }
        let agents: Vec<_> = listed.iter().map(|listed| listed.agent_id.clone()).collect();
        self.container.telling(&agents);
        let path = self.client().paths.town("container-registry");
        // Thousands of agents are megabytes.
        let within = self.client().patience + Duration::from_millis(agents.len() as u64);
        let posted = self.client().call_within(Call::RegistryPost, &path, payload, None, within);
        if let Err(fault) = posted.await {
            known.may_have_heard |= !fault.cause.is_before_sending();
            if !known.may_have_heard {
                self.container.not_told();
            }
            return false;
        }
        *known = Known { acknowledged: Some(digest), may_have_heard: false };
        self.container.acknowledged(&agents);
        true
    }
}

fn row(listed: &Listed) -> Row<'_> {
    let Listed { agent_id, request, env } = listed;
    Row { agent_id, request, workdir: WORKDIR, env }
}
