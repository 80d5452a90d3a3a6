//! Events of agents, in batches.
//!
//! The rings of the agents are the queue: bounded, the oldest go first, and what went before it was sent is
//! counted. A batch is sent once: when nobody knows whether it arrived, it counts as lost rather than to be
//! there twice. One that the town had no time for is kept.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{MissedTickBehavior, interval};

use super::attempts::Attempts;
use super::sweep::{Over, Sweep};
use super::{Loop, PARALLEL, Woken, about};
use crate::call::{About, Call, Payload, Request};
use crate::fault::{Cause, Fault};
use crate::figures::Droppable;

/// Between two checks of the rings.
const LOOK: Duration = Duration::from_secs(1);

/// Events of one batch.
const MAX_EVENTS: usize = 100;

/// Bytes of one batch.
const MAX_BYTES: usize = 256 * 1024;

#[derive(Serialize)]
struct Row {
    agent_id: AgentId,
    event_type: Arc<str>,
    data: Arc<RawValue>,
}

/// What the town has got.
#[derive(Default)]
pub(crate) struct Events {
    /// The last id of each agent that was sent, or lost.
    cursors: Mutex<HashMap<AgentId, u64>>,
    /// The town takes no arrays.
    one_by_one: AtomicBool,
}

/// One event to be sent.
struct Waiting {
    id: u64,
    row: Row,
}

type Result = std::result::Result<(), Fault>;

/// An agent, and how many events of it wait.
type New = (About, u64);

/// What goes on.
struct Sending {
    attempts: Attempts,
    sweep: Sweep<New, Result>,
}

pub(super) async fn run(this: Loop) {
    // Whether the town is back, others find out with calls that are safe to repeat.
    let sweep = Sweep::new(PARALLEL).that_waits_for_others();
    let mut sending = Sending { attempts: Attempts::new(this.shared.give_up), sweep };
    let each = |(about, _): New| {
        let this = this.clone();
        async move { this.send_events_of(&about).await }
    };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut over = None;
        let work = async {
            tokio::select! {
                one = sending.sweep.next(this.client(), each) => over = Some(one),
                _ = look.tick() => {}
            }
        };
        let woken = this.wait(work).await;
        if woken == Woken::Fenced {
            return;
        }
        match over {
            Some(over) => this.end_events(&mut sending.attempts, over),
            None if woken == Woken::Work => this.begin_events(&mut sending, false),
            None => {}
        }
        if woken == Woken::Closing {
            break;
        }
    }
    // What is under way, and all that it left.
    for is_begun in [true, false] {
        if !is_begun {
            this.begin_events(&mut sending, true);
        }
        let Sending { attempts, sweep } = &mut sending;
        sweep.drain(this.client(), each, |over| this.end_events(attempts, over)).await;
    }
}

impl Loop {
    /// Begins to send what is new of every agent that is due; of a container that ends: of all.
    fn begin_events(&self, sending: &mut Sending, is_last: bool) {
        let Sending { attempts, sweep } = sending;
        let now = Instant::now();
        let new = self.new_events();
        attempts.retain(|id| new.iter().any(|(about, _)| about.agent_id == *id));
        self.shared.waiting_events.store(new.iter().map(|(_, count)| count).sum(), Relaxed);
        if !self.client().is_reachable() {
            return;
        }
        for (about, count) in new {
            let id = about.agent_id.clone();
            if is_last || attempts.is_due(&id, now) {
                let has_failed = attempts.has_failed(&id);
                sweep.push(id, (about, count), has_failed);
            }
        }
    }

    fn end_events(&self, attempts: &mut Attempts, (id, (_, count), result): Over<New, Result>) {
        match result {
            Some(Ok(())) => attempts.forget(&id),
            Some(Err(fault)) if !self.is_tried_again(attempts, Call::AgentEvents, &id, &fault) => {
                self.skip_events_of(&id);
            }
            _ => return,
        }
        let waiting = &self.shared.waiting_events;
        waiting.store(waiting.load(Relaxed).saturating_sub(count), Relaxed);
    }

