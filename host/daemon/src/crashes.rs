//! `bulkhead crashes`: reads crash records from the state directory, whether a host runs or not.

use std::sync::Arc;

use bulkhead_client::{CrashesArgs, CrashesCommand, crash_text};
use bulkhead_store::database::{self, CrashQuery};
use bulkhead_terminal::{ColourChoice, crash_list};
use bulkhead_types::CrashRecord;

use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, print};
use crate::state_dir;

/// Shows what was asked for.
pub fn run(args: &CrashesArgs, colours: ColourChoice) -> Result<Exit, Failure> {
    let settings = config::load(&args.config)?;
    let config = database::Config::in_state_dir(&settings.state_dir);
    let read = |query: &CrashQuery| match &config.dir {
        Some(dir) => database::read_crashes(dir, query)
            .map_err(|error| Failure::cannot_run("cannot read crash records", &error)),
        None => Ok(Vec::new()),
    };
    let host = state_dir::in_use_by(&settings.state_dir).map(|who| {
        let dir = settings.state_dir.display();
        format!("{who} uses {dir} and may have records that are not on disk yet: ask it with --url")
    });
    let say_who_runs = || {
        if let Some(host) = &host {
            eprintln!("bulkhead: {}", bulkhead_printable::line(host));
        }
    };
    let text = match args.what.clone().unwrap_or_default() {
        CrashesCommand::List { agent, limit } => {
            let query = CrashQuery { agent, limit: limit.get(), ..CrashQuery::default() };
            say_who_runs();
            crash_list(&read(&query)?, args.json)
        }
        CrashesCommand::Show { crash_id, markdown } => {
            // Two are enough to see that one is not the only one.
            let query =
                CrashQuery { id_prefix: crash_id.clone(), limit: 2, ..CrashQuery::default() };
            let record = only(&read(&query)?, crash_id.as_deref(), host.as_deref())?;
            // Of the newest it is not known whether it is.
            if crash_id.is_none() {
                say_who_runs();
            }
            crash_text(&record, args.json, markdown, colours.on_stdout())
        }
    };
    print(&text)?;
    Ok(Exit::Clean)
}

fn only(
    found: &[Arc<CrashRecord>],
    crash_id: Option<&str>,
    host: Option<&str>,
) -> Result<Arc<CrashRecord>, Failure> {
    let Some(record) = found.first() else {
        let text = match crash_id {
            Some(crash_id) => format!("no such crash: {crash_id}"),
            None => "no crash records".to_owned(),
        };
        return Err(Failure::bad_input(match host {
            Some(host) => format!("{text}; {host}"),
            None => text,
        }));
    };
    if let (Some(crash_id), true) = (crash_id, found.len() > 1) {
        return Err(Failure::bad_input(format!("more than one crash begins with {crash_id}")));
    }
    Ok(Arc::clone(record))
}
