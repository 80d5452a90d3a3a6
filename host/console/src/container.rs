//! The page of the container.

use bulkhead_api::{BudgetView, ContainerMemoryView, Health, UsageView};
use bulkhead_terminal::reason;
use bulkhead_terminal::words::{bytes, duration, short_count};
use bulkhead_types::PreviousRun;
use maud::{Markup, html};

use crate::Visitor;
use crate::chart::{Chart, Line, joined};
use crate::frame::{Place, meter, page, status, wide};
use crate::overview::{reload, state};
use crate::words::{cost, line, time, trend};

/// Entries of usage that are shown, those with most tokens.
const MAX_ENTRIES: usize = 50;

/// What the page of the container shows.
#[derive(Debug, Clone)]
pub struct ContainerPage {
    /// How it is.
    pub health: Health,
    /// Its memory.
    pub memory: ContainerMemoryView,
    /// What was spent on language models.
    pub usage: UsageView,
    /// Runs before this one and why they ended, oldest first.
    pub runs: Vec<PreviousRun>,
}

/// The container: memory, pressure, earlier runs, budgets.
pub fn container(visitor: &Visitor, shown: &ContainerPage) -> String {
    let main = html! {
        main #main data-refresh="/events/stream?event=container.*" {
            h1 { "Container" }
            (status(None))
            (facts(shown))
            (memory(&shown.memory))
            (runs(shown))
            (budgets(&shown.usage))
            (usage(&shown.usage))
            (reload())
        }
    };
    page("Container", Place::Container, Some(visitor), main)
}

fn facts(shown: &ContainerPage) -> Markup {
    let (health, memory) = (&shown.health, &shown.memory);
    html! {
        section #facts data-live aria-label="State" {
            dl.facts {
                div { dt { "Host" } dd {
                    (state(&health.status)) " " (health.version) ", run " code { (health.run_id) } ", up "
                    (duration(std::time::Duration::from_secs(health.uptime)))
                } }
                div { dt { "Memory" } dd {
                    @match (memory.used_bytes, memory.limit_bytes) {
                        (Some(used), Some(limit)) => {
                            (meter("Memory of the container", used, limit)) " " (bytes(used)) " of " (bytes(limit))
                        }
                        (Some(used), None) => { (bytes(used)) ", no limit" }
                        _ => { "not reported here" }
                    }
                    @if memory.high { ", " strong { "memory is short" } }
                } }
                div { dt { "Trend" } dd { (trend(memory.trend.as_ref())) } }
                div { dt { "Pressure" } dd {
                    @match memory.psi {
                        Some(psi) => { (psi.some_avg10) " % of the last 10 s some task waited for memory, " (psi.full_avg10) " % all of them" }
                        None => { "not reported here" }
                    }
                } }
                div { dt { "Agents" } dd { (memory.active_agents) " live, they hold " (bytes(memory.agents_bytes)) } }
                @if let Some(rss) = memory.rss_bytes { div { dt { "Resident" } dd { (bytes(rss)) } } }
                @if let Some(kills) = memory.oom_kills {
                    div { dt { "Kills for memory" } dd {
                        (kills) " since the machine booted"
                        @if let Some(own) = memory.group_oom_kills { ", " (own) " of this container" }
                    } }
                }
            }
        }
    }
}

