//! The page of one crash, and the list of them.

use std::sync::Arc;

use bulkhead_printable as printable;
use bulkhead_terminal::words::{bytes, millis, short_count};
use bulkhead_terminal::{crash_markdown, reason};
use bulkhead_types::{AgentId, CrashRecord, Determinism, Exception, Frame, Symbolized, Timestamp};
use maud::{Markup, html};

use crate::Visitor;
use crate::chart::{Chart, Line};
use crate::frame::{Place, meter, page, status, wide};
use crate::overview::state;
use crate::words::{advice, line, lines, time};

/// Between two samples of a record, in milliseconds.
const SAMPLE_MS: u64 = 5000;

/// What the page of a crash shows.
#[derive(Debug, Clone)]
pub struct CrashPage {
    /// It.
    pub record: Arc<CrashRecord>,
    /// The state of its agent now, if it is known.
    pub agent_status: Option<String>,
    /// How often it happened.
    pub alike: Alike,
}

/// Kept crash records with one fingerprint.
#[derive(Debug, Clone, Copy)]
pub struct Alike {
    /// How many there are.
    pub count: usize,
    /// There are more, which nobody counted.
    pub more: bool,
    /// When the first of them was.
    pub since: Timestamp,
}

impl Alike {
    /// Those among `records` that have the fingerprint of `record`, itself included. `more`: there are older ones.
    pub fn among(records: &[Arc<CrashRecord>], record: &CrashRecord, more: bool) -> Self {
        let mut alike = Self { count: 0, more, since: record.crashed_at };
        for one in records.iter().filter(|one| one.fingerprint == record.fingerprint) {
            alike.count += 1;
            alike.since = alike.since.min(one.crashed_at);
        }
        alike
    }
}

/// What the list of crashes shows.
#[derive(Debug, Clone)]
pub struct CrashesPage {
    /// Of this agent alone.
    pub agent: Option<AgentId>,
    /// Newest first.
    pub records: Vec<Arc<CrashRecord>>,
    /// There are older ones.
    pub more: bool,
}

/// Crash records, newest first.
pub fn crashes(visitor: &Visitor, shown: &CrashesPage) -> String {
    let title = match &shown.agent {
        Some(agent) => format!("Crashes of {agent}"),
        None => "Crashes".to_owned(),
    };
    let agent = shown.agent.as_ref().map_or_else(String::new, |agent| format!("&agent={agent}"));
    let main = html! {
        main #main data-refresh="/events/stream?event=agent.crash" {
            h1 { (title) }
            (status(None))
            div #list data-live {
                @if shown.records.is_empty() { p.empty { "No crash records." } } @else { (crash_table(&shown.records)) }
                @if let Some(last) = shown.records.last().filter(|_| shown.more) {
                    nav aria-label="More crashes" {
                        ul.pages { li { a href={ "/console/crashes?before=" (last.crash_id) (agent) } { "Older crashes" } } }
                    }
                }
            }
        }
    };
    page(&title, Place::Crashes, Some(visitor), main)
}

pub(crate) fn crash_table(records: &[Arc<CrashRecord>]) -> Markup {
    wide(
        "Crash records",
        html! {
            table {
                caption { "Newest first" }
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Agent" } th scope="col" { "Reason" } th scope="col" { "Message" }
                } }
                tbody {
                    @for record in records {
                        tr {
                            td { a href={ "/console/crashes/" (record.crash_id) } { (time(record.crashed_at)) } }
                            td { (record.agent_id.as_str()) }
                            th scope="row" { (record.reason.as_str()) }
                            td { (printable::first_line(&record.message)) }
                        }
                    }
                }
            }
        },
    )
}

