//! `docs/cli.md`, made from the definition of the command line. `UPDATE_EXPECT=1` rewrites it.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

const PAGE: &str = include_str!("page.md");

/// The heading of the options that all commands with a host share.
const HOST: &str = "Host";

fn page() -> String {
    let mut cli = Cli::command();
    cli.build();
    let shared = host_options(cli.find_subcommand("ps").expect("a command"));
    let (mut commands, mut details) = ("| command | |\n| --- | --- |\n".to_owned(), String::new());
    for command in visible(&cli) {
        let name = command.get_name();
        let _ = writeln!(commands, "| [`{name}`](#bulkhead-{name}) | {} |", about(command));
        describe(command, &shared, &mut details);
    }
    let common = cli.get_after_help().map(ToString::to_string).unwrap_or_default();
    let page = PAGE
        .replace("{{commands}}", &commands)
        .replace("{{common}}", &format!("{}\n```text\n{common}\n```\n", of_all(&cli)))
        .replace("{{details}}\n", &details)
        .replace("{{host}}\n", &shared);
    let note = "<!-- Made by host/daemon/src/cli/document.rs from the command line; UPDATE_EXPECT=1 rewrites it. -->\n";
    format!("{note}{page}")
}

/// Options of every command.
fn of_all(cli: &Command) -> String {
    table(cli.get_arguments().filter(|argument| argument.is_global_set()))
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn describe(command: &Command, shared: &str, page: &mut String) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let title = command.get_bin_name().unwrap_or(command.get_name());
    let _ = write!(page, "## `{title}`\n\n{}.\n\n```text\n{usage}\n```\n\n", about(command));
    let own: Vec<_> =
        arguments(command).filter(|argument| argument.get_help_heading() != Some(HOST)).collect();
    if !own.is_empty() {
        let _ = writeln!(page, "{}", table(own.into_iter()));
    }
    match host_options(command) {
        host if host == shared => page.push_str(
            "It also has the [options of commands that call a host](#options-of-commands-that-call-a-host).\n\n",
        ),
        host if host.is_empty() || command.get_bin_name().is_some_and(|name| name.starts_with("bulkhead crashes ")) => {}
        host => {
            let _ = writeln!(page, "{host}");
        }
    }
    if let Some(text) = command.get_after_help() {
        let _ = writeln!(page, "```text\n{text}\n```\n");
    }
    visible(command).for_each(|command| describe(command, shared, page));
}

fn host_options(command: &Command) -> String {
    let options: Vec<_> =
        arguments(command).filter(|argument| argument.get_help_heading() == Some(HOST)).collect();
    if options.is_empty() { String::new() } else { table(options.into_iter()) }
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let inherited =
        command.get_bin_name().is_some_and(|name| name.starts_with("bulkhead crashes "));
    command.get_arguments().filter(move |argument| {
        let is_of_all = matches!(argument.get_id().as_str(), "help" | "version" | "color");
        !(argument.is_hide_set() || is_of_all || inherited && argument.is_global_set())
    })
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut table = "| argument | default | variable | |\n| --- | --- | --- | --- |\n".to_owned();
    for argument in arguments {
        let value =
            argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let takes = argument.get_num_args().is_some_and(|number| number.takes_values());
        let name = match (argument.get_short(), argument.get_long()) {
            (_, None) => format!("`{}`", value.clone().unwrap_or_default()),
            (short, Some(long)) => {
                let short = short.map_or_else(String::new, |short| format!("`-{short}`, "));
                let value =
                    value.filter(|_| takes).map_or_else(String::new, |value| format!(" {value}"));
                format!("{short}`--{long}{value}`")
            }
        };
        let defaults = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()));
        let default = if takes { defaults.collect::<Vec<_>>().join(" ") } else { String::new() };
        let variable = argument
            .get_env()
            .map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
        let help = argument
            .get_long_help()
            .or(argument.get_help())
            .map(ToString::to_string)
            .unwrap_or_default();
        let values: Vec<_> = argument
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let values = match takes && !values.is_empty() {
            true => format!(". Values: {}", values.join(", ")),
            false => String::new(),
        };
        let help = help.replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(
            table,
            "| {name} | {default} | {variable} | {}{values} |",
            help.trim_end_matches('.')
        );
    }
    table
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default().replace('\n', " ")
}

#[test]
fn the_page_of_the_command_line_is_made_from_it() {
    expect_test::expect_file!["../../../../docs/cli.md"].assert_eq(&page());
}
