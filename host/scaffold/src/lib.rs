//! `bulkhead new`: the files that a new agent begins with.
//!
//! ```text
//!  templates/ ─▶ language ─▶ tree ─▶ write
//!   real files    which of    names     a directory beside the new one,
//!  build.rs ───▶  them        filled in  then one rename
//!   generated from
//!   the contract
//! ```
//!
//! Knows nothing of a host. What the files say is tried by running them.

mod language;
mod tree;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_types::AgentId;
use clap::Args;

pub use language::Language;
use tree::tree;
use write::Refused;

/// A crate's name, and so that of a Rust agent, is in the middle of what agents and cargo allow.
const CRATE_NAMES: &str = "cargo takes letters, digits, - and _ only, and a letter first";

/// Arguments of `new`.
#[derive(Debug, Args)]
#[command(after_help = NEW_HELP)]
pub struct NewArgs {
    /// Name of the agent, of its role, and of the new directory.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: AgentId,
    /// What the agent is written in.
    #[arg(long, value_name = "LANGUAGE", default_value = "js")]
    pub lang: Language,
    /// Where the new directory is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

const NEW_HELP: &str = "\
Nothing is overwritten: the directory must not exist, or be empty. Then `bulkhead dev` in it runs the agent, and
`bulkhead test` the script that is written beside it.

Exit codes:
  0  success
  1  the directory cannot be written, and nothing is left of it; or stdout cannot
  2  invalid command line, or there is something of that name already";

fn parse_name(text: &str) -> Result<AgentId, String> {
    AgentId::parse(text).map_err(|error| error.to_string())
}

/// Writes the files, and prints what to do next. The code is one of those in the help.
pub fn run(args: &NewArgs) -> ExitCode {
    match make(args) {
        Ok(made) => match bulkhead_terminal::print(&format!("{}\n", next_steps(args, &made))) {
            Ok(_) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("bulkhead: {problem}");
                ExitCode::FAILURE
            }
        },
        Err(refused) => {
            eprintln!("bulkhead: {}", with_cause(&refused));
            ExitCode::from(refused.code())
        }
    }
}

/// Writes the files. Returns the new directory.
fn make(args: &NewArgs) -> Result<PathBuf, Refused> {
    if args.lang == Language::Rust && !is_crate_name(args.name.as_str()) {
        return Err(Refused::Name { name: args.name.clone(), rule: CRATE_NAMES });
    }
    write::write(&args.dir, args.name.as_str(), &tree(args.lang, &args.name))
}

fn is_crate_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn next_steps(args: &NewArgs, made: &std::path::Path) -> String {
    let (name, shown, entry) = (&args.name, made.display(), args.lang.entry());
    let build = args.lang.build().map_or_else(String::new, |build| format!("{build} && "));
    format!(
        "{name} is in {shown}: {entry} is the agent.\n\n  cd {shown} && {build}bulkhead dev\n\n\
         `bulkhead test` plays tests/talk.toml."
    )
}

fn with_cause(refused: &Refused) -> String {
    let cause = std::error::Error::source(refused);
    cause.map_or_else(|| refused.to_string(), |cause| format!("{refused}: {cause}"))
}

#[cfg(test)]
mod tests;
