//! What a person can read. Pages are made beside the control server's thread, like other long answers.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use bulkhead_console::{
    self as console, AgentPage, AgentRow, Alike, ContainerPage, CrashPage, CrashesPage,
    OverviewPage, Said, Visitor,
};
use bulkhead_feed::Feed;
use bulkhead_log::now;
use bulkhead_supervisor::{CrashFilter, SendError, UsageFilter};
use bulkhead_types::previous::Cause;
use bulkhead_types::{AgentId, PreviousRun};
use parking_lot::Mutex;
use serde::Deserialize;

use super::super::crashes::no_such_crash;
use super::html;
use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::long;
use crate::params::{Kind, NoParams, Param, Params, PathId, PathText};

const AFTER: Param = Param::new("after", Kind::Agent, "Agents above this one.");
const SAID: Param = Param::new("said", Kind::Text, "What became of a form.");
const AGENT: Param = Param::new("agent", Kind::Agent, "Crashes of this agent alone.");
const BEFORE: Param = Param::new("before", Kind::Text, "Crashes before this one.");

/// Agents on a page.
const MAX_AGENTS: usize = 100;

/// Samples of the small curve beside an agent.
const SPARK_SAMPLES: usize = 60;

/// Events on the page of an agent.
const MAX_EVENTS: usize = 50;

/// Crash records on the page of an agent.
const MAX_OF_AGENT: usize = 10;

/// Crash records on a page.
const MAX_CRASHES: usize = 50;

/// Kept crash records among which those with one fingerprint are counted.
const MAX_COUNTED: usize = bulkhead_api::crashes::MAX_CRASHES as usize;

/// Earlier runs on the page of the container.
const MAX_RUNS: usize = 50;

pub(super) async fn overview<B: Backend>(
    State(backend): State<B>,
    Extension(visitor): Extension<Visitor>,
    params: Params,
) -> Result<Response, Refusal> {
    let after = params.only(&[AFTER])?.agent(&AFTER)?;
    let page = long::made(move || {
        let mut agents = backend.list(after.as_ref(), MAX_AGENTS + 1);
        let more = agents.len() > MAX_AGENTS;
        agents.truncate(MAX_AGENTS);
        let row = |agent: bulkhead_api::AgentView| {
            let memory = backend.agent_memory(&agent.agent_id);
            let (trend, samples) = memory.map_or_else(Default::default, |memory| {
                let fine = memory.series.fine;
                let from = fine.len().saturating_sub(SPARK_SAMPLES);
                (memory.trend, fine[from..].to_vec())
            });
            AgentRow { agent, trend, samples }
        };
        let shown = OverviewPage {
            now: now(),
            health: backend.health(),
            memory: backend.memory(),
            missing: backend.missing(),
            rows: agents.into_iter().map(row).collect(),
            after,
            more,
        };
        console::overview(&visitor, &shown)
    });
    page.await.map(html)
}

pub(super) async fn agent<B: Backend>(
    agent: PathAgent<B>,
    State(backend): State<B>,
    PathId(id): PathId,
    Extension(visitor): Extension<Visitor>,
    params: Params,
) -> Result<Response, Refusal> {
    let said = params.only(&[SAID])?.text(&SAID);
    let said = said.and_then(|word| Said::ALL.into_iter().find(|said| said.as_str() == word));
    let view = |backend: &B, id: &AgentId| {
        backend.status(id).ok_or_else(|| SendError::NoSuchAgent(id.clone()))
    };
    let agent = agent.when_restored(view).await?;
    let page = long::made(move || {
        let filter =
            CrashFilter { agent: Some(id.clone()), limit: MAX_OF_AGENT, ..CrashFilter::default() };
        let crashes = backend.crashes(&filter);
        let mut events = backend.events_after(&id, 0).events;
        events.drain(..events.len().saturating_sub(MAX_EVENTS));
        let shown = AgentPage {
            now: now(),
            agent,
            memory: backend.agent_memory(&id),
            events,
            crashes: crashes.records,
            more_crashes: crashes.more,
            said,
        };
        console::agent(&visitor, &shown)
    });
    page.await.map(html)
}

pub(super) async fn crashes<B: Backend>(
    State(backend): State<B>,
    Extension(visitor): Extension<Visitor>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(&[AGENT, BEFORE])?;
    let agent = params.agent(&AGENT)?;
    let before = params.text(&BEFORE);
    let page = long::made(move || {
        let filter = CrashFilter {
            agent: agent.clone(),
            before,
            limit: MAX_CRASHES,
            ..CrashFilter::default()
        };
        let page = backend.crashes(&filter);
        console::crashes(&visitor, &CrashesPage { agent, records: page.records, more: page.more })
    });
    page.await.map(html)
}