    /// The agents that have new events, and how many.
    fn new_events(&self) -> Vec<New> {
        let reports = self.container.agents();
        let mut cursors = self.shared.events.cursors.lock();
        // Who is not known any more has no events either.
        if cursors.len() > reports.len() {
            let known: HashSet<_> = reports.iter().map(|report| &report.view.agent_id).collect();
            cursors.retain(|id, _| known.contains(id));
        }
        let new = reports.iter().filter_map(|report| {
            let id = &report.view.agent_id;
            let sent = cursors.get(id).copied().unwrap_or(0);
            let new = self.container.last_event_id(id).saturating_sub(sent);
            let is_off = || self.client().optional.is_off(Call::AgentEvents, Some(id));
            (new > 0 && !is_off()).then(|| (about(&report.view), new))
        });
        new.collect()
    }

    /// Counts what an agent's events were as lost: the town has not taken them for too long.
    fn skip_events_of(&self, id: &AgentId) {
        let last = self.container.last_event_id(id);
        let sent = self.shared.events.cursors.lock().insert(id.clone(), last).unwrap_or(0);
        self.client().dropped(Droppable::Events, last.saturating_sub(sent));
    }

    /// An error is one that another try may help.
    async fn send_events_of(&self, about: &About) -> Result {
        let id = &about.agent_id;
        let after = self.shared.events.cursors.lock().get(id).copied().unwrap_or(0);
        let page = self.container.events_after(id, after);
        if let Some(first) = page.dropped_before {
            self.client().dropped(Droppable::Events, first.saturating_sub(after + 1));
            self.shared.events.cursors.lock().insert(id.clone(), first - 1);
        }
        let waiting = page.events.into_iter().map(|event| Waiting {
            id: event.id,
            row: Row { agent_id: id.clone(), event_type: event.event, data: event.data },
        });
        let mut waiting: VecDeque<_> = waiting.collect();
        while let Some(batch) = self.next_batch(&mut waiting) {
            let last = batch.last().map_or(after, |event| event.id);
            self.send(about, batch).await?;
            self.shared.events.cursors.lock().insert(id.clone(), last);
        }
        Ok(())
    }

    /// The next events that go together.
    fn next_batch(&self, waiting: &mut VecDeque<Waiting>) -> Option<Vec<Waiting>> {
        let mut batch = Vec::new();
        // The brackets.
        let mut bytes = 2;
        while let Some(next) = waiting.front() {
            let size = next.row.size() + 1;
            if batch.len() >= MAX_EVENTS || (bytes + size > MAX_BYTES && !batch.is_empty()) {
                break;
            }
            bytes += size;
            batch.extend(waiting.pop_front());
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Sends a batch. An error is one that another try may help.
    async fn send(&self, about: &About, batch: Vec<Waiting>) -> Result {
        let count = batch.len() as u64;
        let rows: Vec<_> = batch.into_iter().map(|event| event.row).collect();
        if rows.iter().map(|row| row.size() + 1).sum::<usize>() + 2 > MAX_BYTES {
            // Alone, and still too large.
            self.client().dropped(Droppable::Events, count);
            return Ok(());
        }
        if !self.shared.events.one_by_one.load(Relaxed) {
            match self.post_events(about, Payload::json(&rows)).await {
                Err(fault) if matches!(fault.status, Some(400 | 422)) => {
                    self.shared.events.one_by_one.store(true, Relaxed);
                }
                Err(fault) => return self.judge(fault, count),
                Ok(()) => return Ok(()),
            }
        }
        for row in rows {
            if let Err(fault) = self.post_events(about, Payload::json(&row)).await {
                self.judge(fault, 1)?;
            }
        }
        Ok(())
    }

    async fn post_events(&self, about: &About, payload: Payload) -> Result {
        let path = self.client().paths.rig(about.rig_id.as_deref(), "agent-events");
        let called =
            self.client().send(Request::new(Call::AgentEvents, path, payload).about(about));
        called.await.map(|_| ())
    }

    /// What follows for events that the town may not have.
    fn judge(&self, fault: Fault, count: u64) -> Result {
        let is_untaken = fault.cause == Cause::Fenced
            || fault.cause.is_before_sending()
            || matches!(fault.cause, Cause::NotHttp | Cause::NotJson)
            || (fault.cause == Cause::Status && !fault.is_final());
        if is_untaken {
            return Err(fault);
        }
        self.client().dropped(Droppable::Events, count);
        Ok(())
    }
}

impl Row {
    /// As JSON, or a little more.
    fn size(&self) -> usize {
        // An event's name is a guest's: each of its characters may need an escape.
        const FRAME: usize = 48;
        FRAME + self.agent_id.as_str().len() + 6 * self.event_type.len() + self.data.get().len()
    }
}
