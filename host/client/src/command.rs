//! The commands and their common arguments.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_types::AgentId;
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
  0    success
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line, or a file it names cannot be read; no request was sent
  3    the host refused the request: no such agent, invalid token, too many connections
  130  interrupted with Ctrl-C";

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
    /// Leave a message that an agent gets when its mailbox is empty.
    Nudge(NudgeArgs),
    /// Show the events of an agent.
    Events(EventsArgs),
    /// Check the health of the host: the health check of a container without curl.
    Health(HealthArgs),
    /// Show memory usage over time, of the container or of one agent.
    Memory(MemoryArgs),
}

/// Which host to call, and how long to wait for it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Host")]
pub struct HostArgs {
    /// Address of the control API [default: BULKHEAD_LISTEN or `listen` of the configuration,
    /// else http://127.0.0.1:8080].
    #[arg(long, value_name = "URL", env = "BULKHEAD_URL", hide_env_values = true)]
    pub url: Option<String>,
    /// File with the control token [default: BULKHEAD_CONTROL_TOKEN, else `token` of the configuration, else
    /// the one in the host's state directory; the last two are only sent to the host's own address].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA certificates to trust for https:// [default: SSL_CERT_FILE and SSL_CERT_DIR,
    /// else the public CAs].
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The configuration file that says where the host listens [default: bulkhead.toml, if there is one].
    #[arg(long, short, value_name = "FILE", env = "BULKHEAD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Timeout of a request, for example 30s [default: 10s; 10m for a start or a stop].
    #[arg(long, value_name = "TIME", value_parser = parse_some_time)]
    pub timeout: Option<Duration>,
}

/// Output format.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// Print the response of the host as one JSON document. Errors are JSON as well.
    #[arg(long)]
    pub json: bool,
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
            Self::Command(ClientCommand::Events(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Memory(args)) => (&args.host, args.output),
            Self::Command(ClientCommand::Health(args)) => (&args.host, OutputArgs::default()),
        };
        (host.clone(), output.json)
    }

    /// A probe needs no configuration, and exits with 0 or 1 only.
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
