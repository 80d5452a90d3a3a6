//! The `bulkhead` binary.
//!
//! `bulkhead run` is the story of the process: read the configuration, take the state directory, start
//! the log, build the engine, the supervisor and the control server, start the configured agents, wait
//! for a signal, end the agents, end the process with a numbered code. As the first process of a container,
//! or when asked to, it does all that in a child, and watches over it ([`init`]).

mod allocator;
mod author;
mod banner;
mod begun;
mod check;
mod cli;
mod components;
mod config;
mod control_token;
mod crashes;
mod diagnose;
mod dispositions;
mod evidence;
mod exit;
mod failure;
mod faults;
mod fleet;
mod hardening;
mod host;
mod init;
mod keeper;
mod kept;
mod lease_floor;
mod leased;
mod manager;
mod manual;
mod model_calls;
mod notify;
mod open_files;
mod output;
mod panics;
mod places;
mod previous;
mod reach;
mod recorder;
mod repositories;
mod run;
mod ship;
mod signals;
mod state_dir;
mod store_notices;
mod termination_log;
mod tools;
mod town_edge;

use std::process::ExitCode;

use cli::{Cli, Command, FleetCommand, RunArgs};
use failure::Failure;
use init::Handover;

fn main() -> ExitCode {
    let_errors_be_cheap();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let colours = cli.color.into();
    if let Command::Run(_)
    | Command::Dev(_)
    | Command::Test(_)
    | Command::Check(_)
    | Command::Compile(_)
    | Command::Fleet(_) = &cli.command
    {
        hardening::be_private();
    }
    let result = match cli.command {
        Command::New(args) => Ok(bulkhead_scaffold::run(&args)),
        Command::Dev(args) => author::dev(&args, colours),
        Command::Test(args) => author::test(&args, colours),
        Command::Run(mut args) => {
            args.colours = colours;
            open_files::raise().and_then(|()| run(&args))
        }
        Command::Check(args) => {
            open_files::raise().and_then(|()| check::check(&args)).map(ExitCode::from)
        }
        Command::Compile(args) => {
            open_files::raise().and_then(|()| check::compile(&args)).map(ExitCode::from)
        }
        Command::CompileComponent { order } => {
            Ok(bulkhead_runtime::compile_component(&order).into())
        }
        Command::LaunchTools => Ok(bulkhead_tools::serve()),
        Command::Fleet(FleetCommand::Ps(args)) => fleet::ps(&args, colours),
        Command::Completions { shell } => manual::print_completions(shell).map(ExitCode::from),
        Command::Man { dir } => manual::write_pages(&dir).map(ExitCode::from),
        Command::Diagnose(args) => diagnose::run(&args),
        Command::Crashes(args) if args.url.is_some() => {
            Ok(bulkhead_client::run_crashes(args, colours, config::control))
        }
        Command::Crashes(args) => crashes::run(&args, colours).map(ExitCode::from),
        Command::Mcp(args) => Ok(bulkhead_client::serve_mcp(args, config::control)),
        Command::Client(command) => Ok(bulkhead_client::run(command, colours, config::control)),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            // It may name files, and repeat what stands in them.
            eprintln!("bulkhead: {}", bulkhead_printable::lines(&failure.to_string()));
            failure.code().into()
        }
    }
}

/// With `RUST_BACKTRACE` set, every error of a library would walk the host's own stack, and so would every
/// trap of a guest: a tenth of what a crash costs. Panics of the host still do.
fn let_errors_be_cheap() {
    const VARIABLE: &str = "RUST_LIB_BACKTRACE";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: nothing ran before this, so there is no other thread.
        #[expect(clippy::disallowed_methods, unsafe_code, reason = "there is no other thread yet")]
        unsafe {
            std::env::set_var(VARIABLE, "0");
        }
    }
}

fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    if let Some(order) = keeper::order()? {
        hardening::hide_memory();
        return keeper::run(args, order);
    }
    let handover = Handover::take()?;
    let is_leased =
        handover.is_none() && args.test_model.is_none() && config::has_lease(&args.config);
    if handover.is_none() && (args.supervise || init::is_first_process() || is_leased) {
        hardening::hide_memory();
        let ended = init::supervise(args, is_leased);
        return ended.inspect_err(|failure| termination_log::write(&failure.to_string()));
    }
    bulkhead_runtime::open_own_page_map();
    hardening::hide_memory();
    let ended = run::run(args, handover).map(ExitCode::from);
    ended.inspect_err(|failure| termination_log::write(&failure.to_string()))
}
