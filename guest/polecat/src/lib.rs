//! Works on one task with the files of its workspace, guided by a model, and ends.
//!
//! It reads, searches, edits and writes files, and runs the programs that its role lists (`tools`).
//! However a program ends, the model reads it as a result. Where its workspace is a repository, it
//! commits and pushes its branch.
//!
//! The first message sets the task. Each turn is one round trip to the model and the tool calls of
//! its answer; then the turn ends in `next::continue`, so that the host may stop the agent, snapshot
//! it and count its limits again between two rounds. The tool `done` ends the task: its summary is
//! the reply, in a repository with the branch and the commit that were pushed. A model that would
//! leave work behind, not committed or not pushed, reads that once; then the reply says it.
//!
//! The host asks the model that the settings name, else the one of its configuration. It and the system
//! prompt are those of the beginning of a turn, so a change reaches the task at its next round.
//!
//! When there is no answer, the turn fails (`model-unavailable`, `budget-exceeded`, …) and the task waits
//! where it was; any message takes it up again. A model that never comes to an end runs into
//! `too-many-rounds`, which is fatal.
//!
//! Config keys:
//!
//! | key | meaning | default |
//! | --- | --- | --- |
//! | `max-rounds` | round trips for the whole task | 40 |
//! | `max-transcript-bytes` | old tool results are dropped above; bounds the snapshot | 524288 |

mod edit;
mod git;
mod handover;
mod repository;
mod run;
mod search;
mod task;
mod tools;
mod workspace;

use bulkhead_guest::host::{self, AgentSettings};
use bulkhead_guest::model::{self, Completion, Request, Tool};
use bulkhead_guest::tools::programs;
use bulkhead_guest::{
    Agent, AgentError, Message, Next, Outcome, Sender, StartRequest, config, info, state,
};

use git::{ByHost, Git};
use handover::Handover;
use task::Task;
use workspace::Workspace;

/// Of the snapshot.
const STATE_VERSION: u32 = 1;

const DEFAULT_ROUNDS: u32 = 40;
const DEFAULT_TRANSCRIPT_BYTES: usize = 512 * 1024;

/// The one directory that the host gives an agent.
const WORKSPACE: &str = "/workspace";

/// The system prompt in four parts.
const WORK: &str = "You work on one task with the files of a workspace. Paths are relative to it.\n\
    First look: `list`, `search` and `read` what the task is about.\n\
    Then change files: `edit` replaces text in a file, `write` makes a new file or replaces a whole one. \
    Make small changes, and only those that the task needs.";

/// Only where programs can be run.
const RUN: &str = "Check your changes: `run` the tests of the project, read how they ended, and correct \
    what fails. A program that was ended for its memory or time needs a smaller command.";

/// Only in a repository.
const REPOSITORY: &str = "The workspace is a git repository, on a branch of your own. `diff` shows what you changed. \
    When the checks pass, `commit` it with a message that says what was wrong, and `push` the branch. If others \
    have gone on meanwhile, `rebase` puts your commits on top of theirs.";

const END: &str = "When the task is finished, or cannot be finished, call `done` with a summary of what \
    you did and which checks passed. Nobody reads a text without it.";

/// A model that answers with text alone gets this once; a second such answer is taken as the end.
const REMINDER: &str = "Go on with the tools, or call `done` with a summary.";

#[derive(Default)]
struct Polecat {
    session: Option<Session>,
    task: Task,
}

/// What settings and config make.
struct Session {
    /// Of the settings.
    revision: u64,
    /// That the settings name, for the log.
    model: Option<String>,
    system: model::Message,
    tools: Vec<Tool>,
    workspace: Workspace,
    /// If the workspace is a repository.
    git: Option<ByHost>,
    max_rounds: u32,
    max_transcript_bytes: usize,
}

impl Agent for Polecat {
    fn start(&mut self, _request: StartRequest) -> Result<(), AgentError> {
        let session = Session::new(host::settings())?;
        info!(
            "polecat started",
            model = session.model_name(),
            rounds = self.task.rounds,
            repository = session.git.is_some()
        );
        self.session = Some(session);
        Ok(())
    }

    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some(session) = &mut self.session else {
            return Err(AgentError::fatal("not-started", "`handle` came before `start`"));
        };
        if !matches!(message.sender, Sender::Continuation) {
            let prompt = matches!(message.sender, Sender::Prompt);
            self.task.hear(message.body, prompt, session.max_transcript_bytes / 2)?;
        }
        if self.task.is_empty() {
            return Err(AgentError::failed("no-task", "message is empty and there is no task yet"));
        }
        session.follow(host::settings())?;
        session.round(&mut self.task)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        if self.task.is_empty() {
            return Ok(Vec::new());
        }
        Ok(state::save(STATE_VERSION, &self.task)?)
    }

    fn restore(&mut self, snapshot: Vec<u8>) -> Result<(), AgentError> {
        self.task = state::load(&snapshot, STATE_VERSION, state::no_upgrade)?;
        Ok(())
    }
}

