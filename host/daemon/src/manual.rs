//! What packages install beside the program: completion scripts and man pages, made from the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::failure::{Failure, print};

/// The name that the program is installed by.
const NAME: &str = "bulkhead";

/// Writes a completion script to stdout.
pub fn print_completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut visible(&Cli::command()), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Clean)
}

/// Writes a man page for each command into a directory.
pub fn write_pages(dir: &Path) -> Result<Exit, Failure> {
    let write = || {
        fs::create_dir_all(dir)?;
        let mut cli = Cli::command().disable_help_subcommand(true);
        cli.build();
        write_page(&cli, dir)
    };
    write().map(|()| Exit::Clean).map_err(|error: io::Error| {
        Failure::cannot_run(&format!("cannot write man pages to {}", dir.display()), &error)
    })
}

/// Writes the page of a command, and those of the commands below it.
fn write_page(command: &Command, dir: &Path) -> io::Result<()> {
    let program = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(program).manual("Bulkhead");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if shown(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    if command.get_after_help().is_some() {
        page.extend(notes(&man)?);
    }
    fs::write(dir.join(man.get_filename()), page)?;
    shown(command).try_for_each(|command| write_page(command, dir))
}

/// What follows the options in the help: tables, whose lines stay as they are.
fn notes(man: &Man) -> io::Result<Vec<u8>> {
    let mut notes = Vec::new();
    man.render_extra_section(&mut notes)?;
    let notes = String::from_utf8_lossy(&notes).replacen(".SH EXTRA\n", ".SH NOTES\n.nf\n", 1);
    Ok(format!("{notes}.fi\n").into_bytes())
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

/// The command without what is hidden: a completion script would show it.
fn visible(command: &Command) -> Command {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let about = command.get_about().cloned().unwrap_or_default();
    // As long as the process, which prints it and ends.
    let name: &'static str = command.get_name().to_owned().leak();
    let bare = Command::new(name).about(about).args(args);
    bare.subcommands(shown(command).map(visible))
}
