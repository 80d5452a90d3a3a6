//! The workspace of an agent that works on a repository, made before there is an instance.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::time::millis;
use bulkhead_types::{Event, Exit, ExitReason, GitSpec, Phase};
use bulkhead_workspace::{Author, OnProgress, Prepared, Progress, Request, Rig};
use serde_json::value::to_raw_value;
use tokio::time::Instant;

use super::base::Actor;
use super::drive::stop_ordered;
use super::step::IncarnationEnd;

/// The event that those who follow the agent see of git's work.
const PROGRESS: &str = "workspace.progress";

/// Between two of them, unless git begins something else.
const PACE: Duration = Duration::from_millis(500);

impl Actor<'_> {
    /// Makes the repository that the agent works on, or finds it as the agent left it. It has a limit of its own: the
    /// deadline of the start stands still.
    pub(super) async fn prepare_workspace(&mut self) -> Result<(), IncarnationEnd> {
        let Some(git) = self.state.start.spec.git.clone() else { return Ok(()) };
        self.mark_in_flight(Phase::Workspace.as_str(), None);
        let began = Instant::now();
        let made = self.make(&git).await;
        self.deadline += began.elapsed();
        self.state.progress().loaded(self.deadline.into_std());
        let Prepared { branch, head, reused, .. } = made?;
        self.container.sink.record(Event::WorkspacePrepared {
            agent: self.state.tag(),
            rig: git.rig.clone(),
            branch,
            head: head.to_string(),
            reused,
            duration_ms: millis(began.elapsed()),
        });
        Ok(())
    }

    async fn make(&mut self, git: &GitSpec) -> Result<Prepared, IncarnationEnd> {
        let (Some(workspaces), Some(path)) = (&self.container.workspaces, &self.task.workspace)
        else {
            return Err(failed("unavailable", "this host makes no repositories").into());
        };
        let spec = &self.state.start.spec;
        let rig = Rig {
            name: git.rig.clone(),
            url: git.url.clone(),
            default_branch: git.default_branch.clone(),
        };
        let request = Request {
            agent: spec.id.to_string(),
            path: path.clone(),
            branch: git.branch.clone(),
            start_point: git.start_point.clone(),
            lightweight: git.lightweight,
            author: Author { name: git.author.name.clone(), email: git.author.email.clone() },
        };
        let progress = self.progress_of_git();
        let stopped = || self.stopped_at_start(Phase::Workspace);
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop_ordered(&mut stop) => Err(stopped().into()),
            made = workspaces.prepare(&rig, &request, &progress) => {
                made.map_err(|error| failed(error.code(), &error.to_string()).into())
            }
        }
    }

    fn progress_of_git(&self) -> OnProgress {
        let ring = Arc::clone(&self.state.start.ring);
        let last = std::sync::Mutex::new((String::new(), None::<Instant>));
        Arc::new(move |Progress { phase, percent }| {
            let mut last = last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let is_early = last.1.is_some_and(|at| at.elapsed() < PACE);
            if last.0 == phase && is_early && percent < 100 {
                return;
            }
            let data = serde_json::json!({ "phase": phase, "percent": percent });
            if let Ok(data) = to_raw_value(&data) {
                ring.push(PROGRESS, data);
            }
            *last = (phase, Some(Instant::now()));
        })
    }
}

fn failed(code: &str, message: &str) -> Exit {
    let mut exit = Exit::new(ExitReason::StartFailed, Phase::Workspace, message);
    exit.code = Some(code.to_owned());
    exit
}
