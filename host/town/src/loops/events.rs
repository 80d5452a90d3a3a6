//! Events of agents, in batches.
//!
//! The rings of the agents are the queue: bounded, the oldest go first, and what went before it was told is
//! counted. A batch is sent once: when nobody knows whether it arrived, it counts as lost rather than to be
//! there twice. One that the town had no time for is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_model::AgentId;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::{Loop, Woken, backoff};
use crate::call::{Call, Payload};
use crate::client::About;
use crate::fault::{Cause, Fault};
use crate::figures::Droppable;

/// Between two looks at the rings.
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

/// How far the town was told.
#[derive(Default)]
pub(crate) struct Events {
    /// The last id of each agent that was told, or lost.
    cursors: Mutex<HashMap<AgentId, u64>>,
    /// The town takes no arrays.
    one_by_one: AtomicBool,
}

/// One event that is to be told.
struct Waiting {
    id: u64,
    row: Row,
}

/// What became of a batch.
enum Sent {
    /// It is done with.
    Through,
    /// It is to be sent again later.
    Later,
}

pub(super) async fn run(this: Loop) {
    let mut failures = 0;
    loop {
        let pause = if failures == 0 { LOOK } else { LOOK + backoff(failures) };
        let woken = this.wait(sleep(pause)).await;
        if woken == Woken::Fenced {
            return;
        }
        failures = if this.tell_events().await { 0 } else { failures + 1 };
        if woken == Woken::Closing {
            return;
        }
    }
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, u64>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loop {
    /// Tells what is new. Says whether the town takes it.
    async fn tell_events(&self) -> bool {
        let sights = self.container.agents();
        let mut rigs: BTreeMap<Option<String>, Vec<AgentId>> = BTreeMap::new();
        let mut waiting = 0;
        {
            let mut cursors = self.shared.events.lock();
            // Who is not known any more has no events either.
            if cursors.len() > sights.len() {
                let known: std::collections::HashSet<_> =
                    sights.iter().map(|sight| &sight.view.agent_id).collect();
                cursors.retain(|id, _| known.contains(id));
            }
            for sight in &sights {
                let id = &sight.view.agent_id;
                let (last, told) = (self.container.last_event_id(id), cursors.get(id).copied());
                let new = last.saturating_sub(told.unwrap_or(0));
                if new > 0 {
                    waiting += new;
                    rigs.entry(sight.view.rig_id.clone()).or_default().push(id.clone());
                }
            }
        }
        self.shared.waiting_events.store(waiting, Relaxed);
        if waiting == 0 || !self.client().is_reachable() {
            return true;
        }
        for (rig_id, agents) in rigs {
            for id in agents {
                if matches!(self.tell_events_of(&rig_id, &id).await, Sent::Later) {
                    return false;
                }
            }
        }
        self.shared.waiting_events.store(0, Relaxed);
        true
    }

    async fn tell_events_of(&self, rig_id: &Option<String>, id: &AgentId) -> Sent {
        let about = About { agent_id: id.clone(), rig_id: rig_id.clone() };
        let after = self.shared.events.lock().get(id).copied().unwrap_or(0);
        let page = self.container.events_after(id, after);
        if let Some(first) = page.dropped_before {
            self.client().dropped(Droppable::Events, first.saturating_sub(after + 1));
            self.shared.events.lock().insert(id.clone(), first - 1);
        }
        let waiting = page.events.into_iter().map(|event| Waiting {
            id: event.id,
            row: Row { agent_id: id.clone(), event_type: event.event, data: event.data },
        });
        let mut waiting: std::collections::VecDeque<_> = waiting.collect();
        while let Some(batch) = self.next_batch(&mut waiting) {
            let last = batch.last().map_or(after, |event| event.id);
            if let Sent::Later = self.send(&about, batch).await {
                return Sent::Later;
            }
            self.shared.events.lock().insert(id.clone(), last);
        }
        Sent::Through
    }

    /// The next events that go together.
    fn next_batch(
        &self,
        waiting: &mut std::collections::VecDeque<Waiting>,
    ) -> Option<Vec<Waiting>> {
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

    async fn send(&self, about: &About, batch: Vec<Waiting>) -> Sent {
        let count = batch.len() as u64;
        let rows: Vec<_> = batch.into_iter().map(|event| event.row).collect();
        if rows.iter().map(|row| row.size() + 1).sum::<usize>() + 2 > MAX_BYTES {
            // Alone, and still too large.
            self.client().dropped(Droppable::Events, count);
            return Sent::Through;
        }
        if !self.shared.events.one_by_one.load(Relaxed) {
            match self.post_events(about, Payload::json(&rows)).await {
                Err(fault) if matches!(fault.status, Some(400 | 422)) => {
                    self.shared.events.one_by_one.store(true, Relaxed);
                }
                Err(fault) => return self.judge(&fault, count),
                Ok(()) => return Sent::Through,
            }
        }
        for row in rows {
            if let Err(fault) = self.post_events(about, Payload::json(&row)).await
                && let Sent::Later = self.judge(&fault, 1)
            {
                return Sent::Later;
            }
        }
        Sent::Through
    }

    async fn post_events(&self, about: &About, payload: Payload) -> Result<(), Fault> {
        let path = self.client().paths.rig(about.rig_id.as_deref(), "agent-events");
        let called = self.client().call_about(Call::AgentEvents, &path, payload, about);
        called.await.map(|_| ())
    }

    /// What follows for events that the town may not have.
    fn judge(&self, fault: &Fault, count: u64) -> Sent {
        let is_untaken = fault.cause == Cause::Fenced
            || fault.cause.is_before_sending()
            || matches!(fault.cause, Cause::NotHttp | Cause::NotJson)
            || (fault.cause == Cause::Status && !fault.is_final());
        if is_untaken {
            return Sent::Later;
        }
        self.client().dropped(Droppable::Events, count);
        Sent::Through
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
