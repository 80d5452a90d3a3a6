//! `bulkhead memory [id]`: memory over time, and how it goes on.

use std::fmt::Write as _;
use std::time::Duration;

use bulkhead_api::{AgentMemoryView, ContainerMemoryView, SeriesView};
use bulkhead_types::AgentId;
use bulkhead_types::memory::MemoryTrend;
use clap::Args;

use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, Session, agent_path};
use crate::sparkline;
use crate::table::{Cell, Column, draw};
use bulkhead_printable as text;
use bulkhead_terminal::words::{bytes, duration, percent, short_bytes};

/// Use that changes by less in a minute is called level.
const LEVEL_BYTES_PER_MINUTE: u64 = 16 * 1024;

/// The part of the limit below which memory is not short for its use any more.
const SHORT_UNTIL: f64 = 0.8;

/// Arguments of `memory`.
#[derive(Debug, Args)]
#[command(after_help = CODES_OF_QUESTIONS)]
pub struct MemoryArgs {
    /// Id of an agent [default: the container].
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: Option<AgentId>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

pub(crate) async fn run(args: &MemoryArgs, session: &Session) -> Result<(), Failure> {
    let Some(id) = &args.agent else {
        let answer = session.call(Call::get("/memory", "memory of the container")).await?;
        if session.json {
            return session.print_json::<ContainerMemoryView>(&answer);
        }
        let page = of_container(&session.read(&answer)?, session);
        return session.screen.print(&page);
    };
    let call = Call::get(agent_path(id, "memory"), format!("memory of {id}"));
    let answer = session.call(call).await?;
    if session.json {
        return session.print_json::<AgentMemoryView>(&answer);
    }
    session.screen.print(&of_agent(&session.read(&answer)?))
}

fn of_container(memory: &ContainerMemoryView, session: &Session) -> String {
    let mut page = String::new();
    line(&mut page, "container", &in_use(memory));
    line(&mut page, "pressure", &pressure(memory));
    line(&mut page, "trend", &trend(memory.trend.as_ref()));
    let sample = Duration::from_millis(memory.sample_ms);
    let agents = agents(memory.agents, memory.active_agents, memory.agents_bytes, sample);
    line(&mut page, "agents", &agents);
    if let Some(rss) = memory.rss_bytes {
        line(&mut page, "host", &format!("{} resident", bytes(rss)));
    }
    series(&mut page, "in use", &memory.used);
    series(&mut page, "host", &memory.rss);
    series(&mut page, "agents", &memory.guests);
    if memory.largest.is_empty() {
        return page;
    }
    let columns = [
        Column::giving("LARGEST", 12),
        Column::giving("ROLE", 6),
        Column::of_figures("MEMORY"),
        Column::giving("TREND", 9),
    ];
    let row = |agent: &bulkhead_types::memory::LargeAgent| {
        let (used, limit) = (short_bytes(agent.used_bytes), short_bytes(agent.limit_bytes));
        vec![
            Cell::new(agent.agent_id.as_str()),
            Cell::new(text::line(&agent.role)),
            Cell::new(format!("{used}/{limit}")),
            Cell::new(trend(agent.trend.as_ref())),
        ]
    };
    let rows: Vec<_> = memory.largest.iter().map(row).collect();
    page.push('\n');
    page.push_str(&draw(&columns, &rows, session.screen.width(), session.screen.colours));
    page
}

fn of_agent(memory: &AgentMemoryView) -> String {
    let mut page = String::new();
    let (limit, peak) = (bytes(memory.limit_bytes), bytes(memory.peak_bytes));
    line(&mut page, "agent", &format!("{}, role {}", memory.agent_id, memory.role));
    let number = memory.incarnation;
    let used = match memory.used_bytes {
        Some(used) => {
            let part = percent(used, memory.limit_bytes);
            let host = memory.host_bytes.map_or_else(String::new, |host| {
                format!(", {} of it held by the host", bytes(host))
            });
            format!(
                "{} of {limit} ({part}){host}; at most {peak} in incarnation {number}",
                bytes(used)
            )
        }
        None => format!("not up; at most {peak} of {limit} in incarnation {number}"),
    };
    line(&mut page, "memory", &used);
    line(&mut page, "trend", &trend(memory.trend.as_ref()));
    series(&mut page, "in use", &memory.series);
    page
}

/// The agents of the last sample, in words. One that started since is in the next one.
fn agents(agents: usize, active: usize, used_bytes: u64, sample: Duration) -> String {
    match agents {
        0 => format!("none in the last sample; they are sampled every {}", duration(sample)),
        _ => format!("{active} of {agents} are up and hold {}", bytes(used_bytes)),
    }
}

/// What is high while memory is short.
#[derive(Debug, PartialEq, Eq)]
enum Short {
    /// The use of the limit.
    Use,
    /// The time that tasks wait for memory.
    Pressure,
}

/// The host calls memory short from 90 % of the limit or from a high pressure on, until both are well below that.
fn short(memory: &ContainerMemoryView) -> Option<Short> {
    let is_used = match (memory.used_bytes, memory.limit_bytes) {
        (Some(used), Some(limit)) => used as f64 >= limit as f64 * SHORT_UNTIL,
        _ => false,
    };
    let short = if is_used || memory.psi.is_none() { Short::Use } else { Short::Pressure };
    memory.high.then_some(short)
}

/// The use of the container's limit, in words.
pub(super) fn in_use(memory: &ContainerMemoryView) -> String {
    let short = if short(memory) == Some(Short::Use) { ", which is short" } else { "" };
    format!("{}{short}", used(memory))
}

fn used(memory: &ContainerMemoryView) -> String {
    let left = memory
        .available_bytes
        .map_or_else(String::new, |left| format!(", {} available", bytes(left)));
    match (memory.used_bytes, memory.limit_bytes) {
        (Some(used), Some(limit)) => {
            format!("{} of {} in use ({}){left}", bytes(used), bytes(limit), percent(used, limit))
        }
        (Some(used), None) => format!("{} in use, without a limit{left}", bytes(used)),
        (None, Some(limit)) => {
            format!("a limit of {}; the use is not reported{left}", bytes(limit))
        }
        (None, None) => "this machine does not report it".to_owned(),
    }
}

/// Waiting for memory and kills for it, in words; empty when nothing reports them.
pub(super) fn pressure(memory: &ContainerMemoryView) -> String {
    let mut parts = Vec::new();
    if let Some(psi) = memory.psi {
        let (some, all) = (psi.some_avg10, psi.full_avg10);
        let high = if short(memory) == Some(Short::Pressure) { "high pressure: " } else { "" };
        parts.push(format!(
            "{high}some task waited for memory {some} % of the last 10 s, all did {all} %"
        ));
    }
    if let Some(kills) = memory.oom_kills {
        let own = memory.group_oom_kills.map_or_else(String::new, |own| format!(", {own} here"));
        parts.push(format!("{kills} killed for memory since the machine booted{own}"));
    }
    parts.join("; ")
}

/// A trend in words.
pub(super) fn trend(trend: Option<&MemoryTrend>) -> String {
    let Some(trend) = trend else {
        return "no trend yet: it needs more samples".to_owned();
    };
    let rate = trend.bytes_per_minute;
    let amount = bytes(rate.unsigned_abs());
    let over = duration(Duration::from_millis(trend.over_ms));
    match (trend.grows, trend.time_left_ms) {
        (true, Some(left)) => {
            let left = duration(Duration::from_millis(left));
            format!("grows by {amount} a minute for {over}; the limit is reached in {left}")
        }
        (true, None) => format!("grows by {amount} a minute for {over}"),
        (false, _) if rate.unsigned_abs() < LEVEL_BYTES_PER_MINUTE => format!("level for {over}"),
        (false, _) if rate > 0 => {
            format!("up and down, on the whole up by {amount} a minute for {over}")
        }
        (false, _) => format!("falls by {amount} a minute for {over}"),
    }
}

/// Both resolutions of a series, those that have samples.
fn series(page: &mut String, name: &str, series: &SeriesView) {
    // Until a quarter of an hour went by the coarse one says nothing that the fine one does not.
    let resolutions = [Some(&series.fine), (series.coarse.len() > 15).then_some(&series.coarse)];
    let rows = resolutions.into_iter().flatten().filter_map(|samples| sparkline::of(samples));
    for (at, row) in rows.enumerate() {
        line(page, if at == 0 { name } else { "" }, &row);
    }
}

fn line(page: &mut String, name: &str, what: &str) {
    if !what.is_empty() {
        let _ = writeln!(page, "{name:<10} {}", text::line(what));
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::Timestamp;
    use bulkhead_types::memory::Psi;

    use super::*;

    fn words(bytes_per_minute: i64, grows: bool, time_left_ms: Option<u64>) -> String {
        let fit = 0.9;
        let some = MemoryTrend {
            bytes_per_minute,
            fit,
            samples: 60,
            over_ms: 300_000,
            grows,
            time_left_ms,
        };
        trend(Some(&some))
    }

    #[test]
    fn who_started_since_the_last_sample_is_not_said_to_be_absent() {
        let sample = Duration::from_secs(5);
        let none = "none in the last sample; they are sampled every 5 s";
        assert_eq!(agents(0, 0, 0, sample), none);
        assert_eq!(agents(3, 2, 1024, sample), "2 of 3 are up and hold 1 KiB");
    }

    #[test]
    fn memory_that_is_short_says_whether_its_use_or_its_pressure_is_high() {
        const GIB: u64 = 1 << 30;
        let said = |used: u64, high: bool, psi: bool| {
            let psi = psi.then_some(Psi { some_avg10: 2.85, full_avg10: 1.5 });
            let (used_bytes, limit_bytes) = (Some(used * GIB), Some(20 * GIB));
            let memory = ContainerMemoryView { used_bytes, limit_bytes, high, psi, ..nothing() };
            (in_use(&memory), pressure(&memory))
        };
        let (used, waits) = said(2, true, true);
        assert_eq!(used, "2 GiB of 20 GiB in use (10 %)");
        assert_eq!(
            waits,
            "high pressure: some task waited for memory 2.85 % of the last 10 s, all did 1.5 %"
        );
        let (used, waits) = said(19, true, true);
        assert_eq!(used, "19 GiB of 20 GiB in use (95 %), which is short");
        assert!(waits.starts_with("some task"), "{waits}");
        assert_eq!(said(2, true, false).0, "2 GiB of 20 GiB in use (10 %), which is short");
        let (used, waits) = said(2, false, true);
        assert!(!used.contains("short") && !waits.contains("high"), "{used}; {waits}");
    }

    /// A machine that reports nothing.
    fn nothing() -> ContainerMemoryView {
        let series = serde_json::json!({ "fine": [], "coarse": [] });
        serde_json::from_value(serde_json::json!({
            "at": Timestamp(0), "limitBytes": null, "usedBytes": null, "availableBytes": null,
            "rssBytes": null, "heap": null, "psi": null, "high": false, "oomKills": null,
            "groupOomKills": null, "limitHits": null, "agents": 0, "activeAgents": 0, "agentsBytes": 0,
            "sources": {}, "sampleMs": 5000, "trend": null, "largest": [],
            "used": series, "rss": series, "guests": series,
        }))
        .expect("a view")
    }

    #[test]
    fn a_trend_reads_as_a_sentence() {
        const MIB: i64 = 1024 * 1024;
        assert_eq!(
            words(2 * MIB, true, Some(720_000)),
            "grows by 2 MiB a minute for 5 min; the limit is reached in 12 min"
        );
        assert_eq!(words(MIB, true, None), "grows by 1 MiB a minute for 5 min");
        assert_eq!(
            words(MIB, false, None),
            "up and down, on the whole up by 1 MiB a minute for 5 min"
        );
        assert_eq!(words(-MIB, false, None), "falls by 1 MiB a minute for 5 min");
        assert_eq!(words(-100, false, None), "level for 5 min");
        assert_eq!(trend(None), "no trend yet: it needs more samples");
    }
}
