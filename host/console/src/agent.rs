//! The page of one agent.

use std::sync::Arc;

use bulkhead_api::{AgentMemoryView, AgentView, EventView};
use bulkhead_terminal::words::{bytes, millis, short_count};
use bulkhead_types::restart::PastEnd;
use bulkhead_types::{CrashRecord, Timestamp};
use maud::{Markup, html};

use crate::chart::{Chart, Line, joined};
use crate::crash::crash_table;
use crate::frame::{Place, form_token, meter, page, status, wide};
use crate::overview::{is_up, last_end, reload, state};
use crate::words::{ago, cost, line, time, trend};
use crate::{Said, Visitor};

/// Bytes of the data of an event that are shown.
const EVENT_BYTES: usize = 400;

/// What the page of one agent shows.
#[derive(Debug, Clone)]
pub struct AgentPage {
    /// When.
    pub now: Timestamp,
    /// It.
    pub agent: AgentView,
    /// Its memory.
    pub memory: Option<AgentMemoryView>,
    /// Its last events, oldest first.
    pub events: Vec<EventView>,
    /// Its last crash records, newest first.
    pub crashes: Vec<Arc<CrashRecord>>,
    /// There are older ones.
    pub more_crashes: bool,
    /// What came of a form.
    pub said: Option<Said>,
}

/// One agent: what it does, what it has, how it ended, and what can be done.
pub fn agent(visitor: &Visitor, shown: &AgentPage) -> String {
    let AgentView { agent_id, name, .. } = &shown.agent;
    let agent_id = agent_id.as_str();
    let after = shown.events.last().map(|event| event.id.to_string());
    let main = html! {
        main #main data-refresh={ "/agents/" (agent_id) "/events/stream" } data-after=[after] data-turns {
            h1 { (agent_id) @if name != agent_id { " " span.sub { (line(name)) } } }
            (status(shown.said.map(Said::sentence)))
            (facts(shown))
            (turn())
            (message(visitor, shown))
            (memory(shown))
            (events(&shown.events))
            (restarts(shown))
            (crashes(shown))
            (reload())
        }
    };
    page(agent_id, Place::Other, Some(visitor), main)
}

fn facts(shown: &AgentPage) -> Markup {
    let agent = &shown.agent;
    let AgentView { memory, usage, .. } = agent;
    let tokens = &usage.total.tokens;
    html! {
        section #facts data-live aria-label="State" {
            dl.facts {
                div { dt { "State" } dd {
                    (state(&agent.status)) @if agent.busy { " in a turn" }
                    ", last active " (ago(shown.now, agent.last_activity_at))
                } }
                div { dt { "Role" } dd { (line(&agent.role)) ", component " (line(&agent.component)) } }
                @if let Some(model) = &agent.model { div { dt { "Model" } dd { (line(model)) } } }
                div { dt { "Incarnation" } dd { (agent.incarnation.0) ", began " (ago(shown.now, agent.started_at)) } }
                div { dt { "Memory" } dd {
                    (meter("Memory", memory.used_bytes, memory.limit_bytes)) " "
                    (bytes(memory.used_bytes)) " of " (bytes(memory.limit_bytes)) ", at most " (bytes(memory.peak_bytes))
                } }
                div { dt { "Mail" } dd { (agent.mailbox_depth) " waiting, " (agent.nudges) " nudges, " (agent.message_count) " taken" } }
                div { dt { "Tokens" } dd {
                    (short_count(tokens.total())) " in " (usage.total.calls) " calls, " (usage.total.failed) " failed"
                    @if usage.total.cost_nano > 0 { ", cost " (cost(usage.total.cost_nano)) }
                } }
                div { dt { "CPU time" } dd {
                    (millis(agent.cpu_us / 1000))
                    @if agent.cpu_throttled_us > 0 { ", throttled for " (millis(agent.cpu_throttled_us / 1000)) }
                } }
                @if !agent.active_tools.is_empty() {
                    div { dt { "Tools in use" } dd { (line(&agent.active_tools.join(", "))) } }
                }
                div { dt { "Last end" } dd {
                    (last_end(agent, shown.now))
                    @if let Some(exit) = &agent.exit { ": " (line(&exit.message)) }
                } }
                @if let Some(aside) = &agent.set_aside {
                    div { dt { "Message set aside" } dd {
                        (line(&aside.message_id)) ", after " (aside.attempts) " deliveries in which the agent ended"
                    } }
                }
            }
        }
    }
}

/// Filled by the script.
fn turn() -> Markup {
    html! {
        section aria-labelledby="turn-heading" {
            h2 #turn-heading { "Live turn" }
            p #turn-state { "Nothing since this page was opened." }
            div #turn hidden {
                details #turn-reasoning hidden { summary { "Reasoning" } div #turn-reasoning-text.said {} }
                ul #turn-tools {}
                div #turn-text.said {}
            }
            noscript { p.hint { "Scripts are off: the text of a turn cannot be shown as it comes." } }
        }
    }
}