/// One crash: why, where, with what, what was done, and what to do.
pub fn crash(visitor: &Visitor, shown: &CrashPage) -> String {
    let record = &*shown.record;
    let title = format!("{} {}", record.agent_id, reason::ended(record.reason));
    let next = reason::advice(record.reason);
    let main = html! {
        main #main {
            h1 { (title) }
            (status(None))
            p.message { (lines(&record.message)) }
            (exceptions(&record.exceptions))
            @if let Some(at) = record.location.as_ref().filter(|_| record.exceptions.is_empty()) {
                p { "At " code { (line(&at.file)) ":" (at.line) ":" (at.column) } }
            }
            (facts(record, shown.alike))
            section aria-labelledby="decided-heading" {
                h2 #decided-heading { "What was decided" }
                p { (line(&reason::decided(&record.consequence))) }
                p {
                    a href={ "/console/agents/" (record.agent_id.as_str()) } { (record.agent_id.as_str()) } " is now "
                    @match &shown.agent_status { Some(status) => (state(status)), None => { "not known here" } } "."
                }
            }
            @if !next.is_empty() {
                section aria-labelledby="next-heading" {
                    h2 #next-heading { "What to do next" }
                    ol { @for step in next { li { (advice(step)) } } }
                }
            }
            @if record.exceptions.is_empty() || !record.frames.is_empty() { (frames(record)) }
            (memory(record))
            (last_words(record))
            (as_markdown(record))
        }
    };
    page(&title, Place::Crashes, Some(visitor), main)
}

fn facts(record: &CrashRecord, alike: Alike) -> Markup {
    let repeats = match record.deterministic {
        Determinism::True => Some("the same input leads to the same end"),
        Determinism::False => Some("it may go well next time"),
        Determinism::Unknown => None,
    };
    let models = &record.resources.models;
    html! {
        section aria-label="Facts" {
            dl.facts {
                div { dt { "Reason" } dd {
                    code { (record.reason.as_str()) } @if let Some(trap) = &record.trap { ", trap " code { (line(trap)) } }
                } }
                div { dt { "When" } dd { (time(record.crashed_at)) ", after " (millis(record.agent_uptime_ms)) } }
                div { dt { "Role" } dd { (line(&record.role)) ", component " (line(&record.component)) } }
                div { dt { "Incarnation" } dd { (record.incarnation.0) ", attempt " (record.start_attempt) " of its start" } }
                div { dt { "During" } dd {
                    code { (record.phase.as_str()) }
                    @if let Some(message) = &record.message_id { " of message " code { (line(message)) } }
                } }
                @if let Some(call) = &record.host_call { div { dt { "Host call" } dd { code { (line(call)) } } } }
                @if let Some(exit) = record.status { div { dt { "Exit status" } dd { (exit) } } }
                @if let Some(code) = &record.code { div { dt { "Its own code" } dd { code { (line(code)) } } } }
                @if let Some(repeats) = repeats { div { dt { "Repeats" } dd { (repeats) } } }
                @if alike.count > 1 {
                    div { dt { "Seen" } dd {
                        @if alike.more { "at least " } (alike.count) " times since " (time(alike.since))
                    } }
                }
                @if !record.active_tools.is_empty() {
                    div { dt { "Tools in use" } dd { (line(&record.active_tools.join(", "))) } }
                }
                @if !record.tools_in_flight.is_empty() {
                    div { dt { "Programs killed with it" } dd {
                        ul { @for program in reason::programs_in_flight(record) { li { code { (line(&program)) } } } }
                    } }
                }
                @if models.calls > 0 {
                    div { dt { "Models" } dd { (models.calls) " calls, " (models.failed) " failed, " (short_count(models.tokens.total())) " tokens" } }
                }
                div { dt { "Crash record" } dd { code { (record.crash_id) } } }
                div { dt { "Fingerprint" } dd { code { (record.fingerprint) } } }
            }
        }
    }
}

