//! A crash record for a person: as a block in the log, as a page, as Markdown. All three have the same beginning.

mod exceptions;
mod frames;
mod page;

use std::sync::Arc;

use bulkhead_printable as text;
use bulkhead_types::{Consequence, CrashRecord, ExitReason, Resources};

use crate::colour::{Colour, paint};
use crate::reason::{decided, during, ended, programs_in_flight};
use crate::words::{bytes, counted, micros, millis, quoted};

pub use page::{crash_markdown, crash_page};

/// Lines of a message in a block.
const MESSAGE_LINES: usize = 8;
/// Programs in a block.
const PROGRAMS: usize = 3;

/// A line of a block: safe for a terminal, and with a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    text: String,
    colour: Option<Colour>,
}

impl Line {
    fn new(text: String) -> Self {
        Self { text: text::line(&text).into_owned(), colour: None }
    }

    fn in_colour(text: String, colour: Colour) -> Self {
        Self { colour: Some(colour), ..Self::new(text) }
    }

    /// The text, in its colour where there are colours.
    pub(crate) fn painted(&self, colours: bool) -> String {
        match self.colour {
            Some(colour) if colours => paint(&self.text, colour),
            _ => self.text.clone(),
        }
    }
}

/// A line for each record, for a person or as JSON. Safe for a terminal.
pub fn crash_list(records: &[Arc<CrashRecord>], json: bool) -> String {
    if records.is_empty() && !json {
        return "no crash records\n".to_owned();
    }
    let line =
        |record: &Arc<CrashRecord>| if json { crash_json(record) } else { crash_line(record) };
    records.iter().map(|record| line(record) + "\n").collect()
}

/// A record as a line: its id, when, who, and of what.
fn crash_line(record: &CrashRecord) -> String {
    let CrashRecord { crash_id, crashed_at, agent_id, reason, message, .. } = record;
    let (message, crash_id) = (text::first_line(message), text::line(crash_id));
    format!("{crash_id}  {crashed_at}  {agent_id}  {}  {message}", reason.as_str())
}

/// A record as a line of JSON, safe for a terminal.
pub fn crash_json(record: &CrashRecord) -> String {
    let json = serde_json::to_string(record);
    json.map_or_else(
        |error| format!("{{\"error\":\"{error}\"}}"),
        |json| text::json(&json).into_owned(),
    )
}

/// A record as a block: what happened, the message, the agent's own frames, what it had, what was done.
pub(crate) fn block(record: &CrashRecord) -> Vec<Line> {
    let mut lines = vec![Line::in_colour(what(record), Colour::Red)];
    lines.extend(message(record));
    lines.extend(exceptions::block(&record.exceptions));
    lines.extend(frames::own(record));
    lines.extend(programs(record));
    lines.push(Line::in_colour(format!("  {}", used(&record.resources)), Colour::Grey));
    lines.push(Line::new(format!("  {}", consequence(&record.consequence))));
    let more = format!("  more: bulkhead crashes show {}", record.crash_id);
    lines.push(Line::in_colour(more, Colour::Grey));
    lines
}

/// What happened, in a sentence about the agent.
fn what(record: &CrashRecord) -> String {
    let CrashRecord { reason, phase, agent_uptime_ms, incarnation, trap, code, host_call, .. } =
        record;
    let detail = match reason {
        ExitReason::Trap => trap.as_deref().map(str::to_owned),
        ExitReason::GuestError => code.as_deref().map(quoted),
        ExitReason::HostCallTimeout | ExitReason::HostError => host_call.clone(),
        ExitReason::GuestExit => record.status.map(|status| format!("status {status}")),
        _ => None,
    };
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    let lived = millis(*agent_uptime_ms);
    let (ended, during) = (ended(*reason), during(*phase));
    format!("crashed: it {ended}{detail} {during}, after {lived} (incarnation {incarnation})")
}

/// The message; the agent may have chosen it, so each line has a mark.
fn message(record: &CrashRecord) -> Vec<Line> {
    let all: Vec<_> = record.message.lines().collect();
    let shown = all.iter().take(MESSAGE_LINES).map(|line| Line::new(format!("  > {line}")));
    let mut lines: Vec<_> = shown.collect();
    if all.len() > MESSAGE_LINES {
        let more = counted(all.len() - MESSAGE_LINES, "more line");
        lines.push(Line::in_colour(format!("  … {more}"), Colour::Grey));
    }
    lines
}

/// What ran for it.
fn programs(record: &CrashRecord) -> Vec<Line> {
    let shown = programs_in_flight(record).take(PROGRAMS);
    let mut lines: Vec<_> = shown.map(|it| Line::new(format!("  killed with it: {it}"))).collect();
    if record.tools_in_flight.len() > PROGRAMS {
        let more = counted(record.tools_in_flight.len() - PROGRAMS, "more program");
        lines.push(Line::in_colour(format!("  … {more}"), Colour::Grey));
    }
    lines
}

fn used(resources: &Resources) -> String {
    let Resources { memory_bytes, memory_peak_bytes, memory_limit_bytes, cpu_us, turns, .. } =
        resources;
    let (used, limit, peak) =
        (bytes(*memory_bytes), bytes(*memory_limit_bytes), bytes(*memory_peak_bytes));
    let cpu = micros(*cpu_us);
    format!(
        "memory {used} of {limit}, at most {peak}; CPU time {cpu} in {}",
        counted(*turns as usize, "turn")
    )
}

/// What was done, and by hand what ends a quarantine.
fn consequence(consequence: &Consequence) -> String {
    let decided = decided(consequence);
    match consequence {
        Consequence::None | Consequence::Restart { .. } => decided,
        Consequence::Quarantined { .. } => {
            format!("{decided}; start it again with bulkhead start --force")
        }
    }
}

#[cfg(test)]
mod tests;
