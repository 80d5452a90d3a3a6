//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::faults::Fault;

/// Supervisor for agents that live in WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  ended as asked
  1  could not run: the address, the state directory or the engine is not to be had
  2  wrong command line, configuration or component
  3  ended, but not every agent ended by itself
  4  a bug of the host: a panic that nothing contained, told as container.uncaught_exception

Environment, over the configuration file:
  BULKHEAD_LISTEN, BULKHEAD_STATE_DIR, BULKHEAD_CONTROL_TOKEN,
  BULKHEAD_LOG_FORMAT, BULKHEAD_LOG_LEVEL,
  BULKHEAD_MODEL_BASE_URL, BULKHEAD_MODEL_API_KEY, BULKHEAD_MODEL_NAME,
  GASTOWN_TOWN_ID";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agents until a signal comes.
    Run(RunArgs),
    /// Check the configuration and every component, without running anything.
    Check(ConfigArgs),
    /// Compile every component ahead of time, into the state directory.
    Compile(ConfigArgs),
    /// Read the crash records in the state directory. No host has to run.
    Crashes(CrashesArgs),
}

/// Arguments of `crashes`.
#[derive(Debug, Args)]
pub struct CrashesArgs {
    /// What to show.
    #[command(subcommand)]
    pub what: CrashesCommand,
    /// The configuration file, which says where the state directory is.
    #[arg(long, short, global = true, env = "BULKHEAD_CONFIG", default_value = "bulkhead.toml")]
    pub config: PathBuf,
    /// Print JSON: one object a line.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `crashes` shows.
#[derive(Debug, Subcommand)]
pub enum CrashesCommand {
    /// The newest records, a line each.
    List {
        /// Only of this agent.
        #[arg(long)]
        agent: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// One record, for a person: what died, where, why, and what was done about it.
    Show {
        /// The crash id, or its beginning; without one the newest record.
        crash_id: Option<String>,
    },
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file.
    #[arg(long, short, env = "BULKHEAD_CONFIG", default_value = "bulkhead.toml")]
    pub config: PathBuf,
}

/// Arguments of `run`. They win over the environment and the file.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file.
    #[arg(long, short, env = "BULKHEAD_CONFIG", default_value = "bulkhead.toml")]
    pub config: PathBuf,
    /// Where to listen, for example 127.0.0.1:8080. Port 0 takes any free port.
    #[arg(long)]
    pub listen: Option<std::net::SocketAddr>,
    /// How log lines look. `auto` is readable on a terminal and JSON elsewhere.
    #[arg(long)]
    pub log_format: Option<LogFormat>,
    /// What SIGUSR2 does to the host. For tests of the host.
    #[arg(long, hide = true)]
    pub inject_fault: Option<Fault>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Readable on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For a person.
    Pretty,
}
