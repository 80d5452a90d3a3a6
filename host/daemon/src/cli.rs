//! The command line.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_client::{ClientCommand, CrashesArgs, DevArgs, McpArgs, TestArgs};
use bulkhead_scaffold::NewArgs;
use bulkhead_terminal::ColourChoice;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::exit::Exit;
use crate::faults::Fault;
use crate::init::Rules;

/// Supervisor for agents that run as WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, after_help = after_help())]
pub struct Cli {
    /// Colours of stdout. `auto`: on a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line. One that is wrong, or asks for help, is answered, and this is its exit code.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|mut error| {
            // clap's own names every option that a variable sets, as if it were wanted.
            if error.kind() == ErrorKind::MissingRequiredArgument {
                let usage = ContextValue::StyledStr(usage(std::env::args().skip(1)));
                error.insert(ContextKind::Usage, usage);
            }
            // clap's own end takes no notice of what cannot be written.
            let printed = error.print().and_then(|()| io::stdout().flush());
            match bulkhead_terminal::printed(printed) {
                Err(problem) if !error.use_stderr() => {
                    eprintln!("bulkhead: {problem}");
                    Exit::CannotRun.into()
                }
                _ if error.use_stderr() => Exit::BadInput.into(),
                _ => Exit::Clean.into(),
            }
        })
    }
}

/// The usage of the command that is named.
fn usage(words: impl Iterator<Item = String>) -> StyledStr {
    let mut all = Cli::command();
    all.build();
    let mut command = &mut all;
    for word in words {
        if command.find_subcommand(&word).is_some() {
            command = command.find_subcommand_mut(&word).expect("it was just found");
        }
    }
    command.render_usage()
}

/// When there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<Color> for ColourChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

/// The end of the help: exit codes, then the variables.
fn after_help() -> String {
    format!("{EXIT_CODES}\n\n{}", crate::config::environment_help())
}

const EXIT_CODES: &str = "\
Exit codes of run, check, compile:
  0  success
  1  cannot run: the address, the state directory or the engine is not available
  2  invalid command line, configuration or component, or a database of a newer version
  3  stopped, but some agents had to be killed
  4  a bug in the host: an uncaught panic, logged as container.uncaught_exception
  5  the supervisor crashed too often, and its init process gave up
  128 + n  the supervisor died of signal n during a shutdown
  For the exit codes of the other commands see their help.

As process 1, or with --supervise, the program runs the supervisor as a child process: it forwards signals,
reaps orphaned processes, and restarts a supervisor that crashed. Codes 0 to 3 are final.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the files that a new agent begins with.
    New(NewArgs),
    /// Run an agent while you write it: it starts again at each change, what it throws is shown with the code, and what
    /// you type is sent to it.
    Dev(DevArgs),
    /// Test agents by scripts of messages and of a model's answers.
    Test(TestArgs),
    /// Run the host and its agents until a signal arrives.
    Run(RunArgs),
    /// Check the configuration and every component, resolve the allowed names, and connect to the model endpoints, the
    /// town and the register of the lease. Runs no agent; fills the compile cache.
    Check(CheckArgs),
    /// Compile every component into the cache of the state directory, or into a directory to ship.
    Compile(CompileArgs),
    /// Explain from logs, of this host or of the original container, why a container restarts.
    Diagnose(DiagnoseArgs),
    /// Show crash records from the state directory, or with --url from a running host.
    Crashes(CrashesArgs),
    /// Show the towns of a register, over all machines.
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages, one per command, into a directory. It is made if it does not exist.
    #[command(after_help = MAN_HELP)]
    Man {
        /// The directory, for example /usr/share/man/man1.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Serve tools for language models over the Model Context Protocol, on stdin and stdout: what runs, why an agent died,
    /// what a log says.
    Mcp(McpArgs),
    /// Compile one component from stdin to stdout. For the host, which runs it as a child: the argument says how.
    #[command(hide = true)]
    CompileComponent {
        /// What the host passes to it.
        order: String,
    },
    /// Launch native programs. For the host, which runs it as a child.
    #[command(hide = true)]
    LaunchTools,
    /// The commands that call a running host.
    #[command(flatten)]
    Client(ClientCommand),
}

