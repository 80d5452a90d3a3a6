//! `bulkhead status [id]`: how the container is, or one agent, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bulkhead_api::{
    AgentList, AgentView, ContainerMemoryView, Health, Readiness, SetAsideView, Stuck,
};
use bulkhead_types::{AgentId, ModelCounts, RestartPolicy, Timestamp};
use clap::Args;

use super::memory::{in_use, pressure, trend};
use super::usage::cost;
use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::http::Answer;
use crate::screen::Screen;
use crate::session::{Call, Session, agent_path, now};
use bulkhead_printable as text;
use bulkhead_terminal::Colour;
use bulkhead_terminal::words::{bytes, counted, duration, percent, short_count};

use bulkhead_terminal::words;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = CODES_OF_QUESTIONS)]
pub struct StatusArgs {
    /// Id of an agent [default: the container]. For the container, --json prints an object with the responses to
    /// /health, /memory and /agents as `health`, `memory` and `agents`, with `ready`, with `missing`: the
    /// agents whose desired state is running and that do not run, and with `ship` and `evidence`: since when the state is
    /// not shipped, or the evidence sink takes nothing, else null.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: Option<AgentId>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Whether an incarnation of the agent is active, and not only its id known.
pub(super) fn is_alive(status: &str) -> bool {
    matches!(status, "starting" | "running" | "stopping")
}

/// Whether it is active or restarted automatically.
pub(super) fn is_active(status: &str) -> bool {
    is_alive(status) || status == "backoff"
}

pub(super) fn colour_of(status: &str) -> Colour {
    match status {
        "running" => Colour::Green,
        "starting" | "stopping" | "backoff" => Colour::Yellow,
        "failed" | "quarantined" => Colour::Red,
        _ => Colour::Grey,
    }
}

pub(crate) async fn run(args: &StatusArgs, session: &Session) -> Result<(), Failure> {
    match &args.agent {
        Some(id) => one_agent(id, session).await,
        None => container(session).await,
    }
}

async fn one_agent(id: &AgentId, session: &Session) -> Result<(), Failure> {
    let call = Call::get(agent_path(id, "status"), format!("status of {id}"));
    let answer = session.call(call).await?;
    if session.json {
        return session.print_json::<AgentView>(&answer);
    }
    let agent: AgentView = session.read(&answer)?;
    session.screen.print(&agent_page(&agent, now(&answer), session.screen))
}

/// What `status` asks about the container.
struct Container {
    health: Health,
    ready: bool,
    /// Desired agents that are missing, and how many they are.
    missing: Readiness,
    memory: ContainerMemoryView,
    agents: AgentList,
}

async fn container(session: &Session) -> Result<(), Failure> {
    let health = session.call(Call::get("/health", "health")).await?;
    let (ready, missing) = match session.call(Call::get("/readyz", "readiness")).await {
        // An older host says nothing of who is missing.
        Ok(answer) => (true, session.read(&answer).unwrap_or_default()),
        Err(Failure::Refused(refusal)) if refusal.status == 503 => (false, Readiness::default()),
        Err(failure) => return Err(failure),
    };
    let memory = session.call(Call::get("/memory", "memory of the container")).await?;
    let agents = session.call(Call::get("/agents", "list of agents")).await?;
    let container = Container {
        health: session.read(&health)?,
        ready,
        missing,
        memory: session.read(&memory)?,
        agents: session.read(&agents)?,
    };
    if session.json {
        let document = |answer: &Answer| session.json_of(answer);
        let (health, memory, agents) = (document(&health)?, document(&memory)?, document(&agents)?);
        let Readiness { agents: missing, ship, evidence, .. } = &container.missing;
        let missing = serde_json::to_string(missing).unwrap_or_default();
        let stuck = |of: &Option<Stuck>| serde_json::to_string(of).unwrap_or_default();
        let (ship, evidence) = (stuck(ship), stuck(evidence));
        return session.screen.print(&format!(
            "{{\"health\":{health},\"ready\":{ready},\"missing\":{missing},\"ship\":{ship},\
             \"evidence\":{evidence},\"memory\":{memory},\"agents\":{agents}}}\n"
        ));
    }
    session.screen.print(&container_page(&container, now(&agents), session.screen))
}

fn container_page(container: &Container, now: Timestamp, screen: Screen) -> String {
    let Container { health, ready, missing, memory, agents } = container;
    let mut page = Page::new(screen);
    let draining = health.draining == Some(true);
    let colour = if health.status == "ok" && *ready { Colour::Green } else { Colour::Red };
    let can = match (ready, draining) {
        (true, _) => "ready for starts",
        (false, true) => "draining: it stops its agents and accepts no starts",
        (false, false) => "not ready: it is still booting",
    };
    let up = words::duration(std::time::Duration::from_secs(health.uptime));
    let version = text::line(&health.version);
    let state = page.paint(&text::line(&health.status), colour);
    page.raw("host", &format!("{state}, {can}; up {up}, version {version}"));
    page.line("run", &format!("{}, since {}", health.run_id, health.started_at));
    page.line("agents", &states(agents));
    let nothing_durable = match health.store.as_deref() {
        None => None,
        Some("off") => Some("nothing is durable: the host was started with --without-store".into()),
        Some("lost") => {
            let why = missing.store_error.as_deref().unwrap_or("the host's log says why");
            Some(format!("nothing is durable: the database cannot be written: {}", text::line(why)))
        }
        Some(other) => Some(text::line(other).into_owned()),
    };
    if let Some(what) = nothing_durable {
        page.raw("store", &page.paint(&what, Colour::Red));
    }
    for (name, what) in stuck(missing) {
        page.raw(name, &page.paint(&what, Colour::Red));
    }
    if missing.missing > 0 {
        let count = counted(missing.missing, "agent");
        page.raw("missing", &page.paint(&format!("{count}, desired but not running"), Colour::Red));
        for agent in &missing.agents {
            page.line("", &format!("{}: {}: {}", agent.agent_id, agent.status, agent.reason));
        }
    }
    let rss = memory.rss_bytes.map_or_else(String::new, |rss| {
        format!("; host {} resident, agents {}", bytes(rss), bytes(memory.agents_bytes))
    });
    page.line("memory", &format!("{}{rss}", in_use(memory)));
    page.line("", &pressure(memory));
    page.line("", &trend(memory.trend.as_ref()));
    let trouble = agents.iter().filter(|agent| needs_a_look(agent));
    for (at, agent) in trouble.enumerate() {
        let name = if at == 0 { "attention" } else { "" };
        let status = page.paint(&text::line(&agent.status), colour_of(&agent.status));
        let why = text::line(&consequence(agent, now)).into_owned();
        page.raw(name, &format!("{}: {status}: {why}", agent.agent_id));
    }
    page.text
}

/// What does not leave the machine, by the name of its line.
fn stuck(host: &Readiness) -> Vec<(&'static str, String)> {
    let ship = ("ship", "the state is not shipped", &host.ship);
    let evidence = ("evidence", "the sink takes nothing", &host.evidence);
    let line = |(name, what, stuck): (_, _, &Option<Stuck>)| {
        let Stuck { for_ms, error } = stuck.as_ref()?;
        let since = words::duration(std::time::Duration::from_millis(*for_ms));
        let why = error.as_deref().unwrap_or("the host's log says why");
        Some((name, format!("{what} for {since}: {}", text::line(why))))
    };
    [ship, evidence].into_iter().filter_map(line).collect()
}

/// Ended abnormally, and was not restarted yet.
fn needs_a_look(agent: &AgentView) -> bool {
    matches!(&*agent.status, "backoff" | "quarantined" | "failed")
}

/// Use of language models, in words.
fn use_of(counts: &ModelCounts) -> String {
    let calls = counted(usize::try_from(counts.calls).unwrap_or(usize::MAX), "call");
    let tokens = short_count(counts.tokens.total());
    let cost = match counts.cost_nano {
        0 => String::new(),
        nano => format!(", cost {}", cost(nano)),
    };
    format!("{calls}, {tokens} tokens{cost}")
}

/// How many agents are in which state.
fn states(agents: &AgentList) -> String {
    let mut count = BTreeMap::<&str, usize>::new();
    agents.iter().for_each(|agent| *count.entry(&agent.status).or_default() += 1);
    let busy = agents.iter().filter(|agent| agent.busy).count();
    let state = |(status, count): (&&str, &usize)| match *status {
        "running" if busy > 0 => format!("{count} running ({busy} busy)"),
        status => format!("{count} {status}"),
    };
    let states: Vec<_> = count.iter().map(state).collect();
    match agents.len() {
        0 => "none".to_owned(),
        all => format!("{all}: {}", states.join(", ")),
    }
}

/// An agent on a page of its own.
pub(super) fn agent_page(agent: &AgentView, now: Timestamp, screen: Screen) -> String {
    let mut page = Page::new(screen);
    let status = page.paint(&text::line(&agent.status), colour_of(&agent.status));
    let doing = match (&*agent.status, agent.busy) {
        ("running", true) => ", in a turn",
        ("running", false) => ", waiting for work",
        _ => "",
    };
    let called = if agent.name == agent.agent_id.as_str() {
        String::new()
    } else {
        format!(" ({})", text::line(&agent.name))
    };
    page.raw("agent", &format!("{}{called}: {status}{doing}", agent.agent_id));
    page.line("role", &format!("{}, component {}", agent.role, agent.component));
    let since = agent.started_at;
    if is_alive(&agent.status) {
        let up = duration(now.since(since));
        page.line("started", &format!("incarnation {}, {up} ago, at {since}", agent.incarnation));
        let quiet = duration(now.since(agent.last_activity_at));
        page.line("active", &format!("{quiet} ago; {} in this incarnation", turns(agent)));
    } else {
        page.line(
            "started",
            &format!("incarnation {} was the last, at {since}", agent.incarnation),
        );
    }
    let mail = counted(agent.mailbox_depth, "message");
    page.line("mail", &format!("{mail} and {} waiting", counted(agent.nudges, "nudge")));
    if let Some(SetAsideView { message_id, at, attempts, crash_ids }) = &agent.set_aside {
        let delivered = counted(*attempts as usize, "time");
        page.line("set aside", &format!("message {message_id}, delivered {delivered}, at {at}"));
        crash_ids.iter().for_each(|crash_id| page.line("", &format!("crash {crash_id}")));
    }
    page.line("memory", &memory(agent));
    page.line("cpu", &cpu(agent));
    if agent.usage.total.calls > 0 {
        let (now, all) = (&agent.usage.incarnation, &agent.usage.total);
        page.line(
            "models",
            &format!("{} in this incarnation; {} in all", use_of(now), use_of(all)),
        );
    }
    for (name, value) in [
        ("model", agent.model.as_deref()),
        ("town", agent.town_id.as_deref()),
        ("rig", agent.rig_id.as_deref()),
    ] {
        if let Some(value) = value {
            page.line(name, value);
        }
    }
    if !agent.active_tools.is_empty() {
        page.line("tools", &agent.active_tools.join(", "));
    }
    for tool in &agent.running_tools {
        let (age, size) = (duration(now.since(tool.started_at)), bytes(tool.memory_bytes));
        let words = std::iter::once(&tool.program).chain(&tool.arguments);
        let command: Vec<_> = words.map(String::as_str).collect();
        page.line("runs", &format!("{} ({age}, {size})", command.join(" ")));
    }
    page.line("restart", &policy(agent));
    if let Some(exit) = &agent.exit {
        let ago = duration(now.since(exit.at));
        page.line("last exit", &format!("{}, {ago} ago, at {}", exit.reason, exit.at));
        page.line("", &exit.message);
        if let Some(crash_id) = &exit.crash_id {
            page.line("crash", crash_id);
        }
        if !is_alive(&agent.status) {
            page.line("then", &consequence(agent, now));
        }
    }
    for (at, end) in agent.restart.history.iter().enumerate() {
        let at_start = if end.at_start { ", at start" } else { "" };
        let crash = end.crash_id.as_ref().map_or_else(String::new, |id| format!(", crash {id}"));
        let name = if at == 0 { "ends" } else { "" };
        let what = format!(
            "{} incarnation {}: {}{at_start}{crash}",
            end.at,
            end.incarnation,
            end.reason.as_str()
        );
        page.line(name, &what);
    }
    page.text
}

fn turns(agent: &AgentView) -> String {
    let count = usize::try_from(agent.message_count).unwrap_or(usize::MAX);
    format!("{} taken", counted(count, "message"))
}

fn memory(agent: &AgentView) -> String {
    let memory = &agent.memory;
    if !is_alive(&agent.status) {
        let (peak, limit) = (bytes(memory.peak_bytes), bytes(memory.limit_bytes));
        return format!("none; at most {peak} of {limit} in its last incarnation");
    }
    let mut text = format!(
        "{} of {} ({}), {} of it held by the host; at most {}",
        bytes(memory.used_bytes),
        bytes(memory.limit_bytes),
        percent(memory.used_bytes, memory.limit_bytes),
        bytes(memory.host_bytes),
        bytes(memory.peak_bytes),
    );
    for (count, what) in
        [(memory.denied_growths, "growths denied"), (memory.refused, "refused items")]
    {
        if count > 0 {
            let _ = write!(text, "; {count} {what}");
        }
    }
    text
}

fn cpu(agent: &AgentView) -> String {
    let took = |us| duration(std::time::Duration::from_micros(us));
    match agent.cpu_throttled_us {
        0 => took(agent.cpu_us),
        waited => format!("{}; throttled for {}", took(agent.cpu_us), took(waited)),
    }
}

fn policy(agent: &AgentView) -> String {
    let restart = &agent.restart;
    let window = duration(std::time::Duration::from_millis(restart.window_ms));
    let (most, ends) = (restart.max_restarts, restart.attempts_in_window);
    let window = match restart.quarantine {
        // The last of them was the one too many, or was enough by itself.
        Some(_) => format!(
            "{} in {window}, {most} are followed by a restart",
            counted(ends as usize, "end")
        ),
        None => format!("{ends} of {most} ends in {window}; one more than that is quarantined"),
    };
    match restart.policy {
        RestartPolicy::Permanent => format!("permanent: after every exit; {window}"),
        RestartPolicy::Transient => format!("transient: after an abnormal exit; {window}"),
        RestartPolicy::Temporary => "temporary: never restarted automatically".to_owned(),
    }
}

/// What is done about the last end.
fn consequence(agent: &AgentView, now: Timestamp) -> String {
    let restart = &agent.restart;
    match (&*agent.status, restart.next_restart_at, &restart.quarantine) {
        ("backoff", Some(at), _) => {
            let reason = agent.exit_reason.as_deref().unwrap_or("an end");
            let time = at.since(now);
            // Memory that is short holds a restart up.
            if time.is_zero() {
                return format!("after {reason}: restart held since {at}");
            }
            format!("after {reason}: restart in {}, at {at}", duration(time))
        }
        ("quarantined", _, Some(quarantine)) => format!(
            "{}; quarantined since {}: start it with --force, or with another spec",
            quarantine.message, quarantine.since
        ),
        ("failed", ..) => {
            let exit = agent.exit.as_ref();
            let message = exit.map_or_else(String::new, |exit| format!(": {}", exit.message));
            let reason = agent.exit_reason.as_deref().unwrap_or("no reason");
            format!("not restarted after {reason}{message}")
        }
        ("exited", ..) => "not restarted".to_owned(),
        (status, ..) => status.to_owned(),
    }
}

/// Names and what there is to say about them.
struct Page {
    text: String,
    screen: Screen,
}

impl Page {
    fn new(screen: Screen) -> Self {
        Self { text: String::new(), screen }
    }

    fn paint(&self, text: &str, colour: Colour) -> String {
        self.screen.paint(text, colour)
    }

    /// A line whose text may be the host's or a guest's.
    fn line(&mut self, name: &str, what: &str) {
        if !what.is_empty() {
            self.raw(name, &text::line(what));
        }
    }

    /// A line whose text is safe, colours included.
    fn raw(&mut self, name: &str, what: &str) {
        let _ = writeln!(self.text, "{name:<10} {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_leave_the_machine_has_a_line() {
        assert!(stuck(&Readiness::default()).is_empty());
        let ship = Stuck { for_ms: 754_000, error: Some("NoSuchBucket\u{1b}".into()) };
        let evidence = Stuck { for_ms: 3_000, error: None };
        let host = Readiness { ship: Some(ship), evidence: Some(evidence), ..Readiness::default() };
        let lines = stuck(&host);
        assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), ["ship", "evidence"]);
        let (ship, evidence) = (&lines[0].1, &lines[1].1);
        assert!(ship.starts_with("the state is not shipped for 12"), "{ship}");
        assert!(ship.contains("NoSuchBucket") && !ship.contains('\u{1b}'), "{ship}");
        assert!(evidence.ends_with("the host's log says why"), "{evidence}");
    }
}
