//! A crash record as Markdown, to be pasted elsewhere.

use std::fmt::Write as _;

use bulkhead_printable as printable;
use bulkhead_terminal::words::{bytes, millis};
use bulkhead_types::{CrashRecord, Frame};

use crate::words::{advice, consequence, reason};

/// The record for an issue or a message. What an agent chose stands in code, so that it is no link, no picture and no
/// mention of somebody where it is pasted.
pub fn markdown(record: &CrashRecord) -> String {
    let mut text = format!("## {} {}\n\n", record.agent_id, reason(record.reason));
    block(&mut text, &record.message);
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(text, "- {name}: {value}");
    };
    fact("reason", &code(record.reason.as_str()));
    fact("when", &format!("{}, after {}", record.crashed_at, millis(record.agent_uptime_ms)));
    fact("role", &code(&record.role));
    let digest = record.component_sha256.map_or_else(String::new, |digest| format!(" {digest}"));
    fact("component", &format!("{}{digest}", code(&record.component)));
    fact("incarnation", &record.incarnation.to_string());
    fact("during", &code(record.phase.as_str()));
    if let Some(at) = &record.location {
        fact("place", &code(&format!("{}:{}:{}", at.file, at.line, at.column)));
    }
    if let Some(call) = &record.host_call {
        fact("host call", &code(call));
    }
    let used = &record.resources;
    let (now, most, limit) =
        (bytes(used.memory_bytes), bytes(used.memory_peak_bytes), bytes(used.memory_limit_bytes));
    fact("memory", &format!("{now} of {limit}, at most {most}"));
    fact("crash", &code(&record.crash_id));
    fact("fingerprint", &code(&record.fingerprint));
    let _ = writeln!(text, "\n**Decided:** {}", consequence(&record.consequence));
    if !record.frames.is_empty() {
        text.push_str("\nFrames, innermost first; `*` marks the agent's own\n\n");
        let frames: Vec<_> = record.frames.iter().map(frame).collect();
        block(&mut text, &frames.join("\n"));
    }
    if !record.last_log_lines.is_empty() {
        text.push_str("\nLast log lines\n\n");
        let lines: Vec<_> =
            record.last_log_lines.iter().map(|line| printable::line(line)).collect();
        block(&mut text, &lines.join("\n"));
    }
    text.push_str("\nWhat to do next\n\n");
    for (index, advice) in advice(record.reason).iter().enumerate() {
        let _ = writeln!(text, "{}. {advice}", index + 1);
    }
    text
}

fn frame(Frame { index, function, file, line, in_app, .. }: &Frame) -> String {
    let mark = if *in_app { '*' } else { ' ' };
    let function = printable::line(function.as_deref().unwrap_or("(no name)"));
    match (file, line) {
        (Some(file), Some(line)) => {
            format!("{mark} #{index} {function} {}:{line}", printable::line(file))
        }
        _ => format!("{mark} #{index} {function}"),
    }
}

/// A text in a line that no character of it can end.
fn code(text: &str) -> String {
    let text = printable::line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// The same for a text of several lines.
fn block(out: &mut String, text: &str) {
    let text = printable::lines(text);
    let fence = "`".repeat(longest_run(&text).max(2) + 1);
    let _ = writeln!(out, "{fence}text\n{}\n{fence}\n", text.trim_end());
}

fn longest_run(text: &str) -> usize {
    text.split(|found| found != '`').map(str::len).max().unwrap_or_default()
}