impl Session {
    fn new(settings: AgentSettings) -> Result<Self, AgentError> {
        let (programs, git) = (programs(), ByHost::find());
        let in_repository = git.is_some();
        let system = settings.system_prompt;
        let system = system.unwrap_or_else(|| instructions(&programs, in_repository));
        Ok(Self {
            revision: settings.revision,
            model: settings.model,
            system: model::Message::system(system),
            tools: tools::offered(&programs, in_repository),
            workspace: Workspace::new(WORKSPACE),
            git,
            max_rounds: config::get("max-rounds")?.unwrap_or(DEFAULT_ROUNDS),
            max_transcript_bytes: config::get("max-transcript-bytes")?
                .unwrap_or(DEFAULT_TRANSCRIPT_BYTES),
        })
    }

    /// Goes by these settings from here on. When nothing can be made of them the turn fails and the
    /// task waits.
    fn follow(&mut self, settings: AgentSettings) -> Result<(), AgentError> {
        if settings.revision == self.revision {
            return Ok(());
        }
        let session = Self::new(settings);
        *self = session.map_err(|error| AgentError { fatal: false, ..error })?;
        info!("polecat goes by new settings", model = self.model_name());
        Ok(())
    }

    fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or("default")
    }

    /// One round trip, and what the model wants done.
    fn round(&self, task: &mut Task) -> Result<Outcome, AgentError> {
        if task.rounds >= self.max_rounds {
            return Err(AgentError::fatal(
                "too-many-rounds",
                format!("task is not finished after {} rounds", self.max_rounds),
            ));
        }
        task.shorten(self.max_transcript_bytes);
        let so_far = std::iter::once(&self.system).chain(&task.messages);
        let answer = model::complete(&Request::new(so_far).tools(&self.tools))?;
        task.rounds += 1;
        let outcome = self.act(task, answer);
        if outcome.next == Next::Done {
            // A finished task is nothing to go on with: the snapshot is empty from here.
            *task = Task::default();
        }
        task.shorten(self.max_transcript_bytes);
        Ok(outcome)
    }

    fn act(&self, task: &mut Task, completion: Completion) -> Outcome {
        let (text, answer) = (completion.text(), completion.message);
        let calls = answer.tool_calls.clone();
        task.messages.push(answer);
        if calls.is_empty() {
            if task.reminded {
                return self.end(text);
            }
            task.reminded = true;
            task.messages.push(model::Message::user(REMINDER));
            return Outcome::proceed();
        }
        task.reminded = false;
        let (warned, mut summary) = (task.warned, None);
        for call in &calls {
            let mut result = tools::run(call, &self.workspace, self.git());
            if let Some(reminder) = self.left_behind(&result).filter(|_| !warned) {
                task.warned = true;
                result = tools::Result { text: reminder, summary: None };
            }
            task.messages.push(model::Message::tool_result(call, result.text));
            summary = summary.or(result.summary);
        }
        match summary {
            Some(summary) if summary.is_empty() => self.end(text),
            Some(summary) => self.end(summary),
            None => Outcome::proceed(),
        }
    }

    /// What the model should read before the task ends.
    fn left_behind(&self, result: &tools::Result) -> Option<String> {
        let git = self.git().filter(|_| result.summary.is_some())?;
        Handover::of(git).ok()?.reminder()
    }

    fn end(&self, summary: String) -> Outcome {
        Outcome::done(match self.git() {
            Some(git) => handover::reply(summary, Handover::of(git)),
            None => summary,
        })
    }

    fn git(&self) -> Option<&dyn Git> {
        self.git.as_ref().map(|git| git as &dyn Git)
    }
}

/// The system prompt where the settings have none.
fn instructions(programs: &[String], in_repository: bool) -> String {
    let parts =
        [(WORK, true), (RUN, !programs.is_empty()), (REPOSITORY, in_repository), (END, true)];
    parts
        .into_iter()
        .filter(|(_, is_there)| *is_there)
        .map(|(part, _)| part)
        .collect::<Vec<_>>()
        .join("\n")
}

bulkhead_guest::export!(Polecat);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_instructions_name_what_is_offered_and_nothing_else() {
        let sh = ["sh".to_owned()];
        for (programs, in_repository) in [(&sh[..], false), (&[], false), (&sh, true), (&[], true)]
        {
            let instructions = instructions(programs, in_repository);
            let named: BTreeSet<_> =
                instructions.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let offered = tools::offered(programs, in_repository).into_iter().map(|tool| tool.name);
            assert_eq!(named, offered.collect());
            assert_eq!(named.contains("run"), !programs.is_empty());
            assert_eq!(named.contains("push"), in_repository);
        }
    }
}
