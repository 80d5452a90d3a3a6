//! The workspace of an agent: held while there is an incarnation; for one that works on a repository made before it, and
//! saved after it.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_log::now;
use bulkhead_types::event::{WorkNotSaved, WorkSaved, WorkspacePrepared};
use bulkhead_types::time::millis;
use bulkhead_types::{Determinism, Event, Exit, ExitReason, GitSpec, Phase};
use bulkhead_workspace::{
    Author, DiskLimit, OnProgress, Prepared, Progress, Request, Rig, Saved, Workspaces,
};
use serde_json::value::to_raw_value;
use tokio::time::{Instant, sleep};

use super::base::Actor;
use super::drive::{StopOrders, stop_ordered};
use super::step::IncarnationEnd;
use crate::refusal::StartError;
use crate::report::start_error;
use crate::stop_order::StopOrder;

/// Longest time to bring an agent's work to its remote. A start that replaces the agent waits for it, within its own
/// deadline, which is twice as long as a rule.
const SAVING: Duration = Duration::from_secs(15);

/// The event that those who follow the agent see of git's work.
const PROGRESS: &str = "workspace.progress";

/// Codes of failures that a retry does not help until somebody changes what the start asks for, or what is there.
const IN_VAIN: [&str; 4] = ["invalid", "occupied", "too-large", "unavailable"];

/// Between two of them, unless git begins something else.
const PACE: Duration = Duration::from_millis(500);

