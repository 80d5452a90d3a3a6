//! `bulkhead dev`: a host for the author of an agent. It runs the host as a child process, starts agents again when their
//! code changes, shows what goes wrong where it went wrong, and sends what is typed.
//!
//! ```text
//!  bulkhead.toml ─▶ project ─▶ watch ──┐
//!  stdin ─▶ input ─────────────────────┤
//!  the child ─▶ process ─▶ log lines ──┼─▶ round ─▶ output ─▶ stdout
//!  its API ─▶ session ─▶ events, turns ┘     │
//!                    ▲                       │
//!                    └── starts, messages ◀──┘
//! ```
//!
//! A round is the time of one child: a change of the configuration ends it, and the next one begins.

mod agents;
mod events;
mod input;
mod output;
mod round;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_terminal::ColourChoice;
use bulkhead_types::AgentId;
use clap::Args;
use tokio::time::interval;

use crate::args::parse_agent;
use crate::author::process::Process;
use crate::author::project::ReadProject;
use crate::author::signals::Signals;
use crate::failure::Failure;
use crate::screen::Screen;
use input::{Input, Typed};
use output::Output;
use round::Round;
use watch::{POLL, Watch};

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(after_help = DEV_HELP)]
pub struct DevArgs {
    /// Agent to talk to [default: the first of `[[agents]]`].
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: Option<AgentId>,
    /// Configuration file.
    #[arg(
        long,
        short,
        env = "BULKHEAD_CONFIG",
        hide_env_values = true,
        default_value = "bulkhead.toml"
    )]
    pub config: PathBuf,
}

const DEV_HELP: &str = "\
Each line that is typed is a message to the agent. At a change of the code of a role its agents start again, with the
state of their last snapshot; at a change of the configuration the host starts again. The log of the host is the file
dev.log in its state directory. Ctrl-C or Ctrl-D ends the host, and then the command.

Without a terminal each line of stdin is a message, and the end of stdin is the end. Where there is no line at all, as in
/dev/null, the command runs until a signal. A line that comes while the host does not run, because the configuration is
broken, is not sent, and is reported.

Exit codes:
  0         ended by Ctrl-C, or by the end of stdin while the host runs
  1         the host cannot run, or ended by itself
  2         invalid command line or configuration
  129, 143  ended by SIGHUP or SIGTERM";

/// The log of the host, in its state directory.
const LOG: &str = "dev.log";

/// After the end of a round that was to go on.
enum Next {
    Round,
    End,
}

/// Runs until it is ended. `program` is what runs the host: this same program. The code is one of those in the help.
pub fn run_dev(
    args: &DevArgs,
    colours: ColourChoice,
    read: ReadProject,
    program: &Path,
) -> ExitCode {
    let dev = Dev { args, read, program, output: Output::new(Screen::of_stdout(colours)) };
    let cannot = |error: std::io::Error| Failure::NoAnswer(format!("cannot run: {error}"));
    // One thread: the child is bound to the life of the one that starts it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(cannot).and_then(|runtime| {
        let done = runtime.block_on(dev.run());
        // A line may still be read.
        runtime.shutdown_background();
        done
    });
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if let Some(words) = failure.words() {
        eprintln!("bulkhead: {}", bulkhead_printable::lines(&words));
    }
    ExitCode::from(failure.code())
}

struct Dev<'a> {
    args: &'a DevArgs,
    read: ReadProject,
    program: &'a Path,
    output: Output,
}

impl Dev<'_> {
    /// Whatever ends it, the child ends first.
    async fn run(&self) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| Failure::NoAnswer(format!("cannot run: {error}"));
        let mut signals = Signals::new().map_err(cannot)?;
        let mut input = Input::open(&self.output)?;
        let mut process = None;
        let done = tokio::select! {
            biased;
            ended = signals.next() => ended,
            done = self.rounds(&mut input, &mut process) => done,
        };
        input.leave();
        if let Some(process) = &mut process {
            process.end().await;
        }
        done
    }

    async fn rounds(
        &self,
        input: &mut Input,
        process: &mut Option<Process>,
    ) -> Result<(), Failure> {
        let mut is_first = true;
        loop {
            let watch = Watch::of_config(&self.args.config);
            match self.round(input, process).await {
                Ok(Next::End) => return Ok(()),
                Ok(Next::Round) => is_first = false,
                Err(failure) if is_first || matches!(failure, Failure::NobodyReads) => {
                    return Err(failure);
                }
                Err(failure) => match self.wait_for_repair(&failure, watch, input).await? {
                    // Its words are there, and a script goes by the code.
                    Next::End => return Err(Failure::Reported(failure.code())),
                    Next::Round => {}
                },
            }
        }
    }

    async fn round(&self, input: &mut Input, slot: &mut Option<Process>) -> Result<Next, Failure> {
        let project = (self.read)(&self.args.config).map_err(Failure::Usage)?;
        let agent = project.agent_to_talk_to(self.args.agent.as_ref())?;
        let process = slot.insert(Process::start(self.program, &self.args.config, |_| {})?);
        let log = project.control.state_dir.join(LOG);
        let listen = process.ready(&log, |words| self.output.wrong(words)).await?;
        let round = Round::new(&self.args.config, &project, agent, listen, &self.output)?;
        round.run(process, input).await
    }

    /// The configuration was right before, and will be again, unless there is nobody any more to mend it.
    async fn wait_for_repair(
        &self,
        failure: &Failure,
        mut watch: Watch,
        input: &mut Input,
    ) -> Result<Next, Failure> {
        let words = failure.words().unwrap_or_default();
        self.output.wrong(&words)?;
        self.output.aside(&format!("waiting for a change of {}", self.args.config.display()))?;
        let mut polls = interval(POLL);
        loop {
            tokio::select! {
                _ = polls.tick() => if !watch.poll().is_empty() {
                    return Ok(Next::Round);
                },
                typed = input.next("> ", &self.output) => match typed? {
                    Typed::Line(line) if line.trim().is_empty() => {}
                    Typed::Line(_) => self.output.wrong("not sent: the host does not run")?,
                    Typed::Nobody => {}
                    Typed::End => return Ok(Next::End),
                },
            }
        }
    }
}
