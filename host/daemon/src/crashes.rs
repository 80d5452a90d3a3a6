//! `bulkhead crashes`: reads crash records from the state directory, whether a host runs or not.

use std::fmt::Write as _;
use std::io::Write as _;

use bulkhead_client::{CrashesArgs, CrashesCommand, crash_json, crash_line, crash_page};
use bulkhead_model::AgentId;
use bulkhead_store::crashes::{Config, CrashStore, Crashes, Filter};

use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Shows what was asked for.
pub fn run(args: &CrashesArgs) -> Result<Exit, Failure> {
    let settings = config::load(&args.config)?;
    let (crashes, loaded) = Crashes::read(&Config::in_dir(&settings.state_dir));
    for error in &loaded.errors {
        eprintln!("bulkhead: {error}");
    }
    let text = match args.what.clone().unwrap_or_default() {
        CrashesCommand::List { agent, limit } => list(&crashes, agent, limit, args.json),
        CrashesCommand::Show { crash_id } => show(&crashes, crash_id.as_deref(), args.json)?,
    };
    // A reader that has seen enough closes the pipe: that is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(Exit::Clean)
}

fn list(crashes: &Crashes, agent: Option<AgentId>, limit: usize, json: bool) -> String {
    let page = crashes.list(&Filter { agent, limit, ..Filter::default() });
    let mut text = String::new();
    for record in &page.records {
        if json {
            let _ = writeln!(text, "{}", crash_json(record));
            continue;
        }
        let _ = writeln!(text, "{}", crash_line(record));
    }
    if page.records.is_empty() && !json {
        text.push_str("no crash records\n");
    }
    text
}

fn show(crashes: &Crashes, crash_id: Option<&str>, json: bool) -> Result<String, Failure> {
    let all = crashes.list(&Filter { limit: usize::MAX, ..Filter::default() }).records;
    let wanted = crash_id.unwrap_or_default();
    let mut found = all.iter().filter(|record| record.crash_id.starts_with(wanted));
    let Some(record) = found.next() else {
        let text = match crash_id {
            Some(crash_id) => format!("no such crash: {crash_id}"),
            None => "no crash records".to_owned(),
        };
        return Err(Failure::bad_input(text));
    };
    if crash_id.is_some() && found.next().is_some() {
        return Err(Failure::bad_input(format!("more than one crash begins with {wanted}")));
    }
    Ok(if json { format!("{}\n", crash_json(record)) } else { crash_page(record) })
}
