//! The commands.

use clap::Subcommand;

use crate::args::{HostArgs, OutputArgs};
use crate::commands::chat::{self, ChatArgs};
use crate::commands::crashes;
use crate::commands::crashes::CrashesArgs;
use crate::commands::diff::{self, DiffArgs};
use crate::commands::events::{self, EventsArgs};
use crate::commands::exec::{self, ExecArgs};
use crate::commands::health::{self, HealthArgs};
use crate::commands::logs::{self, LogsArgs};
use crate::commands::memory::{self, MemoryArgs};
use crate::commands::move_town::{self, MoveArgs};
use crate::commands::nudge::{self, NudgeArgs};
use crate::commands::ps::{self, PsArgs};
use crate::commands::send::{self, SendArgs};
use crate::commands::start::{self, StartArgs};
use crate::commands::status::{self, StatusArgs};
use crate::commands::stop::{self, StopArgs};
use crate::commands::top::{self, TopArgs};
use crate::commands::upgrade::{self, UpgradeArgs};
use crate::commands::usage::{self, UsageArgs};
use crate::commands::workspaces::{self, WorkspacesArgs};
use crate::failure::Failure;
use crate::session::Session;

/// Commands that call the control API of a running host.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List agents.
    Ps(PsArgs),
    /// Show the state of the container, or of one agent.
    Status(StatusArgs),
    /// Start an agent.
    Start(Box<StartArgs>),
    /// Stop agents.
    Stop(StopArgs),
    /// Send a message to an agent.
    Send(SendArgs),
    /// Talk with an agent: each answer is shown as it comes.
    Chat(ChatArgs),
    /// Leave a message that an agent gets when its mailbox is empty.
    Nudge(NudgeArgs),
    /// Show what an agent did in its repository, as a patch.
    Diff(DiffArgs),
    /// Run a program as an agent would: in its workspace, under its limits.
    Exec(ExecArgs),
    /// Show the events of an agent.
    Events(EventsArgs),
    /// Show the last events of the container and all agents, or of one.
    Logs(LogsArgs),
    /// Check the health of the host: the health check of a container without curl.
    Health(HealthArgs),
    /// Show memory usage over time, of the container or of one agent.
    Memory(MemoryArgs),
    /// Watch all agents: states, memory, CPU, tokens, and what one of them does as it does it.
    Top(TopArgs),
    /// Upgrade the agents of a role to other code, without losing a message.
    Upgrade(UpgradeArgs),
    /// Hand the town over to another copy, under a lease.
    Move(MoveArgs),
    /// Show the use of language models, by agent and model, and how much of each budget is used.
    Usage(UsageArgs),
    /// List the workspaces of agents, or remove some.
    Workspaces(WorkspacesArgs),
}

/// A command that calls the host; `crashes` is one of them only with --url.
pub(crate) enum Asked {
    Command(ClientCommand),
    Crashes(CrashesArgs),
}

impl Asked {
    /// Which host, and whether the output is JSON.
    pub(crate) fn where_and_how(&self) -> (HostArgs, bool) {
        let (host, output) = match self {
            Self::Crashes(args) => return (args.host(), args.json),
            Self::Command(ClientCommand::Ps(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Status(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Start(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Stop(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Send(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Nudge(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Diff(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Exec(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Events(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Logs(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Memory(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Upgrade(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Move(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Usage(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Workspaces(args)) => args.where_and_how(),
            Self::Command(ClientCommand::Health(args)) => (&args.host, OutputArgs::default()),
            Self::Command(ClientCommand::Chat(args)) => (&args.host, OutputArgs::default()),
            Self::Command(ClientCommand::Top(args)) => (&args.host, OutputArgs::default()),
        };
        (host.clone(), output.json)
    }

    /// A probe needs no configuration, and exits with 0 or 1 only.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self, Self::Command(ClientCommand::Health(_)))
    }

    /// The exit code of a failure.
    pub(crate) fn code(&self, failure: &Failure) -> u8 {
        match (self, failure) {
            _ if self.is_probe() => failure.code().min(1),
            (_, Failure::NobodyReads | Failure::Reported(_) | Failure::Interrupted(_)) => {
                failure.code()
            }
            (Self::Command(ClientCommand::Exec(_)), failure) => exec::code_of(failure),
            _ => failure.code(),
        }
    }

    /// Reads files and stdin, as long as Ctrl-C ends the process by itself.
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        match self {
            Self::Command(ClientCommand::Start(args)) => args.prepare(),
            Self::Command(ClientCommand::Send(args)) => args.prepare(),
            Self::Command(ClientCommand::Nudge(args)) => args.prepare(),
            Self::Command(ClientCommand::Exec(args)) => args.prepare(),
            Self::Command(ClientCommand::Upgrade(args)) => args.prepare(),
            _ => Ok(()),
        }
    }

    /// Does it.
    pub(crate) async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Crashes(args) => crashes::run(args, session).await,
            Self::Command(ClientCommand::Ps(args)) => ps::run(args, session).await,
            Self::Command(ClientCommand::Status(args)) => status::run(args, session).await,
            Self::Command(ClientCommand::Start(args)) => start::run(args, session).await,
            Self::Command(ClientCommand::Stop(args)) => stop::run(args, session).await,
            Self::Command(ClientCommand::Send(args)) => send::run(args, session).await,
            Self::Command(ClientCommand::Nudge(args)) => nudge::run(args, session).await,
            Self::Command(ClientCommand::Diff(args)) => diff::run(args, session).await,
            Self::Command(ClientCommand::Exec(args)) => exec::run(args, session).await,
            Self::Command(ClientCommand::Events(args)) => events::run(args, session).await,
            Self::Command(ClientCommand::Logs(args)) => logs::run(args, session).await,
            Self::Command(ClientCommand::Memory(args)) => memory::run(args, session).await,
            Self::Command(ClientCommand::Upgrade(args)) => upgrade::run(args, session).await,
            Self::Command(ClientCommand::Move(args)) => move_town::run(args, session).await,
            Self::Command(ClientCommand::Usage(args)) => usage::run(args, session).await,
            Self::Command(ClientCommand::Workspaces(args)) => workspaces::run(args, session).await,
            Self::Command(ClientCommand::Chat(args)) => chat::run(args, session).await,
            Self::Command(ClientCommand::Top(args)) => top::run(args, session).await,
            Self::Command(ClientCommand::Health(args)) => health::run(args, session).await,
        }
    }
}
