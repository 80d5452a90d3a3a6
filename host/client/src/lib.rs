//! The client commands: what a person, or a script, asks a running host over its control API.
//!
//! ```text
//!  arguments ─▶ target ──▶ session ──▶ http ──▶ a host
//!               which host, what a      one request,
//!               which token status means bounded
//!                              │
//!     stdout ◀─ screen ◀─ commands ◀── answers and frames (stream), as types of `api`
//! ```
//!
//! Knows the contract and nothing of the host behind it: it sees `types`, `api`, `net`, `printable`, `terminal` and `mcp`
//! only, so that whatever it can do, any other client can. Its answers may come from a host that runs other people's components,
//! so no text of one reaches the terminal as it is (`bulkhead_printable`).
//!
//! The daemon adds the commands to its own and lends the one thing that is not in the contract: how a
//! configuration file is read ([`ReadConfig`]).

mod args;
mod author;
mod bounded;
mod command;
mod commands;
mod dev;
mod failure;
mod following;
mod http;
mod mcp;
mod percent;
mod prompt;
mod screen;
mod session;
mod sparkline;
mod stream;
pub mod table;
mod target;
mod test;
mod toml_text;
mod waiting;

use std::process::ExitCode;

use bulkhead_terminal::ColourChoice;
use tokio::signal::unix::{SignalKind, signal};

pub use args::{HostArgs, OutputArgs};
pub use author::project::{Project, ReadProject, RoleCode};
pub use bounded::read_text;
use command::Asked;
pub use command::ClientCommand;
pub use commands::chat::ChatArgs;
pub use commands::crashes::{CrashesArgs, CrashesCommand, crash_text};
pub use commands::diff::DiffArgs;
pub use commands::events::EventsArgs;
pub use commands::exec::ExecArgs;
pub use commands::health::HealthArgs;
pub use commands::logs::LogsArgs;
pub use commands::memory::MemoryArgs;
pub use commands::move_town::MoveArgs;
pub use commands::nudge::NudgeArgs;
pub use commands::ps::PsArgs;
pub use commands::send::SendArgs;
pub use commands::start::{IfRunningArg, StartArgs};
pub use commands::status::StatusArgs;
pub use commands::stop::StopArgs;
pub use commands::top::TopArgs;
pub use commands::upgrade::UpgradeArgs;
pub use commands::workspaces::{WorkspacesArgs, WorkspacesCommand};
pub use dev::{DevArgs, run_dev};
use failure::Failure;
pub use mcp::McpArgs;
use screen::Screen;
pub use screen::terminal_width;
use session::Session;
pub use target::{Configured, MAX_SECRET_BYTES, ReadConfig, TOKEN_FILE, read_secret};
pub use test::{TEST_DIRECTORY, TestArgs, run_test};
pub use toml_text::{TomlError, line_of, parse_toml, plain};
use waiting::Waiting;

/// Asks a host and prints what it answers. The code is one of those in the help.
pub fn run(command: ClientCommand, colours: ColourChoice, read_config: ReadConfig) -> ExitCode {
    conclude(Asked::Command(command), colours, read_config)
}

/// `bulkhead crashes` when a host is named.
pub fn run_crashes(args: CrashesArgs, colours: ColourChoice, read_config: ReadConfig) -> ExitCode {
    conclude(Asked::Crashes(args), colours, read_config)
}

/// `bulkhead mcp`: tools for models, on stdin and stdout, until stdin is closed.
pub fn serve_mcp(args: McpArgs, read_config: ReadConfig) -> ExitCode {
    let Err(problem) = mcp::serve(args, read_config) else { return ExitCode::SUCCESS };
    eprintln!("bulkhead: {}", bulkhead_printable::lines(&problem));
    ExitCode::FAILURE
}

fn conclude(mut asked: Asked, colours: ColourChoice, read_config: ReadConfig) -> ExitCode {
    let (host, json) = asked.where_and_how();
    let screen = Screen::of_stdout(colours);
    let done = asked
        .prepare()
        .and_then(|()| target::find(&host, |name| std::env::var_os(name), read_config))
        // A health check runs where nobody has set anything up.
        .or_else(|problem| match asked.is_probe() && host.url.is_none() {
            true => target::default(),
            false => Err(problem),
        })
        .map_err(Failure::Usage)
        .and_then(|target| {
            if let Some(warning) = target.warning() {
                eprintln!("bulkhead: {warning}");
            }
            let waiting = Waiting::default();
            talk(&asked, &Session { target, screen, waiting, timeout: host.timeout, json })
        });
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if let Some(answer) = failure.json().filter(|_| json) {
        // The code says already that something is wrong.
        let _ = screen.print(&format!("{answer}\n"));
    }
    if let Some(words) = failure.words() {
        eprintln!("bulkhead: {}", bulkhead_printable::lines(&words));
    }
    ExitCode::from(asked.code(&failure))
}

/// Runs a command until it is through or a Ctrl-C comes.
fn talk(asked: &Asked, session: &Session) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::NoAnswer(format!("cannot run: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(cannot)?;
    let done = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        // Kept until it is known what was waited for.
        let mut run = std::pin::pin!(asked.run(session));
        let interrupted = async {
            while interrupt.recv().await.is_some() && session.waiting.takes_interrupts.get() {}
        };
        tokio::select! {
            // First: one that comes before the command takes them over is not lost.
            biased;
            () = interrupted => Err(Failure::Interrupted(session.waiting.interrupted())),
            done = &mut run => done,
            never = session.waiting.show() => match never {},
        }
    });
    session.waiting.wipe();
    // A look-up of a name, or a question to the person, may still be under way.
    runtime.shutdown_background();
    done
}
