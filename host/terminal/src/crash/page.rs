//! A record with everything that it has: as a page, and as Markdown.

use std::fmt::Write as _;

use bulkhead_printable as text;
use bulkhead_types::CrashRecord;
use bulkhead_types::memory::{Alternative, Eviction};

use super::{block, exceptions, frames};
use crate::reason::{advice, during, ended, programs_in_flight};
use crate::words::bytes;

/// A record as a page: the block of the log, then who, when and what it had, then all frames, its last words, and what to
/// do. Safe for a terminal.
pub fn crash_page(record: &CrashRecord, colours: bool) -> String {
    let mut page = format!("{} ", record.agent_id);
    let mut lines = block(record);
    // This is the page that its last line leads to.
    lines.pop();
    for line in lines {
        page.push_str(&line.painted(colours));
        page.push('\n');
    }
    page.push('\n');
    page + &facts(record)
}

/// A record as Markdown, for an issue. All texts of the agent stand in fences that they do not end: where it is pasted,
/// none of them is a link, a picture or a mention of somebody.
pub fn crash_markdown(record: &CrashRecord) -> String {
    let mut lines = block(record);
    lines.pop();
    let (agent, ended, during) = (&record.agent_id, ended(record.reason), during(record.phase));
    let short: String = lines.iter().map(|line| line.painted(false) + "\n").collect();
    let facts = facts(record);
    // Longer than any run of backticks in what it holds.
    let fence = "`".repeat(longest_run(&short).max(longest_run(&facts)).max(2) + 1);
    format!(
        "### `{agent}` {ended} {during}\n\n{fence}text\n{short}{fence}\n\n<details><summary>The whole record</summary>\n\n{fence}text\n\
         {facts}{fence}\n\n</details>\n"
    )
}

fn longest_run(text: &str) -> usize {
    text.split(|found| found != '`').map(str::len).max().unwrap_or(0)
}

fn facts(record: &CrashRecord) -> String {
    let mut page = Page(String::new());
    page.line("crash", &record.crash_id);
    page.line("agent", &format!("{}, role {}", record.agent_id, record.role));
    let attempt = record.start_attempt;
    page.line("incarnation", &format!("#{}, attempt {attempt} of its start", record.incarnation));
    let digest = record.component_sha256.map_or_else(String::new, |digest| format!(" {digest}"));
    page.line("component", &format!("{}{digest}", record.component));
    page.option("source", record.source_sha256.map(|digest| digest.to_string()).as_deref());
    page.line("time", &record.crashed_at.to_string());
    let trap = record.trap.as_ref().map_or_else(String::new, |trap| format!(" ({trap})"));
    page.line("reason", &format!("{}{trap} in {}", record.reason.as_str(), record.phase.as_str()));
    page.option("message", record.message_id.as_deref());
    page.option("host call", record.host_call.as_deref());
    page.resources(record);
    page.line("container", &container(record));
    if let Some(eviction) = &record.eviction {
        page.line("chosen", &format!("with a score of {}{}", eviction.score, next(eviction)));
    }
    page.line("fingerprint", &record.fingerprint);
    if let Some(dump) = &record.core_dump {
        page.line("core dump", &format!("{}, {}", dump.id, bytes(dump.bytes)));
    }
    page.list("exceptions", exceptions::all(&record.exceptions));
    page.list("frames, * the agent's own", frames::all(record).into_iter());
    page.list("programs that were killed with it", programs_in_flight(record));
    // Panics begin with a blank line.
    let has_text = |line: &&String| !line.trim().is_empty();
    page.list("last log lines", record.last_log_lines.iter().filter(has_text).cloned());
    let events = record.last_events.iter().map(|last| format!("{} {}", last.id, last.event));
    page.list("last events", events);
    let advice = advice(record.reason).iter().zip(1..);
    page.list("what to do next", advice.map(|(step, number)| format!("{number}. {step}")));
    page.0
}

fn container(record: &CrashRecord) -> String {
    let mut text = format!("{} agents", record.active_agents);
    if let Some(rss_mb) = record.rss_mb {
        let _ = write!(text, ", {rss_mb} MiB resident");
    }
    if let Some(pressure) = record.pressure {
        let _ = write!(text, ", {pressure} % of the time waiting for memory");
    }
    text
}

/// Who would have been evicted next.
fn next(eviction: &Eviction) -> String {
    let next = |other: &Alternative| format!("{} {}", other.agent_id, other.score);
    let others: Vec<_> = eviction.alternatives.iter().map(next).collect();
    if others.is_empty() { String::new() } else { format!(", before {}", others.join(", ")) }
}

struct Page(String);

impl Page {
    /// Guests choose some of the texts: nothing of them reaches the terminal but characters.
    fn line(&mut self, name: &str, text: &str) {
        let text = text::lines(text).replace('\n', "\n             ");
        let _ = writeln!(self.0, "{name:<12} {text}");
    }

    fn option(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.line(name, text);
        }
    }

    fn resources(&mut self, record: &CrashRecord) {
        let resources = &record.resources;
        let host = resources.host_bytes.total();
        if host > 0 {
            self.line("host memory", &format!("{} held for it by the host", bytes(host)));
        }
        if let [first, .., last] = &resources.samples[..] {
            let samples = resources.samples.iter().map(|sample| bytes(sample.bytes));
            let samples = samples.collect::<Vec<_>>().join(", ");
            self.line("samples", &format!("{samples}; from {} to {}", first.ts, last.ts));
        }
        let models = &resources.models;
        if models.calls > 0 {
            let (calls, failed, tokens) = (models.calls, models.failed, models.tokens.total());
            self.line("models", &format!("{calls} calls ({failed} failed), {tokens} tokens"));
        }
    }

    fn list(&mut self, name: &str, lines: impl Iterator<Item = String>) {
        let mut lines = lines.peekable();
        if lines.peek().is_some() {
            let _ = writeln!(self.0, "\n{name}");
            lines.for_each(|line| {
                let _ = writeln!(self.0, "  {}", text::line(&line));
            });
        }
    }
}
