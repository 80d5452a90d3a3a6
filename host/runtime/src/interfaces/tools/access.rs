//! An agent's way to native programs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bulkhead_log::now;
use bulkhead_telemetry::CurrentTurn;
use bulkhead_tools::{Bind, Child, DiskLimit, Network, Sandbox, SpawnError};
use bulkhead_types::tool::shown_arguments;
use bulkhead_types::{AgentSpec, RunningTool, Secret, ToolNetwork, ToolRules};
use bulkhead_workspace::{OBJECTS, Workspaces};

use super::ask::{self, Asked, WORKSPACE};
use super::running::{Place, Running, report};
use crate::bindings::bulkhead::agent::tools::{Command, ToolError};
use crate::descriptors::Descriptors;
use crate::interfaces::http::UnderWay;
use crate::meter::Meter;
use crate::port::Port;

/// Of a turn so much is left to the agent when it waits for a program: it reads how that ended.
const LEFT_TO_THE_TURN: Duration = Duration::from_secs(1);

/// Pipes of a program.
const DESCRIPTORS: usize = 3;

/// How native programs run on this host.
#[derive(Debug, Clone)]
pub struct Tools {
    /// What starts them.
    pub launcher: bulkhead_tools::Tools,
    /// Their environment, and where they find other programs.
    pub env: Arc<[(String, String)]>,
}

/// What starts the programs of one agent.
pub(crate) struct Starter {
    /// `None`: this host runs none.
    pub tools: Option<Tools>,
    /// Knows the objects of repositories.
    pub workspaces: Option<Workspaces>,
    pub spec: Arc<AgentSpec>,
    pub port: Arc<dyn Port>,
    pub workspace: Option<PathBuf>,
    /// Whose turn a program belongs to in traces.
    pub turn: CurrentTurn,
}

/// An agent's way to native programs.
pub(crate) struct Access {
    pub starter: Starter,
    pub meter: Arc<Meter>,
    pub descriptors: Arc<Descriptors>,
    pub running: Arc<AtomicUsize>,
}

/// How long somebody waits for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// As long as the call under way may take.
    InTheTurn,
    BeyondTurns,
}

impl Access {
    pub(super) fn programs(&self) -> Vec<String> {
        let rules = self.starter.spec.tools.iter();
        rules.flat_map(|it| it.programs.keys()).map(|name| name.to_string()).collect()
    }

    /// Starts a program.
    pub(super) async fn begin(
        &mut self,
        command: Command,
        wait: Wait,
    ) -> Result<Running, ToolError> {
        let asked = ask::check(command)?;
        let admitted = self.starter.admit(&asked.program)?;
        let place = self.place(&admitted.rules)?;
        let most = match wait {
            Wait::InTheTurn => {
                let left = self.meter.time_left();
                left.saturating_sub(LEFT_TO_THE_TURN.min(left / 2))
            }
            Wait::BeyondTurns => Duration::MAX,
        };
        let child = self.starter.start(asked, admitted, most).await?;
        Ok(Running::new(child, place, Arc::clone(&self.meter)))
    }

    fn place(&self, rules: &ToolRules) -> Result<Place, ToolError> {
        let Some(under_way) = UnderWay::begin(&self.running, rules.parallel) else {
            let most = rules.parallel;
            let text =
                format!("{most} tools of this agent run, which is the most (tools_parallel)");
            return Err(ToolError::Unavailable(text));
        };
        let mut pipes = self.descriptors.none();
        for _ in 0..DESCRIPTORS {
            pipes.one_more().map_err(|none| ToolError::Unavailable(none.to_string()))?;
        }
        Ok(Place { _under_way: under_way, _pipes: pipes })
    }
}

/// A program that an agent may run.
pub(super) struct Admitted {
    rules: Arc<ToolRules>,
    program: PathBuf,
}

impl Starter {
    /// Finds the program of this name, if the agent may run it.
    pub(super) fn admit(&self, name: &str) -> Result<Admitted, ToolError> {
        let Some(rules) = &self.spec.tools else {
            let text = format!("the role {} lists no tools", self.spec.role);
            return Err(ToolError::Denied(text));
        };
        match rules.programs.get(name) {
            Some(program) => Ok(Admitted { rules: Arc::clone(rules), program: program.clone() }),
            None => {
                let known: Vec<_> = rules.programs.keys().map(|name| &**name).collect();
                let (role, known) = (&self.spec.role, known.join(", "));
                Err(ToolError::Denied(format!(
                    "{name:?} is not among the tools of {role}: {known}"
                )))
            }
        }
    }