fn memory(memory: &ContainerMemoryView) -> Markup {
    let line = |label, class, series| Line { label, class, samples: joined(series) };
    html! {
        section #memory data-live aria-labelledby="memory-heading" {
            h2 #memory-heading { "Memory" }
            (Chart {
                id: "curve",
                title: "Memory of the container over time",
                lines: vec![
                    line("in use", "line-1", &memory.used),
                    line("resident in the host", "line-2", &memory.rss),
                    line("held by agents", "line-3", &memory.guests),
                ],
                limit: memory.limit_bytes,
                sample_ms: memory.sample_ms,
            }.draw())
            @if !memory.largest.is_empty() {
                (wide("Largest agents", html! {
                    table {
                        caption { "Agents that hold most" }
                        thead { tr { th scope="col" { "Agent" } th scope="col" { "Memory" } th scope="col" { "Trend" } } }
                        tbody {
                            @for large in &memory.largest {
                                tr {
                                    th scope="row" { a href={ "/console/agents/" (large.agent_id.as_str()) } { (large.agent_id.as_str()) } }
                                    td { (bytes(large.used_bytes)) " of " (bytes(large.limit_bytes)) }
                                    td { (trend(large.trend.as_ref())) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

fn runs(shown: &ContainerPage) -> Markup {
    html! {
        section #runs data-live aria-labelledby="runs-heading" {
            h2 #runs-heading { "Runs" }
            ol.timeline reversed {
                li {
                    p { strong { "This run" } " began " (time(shown.health.started_at)) }
                }
                @for run in shown.runs.iter().rev() { li { (past_run(run)) } }
            }
        }
    }
}

fn past_run(run: &PreviousRun) -> Markup {
    html! {
        p {
            strong { (reason::run_ended(run.cause)) } " (" code { (run.cause.as_str()) } ", " (reason::confidence(run.confidence)) ")"
            @if let Some(at) = run.last_ts { ", last seen " (time(at)) }
            @if let Some(state) = run.last_state { ", " (state.as_str()) }
        }
        @if let Some(id) = &run.previous_run_id { p.sub { "run " code { (line(id)) } } }
        @if !run.evidence.is_empty() || !run.excluded.is_empty() {
            details {
                summary { "Evidence" }
                ul { @for evidence in &run.evidence { li { (line(evidence)) } } }
                @if !run.excluded.is_empty() {
                    p { "Ruled out" }
                    ul { @for excluded in &run.excluded { li { (line(excluded)) } } }
                }
            }
        }
        @if !run.in_flight.is_empty() {
            p { "At work then: "
                @for (index, work) in run.in_flight.iter().enumerate() {
                    @if index > 0 { ", " } (line(&work.agent_id)) " (" (line(&work.phase)) ")"
                }
            }
        }
    }
}

fn budgets(usage: &UsageView) -> Markup {
    let shown = |budget: &BudgetView, figure: u64| {
        if budget.budget.starts_with("cost") { cost(figure) } else { short_count(figure) }
    };
    html! {
        section #budgets data-live aria-labelledby="budgets-heading" {
            h2 #budgets-heading { "Budgets" }
            @if usage.budgets.is_empty() {
                p.empty { "No budgets are configured." }
            } @else {
                (wide("Budgets as a table", html! {
                    table {
                        caption { "Budgets for language models" }
                        thead { tr { th scope="col" { "Whose" } th scope="col" { "Budget" } th scope="col" { "Used" } } }
                        tbody {
                            @for budget in &usage.budgets {
                                tr {
                                    th scope="row" { (line(budget.role.as_deref().unwrap_or("the container"))) }
                                    td { code { (line(&budget.budget)) } }
                                    td {
                                        (meter(&budget.budget, budget.used, budget.bound)) " "
                                        (shown(budget, budget.used)) " of " (shown(budget, budget.bound))
                                    }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

fn usage(usage: &UsageView) -> Markup {
    let mut entries: Vec<_> = usage.entries.iter().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.counts.tokens.total()));
    html! {
        section #usage data-live aria-labelledby="usage-heading" {
            h2 #usage-heading { "Language models" }
            p {
                (short_count(usage.total.tokens.total())) " tokens in " (usage.total.calls) " calls, " (usage.total.failed) " failed"
                @if usage.priced { ", cost " (cost(usage.total.cost_nano)) }
                "."
            }
            @if !entries.is_empty() {
                (wide("Use of language models", html! {
                    table {
                        caption { "By agent and model, most tokens first" }
                        thead { tr {
                            th scope="col" { "Agent" } th scope="col" { "Role" } th scope="col" { "Model" }
                            th scope="col" { "Calls" } th scope="col" { "Tokens" }
                            @if usage.priced { th scope="col" { "Cost" } }
                        } }
                        tbody {
                            @for entry in entries.iter().take(MAX_ENTRIES) {
                                tr {
                                    th scope="row" {
                                        @match &entry.agent_id {
                                            Some(id) => a href={ "/console/agents/" (id.as_str()) } { (id.as_str()) },
                                            None => { "others" }
                                        }
                                    }
                                    td { (line(&entry.role)) }
                                    td { (line(&entry.model)) " at " (line(&entry.endpoint)) }
                                    td { (entry.counts.calls) }
                                    td { (short_count(entry.counts.tokens.total())) }
                                    @if usage.priced { td { (cost(entry.counts.cost_nano)) } }
                                }
                            }
                        }
                    }
                }))
                @if entries.len() > MAX_ENTRIES { p { "and " (entries.len() - MAX_ENTRIES) " more" } }
            }
        }
    }
}