const COMPLETIONS_HELP: &str = "\
Where shells look for it:
  bash  bulkhead completions bash >~/.local/share/bash-completion/completions/bulkhead
  zsh   bulkhead completions zsh >DIR/_bulkhead, with DIR in fpath
  fish  bulkhead completions fish >~/.config/fish/completions/bulkhead.fish";

const MAN_HELP: &str = "\
The pages are bulkhead.1 and bulkhead-COMMAND.1. To read one: man DIR/bulkhead-run.1

Exit codes:
  0  success
  1  the directory or a page cannot be written";

/// Arguments of `diagnose`.
#[derive(Debug, Args)]
#[command(after_help = DIAGNOSE_HELP)]
pub struct DiagnoseArgs {
    /// Log files, plain or gzip; `-` reads stdin.
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<PathBuf>,
    /// Print JSON, as described by `host/diagnose/report.schema.json`.
    #[arg(long)]
    pub json: bool,
    /// Also write a self-contained HTML page with charts to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Only restarts of this town.
    #[arg(long, value_name = "ID")]
    pub town: Option<String>,
    /// Only restarts at or after this time, for example 2026-01-15T09:30:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<i64>,
    /// Only restarts up to this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<i64>,
}

const DIAGNOSE_HELP: &str = "\
Exit codes:
  0  every restart is explained, or there is none
  1  at least one restart is unexplained
  2  no verdict: a log cannot be opened or contains no log line, or the report cannot be written";

/// A moment, in milliseconds since 1970.
fn parse_time(text: &str) -> Result<i64, String> {
    match bulkhead_diagnose::parse_time(text.as_bytes()) {
        Some((time, length)) if length == text.len() => Ok(time),
        _ => Err("expected a time such as 2026-01-15T09:30:00Z".into()),
    }
}

/// What to show of a fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// List the towns of the register of `[lease]`: which process holds each, under which epoch, and whether it is renewed.
    Ps(FleetPsArgs),
}

/// Arguments of `fleet ps`.
#[derive(Debug, Args)]
#[command(after_help = FLEET_PS_HELP)]
pub struct FleetPsArgs {
    /// Address of the register [default: `register` in `[lease]` of the configuration]. With this address the configuration's
    /// credentials are not used: they belong to another register.
    #[arg(long, value_name = "ADDRESS", env = "BULKHEAD_LEASE_REGISTER", hide_env_values = true)]
    pub register: Option<String>,
    /// Configuration file with the register [default: bulkhead.toml, if it exists].
    #[arg(long, short, value_name = "FILE", env = "BULKHEAD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// How long to watch at most. In less than 105 % of the TTL a holder that is gone looks like one that has not renewed yet.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = time)]
    pub wait: Duration,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

const FLEET_PS_HELP: &str = "\
No clocks are compared, so each record is read again until it has changed, or for 105 % of its TTL.

States:
  held        renewed while it was watched
  released    given back: the town runs nowhere
  expired     not renewed for 105 % of the TTL: its holder is gone, and no copy waits for it
  unchanged   not renewed yet, when --wait was over
  unreadable  no record, or one that cannot be read

HEALTH is what /readyz of `advertise` answers, where a holder has one: no token is sent.

Exit codes:
  0  success, whatever the states are
  1  the register cannot be listed
  2  invalid command line or configuration";

/// Arguments of `compile`.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// Configuration file.
    #[arg(
        long,
        short,
        env = "BULKHEAD_CONFIG",
        hide_env_values = true,
        default_value = "bulkhead.toml"
    )]
    pub config: PathBuf,
    /// Directory to put the compiled components in, for everybody to read, instead of the state directory: `aot_seed` of
    /// hosts elsewhere. `engine.cpu` says which processors they run on.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file.
    #[arg(
        long,
        short,
        env = "BULKHEAD_CONFIG",
        hide_env_values = true,
        default_value = "bulkhead.toml"
    )]
    pub config: PathBuf,
    /// Also make one call to each model endpoint: `ping`, with a response of at most 16 tokens. One that fails is an
    /// error.
    #[arg(long)]
    pub models: bool,
}