    /// Starts a program, and tells the agent's host of it. It runs for `most` at most.
    pub(super) async fn start(
        &self,
        asked: Asked,
        Admitted { rules, program }: Admitted,
        most: Duration,
    ) -> Result<Child, ToolError> {
        let (Some(tools), Some(workspace)) = (self.tools.clone(), self.workspace.clone()) else {
            return Err(ToolError::Unavailable("this host runs no programs".into()));
        };
        let limits = ask::lowered(rules.limits, &asked.limits);
        let Asked { program: name, arguments, directory, environment, .. } = asked;
        let command = bulkhead_tools::Command {
            program,
            args: arguments.iter().map(Into::into).collect(),
            dir: directory,
            env: with_defaults(&tools.env, environment),
            sandbox: Sandbox { binds: self.binds(workspace), network: network(rules.network) },
            limits: bulkhead_tools::Limits {
                memory_bytes: limits.memory_bytes,
                wall: limits.wall.min(most),
                cpu: limits.cpu,
                pids: limits.pids,
                output_bytes: limits.output_bytes,
                ..bulkhead_tools::Limits::default()
            },
        };
        let child = tools.launcher.spawn(&command).await.map_err(tool_error)?;
        let tool = RunningTool {
            tool: next_number(),
            program: name,
            arguments: shown_arguments(&arguments, &self.secrets()),
            started_at: now(),
            memory_bytes: 0,
        };
        let span = self.turn.get().program(&tool.program);
        report(&self.port, tool, span, &child);
        Ok(child)
    }

    /// What the agent has and nobody else may see.
    fn secrets(&self) -> Vec<Secret> {
        let own = self.spec.secrets.values().cloned();
        own.chain(self.port.live_values().into_values()).collect()
    }

    /// What a program sees: the workspace, and what git needs of the mirror that it was made from.
    fn binds(&self, workspace: PathBuf) -> Vec<Bind> {
        let limits = &self.spec.limits;
        let limit = DiskLimit { bytes: limits.workspace_bytes, entries: limits.workspace_entries };
        let inside = PathBuf::from(WORKSPACE);
        let mut binds = vec![Bind { host: workspace, inside, writable: true, limit: Some(limit) }];
        let rig = self.spec.git.as_ref().filter(|git| !git.lightweight);
        let objects = self.workspaces.as_ref().zip(rig).map(|(it, git)| it.objects(&git.rig));
        if let Some(Ok(host)) = objects {
            binds.push(Bind { host, inside: OBJECTS.into(), writable: false, limit: None });
        }
        binds
    }
}

/// Names tools, in one run of the host.
fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed) + 1
}

fn network(network: ToolNetwork) -> Network {
    match network {
        ToolNetwork::None => Network::None,
        ToolNetwork::Open => Network::Open,
    }
}

type Variables = Vec<(std::ffi::OsString, std::ffi::OsString)>;

/// The host's variables, below those of the command.
fn with_defaults(defaults: &[(String, String)], mut given: Variables) -> Variables {
    for (name, value) in defaults {
        if !given.iter().any(|(known, _)| known == name.as_str()) {
            given.push((name.into(), value.into()));
        }
    }
    given
}

fn tool_error(error: SpawnError) -> ToolError {
    match error {
        SpawnError::NotFound(_) | SpawnError::NotExecutable { .. } => {
            ToolError::NotFound(error.to_string())
        }
        SpawnError::Invalid(_) => ToolError::Invalid(error.to_string()),
        _ => ToolError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_command_wins_over_the_hosts() {
        let defaults = [("PATH".to_owned(), "/bin".to_owned()), ("HOME".into(), "/tmp".into())];
        let merged = with_defaults(&defaults, vec![("HOME".into(), "/workspace".into())]);
        let expected: Variables =
            vec![("HOME".into(), "/workspace".into()), ("PATH".into(), "/bin".into())];
        assert_eq!(merged, expected);
    }
}
