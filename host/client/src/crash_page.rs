//! A crash record for a person. The daemon shows records of the state directory with it as well.

use std::fmt::Write as _;
use std::sync::Arc;

use bulkhead_types::memory::{Alternative, Eviction};
use bulkhead_types::{Consequence, CrashRecord, Frame, Symbolized};

use bulkhead_printable as text;

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

/// A record as a page: who, what, where, what it had, what was done. Safe for a terminal.
pub fn crash_page(record: &CrashRecord) -> String {
    let mut page = Page(String::new());
    let what = record.trap.as_ref().map_or_else(String::new, |trap| format!(" ({trap})"));
    page.line("crash", &record.crash_id);
    page.line("agent", &format!("{}, role {}", record.agent_id, record.role));
    let attempt = record.start_attempt;
    page.line("incarnation", &format!("#{}, attempt {attempt} of its start", record.incarnation));
    let digest = record.component_sha256.map_or_else(String::new, |digest| format!(" {digest}"));
    page.line("component", &format!("{}{digest}", record.component));
    page.line("died", &format!("{} after {} ms", record.crashed_at, record.agent_uptime_ms));
    page.line("of", &format!("{}{what}", record.reason.as_str()));
    page.line("saying", &record.message);
    if let Some(place) = &record.location {
        page.line("at", &format!("{}:{}:{}", place.file, place.line, place.column));
    }
    let phase = serde_json::to_value(record.phase).unwrap_or_default();
    page.line("during", phase.as_str().unwrap_or_default());
    page.option("message", record.message_id.as_deref());
    page.option("host call", record.host_call.as_deref());
    let resources = &record.resources;
    let (used, peak, limit) =
        (resources.memory_bytes, resources.memory_peak_bytes, resources.memory_limit_bytes);
    let host = resources.host_bytes.total();
    let memory = format!("{used} bytes, {host} of them by the host; at most {peak}, limit {limit}");
    page.line("memory", &memory);
    if !resources.samples.is_empty() {
        let samples = resources.samples.iter().map(|sample| sample.bytes.to_string());
        let since = resources.samples[0].ts;
        let samples = samples.collect::<Vec<_>>().join(", ");
        page.line("samples", &format!("{samples} bytes, since {since}"));
    }
    page.line("cpu", &format!("{} us in {} turns", resources.cpu_us, resources.turns));
    let models = &resources.models;
    if models.calls > 0 {
        let (calls, failed, tokens) = (models.calls, models.failed, models.tokens.total());
        page.line("models", &format!("{calls} calls ({failed} failed), {tokens} tokens"));
    }
    page.line("container", &container(record));
    if let Some(eviction) = &record.eviction {
        page.line("chosen", &format!("with a score of {}{}", eviction.score, next(eviction)));
    }
    page.line("then", &consequence(&record.consequence));
    page.line("fingerprint", &record.fingerprint);
    if let Some(dump) = &record.core_dump {
        page.line("core dump", &format!("{}, {} bytes", dump.id, dump.bytes));
    }
    page.frames(record);
    page.list("last log lines", record.last_log_lines.iter().cloned());
    let events = record.last_events.iter().map(|last| format!("{} {}", last.id, last.event));
    page.list("last events", events);
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

fn consequence(consequence: &Consequence) -> String {
    match consequence {
        Consequence::None => "not restarted".to_owned(),
        Consequence::Restart { restart_at, backoff_ms, attempts_in_window } => format!(
            "restart scheduled for {restart_at}, after {backoff_ms} ms; exit {attempts_in_window} in its window"
        ),
        Consequence::Quarantined { message, .. } => format!("quarantined: {message}"),
    }
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

    fn frames(&mut self, record: &CrashRecord) {
        if record.frames.is_empty() {
            return;
        }
        let how = match record.symbolized {
            Symbolized::Done => "",
            Symbolized::Pending => " (symbolization was still pending)",
            Symbolized::Unavailable => " (no line information)",
        };
        let _ = writeln!(self.0, "frames{how}");
        for frame in &record.frames {
            let Frame { index, function, file, line, in_app, .. } = frame;
            let mark = if *in_app { '*' } else { ' ' };
            let function = function.as_deref().unwrap_or("(no name)");
            let place = match (file, line) {
                (Some(file), Some(line)) => format!("  {file}:{line}"),
                _ => String::new(),
            };
            self.line(&format!("  {mark}{index:>3}"), &format!("{function}{place}"));
        }
    }

    fn list(&mut self, name: &str, lines: impl Iterator<Item = String>) {
        let mut lines = lines.peekable();
        if lines.peek().is_some() {
            let _ = writeln!(self.0, "{name}");
            lines.for_each(|line| self.line("", &line));
        }
    }
}
