//! The line about a supervisor that has no successor to log it.

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::runs::Runs;
use bulkhead_log::RunContext;
use bulkhead_memory::Kernel;

use super::ends::Ends;
use super::voice::Voice;
use crate::cli::RunArgs;
use crate::previous::{Before, Traces};
use crate::run;
use crate::termination_log::{self, verdict};

/// Writes `container.previous_run` in the name of the run that died last, as the line after its last.
pub fn log_last_end(args: &RunArgs, ends: &Ends, kernel: &Kernel, voice: &Voice) {
    let forgotten = ends.forgotten();
    let ends = ends.kept();
    let Some(end) = ends.last() else { return };
    let settings = match run::settings(args) {
        Ok(settings) => settings,
        Err(failure) => {
            return voice.print(&format!("cannot determine why the supervisor died: {failure}"));
        }
    };
    let dir = &settings.state_dir;
    let (found, boxes, runs) = (blackbox::read(dir), blackbox::left(dir), Runs::read(dir));
    let traces = Traces {
        found: &found,
        boxes: &boxes,
        runs: &runs,
        ends: &ends,
        forgotten,
        outside: None,
        has_database: true,
        restored: None,
        remark: None,
        damaged: &[],
    };
    let before = Before::judge(&traces, kernel);
    termination_log::write(&verdict(before.run()));
    let seq = before.run().last_seq.map_or(0, |seq| seq + 1);
    let own = boxes.iter().find(|left| left.run.run_id == end.run_id);
    let lived = own.and_then(|own| own.uptime).unwrap_or_default();
    let context = RunContext::past(end.run_id.clone(), settings.town_id.clone(), lived);
    let Some(event) = before.into_event() else { return };
    let line = settings.format().lines(&event, &context, seq, settings.log.max_line_bytes);
    let half_line = own.is_some_and(|own| own.in_line);
    voice.log(if half_line { format!("\n{line}") } else { line });
}