/// Arguments of `run`. They override the environment and the configuration file.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file.
    #[arg(
        long,
        short,
        env = "BULKHEAD_CONFIG",
        hide_env_values = true,
        default_value = "bulkhead.toml"
    )]
    pub config: PathBuf,
    /// Address of the control API, for example 127.0.0.1:8080. Port 0 picks a free port.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
    /// Log format. `pretty` is for people; `auto` is `pretty` on a terminal and `json` elsewhere.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Show more on a terminal: every fact and its name. Twice: diagnostics of the host as well. JSON is not changed.
    #[arg(long, short, action = ArgAction::Count)]
    pub verbose: u8,
    /// When there are colours, as the option of all commands says it.
    #[arg(skip)]
    pub colours: ColourChoice,
    /// Run the supervisor as a child process, and restart it when it crashes. Process 1 always does.
    #[arg(long, env = "BULKHEAD_SUPERVISE", hide_env_values = true, value_parser = yes_or_no)]
    pub supervise: bool,
    /// Maximum number of restarts of the supervisor within the window.
    #[arg(long, env = "BULKHEAD_MAX_RESTARTS", hide_env_values = true, value_name = "NUMBER", default_value_t = 5, value_parser = max_restarts)]
    pub max_restarts: u32,
    /// Window in which restarts of the supervisor are counted, in milliseconds.
    #[arg(long, env = "BULKHEAD_RESTART_WINDOW_MS", hide_env_values = true, value_name = "MS", default_value_t = 60_000, value_parser = window_ms)]
    pub restart_window_ms: u64,
    /// Do not open the database: nothing is durable, and a database of a newer version is left untouched.
    #[arg(long)]
    pub without_store: bool,
    /// How long to wait for a state directory that another host has locked, as 60s, 500ms or 2m: for rolling updates
    /// that start the new host before the old one has stopped.
    #[arg(long, env = "BULKHEAD_WAIT_FOR_STATE", hide_env_values = true, value_name = "TIME", default_value = "0s", value_parser = time)]
    pub wait_for_state: Duration,
    /// What SIGINT does. `stop`: stop all agents immediately, for use at a terminal. `drain`: the same as SIGTERM, for
    /// platforms that stop containers with SIGINT.
    #[arg(long, value_name = "ACTION")]
    pub sigint: Option<Interrupt>,
    /// Serve a test of agents: all models are at this URL, nothing else is reached, and no agent starts by itself. For
    /// `bulkhead test`, which runs the host as a child.
    #[arg(long, hide = true)]
    pub test_model: Option<String>,
    /// What SIGUSR2 does to the host. For tests.
    #[arg(long, hide = true)]
    pub inject_fault: Option<Fault>,
}

/// A switch, which has a value only in its variable.
fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("BULKHEAD_SUPERVISE must be 1 or 0, true or false".into()),
    }
}

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a whole number with a unit: 500ms, 60s or 2m".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit].parse().map_err(|_| wrong())?;
    let of_one = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(of_one).filter(|ms| *ms <= MAX_WAIT_MS);
    ms.map(Duration::from_millis).ok_or_else(|| "the maximum is one day".into())
}

fn max_restarts(text: &str) -> Result<u32, String> {
    let wrong = "BULKHEAD_MAX_RESTARTS must be a whole number from 0 to 4294967295";
    text.parse().map_err(|_| wrong.into())
}

fn window_ms(text: &str) -> Result<u64, String> {
    let wrong = "BULKHEAD_RESTART_WINDOW_MS must be a whole number of milliseconds";
    text.parse().map_err(|_| wrong.into())
}

/// Longest time that is taken: a day.
const MAX_WAIT_MS: u64 = 24 * 3600 * 1000;

impl RunArgs {
    /// When the init process gives up on a supervisor.
    pub fn restart_rules(&self) -> Rules {
        Rules {
            max_restarts: self.max_restarts,
            window: Duration::from_millis(self.restart_window_ms),
        }
    }
}

/// What SIGINT means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interrupt {
    /// Stop all agents immediately.
    #[default]
    Stop,
    /// Finish turns and queued messages first, as after SIGTERM.
    Drain,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// Text for people.
    Pretty,
}

#[cfg(test)]
mod document;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_a_bound() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("60s", 60_000), ("2m", 120_000)] {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)));
        }
        for text in ["", "60", "s", "-1s", "1.5s", "1h", "25000000000000000000s", "2000m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
