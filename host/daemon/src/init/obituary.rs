//! The line about a supervisor that has no successor to tell it.

use std::time::Duration;

use bulkhead_events::RunContext;
use bulkhead_memory::Kernel;
use bulkhead_store::blackbox::{self, Found};

use super::ProcessEnd;
use super::voice::Voice;
use crate::cli::RunArgs;
use crate::previous::Before;
use crate::run;

/// Writes `container.previous_run` in the name of the dead run, as the line after its last.
pub fn tell(args: &RunArgs, end: &ProcessEnd, kernel: &Kernel, voice: &Voice) {
    let settings = match run::settings(args) {
        Ok(settings) => settings,
        Err(failure) => {
            return voice.say(&format!("cannot tell why the supervisor died: {failure}"));
        }
    };
    let found = blackbox::read(&settings.state_dir);
    let before = Before::judge(&found, Some(end), kernel);
    let run = before.run();
    // A run that did not live to write down its name had no line either.
    let run_id = run.previous_run_id.clone().unwrap_or_else(|| "unknown".into());
    let seq = run.last_seq.map_or(0, |seq| seq + 1);
    let is_known = run.previous_run_id.is_some();
    let lived = match &found {
        Found::Run(previous) if is_known => previous.uptime.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let context = RunContext::past(run_id, settings.town_id.clone(), lived);
    let line = settings.format().line(&before.into_event(), &context, seq);
    let half_line = is_known && found.run().is_some_and(|previous| previous.in_line);
    voice.tell(if half_line { format!("\n{line}") } else { line });
}
