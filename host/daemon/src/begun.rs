//! What a run has before anything is built: its number, its black box, and what became of the runs before.

use std::sync::Arc;

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::previous::Outside;
use bulkhead_blackbox::runs::{KnownRun, Runs};
use bulkhead_blackbox::{BlackBox, Geometry, OpenError, Run};
use bulkhead_log::{RunContext, now};
use bulkhead_memory::Kernel;
use bulkhead_ship::Restored;
use bulkhead_types::error::causes;
use uuid::Uuid;

use crate::config::Settings;
use crate::evidence::AtSink;
use crate::failure::Failure;
use crate::init::Handover;
use crate::output;
use crate::previous::{Before, Traces, settle};
use crate::termination_log::{self, while_running};

/// A run at its beginning.
pub struct Begun {
    pub run: Run,
    pub context: Arc<RunContext>,
    pub blackbox: BlackBox,
    /// All runs that are known on this disk, this one included.
    pub runs: Runs,
    /// What became of the runs before.
    pub before: Before,
    /// What the evidence sink has, if there is one.
    pub at_sink: Option<AtSink>,
    /// The sink knows more of the run before than this disk.
    pub sink_is_newer: bool,
    /// The run before left half a line of its log where this one writes.
    pub owes_newline: bool,
    pub doubts: Doubts,
}

/// What the beginning lacks. It is logged when there is a log, and has its first line.
pub struct Doubts {
    /// Why the black box is not on the disk.
    no_blackbox: Option<OpenError>,
    /// Why the list of runs was not written. Without it the next run goes by the black box alone.
    not_listed: Option<std::io::Error>,
    /// Why it is not understood what is said from outside.
    not_heard: Option<String>,
}

impl Begun {
    /// Reads what earlier runs left, puts the new black box in place and lists the run.
    pub fn of(
        settings: &Settings,
        handover: Option<&Handover>,
        restored: Option<&Restored>,
        kernel: &Kernel,
    ) -> Result<Self, Failure> {
        let dir = &settings.state_dir;
        let (mut boxes, mut runs) = (blackbox::left(dir), Runs::read(dir));
        let at_sink = AtSink::ask(settings.evidence.as_ref())?;
        let (remark, sink_is_newer) = match &at_sink {
            Some(at_sink) => settle(&mut runs, &mut boxes, at_sink.run()),
            None => (None, false),
        };
        let mut run = describe_run(kernel, handover);
        let context = Arc::new(RunContext::new(run.run_id.clone(), settings.town_id.clone()));
        let (outside, not_heard) = outside();
        // Not what this run has just put there.
        let restored = restored.and_then(where_none_was);
        let has_database =
            restored.is_none() && bulkhead_store::database::exists(&dir.join("store"));
        let traces = |found| Traces {
            found,
            boxes: &boxes,
            runs: &runs,
            ends: handover.map_or(&[][..], |handover| &handover.ends),
            forgotten: handover.map_or(0, |handover| handover.forgotten),
            outside: outside.as_ref(),
            has_database,
            restored,
            remark: remark.as_ref(),
            damaged: at_sink.as_ref().map_or(&[][..], AtSink::damaged),
        };
        let in_place = blackbox::read(dir);
        let epoch = at_sink.as_ref().map_or(0, AtSink::epoch);
        run.number = traces(&in_place).next_number().max(epoch + 1);
        let opened = traces(&in_place).open_box(dir, &run, Geometry::default(), kernel);
        let (before, unreported) = {
            let traces = traces(&opened.previous);
            let before = Before::judge(&traces, kernel);
            let unreported = before.keep(traces.unreported());
            (before, unreported)
        };
        termination_log::write(&while_running(&run.run_id, before.run()));
        let owes_newline = output::follows_half_a_line(opened.previous.run(), &run);
        let (blackbox, no_blackbox) = usable(opened.blackbox, &run, at_sink.is_some());
        let known = KnownRun {
            run_id: run.run_id.clone(),
            number: run.number,
            has_box: no_blackbox.is_none(),
            verdict: None,
        };
        let not_listed = runs.begin(unreported, known).err();
        let doubts = Doubts { no_blackbox, not_listed, not_heard };
        Ok(Self {
            run,
            context,
            blackbox,
            runs,
            before,
            at_sink,
            sink_is_newer,
            owes_newline,
            doubts,
        })
    }
}

impl Doubts {
    /// Logs what a later run cannot use.
    pub fn warn(self, blackbox: &BlackBox) {
        if let Some(error) = self.not_listed {
            tracing::warn!(%error, "the list of runs was not written: a later run can use the black box only");
        }
        if let Some(problem) = self.not_heard {
            tracing::warn!(problem, "{OUTSIDE} is not used");
        }
        let Some(error) = self.no_blackbox else { return };
        let cause = causes(&error);
        match blackbox.is_present() {
            true => {
                tracing::warn!(%error, cause, "this run has its black box in memory and at the evidence sink only")
            }
            false => {
                tracing::warn!(%error, cause, "this run has no black box: the next run cannot determine how it ended")
            }
        }
    }
}

/// The black box, or what serves instead of one that cannot be had, and why it cannot.
fn usable(
    opened: Result<BlackBox, OpenError>,
    run: &Run,
    has_sink: bool,
) -> (BlackBox, Option<OpenError>) {
    match opened {
        Ok(blackbox) => (blackbox, None),
        // What goes to the sink outlives the process all the same.
        Err(error) if has_sink => {
            let in_memory = blackbox::in_memory(run, Geometry::default());
            (in_memory.unwrap_or_else(|_| BlackBox::absent()), Some(error))
        }
        Err(error) => (BlackBox::absent(), Some(error)),
    }
}

/// Whether the writer of what was restored had shipped all at its end, if no database was in its place.
fn where_none_was(restored: &Restored) -> Option<bool> {
    match restored {
        Restored::From { set_aside: None, ended, .. } => Some(*ended),
        Restored::From { .. } | Restored::Kept | Restored::Nothing => None,
    }
}

/// The variable in which the container's runtime says how it ended before.
const OUTSIDE: &str = "BULKHEAD_PREVIOUS_EXIT";

/// What is said from outside of the end before, or why it is not understood.
fn outside() -> (Option<Outside>, Option<String>) {
    let Some(text) = std::env::var_os(OUTSIDE).filter(|text| !text.is_empty()) else {
        return (None, None);
    };
    let read =
        text.to_str().ok_or_else(|| "it is not valid UTF-8".to_owned()).and_then(Outside::parse);
    match read {
        Ok(outside) => (Some(outside), None),
        Err(problem) => (None, Some(problem)),
    }
}

/// What the black box says of this run at its beginning. An init process read the counters before there was
/// a process to be killed, so that none is missed.
fn describe_run(kernel: &Kernel, handover: Option<&Handover>) -> Run {
    Run {
        run_id: handover
            .map_or_else(|| Uuid::now_v7().to_string(), |handover| handover.run_id.clone()),
        // Known when it is known what is there.
        number: 0,
        boot_id: kernel.boot_id(),
        pid: std::process::id(),
        started_at_ms: now().0,
        output: output::identity(),
        restart_seq: handover.map_or(0, |handover| handover.restart_seq),
        version: env!("CARGO_PKG_VERSION").into(),
        baseline: handover.map_or_else(|| kernel.counters(), |handover| handover.counters.clone()),
    }
}
