//! The page of all agents.

use std::collections::BTreeMap;

use bulkhead_api::{AgentView, ContainerMemoryView, Health, MissingAgent};
use bulkhead_terminal::words::{bytes, counted, duration, short_count};
use bulkhead_types::memory::{MemorySample, MemoryTrend};
use bulkhead_types::{AgentId, Timestamp};
use maud::{Markup, html};

use crate::Visitor;
use crate::chart::spark;
use crate::frame::{Place, meter, page, status};
use crate::words::{ago, line, trend};

/// Missing agents that are named.
const MAX_NAMED: usize = 20;

/// One agent in the list.
#[derive(Debug, Clone)]
pub struct AgentRow {
    /// It.
    pub agent: AgentView,
    /// How its memory goes on.
    pub trend: Option<MemoryTrend>,
    /// Its last samples, oldest first.
    pub samples: Vec<MemorySample>,
}

/// What the page of all agents shows.
#[derive(Debug, Clone)]
pub struct OverviewPage {
    /// When.
    pub now: Timestamp,
    /// How the container is.
    pub health: Health,
    /// Its memory.
    pub memory: ContainerMemoryView,
    /// Desired agents that are not there.
    pub missing: Vec<MissingAgent>,
    /// Some agents, by their ids.
    pub rows: Vec<AgentRow>,
    /// The agents begin after this one.
    pub after: Option<AgentId>,
    /// There are more behind the last one.
    pub more: bool,
}

/// All agents, or a hundred of them.
pub fn overview(visitor: &Visitor, shown: &OverviewPage) -> String {
    let main = html! {
        main #main data-refresh="/events/stream?event=agent.*" {
            h1 { "Agents" }
            (status(None))
            (summary(shown))
            @if !shown.missing.is_empty() { (missing(&shown.missing)) }
            (table(shown))
            (pages(shown))
            (reload())
        }
    };
    page("Agents", Place::Overview, Some(visitor), main)
}

/// Without the script a page stays what it was.
pub(crate) fn reload() -> Markup {
    html! { noscript { p.hint { "Scripts are off: this page is as it was when it was loaded. Reload it for newer figures." } } }
}

fn summary(shown: &OverviewPage) -> Markup {
    let Health { status, agents, missing, store, uptime, draining, version, .. } = &shown.health;
    let mut states = BTreeMap::<&str, usize>::new();
    for row in &shown.rows {
        *states.entry(&row.agent.status).or_default() += 1;
    }
    let memory = &shown.memory;
    html! {
        section #summary data-live aria-label="Container" {
            dl.facts {
                div { dt { "Host" } dd {
                    (state(status)) " " (version) ", up " (duration(std::time::Duration::from_secs(*uptime)))
                    @if draining.is_some() { " " (state("draining")) }
                } }
                div { dt { "Agents" } dd {
                    (counted(*agents, "live agent"))
                    @if *missing > 0 { ", " strong { (missing) " missing" } }
                } }
                div { dt { "On this page" } dd {
                    @for (index, (word, number)) in states.iter().enumerate() {
                        @if index > 0 { ", " } (number) " " (word)
                    }
                    @if states.is_empty() { "none" }
                } }
                div { dt { "Memory" } dd {
                    @match (memory.used_bytes, memory.limit_bytes) {
                        (Some(used), Some(limit)) => {
                            (meter("Memory of the container", used, limit)) " " (bytes(used)) " of " (bytes(limit))
                            ", " (trend(memory.trend.as_ref()))
                        }
                        (Some(used), None) => { (bytes(used)) ", no limit" }
                        _ => { "not reported here" }
                    }
                    @if memory.high { " " strong { "memory is short" } }
                } }
                @if let Some(store) = store {
                    div { dt { "Store" } dd { strong { (store) } ": what agents have does not survive the host" } }
                }
            }
        }
    }
}

