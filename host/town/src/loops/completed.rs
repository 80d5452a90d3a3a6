//! Notifies the town that an agent is done, or has failed for good.
//!
//! Not reported: the end of a mayor, an end before a restart, in this run or in the next, one that somebody asked for,
//! and one that the host or its other agents brought about.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep;

use super::attempts::{Attempts, Failure};
use super::sweep::work_or_due;
use super::{Loop, PARALLEL, Woken};
use crate::call::{About, Call, Payload, Request};
use crate::fault::Fault;
use crate::figures::Droppable;
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
    let mut attempts = Attempts::new(this.shared.give_up);
    loop {
        let ended = this.shared.heard.ended.notified();
        let woken = this.wait(work_or_due(ended, attempts.pause(Instant::now()))).await;
        if woken == Woken::Fenced {
            return;
        }
        this.complete_all(&mut attempts, woken == Woken::Closing).await;
        if woken == Woken::Closing {
            return;
        }
    }
}

impl Loop {
    /// Reports the ends that are due; of a container that ends: all.
    async fn complete_all(&self, attempts: &mut Attempts, is_last: bool) {
        let (heard, now) = (&self.shared.heard, Instant::now());
        let ends = heard.take_ends();
        // What found no room is not waited for.
        {
            let known: HashSet<_> = ends.iter().map(|end| &end.agent.agent_id).collect();
            attempts.retain(|id| known.contains(id));
        }
        let is_due = |end: &End| is_last || attempts.is_due(&end.agent.agent_id, now);
        let (due, later): (Vec<_>, Vec<_>) = ends.into_iter().partition(is_due);
        later.into_iter().for_each(|end| heard.end_again(end, self.client()));
        let reported =
            self.sweep(due, PARALLEL, |end: End| async move { self.complete(&end).await });
        for (end, result) in reported.await {
            let id = &end.agent.agent_id;
            match result {
                Some(Ok(())) => attempts.forget(id),
                Some(Err(fault)) if !self.is_tried_again(attempts, Call::Completed, id, &fault) => {
                    self.client().dropped(Droppable::Completions, 1);
                }
                Some(Err(_)) => heard.end_again(end, self.client()),
                // The town fell silent before.
                None => {
                    attempts.failed(id, Failure::Silence, Instant::now());
                    heard.end_again(end, self.client());
                }
            }
        }
    }

    /// An error is one that another try may help.
    async fn complete(&self, end: &End) -> Result<(), Fault> {
        let Some((status, rig_id)) = self.what_follows(end).await else { return Ok(()) };
        let id = &end.agent.agent_id;
        let reason = (status == "failed").then_some(end.reason.as_str());
        let path = self.client().paths.agent(rig_id.as_deref(), id.as_str(), "completed");
        let about = About { agent_id: id.clone(), rig_id };
        let payload = Payload::json(&Completed { status, reason });
        match self.client().send(Request::new(Call::Completed, path, payload).about(&about)).await {
            Err(fault) if !fault.is_final() => Err(fault),
            _ => Ok(()),
        }
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
