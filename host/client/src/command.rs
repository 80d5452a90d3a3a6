//! The commands and their common arguments.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_model::AgentId;
use clap::{Args, Subcommand};

use crate::commands::crashes;
use crate::commands::crashes::CrashesArgs;
use crate::commands::events::{self, EventsArgs};
use crate::commands::health::{self, HealthArgs};
use crate::commands::memory::{self, MemoryArgs};
use crate::commands::nudge::{self, NudgeArgs};
use crate::commands::ps::{self, PsArgs};
use crate::commands::send::{self, SendArgs};
use crate::commands::start::{self, StartArgs};
use crate::commands::status::{self, StatusArgs};
use crate::commands::stop::{self, StopArgs};
use crate::failure::Failure;
use crate::session::Session;
use crate::words::parse_some_time;

/// The end of the help of commands that only look.
pub(crate) const CODES_OF_QUESTIONS: &str = "\
Exit codes:
  0    shown
  1    the host cannot be reached, does not answer in time, or answers what is no answer
  2    wrong command line, or a file that it names; the host was asked nothing
  3    the host refused: no such agent, no valid token, too many connections
  130  Ctrl-C";

/// What a person asks a running host.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Ask a running host: show its agents.
    Ps(PsArgs),
    /// Ask a running host: show how the container is, or one agent.
    Status(StatusArgs),
    /// Ask a running host: start an agent.
    Start(Box<StartArgs>),
    /// Ask a running host: stop agents.
    Stop(StopArgs),
    /// Ask a running host: send an agent a message.
    Send(SendArgs),
    /// Ask a running host: leave an agent a message that comes when no other does.
    Nudge(NudgeArgs),
    /// Ask a running host: show what an agent did.
    Events(EventsArgs),
    /// Ask a running host: is it well? For the health check of a container without curl.
    Health(HealthArgs),
    /// Ask a running host: show memory over time, of the container or of one agent.
    Memory(MemoryArgs),
}

/// Which host, and how long to wait for it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Host")]
pub struct HostArgs {
    /// Address of the control API [default: BULKHEAD_LISTEN or `listen` of the configuration,
    /// else http://127.0.0.1:8080].
    #[arg(long, value_name = "URL", env = "BULKHEAD_URL", hide_env_values = true)]
    pub url: Option<String>,
    /// File with the control token [default: BULKHEAD_CONTROL_TOKEN, else `token` of the configuration, else
    /// the one that the host left in its state directory; these two go to no other address than its own].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File of certificates, in PEM, to believe at an https:// address [default: SSL_CERT_FILE and SSL_CERT_DIR,
    /// else the public CAs].
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The configuration file that says where the host listens [default: bulkhead.toml, if there is one].
    #[arg(long, short, value_name = "FILE", env = "BULKHEAD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// How long the host may take to answer, for example 30s [default: 10s; a start or a stop 10m].
    #[arg(long, value_name = "TIME", value_parser = parse_some_time)]
    pub timeout: Option<Duration>,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// Print the answer as the host gave it: one JSON document. A refusal is one as well.
    #[arg(long)]
    pub json: bool,
}

/// Everything that can be asked, the crash records among it.
pub(crate) enum Asked {
    Command(ClientCommand),
    Crashes(CrashesArgs),
}

impl Asked {
    /// Which host, and whether the answer is for a program.
    pub(crate) fn where_and_how(&self) -> (HostArgs, bool) {
        let (host, output) = match self {
            Self::Crashes(args) => return (args.host(), args.json),
            Self::Command(ClientCommand::Ps(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Status(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Start(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Stop(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Send(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Nudge(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Events(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Memory(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Health(args)) => (&args.host, OutputArgs::default()),
        };
        (host.clone(), output.json)
    }

    /// It is a probe: it needs no configuration, and has no exit codes but 0 and 1.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self, Self::Command(ClientCommand::Health(_)))
    }

    /// Reads files and stdin, as long as Ctrl-C ends the process by itself.
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        match self {
            Self::Command(ClientCommand::Start(args)) => args.prepare(),
            Self::Command(ClientCommand::Send(args)) => args.prepare(),
            Self::Command(ClientCommand::Nudge(args)) => args.prepare(),
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
            Self::Command(ClientCommand::Events(args)) => events::run(args, session).await,
            Self::Command(ClientCommand::Memory(args)) => memory::run(args, session).await,
            Self::Command(ClientCommand::Health(args)) => health::run(args, session).await,
        }
    }
}

/// An agent id of the command line.
pub(crate) fn parse_agent(text: &str) -> Result<AgentId, String> {
    AgentId::parse(text).map_err(|error| error.to_string())
}