fn missing(missing: &[MissingAgent]) -> Markup {
    html! {
        section #missing data-live aria-labelledby="missing-heading" {
            h2 #missing-heading { "Missing agents" }
            ul {
                @for MissingAgent { agent_id, status, reason } in missing.iter().take(MAX_NAMED) {
                    li { a href={ "/console/agents/" (agent_id.as_str()) } { (agent_id.as_str()) } " " (state(status)) " " (line(reason)) }
                }
            }
            @if missing.len() > MAX_NAMED { p { "and " (missing.len() - MAX_NAMED) " more" } }
        }
    }
}

fn table(shown: &OverviewPage) -> Markup {
    let heads = ["Agent", "State", "Memory", "Trend", "Tokens", "Waiting", "Last end"];
    html! {
        div #agents data-live {
            @if shown.rows.is_empty() {
                p.empty { "No agents. Start one with " code { "bulkhead start" } " or " code { "POST /agents/start" } "." }
            } @else {
                table.cards role="table" {
                    caption { "Agents by id, ended ones included" }
                    thead role="rowgroup" {
                        tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } }
                    }
                    tbody role="rowgroup" {
                        @for row in &shown.rows { (agent_row(row, shown.now)) }
                    }
                }
            }
        }
    }
}

fn agent_row(AgentRow { agent, trend: how, samples }: &AgentRow, now: Timestamp) -> Markup {
    let AgentView { agent_id, name, role, memory, .. } = agent;
    let agent_id = agent_id.as_str();
    let is_named = name != agent_id;
    html! {
        tr id={ "row-" (agent_id) } role="row" {
            th role="rowheader" scope="row" data-label="Agent" {
                a id={ "link-" (agent_id) } href={ "/console/agents/" (agent_id) } { (agent_id) }
                @if is_named { " " span.sub { (line(name)) } }
                " " span.sub { (line(role)) }
            }
            td role="cell" data-label="State" {
                (state(&agent.status))
                @if agent.busy { " " span.sub { "in a turn" } }
            }
            td role="cell" data-label="Memory" {
                (meter(&format!("Memory of {agent_id}"), memory.used_bytes, memory.limit_bytes)) " "
                span.figure { (bytes(memory.used_bytes)) " of " (bytes(memory.limit_bytes)) }
            }
            td role="cell" data-label="Trend" {
                @if is_up(&agent.status) {
                    (spark(samples, memory.limit_bytes)) " " (trend(how.as_ref()))
                } @else {
                    span.sub { "ended" }
                }
            }
            td role="cell" data-label="Tokens" { (short_count(agent.usage.total.tokens.total())) }
            td role="cell" data-label="Waiting" { (agent.mailbox_depth) }
            td role="cell" data-label="Last end" { (last_end(agent, now)) }
        }
    }
}

/// How the last incarnation ended, with its crash record.
pub(crate) fn last_end(agent: &AgentView, now: Timestamp) -> Markup {
    html! {
        @match &agent.exit {
            None => { "none" }
            Some(exit) => {
                @match &exit.crash_id {
                    Some(crash) => a href={ "/console/crashes/" (crash) } { (exit.reason) },
                    None => { (exit.reason) }
                }
                " " span.sub { (ago(now, exit.at)) }
            }
        }
    }
}

/// Whether there is an incarnation in this state.
pub(crate) fn is_up(status: &str) -> bool {
    matches!(status, "starting" | "running" | "stopping")
}

/// A state as a word with a colour.
pub(crate) fn state(word: &str) -> Markup {
    html! { span class={ "state state-" (word) } { (word) } }
}

fn pages(shown: &OverviewPage) -> Markup {
    let last = shown.rows.last().filter(|_| shown.more);
    html! {
        @if shown.after.is_some() || last.is_some() {
            nav aria-label="More agents" {
                ul.pages {
                    @if shown.after.is_some() { li { a href="/console" { "First agents" } } }
                    @if let Some(last) = last {
                        li { a href={ "/console?after=" (last.agent.agent_id.as_str()) } { "Next agents" } }
                    }
                }
            }
        }
    }
}
