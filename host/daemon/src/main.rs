//! The `bulkhead` binary.
//!
//! `bulkhead run` is the story of the process: read the configuration, take the state directory, start
//! the log, build the engine, the supervisor and the control server, start the configured agents, wait
//! for a signal, end the agents, end the process with a numbered code.

mod check;
mod cli;
mod config;
mod crashes;
mod exit;
mod failure;
mod faults;
mod host;
mod panics;
mod run;
mod signals;
mod state_dir;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args.config),
        Command::Compile(args) => check::compile(&args.config),
        Command::Crashes(args) => crashes::run(&args),
    };
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("bulkhead: {failure}");
            failure.code().into()
        }
    }
}
