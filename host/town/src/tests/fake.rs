//! A container that a test changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use bulkhead_api::view::{MemoryView, RestartView};
use bulkhead_api::{AgentView, EventsPage, NudgeRequest, TownRegistry};
use bulkhead_feed::{Ring, RingLimits};
use bulkhead_types::{AgentId, Incarnation, RestartRules, RestartState, Timestamp};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::{AgentReport, Container, Listed, Remembered};

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) views: Mutex<Vec<AgentView>>,
    pub(crate) rings: Mutex<HashMap<AgentId, Arc<Ring>>>,
    /// To be there, whatever they show.
    pub(crate) wanted: Mutex<Vec<AgentId>>,
    pub(crate) listed: watch::Sender<u64>,
    pub(crate) notified: Mutex<Vec<Vec<AgentId>>>,
    pub(crate) town_lists: Mutex<Vec<Vec<AgentId>>>,
    pub(crate) not_notified: AtomicUsize,
    pub(crate) acknowledged: Mutex<Vec<Vec<AgentId>>>,
    pub(crate) nudges: Mutex<Vec<String>>,
    pub(crate) is_ready: AtomicBool,
    pub(crate) stored: watch::Sender<u64>,
    pub(crate) changed: Mutex<Vec<AgentId>>,
    pub(crate) snapshots: Mutex<HashMap<AgentId, Remembered>>,
}

pub(crate) fn id(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

pub(crate) fn view(name: &str, status: &'static str) -> AgentView {
    let rules = RestartRules::default();
    AgentView {
        agent_id: id(name),
        name: name.into(),
        role: "polecat".into(),
        component: "polecat".into(),
        town_id: None,
        rig_id: Some("rig 1".into()),
        model: None,
        status: status.into(),
        busy: false,
        incarnation: Incarnation(1),
        started_at: Timestamp(1),
        last_activity_at: Timestamp(2),
        active_tools: vec!["bash".into()],
        running_tools: Vec::new(),
        message_count: 3,
        mailbox_depth: 0,
        nudges: 0,
        cpu_us: 0,
        cpu_throttled_us: 0,
        memory: MemoryView::default(),
        usage: Default::default(),
        restart: RestartView::new(
            &rules,
            RestartState::default(),
            None,
            Timestamp(0),
            Some(Duration::ZERO),
        ),
        exit_reason: None,
        exit: None,
        set_aside: None,
    }
}

impl Fake {
    pub(crate) fn with(names: &[&str]) -> Arc<Self> {
        let fake = Self::default();
        *fake.views.lock() = names.iter().map(|name| view(name, "running")).collect();
        Arc::new(fake)
    }

    pub(crate) fn set(&self, name: &str, status: &'static str) {
        let mut views = self.views.lock();
        views.retain(|view| view.agent_id.as_str() != name);
        views.push(view(name, status));
        drop(views);
        self.listed.send_modify(|count| *count += 1);
    }

    pub(crate) fn ring(&self, name: &str) -> Arc<Ring> {
        let new = || {
            Arc::new(Ring::new(&Arc::default(), id(name), RingLimits::default(), &Arc::default()))
        };
        let mut rings = self.rings.lock();
        Arc::clone(rings.entry(id(name)).or_insert_with(new))
    }

    pub(crate) fn store(&self, name: &str, taken_at: i64, bytes: &'static [u8]) {
        let remembered = Remembered { taken_at: Timestamp(taken_at), bytes: bytes.into() };
        self.snapshots.lock().insert(id(name), remembered);
        self.changed.lock().push(id(name));
        self.stored.send_modify(|count| *count += 1);
    }
}

impl Container for Fake {
    fn agents(&self) -> Vec<AgentReport> {
        let views = self.views.lock().clone();
        views.into_iter().map(|view| AgentReport { view, last_event: None }).collect()
    }

    fn agent(&self, id: &AgentId) -> Option<AgentView> {
        self.views.lock().iter().find(|view| view.agent_id == *id).cloned()
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(SeqCst)
    }

    fn is_wanted(&self, id: &AgentId) -> bool {
        self.wanted.lock().contains(id)
    }

    fn registry(&self) -> Vec<Listed> {
        let views = self.views.lock();
        let running = views.iter().filter(|view| view.status == "running");
        running
            .map(|view| Listed::Agent {
                agent_id: view.agent_id.clone(),
                request: RawValue::from_string(r#"{"role":"polecat"}"#.into()).unwrap().into(),
                env: vec!["KEY".into()],
            })
            .collect()
    }

    fn town_lists(&self, registry: &TownRegistry) {
        let listed = registry.lists().cloned().collect();
        self.town_lists.lock().push(listed);
    }

    fn registry_changes(&self) -> watch::Receiver<u64> {
        self.listed.subscribe()
    }

    fn notifying(&self, agents: &[AgentId]) {
        self.notified.lock().push(agents.to_vec());
    }

    fn not_notified(&self) {
        self.not_notified.fetch_add(1, SeqCst);
    }

    fn acknowledged(&self, agents: &[AgentId]) {
        self.acknowledged.lock().push(agents.to_vec());
    }

    fn events_after(&self, id: &AgentId, after: u64) -> EventsPage {
        self.ring(id.as_str()).after(after).into()
    }

    fn last_event_id(&self, id: &AgentId) -> u64 {
        self.ring(id.as_str()).last_id()
    }

    fn nudge(&self, _: &AgentId, request: NudgeRequest) -> Result<(), String> {
        self.nudges.lock().push(request.message);
        Ok(())
    }

    fn snapshot_changes(&self) -> watch::Receiver<u64> {
        self.stored.subscribe()
    }

    fn take_changed_snapshots(&self) -> Vec<AgentId> {
        std::mem::take(&mut self.changed.lock())
    }

    fn newest_snapshot(&self, id: &AgentId) -> Option<Remembered> {
        self.snapshots.lock().get(id).cloned()
    }
}
