//! Heartbeats of each agent that is there.
//!
//! A heartbeat that fails is due again at a later tick. One that was given up is counted, and its agent begins again
//! from nothing: the next heartbeat is another one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bulkhead_log::now;
use bulkhead_types::{AgentId, Timestamp};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::attempts::Attempts;
use super::sweep::{Over, SLOW, Sweep};
use super::{Loop, PARALLEL, Woken, about, heartbeat};
use crate::call::{Call, Payload, Request};
use crate::container::AgentReport;
use crate::fault::Fault;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfAgent<'a> {
    agent_id: &'a AgentId,
    rig_id: Option<&'a str>,
    town_id: &'a str,
    status: &'a str,
    timestamp: Timestamp,
    last_event_type: Option<&'a str>,
    last_event_at: Option<Timestamp>,
    active_tools: &'a [String],
    message_count: u64,
    container_instance_id: &'a str,
}

/// A heartbeat to be sent.
#[derive(Clone)]
struct Beat {
    report: Arc<AgentReport>,
    finds_out: bool,
}

type Result = std::result::Result<(), Fault>;

/// What goes on.
struct Beats {
    attempts: Attempts,
    sweep: Sweep<Beat, Result>,
    /// The agent that finds out whether the town is there.
    finder: Option<AgentId>,
    /// The one before it.
    last_finder: Option<AgentId>,
}

/// Why there is something to do.
enum Work {
    Tick,
    IsBack,
    Doubt,
    Over(Over<Beat, Result>),
}

pub(super) async fn run(this: Loop) {
    let mut tick = interval(this.shared.heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = Beats {
        attempts: Attempts::new(this.shared.give_up),
        // Who finds out is another one each time.
        sweep: Sweep::new(PARALLEL).that_waits_for_others(),
        finder: None,
        last_finder: None,
    };
    let each = |beat: Beat| {
        let this = this.clone();
        async move { this.beat_for(&beat).await }
    };
    loop {
        let mut work = Work::Tick;
        let waiting = async {
            work = tokio::select! {
                over = beats.sweep.next(this.client(), each) => Work::Over(over),
                _ = tick.tick() => Work::Tick,
                () = this.client().is_back.notified() => Work::IsBack,
                () = this.shared.finder_wanted.notified() => Work::Doubt,
            };
        };
        match this.wait(waiting).await {
            Woken::Work => {}
            Woken::Fenced => return,
            Woken::Closing => {
                // One for whom the town hangs is not waited for.
                let _ = timeout(SLOW, beats.sweep.drain(this.client(), each, |_| {})).await;
                return;
            }
        }
        match work {
            Work::Tick if this.client().is_reachable() => beats.begin_round(&this),
            Work::Tick if this.client().optional.is_off(Call::ContainerHeartbeat, None) => {
                beats.find_out(&this);
            }
            // The container finds out.
            Work::Tick => {}
            Work::IsBack => beats.begin_round(&this),
            Work::Doubt => beats.find_out(&this),
            Work::Over(over) => beats.end(&this, over),
        }
    }
}

impl Beats {
    /// One of each agent that is due.
    fn begin_round(&mut self, this: &Loop) {
        let (reports, now) = (active(this), Instant::now());
        let ids: HashSet<_> = reports.iter().map(|report| &report.view.agent_id).collect();
        self.attempts.retain(|id| ids.contains(id));
        for report in &reports {
            let id = &report.view.agent_id;
            if self.attempts.is_due(id, now) {
                let beat = Beat { report: Arc::clone(report), finds_out: false };
                self.sweep.push(id.clone(), beat, self.attempts.has_failed(id));
            }
        }
    }

    /// One of one agent, which finds out whether the town is there: each time of another one, of those whose last
    /// heartbeat did not fail as long as there are any.
    fn find_out(&mut self, this: &Loop) {
        if self.finder.is_some() {
            return;
        }
        let mut reports = active(this);
        reports.retain(|report| !self.sweep.has(&report.view.agent_id));
        let fails = |report: &AgentReport| self.attempts.has_failed(&report.view.agent_id);
        let was = |report: &AgentReport| Some(&report.view.agent_id) <= self.last_finder.as_ref();
        reports.sort_by_cached_key(|report| {
            (fails(report), was(report), report.view.agent_id.clone())
        });
        let Some(report) = reports.into_iter().next() else { return };
        let id = report.view.agent_id.clone();
        self.sweep.push_finder(id.clone(), Beat { report, finds_out: true });
        (self.finder, self.last_finder) = (Some(id.clone()), Some(id));
    }

    fn end(&mut self, this: &Loop, (id, _, result): Over<Beat, Result>) {
        if self.finder.as_ref() == Some(&id) {
            self.finder = None;
        }
        match result {
            Some(Ok(())) => self.attempts.forget(&id),
            // Silence is about nobody in particular.
            Some(Err(fault)) if this.client().is_reachable() => {
                this.is_tried_again(&mut self.attempts, Call::Heartbeat, &id, &fault);
            }
            Some(Err(_)) | None => {}
        }
    }
}

impl Loop {
    async fn beat_for(&self, beat: &Beat) -> Result {
        let client = self.client();
        let (view, last) = (&beat.report.view, beat.report.last_event.as_ref());
        let payload = Payload::json(&OfAgent {
            agent_id: &view.agent_id,
            rig_id: view.rig_id.as_deref(),
            town_id: &self.shared.town_id,
            status: &view.status,
            timestamp: now(),
            last_event_type: last.map(|(name, _)| &**name),
            last_event_at: last.map(|(_, at)| *at),
            active_tools: &view.active_tools,
            message_count: view.message_count,
            container_instance_id: client.context.run_id(),
        });
        let path = client.paths.agent(view.rig_id.as_deref(), view.agent_id.as_str(), "heartbeat");
        let about = about(view);
        let request = Request::new(Call::Heartbeat, path, payload).about(&about);
        let reply = client.send(request.finds_out(beat.finds_out)).await?;
        self.look_for_nonce(&reply);
        Ok(())
    }
}

/// The agents that are there.
fn active(this: &Loop) -> Vec<Arc<AgentReport>> {
    let reports = this.container.agents().into_iter();
    reports.filter(|report| heartbeat::is_active(&report.view)).map(Arc::new).collect()
}
