//! Notifies the town that an agent is done, or has failed for good.
//!
//! Not reported: the end of a mayor, an end before a restart, in this run or in the next, one that somebody asked for,
//! and one that the host or its other agents brought about.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep;

use super::attempts::{Attempts, Failure};
use super::sweep::{Over, Sweep, work_or_due};
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

type Result = std::result::Result<(), Fault>;

/// What goes on.
struct Reports {
    attempts: Attempts,
    sweep: Sweep<End, Result>,
}

pub(super) async fn run(this: Loop) {
    let mut reports =
        Reports { attempts: Attempts::new(this.shared.give_up), sweep: Sweep::new(PARALLEL) };
    let each = |end: End| {
        let this = this.clone();
        async move { this.complete(&end).await }
    };
    loop {
        let mut over = None;
        let ended = this.shared.heard.ended.notified();
        let pause = reports.pause();
        let work = async {
            tokio::select! {
                one = reports.sweep.next(this.client(), each) => over = Some(one),
                () = work_or_due(ended, pause) => {}
            }
        };
        let woken = this.wait(work).await;
        if woken == Woken::Fenced {
            return;
        }
        if let Some(over) = over {
            this.end_report(&mut reports.attempts, over);
        }
        if woken == Woken::Closing {
            break;
        }
        this.begin_reports(&mut reports, false);
    }
    // Once for all, and once more for an agent that ended again meanwhile.
    for _ in 0..2 {
        this.begin_reports(&mut reports, true);
        let Reports { attempts, sweep } = &mut reports;
        sweep.drain(this.client(), each, |over| this.end_report(attempts, over)).await;
    }
}

impl Reports {
    fn pause(&self) -> Option<Duration> {
        let pause = self.attempts.pause(Instant::now(), |id| self.sweep.has(id));
        pause.filter(|_| !self.sweep.is_full())
    }
}

impl Loop {
    /// Begins to report the ends that are due; of a container that ends: all.
    fn begin_reports(&self, reports: &mut Reports, is_last: bool) {
        let Reports { attempts, sweep } = reports;
        if sweep.is_full() {
            return;
        }
        let (heard, now) = (&self.shared.heard, Instant::now());
        let ends = heard.take_ends();
        // What found no room is not waited for.
        {
            let known: HashSet<_> = ends.iter().map(|end| &end.agent.agent_id).collect();
            attempts.retain(|id| known.contains(id) || sweep.has(id));
        }
        for end in ends {
            let id = end.agent.agent_id.clone();
            if !sweep.has(&id) && (is_last || attempts.is_due(&id, now)) {
                let has_failed = attempts.has_failed(&id);
                sweep.push(id, end, has_failed);
            } else {
                heard.end_again(end, self.client());
            }
        }
    }

    fn end_report(&self, attempts: &mut Attempts, (id, end, result): Over<End, Result>) {
        let heard = &self.shared.heard;
        match result {
            Some(Ok(())) => attempts.forget(&id),
            Some(Err(fault)) if !self.is_tried_again(attempts, Call::Completed, &id, &fault) => {
                self.client().dropped(Droppable::Completions, 1);
            }
            Some(Err(_)) => heard.end_again(end, self.client()),
            // The town is silent.
            None => {
                attempts.failed(&id, Failure::Silence, Instant::now());
                heard.end_again(end, self.client());
            }
        }
    }

    /// An error is one that another try may help.
    async fn complete(&self, end: &End) -> Result {
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