/// Where an exception was thrown, and what caused it.
fn exceptions(chain: &[Exception]) -> Markup {
    html! {
        @if !chain.is_empty() {
            section aria-labelledby="thrown-heading" {
                h2 #thrown-heading { "Where it was thrown" }
                @for (index, exception) in chain.iter().enumerate() {
                    @if index > 0 { h3 { "Caused by" } p.message { (lines(&exception.summary())) } }
                    @if exception.frames.is_empty() { p { "Its place is not known." } }
                    ol.frames {
                        @for frame in &exception.frames {
                            li {
                                code { (line(frame.function.as_deref().unwrap_or("(top level)"))) }
                                " " code { (line(&frame.place())) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn frames(record: &CrashRecord) -> Markup {
    let (own, all): (Vec<_>, Vec<_>) = (
        record.frames.iter().filter(|frame| frame.in_app).collect(),
        record.frames.iter().collect(),
    );
    let note = match record.symbolized {
        Symbolized::Done => None,
        Symbolized::Pending => {
            Some("Files and lines are still being read: reload this page in a moment.")
        }
        Symbolized::Unavailable => {
            Some("The component has no debug information: no files and lines.")
        }
    };
    html! {
        section aria-labelledby="frames-heading" {
            h2 #frames-heading { "Where it happened" }
            @if all.is_empty() {
                p.empty { "There is no backtrace for this end." }
            } @else {
                @if let Some(note) = note { p.hint { (note) } }
                @if own.is_empty() {
                    p { "None of the frames is marked as the agent's own code." }
                } @else {
                    h3 { "The agent's own frames, innermost first" }
                    (frame_list(&own))
                }
                details open[own.is_empty()] {
                    summary { "All " (all.len()) " frames, innermost first" }
                    (frame_list(&all))
                }
            }
        }
    }
}

fn frame_list(frames: &[&Frame]) -> Markup {
    html! {
        ol.frames {
            @for Frame { index, function, file, line: at, column, in_app, module, .. } in frames {
                li.own[*in_app] {
                    span.index { "#" (index) } " "
                    code { (line(function.as_deref().unwrap_or("(no name)"))) }
                    @if *in_app { " " strong.own-mark { "own" } }
                    @match (file, at) {
                        (Some(file), Some(at)) => {
                            " " span.place { (line(file)) ":" (at) @if let Some(column) = column { ":" (column) } }
                        }
                        _ => { @if let Some(module) = module { " " span.sub { (line(module)) } } }
                    }
                }
            }
        }
    }
}

fn memory(record: &CrashRecord) -> Markup {
    let used = &record.resources;
    html! {
        section aria-labelledby="memory-heading" {
            h2 #memory-heading { "Memory at the end" }
            p {
                (meter("Memory at the end", used.memory_bytes, used.memory_limit_bytes)) " "
                (bytes(used.memory_bytes)) " of " (bytes(used.memory_limit_bytes)) ", " (bytes(used.host_bytes.total()))
                " of it held by the host; at most " (bytes(used.memory_peak_bytes)) "."
                @if let Some(requested) = record.requested_bytes { " It asked for " (bytes(requested)) " more." }
                @if used.denied_growths > 0 { " " (used.denied_growths) " growths were denied." }
            }
            @if used.samples.len() > 1 {
                (Chart {
                    id: "curve",
                    title: "Memory of the agent before its end",
                    lines: vec![Line { label: "in use", class: "line-1", samples: used.samples.clone() }],
                    limit: Some(used.memory_limit_bytes),
                    sample_ms: SAMPLE_MS,
                }.draw())
            }
            p {
                "The container had " (record.active_agents) " live agents"
                @if let Some(rss) = record.rss_mb { ", " (rss) " MiB resident" }
                @if let Some(pressure) = record.pressure { ", " (pressure) " % of the time waiting for memory" }
                "."
            }
            @if let Some(eviction) = &record.eviction {
                p {
                    "It was chosen with a score of " (format!("{:.2}", eviction.score)) ": it held " (bytes(eviction.used_bytes))
                    @if eviction.idle { " and was idle" } "."
                }
                @if !eviction.alternatives.is_empty() {
                    p { "Next would have been "
                        @for (index, other) in eviction.alternatives.iter().enumerate() {
                            @if index > 0 { ", " } (other.agent_id.as_str()) " (" (format!("{:.2}", other.score)) ")"
                        } "."
                    }
                }
            }
        }
    }
}

fn last_words(record: &CrashRecord) -> Markup {
    html! {
        section aria-labelledby="last-heading" {
            h2 #last-heading { "Last log lines and events" }
            @if record.last_log_lines.is_empty() {
                p.empty { "It wrote no lines." }
            } @else {
                pre tabindex="0" aria-label="Last log lines" {
                    @for last in &record.last_log_lines { (line(last)) "\n" }
                }
            }
            @if !record.last_events.is_empty() {
                ul { @for event in &record.last_events { li { (time(event.timestamp)) " " (line(&event.event)) } } }
            }
        }
    }
}

fn as_markdown(record: &CrashRecord) -> Markup {
    html! {
        section aria-labelledby="markdown-heading" {
            h2 #markdown-heading { "As Markdown" }
            label for="markdown" { "For an issue or a message; select all of it and copy" }
            textarea #markdown readonly rows="8" { (crash_markdown(record)) }
            button type="button" data-copy="markdown" hidden { "Copy as Markdown" }
        }
    }
}
