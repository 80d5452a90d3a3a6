//! Tells the town that an agent is done, or has failed for good.
//!
//! Not told: the end of a mayor, an end that comes back, in this run or in the next, one that somebody asked for,
//! and one that the host or its other agents brought about.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use super::{Loop, Woken, backoff};
use crate::call::{Call, Payload};
use crate::client::About;
use crate::heard::End;

/// Between the line of an end and what follows from it there is a moment.
const LOOK: Duration = Duration::from_millis(20);

/// Looks at one end.
const MAX_LOOKS: u32 = 100;

#[derive(Serialize)]
struct Completed<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

pub(super) async fn run(this: Loop) {
    let mut failures = 0;
    loop {
        let woken = match failures {
            0 => this.wait(this.shared.heard.ended.notified()).await,
            _ => this.wait(sleep(backoff(failures))).await,
        };
        if woken == Woken::Fenced {
            return;
        }
        let mut left = Vec::new();
        for end in this.shared.heard.take_ends() {
            // When one is not heard, the others would not be either.
            if !left.is_empty() || !this.complete(&end).await {
                left.push(end);
            }
        }
        failures = if left.is_empty() { 0 } else { failures + 1 };
        left.into_iter().for_each(|end| this.shared.heard.end(end, this.client()));
        if woken == Woken::Closing {
            return;
        }
    }
}

impl Loop {
    /// Says whether the end is done with.
    async fn complete(&self, end: &End) -> bool {
        let Some((status, rig_id)) = self.what_follows(end).await else { return true };
        let id = &end.agent.agent_id;
        let reason = (status == "failed").then_some(end.reason.as_str());
        let path = self.client().paths.agent(rig_id.as_deref(), id.as_str(), "completed");
        let about = About { agent_id: id.clone(), rig_id };
        let payload = Payload::json(&Completed { status, reason });
        let called = self.client().call_about(Call::Completed, &path, payload, &about);
        !called.await.is_err_and(|fault| !fault.is_final())
    }

    /// What became of an agent, if it ended for good; and its rig.
    async fn what_follows(&self, end: &End) -> Option<(&'static str, Option<String>)> {
        for _ in 0..MAX_LOOKS {
            let view = self.container.agent(&end.agent.agent_id)?;
            if view.incarnation != end.agent.incarnation {
                return None;
            }
            match view.status.as_ref() {
                "exited" => return Some(("completed", view.rig_id)),
                // It crashed while the container went away: the next run brings it back.
                "failed" if self.container.is_wanted(&end.agent.agent_id) => return None,
                "failed" | "quarantined" => return Some(("failed", view.rig_id)),
                "running" | "stopping" | "starting" => sleep(LOOK).await,
                _ => return None,
            }
        }
        None
    }
}