pub(super) async fn crash<B: Backend>(
    State(backend): State<B>,
    PathText(crash_id): PathText,
    Extension(visitor): Extension<Visitor>,
    _: NoParams,
) -> Result<Response, Refusal> {
    let record = backend.crash(&crash_id).ok_or_else(|| no_such_crash(&crash_id))?;
    let page = long::made(move || {
        let agent_status = backend.status(&record.agent_id).map(|agent| agent.status.into_owned());
        let filter = CrashFilter { limit: MAX_COUNTED, ..CrashFilter::default() };
        let kept = backend.crashes(&filter);
        let alike = Alike::among(&kept.records, &record, kept.more);
        console::crash(&visitor, &CrashPage { record, agent_status, alike })
    });
    page.await.map(html)
}

pub(super) async fn container<B: Backend>(
    State(backend): State<B>,
    Extension(visitor): Extension<Visitor>,
    Extension(runs): Extension<EarlierRuns>,
    _: NoParams,
) -> Result<Response, Refusal> {
    let page = long::made(move || {
        let filter = UsageFilter { agent: None, role: None };
        let shown = ContainerPage {
            health: backend.health(),
            memory: backend.memory(),
            usage: backend.usage(&filter),
            runs: runs.read(backend.feed()),
        };
        console::container(&visitor, &shown)
    });
    page.await.map(html)
}

/// What each boot found out about the runs before it, as far as events are kept.
#[derive(Deserialize)]
struct Reported {
    #[serde(flatten)]
    run: PreviousRun,
    #[serde(default)]
    earlier: Vec<PreviousRun>,
}

/// Runs before this one. Events do not change, so each is read once, and a page that refreshes reads the new ones.
#[derive(Clone, Default)]
pub(super) struct EarlierRuns(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    runs: Vec<PreviousRun>,
    /// Events up to this number were read.
    upto: u64,
}

impl EarlierRuns {
    /// Oldest first.
    fn read(&self, feed: &Feed) -> Vec<PreviousRun> {
        let mut found = self.0.lock();
        loop {
            let page = feed.after(found.upto, |entry| {
                entry.agent.is_none() && &*entry.event.event == "container.previous_run"
            });
            for entry in &page.entries {
                if let Ok(reported) = serde_json::from_str(entry.event.data.get()) {
                    found.take(reported);
                }
            }
            if page.upto <= found.upto {
                break;
            }
            found.upto = page.upto;
        }
        found.runs.clone()
    }
}

impl Found {
    /// A boot that was killed before its report left the process reports a run that the next one reports again: the
    /// later report counts.
    fn take(&mut self, Reported { run, earlier }: Reported) {
        for run in earlier.into_iter().chain([run]) {
            self.runs.retain(|known| {
                run.previous_run_id.is_none() || known.previous_run_id != run.previous_run_id
            });
            // The first boot says that there was none.
            if run.cause != Cause::None {
                self.runs.push(run);
            }
        }
        self.runs.drain(..self.runs.len().saturating_sub(MAX_RUNS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_once_and_a_later_report_is_found() {
        let (feed, runs) = (Feed::default(), EarlierRuns::default());
        let report = |id: &str| {
            let run = serde_json::json!({
                "previousRunId": id, "cause": "oom_kill", "confidence": "high", "evidence": [],
                "excluded": [], "lastState": null, "lastSeq": null, "lastTs": null,
                "lastMemory": null, "inFlight": [], "exitCode": null, "signal": null
            });
            feed.publish("container.previous_run", serde_json::value::to_raw_value(&run).unwrap());
        };
        let ids = || {
            let ids = runs.read(&feed).into_iter().filter_map(|run| run.previous_run_id);
            ids.map(|id| id.to_string()).collect::<Vec<_>>()
        };
        assert!(ids().is_empty());
        report("r-1");
        // More than one look at the events goes over.
        for _ in 0..20_000 {
            feed.publish("container.drained", serde_json::value::RawValue::NULL.to_owned());
        }
        assert_eq!(ids(), ["r-1"]);
        assert_eq!(runs.0.lock().upto, feed.last_id());
        report("r-2");
        assert_eq!(ids(), ["r-1", "r-2"]);
        report("r-1");
        assert_eq!(ids(), ["r-2", "r-1"]);
    }
}