fn message(visitor: &Visitor, shown: &AgentPage) -> Markup {
    let id = &shown.agent.agent_id;
    let form = |action: &str| format!("/console/agents/{id}/{action}");
    html! {
        section aria-labelledby="message-heading" {
            h2 #message-heading { "Message" }
            form #message method="post" action=(form("message")) {
                (form_token(visitor))
                label for="text" { "Text for the agent" }
                textarea #text name="text" rows="3" required maxlength="1048576" {}
                div.buttons {
                    button { "Send" }
                    button.quiet formaction=(form("nudge")) { "Nudge: when no other message waits" }
                }
            }
            div #actions data-live {
                @if is_up(&shown.agent.status) {
                    details {
                        summary #stop-summary { "Stop this agent" }
                        p { "It is asked to end, and is not restarted. What it does now may be lost." }
                        form method="post" action=(form("stop")) {
                            (form_token(visitor)) button #stop.danger { "Stop " (id.as_str()) }
                        }
                    }
                } @else {
                    form method="post" action=(form("start")) {
                        (form_token(visitor)) button #start { "Start " (id.as_str()) }
                        " " span.hint { "with what it was started with before, its secrets included" }
                    }
                }
            }
        }
    }
}

fn memory(shown: &AgentPage) -> Markup {
    html! {
        section #memory data-live aria-labelledby="memory-heading" {
            h2 #memory-heading { "Memory" }
            @if let Some(memory) = &shown.memory {
                p { "Trend: " (trend(memory.trend.as_ref())) "." }
                (Chart {
                    id: "curve",
                    title: "Memory of the agent over time",
                    lines: vec![Line { label: "in use", class: "line-1", samples: joined(&memory.series) }],
                    limit: Some(memory.limit_bytes),
                    sample_ms: memory.sample_ms,
                }.draw())
            } @else {
                p.empty { "Nothing is known of its memory any more." }
            }
        }
    }
}

fn events(events: &[EventView]) -> Markup {
    html! {
        section #events data-live aria-labelledby="events-heading" {
            h2 #events-heading { "Last events" }
            @if events.is_empty() {
                p.empty { "No events yet." }
            } @else {
                (wide("Events as a table", html! {
                    table {
                        caption { "Newest first" }
                        thead { tr { th scope="col" { "When" } th scope="col" { "Event" } th scope="col" { "Data" } } }
                        tbody {
                            @for event in events.iter().rev() {
                                tr {
                                    td { (time(event.timestamp)) }
                                    th scope="row" { (line(&event.event)) }
                                    td { code { (line(beginning(event.data.get()))) } }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

/// As much of a text as is shown.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(EVENT_BYTES)]
}

fn restarts(shown: &AgentPage) -> Markup {
    let restart = &shown.agent.restart;
    let policy = match restart.policy {
        bulkhead_types::RestartPolicy::Permanent => "permanent: it is always restarted",
        bulkhead_types::RestartPolicy::Transient => "transient: it is restarted after a fault",
        bulkhead_types::RestartPolicy::Temporary => "temporary: it is never restarted",
    };
    html! {
        section #restarts data-live aria-labelledby="restarts-heading" {
            h2 #restarts-heading { "Restarts" }
            p {
                "Policy " (policy) ". " (restart.attempts_in_window) " of " (restart.max_restarts) " within "
                (millis(restart.window_ms)) "."
            }
            @if let Some(at) = restart.next_restart_at { p { "It is restarted at " (time(at)) "." } }
            @if let Some(quarantine) = &restart.quarantine {
                p.problem { "In quarantine since " (time(quarantine.since)) ": " (line(&quarantine.message)) }
            }
            @if !restart.history.is_empty() {
                ol reversed {
                    @for end in restart.history.iter().rev() { li { (past_end(end)) } }
                }
            }
        }
    }
}

fn past_end(end: &PastEnd) -> Markup {
    html! {
        (time(end.at)) " incarnation " (end.incarnation.0) " "
        @match &end.crash_id {
            Some(crash) => a href={ "/console/crashes/" (crash) } { (end.reason.as_str()) },
            None => { (end.reason.as_str()) }
        }
        @if end.at_start { " before it was running" }
        @if end.deterministic { ", the same every time" }
    }
}

fn crashes(shown: &AgentPage) -> Markup {
    html! {
        section #crashes data-live aria-labelledby="crashes-heading" {
            h2 #crashes-heading { "Crashes" }
            @if shown.crashes.is_empty() {
                p.empty { "No crash records." }
            } @else {
                (crash_table(&shown.crashes))
                @if shown.more_crashes {
                    p { a href={ "/console/crashes?agent=" (shown.agent.agent_id.as_str()) } { "All crashes of this agent" } }
                }
            }
        }
    }
}