impl Actor<'_> {
    /// From here on nobody takes the workspace away.
    pub(super) async fn acquire_workspace(&mut self) -> Result<(), IncarnationEnd> {
        if self.task.workspace.is_none() {
            return Ok(());
        }
        let (began, mut stop) = (Instant::now(), self.stop.clone());
        let using = tokio::select! {
            biased;
            _ = stop_ordered(&mut stop) => {
                return Err(self.stopped_at_start(Phase::Workspace).into());
            }
            using = self.container.workspace_use.begin(self.state.id()) => using,
        };
        self.stand_still(began);
        self.workspace_use = Some(using);
        Ok(())
    }

    /// What took until now does not count against the start.
    fn stand_still(&mut self, began: Instant) {
        self.deadline += began.elapsed();
        self.state.progress().loaded(self.deadline.into_std());
    }

    /// It is used no longer.
    pub(super) async fn release_workspace(&mut self) {
        self.record_use().await;
        self.workspace_use = None;
    }

    /// Writes down that the workspace is used, at most once a minute.
    pub(super) async fn record_use(&self) {
        let inventory = self.container.inventory.as_ref().filter(|_| self.workspace_use.is_some());
        let Some(inventory) = inventory else { return };
        let id = self.state.id();
        if let Err(error) = inventory.used(id, now()).await {
            tracing::warn!(agent = %id, %error, "the use of its workspace is not noted");
        }
    }

    /// Brings its workspace here, if another machine has shipped a newer one: it never begins with an older one. It has a limit of
    /// its own.
    pub(super) async fn receive_workspace(&mut self) -> Result<(), IncarnationEnd> {
        let (Some(archives), Some(_)) = (&self.container.archives, &self.workspace_use) else {
            return Ok(());
        };
        let (archives, id) = (archives.clone(), self.state.id().clone());
        let not_here = |error: bulkhead_ship::ArchiveError| {
            failed("workspace-not-here", &format!("its workspace was not brought here: {error}"))
        };
        let (began, mut stop) = (Instant::now(), self.stop.clone());
        let is_newer = tokio::select! {
            biased;
            _ = stop_ordered(&mut stop) => {
                return Err(self.stopped_at_start(Phase::Workspace).into());
            }
            is_newer = archives.is_newer(&id) => is_newer,
        };
        self.stand_still(began);
        let began = Instant::now();
        if is_newer.map_err(not_here)? {
            self.mark_in_flight(Phase::Workspace.as_str(), None);
            if let Some(workspaces) = &self.container.workspaces {
                // What is known of a repository is not of the one that comes.
                let forgotten = workspaces.forget(id.as_str()).await;
                forgotten.map_err(|error| failed(error.code(), &error.to_string()))?;
            }
            // Of its own: what is under way goes on for a moment after a stop.
            let guard = self.container.workspace_use.begin(&id).await;
            let arrived = tokio::select! {
                biased;
                _ = stop_ordered(&mut stop) => {
                    return Err(self.stopped_at_start(Phase::Workspace).into());
                }
                arrived = archives.arrive(&id, guard) => arrived,
            };
            self.stand_still(began);
            arrived.map_err(not_here)?;
        }
        if let Err(error) = archives.begins(&id).await {
            // After a loss of power its archive may be taken for newer.
            tracing::warn!(agent = %id, %error, "cannot record that its workspace is in use");
        }
        self.workspace_is_here = true;
        Ok(())
    }

    /// Ships its workspace, for a copy of the town on another machine. What is on its remote already needs no archive. A kill
    /// ends it.
    pub(super) async fn ship_workspace(&mut self, is_saved: bool) {
        let archives = self.container.archives.as_ref().filter(|_| self.workspace_is_here);
        let Some(archives) = archives else { return };
        let (id, mut stop) = (self.state.id(), self.stop.clone());
        let ship = async {
            // An older one would be taken for the newest.
            if !is_saved || archives.withdraw(id).await.is_err() {
                // What becomes of it is reported there.
                let _ = archives.ship(id).await;
            }
        };
        tokio::select! {
            biased;
            () = ship => {}
            () = killed(&mut stop) => {}
        }
    }

    /// Makes the repository that the agent works on, or finds it as the agent left it. It has a limit of its own: the
    /// deadline of the start stands still. An agent that works on none does not begin in the one of before.
    pub(super) async fn prepare_workspace(&mut self) -> Result<(), IncarnationEnd> {
        let Some(git) = self.state.start.spec.git.clone() else {
            return self.check_free().await.map_err(Into::into);
        };
        self.mark_in_flight(Phase::Workspace.as_str(), None);
        let began = Instant::now();
        let made = self.make(&git).await;
        self.stand_still(began);
        let Prepared { branch, head, reused, .. } = made?;
        self.has_repository = true;
        self.container.sink.record(Event::WorkspacePrepared(WorkspacePrepared {
            agent: self.state.tag(),
            rig: git.rig.clone(),
            branch,
            head: head.to_string(),
            reused,
            duration_ms: millis(began.elapsed()),
        }));
        Ok(())
    }

    /// Brings what the agent did to its remote, if its role wants so and something is not there. A kill ends it. Whether all of it
    /// is there.
    pub(super) async fn save_work(&mut self, exit: &Exit) -> bool {
        let git = self.state.start.spec.git.clone().filter(|git| git.save && !git.lightweight);
        let (true, Some(git)) = (self.has_repository, git) else { return false };
        let began = Instant::now();
        let mut stop = self.stop.clone();
        let saved = tokio::select! {
            biased;
            saved = self.save(&git, exit.reason) => saved,
            () = killed(&mut stop) => Err(("killed", "there was no time left".to_owned())),
            () = sleep(SAVING) => Err(("timeout", format!("it took longer than {SAVING:?}"))),
        };
        let (agent, rig, branch) = (self.state.tag(), git.rig.clone(), git.branch.clone());
        let duration_ms = millis(began.elapsed());
        let event = match saved {
            Ok(Saved::Nothing) => return true,
            Ok(Saved::All(commit)) => Event::WorkSaved(WorkSaved {
                agent,
                rig,
                branch,
                commit: commit.to_string(),
                duration_ms,
            }),
            Ok(Saved::Part { why: message, .. }) => {
                let code = "partly-saved".to_owned();
                Event::WorkNotSaved(WorkNotSaved { agent, rig, branch, code, message, duration_ms })
            }
            Err((code, message)) => {
                let code = code.to_owned();
                Event::WorkNotSaved(WorkNotSaved { agent, rig, branch, code, message, duration_ms })
            }
        };
        let is_saved = matches!(event, Event::WorkSaved(_));
        match is_saved {
            true => self.state.record(event),
            false => self.state.publish(event),
        }
        is_saved
    }

    async fn save(
        &self,
        git: &GitSpec,
        reason: ExitReason,
    ) -> Result<Saved, (&'static str, String)> {
        let Some(workspaces) = &self.container.workspaces else { return Ok(Saved::Nothing) };
        let (id, reason) = (self.state.id(), reason.as_str());
        let message = format!("WIP: work of {id} at the end of an incarnation ({reason})");
        let said = |error: bulkhead_workspace::Error| (error.code(), error.to_string());
        let workspace = workspaces.workspace(id.as_str()).await.map_err(said)?;
        debug_assert_eq!(workspace.branch(), git.branch, "it was prepared for this spec");
        workspace.save(&message).await.map_err(said)
    }

    /// Why the start cannot have its workspace, as far as that is known before anybody ends for it.
    pub(super) async fn check_workspace(&self) -> Result<(), StartError> {
        let is_in_use = self.task.slot.occupant().is_some();
        let checked = async {
            let Some(git) = &self.state.start.spec.git else {
                return if is_in_use { self.check_free().await } else { Ok(()) };
            };
            let (workspaces, rig, request) = self.request(git).await?;
            let checked = workspaces.check(&rig, &request, is_in_use).await;
            checked.map_err(|error| failed(error.code(), &error.to_string()))
        };
        checked.await.map_err(|exit| start_error(&exit, self.deadline.into_std(), None))
    }

    /// Whether an agent that works on no repository has none in its directory.
    async fn check_free(&self) -> Result<(), Exit> {
        let (Some(workspaces), Some(path)) = (&self.container.workspaces, &self.task.workspace)
        else {
            return Ok(());
        };
        let is_free = workspaces.check_free(self.state.id().as_str(), path).await;
        is_free.map_err(|error| failed(error.code(), &error.to_string()))
    }

    async fn make(&mut self, git: &GitSpec) -> Result<Prepared, IncarnationEnd> {
        let (workspaces, rig, request) = self.request(git).await?;
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

    /// What is asked of git, and whom.
    async fn request(&self, git: &GitSpec) -> Result<(&Workspaces, Rig, Request), Exit> {
        let (Some(workspaces), Some(path)) = (&self.container.workspaces, &self.task.workspace)
        else {
            return Err(failed("unavailable", "this host makes no repositories"));
        };
        let spec = &self.state.start.spec;
        let rig = Rig {
            name: git.rig.clone(),
            url: git.url.clone(),
            default_branch: git.default_branch.clone(),
        };
        let was_brought = match &self.container.archives {
            Some(archives) => archives.knows(&spec.id).await,
            None => false,
        };
        let request = Request {
            agent: spec.id.to_string(),
            path: path.clone(),
            branch: git.branch.clone(),
            start_point: git.start_point.clone(),
            lightweight: git.lightweight,
            was_brought,
            author: Author { name: git.author.name.clone(), email: git.author.email.clone() },
            limit: DiskLimit {
                bytes: spec.limits.workspace_bytes,
                entries: spec.limits.workspace_entries,
            },
        };
        Ok((workspaces, rig, request))
    }

    fn progress_of_git(&self) -> OnProgress {
        let ring = Arc::clone(&self.state.start.ring);
        let last = parking_lot::Mutex::new((String::new(), None::<Instant>));
        Arc::new(move |Progress { phase, percent }| {
            let mut last = last.lock();
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

/// Resolves when the agent is to end without grace.
async fn killed(stop: &mut StopOrders) {
    let now = |order: &Option<StopOrder>| order.as_ref().is_some_and(|order| order.now);
    if stop.wait_for(now).await.is_err() {
        // Nobody can order anything any more.
        std::future::pending().await
    }
}

fn failed(code: &str, message: &str) -> Exit {
    let mut exit = Exit::new(ExitReason::StartFailed, Phase::Workspace, message);
    exit.code = Some(code.to_owned());
    if IN_VAIN.contains(&code) {
        exit.deterministic = Determinism::True;
    }
    exit
}
