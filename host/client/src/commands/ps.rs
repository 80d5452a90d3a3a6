//! `bulkhead ps`: all agents, a line each.

use std::time::Duration;

use bulkhead_api::{AgentList, AgentView};
use bulkhead_types::{RestartPolicy, Timestamp};
use clap::Args;
use tokio::time::{Instant, sleep};

use super::events::{AWAY, say_away, say_back};
use super::status::{colour_of, is_active, is_alive};
use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs};
use crate::failure::Failure;
use crate::following::{AGAIN, is_away};
use crate::http::Answer;
use crate::session::{Call, Session, now};
use crate::table::{Cell, Column, draw};
use bulkhead_printable as text;
use bulkhead_terminal::words::{parse_some_time, short_bytes, short_count, short_duration};

use bulkhead_terminal::words;

/// Arguments of `ps`.
#[derive(Debug, Args)]
#[command(after_help = CODES_OF_QUESTIONS)]
pub struct PsArgs {
    /// Refresh every 2 s, or at this interval, until Ctrl-C. Waits up to a minute for a host that goes down.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s", value_parser = parse_some_time, conflicts_with = "json")]
    pub watch: Option<Duration>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

pub(crate) async fn run(args: &PsArgs, session: &Session) -> Result<(), Failure> {
    let Some(every) = args.watch else { return show(session, &ask(session).await?, "") };
    // From the upper left corner on, over what stood there.
    let (before, after) =
        if session.screen.is_terminal { ("\x1b[H\x1b[2J", "") } else { ("", "\n") };
    show(session, &ask(session).await?, before)?;
    let mut away_since: Option<Instant> = None;
    loop {
        match away_since {
            None => {
                sleep(every).await;
                session.screen.print(after)?;
            }
            Some(_) => sleep(AGAIN).await,
        }
        match (ask(session).await, away_since) {
            (Ok(answer), since) => {
                if since.is_some() {
                    say_back(session);
                    away_since = None;
                }
                show(session, &answer, before)?;
            }
            (Err(failure), None) if is_away(&failure) => {
                say_away(&failure);
                away_since = Some(Instant::now());
            }
            (Err(failure), Some(since)) if is_away(&failure) && since.elapsed() < AWAY => {}
            (Err(failure), _) => return Err(failure),
        }
    }
}

async fn ask(session: &Session) -> Result<Answer, Failure> {
    session.call(Call::get("/agents", "list of agents")).await
}

fn show(session: &Session, answer: &Answer, before: &str) -> Result<(), Failure> {
    if session.json {
        return session.print_json::<AgentList>(answer);
    }
    let agents: AgentList = session.read(answer)?;
    let width = session.screen.width();
    let page = page(agents, now(answer), width, session.screen.colours);
    session.screen.print(&format!("{before}{page}"))
}

/// The table. Active agents and those in backoff first, then by id.
fn page(mut agents: AgentList, now: Timestamp, width: Option<usize>, colours: bool) -> String {
    if agents.is_empty() {
        return "no agents\n".to_owned();
    }
    agents.sort_by(|one, other| {
        let order = |agent: &AgentView| !is_active(&agent.status);
        order(one).cmp(&order(other)).then_with(|| one.agent_id.cmp(&other.agent_id))
    });
    let columns = [
        Column::giving("AGENT", 12),
        Column::giving("ROLE", 6),
        Column::new("STATUS"),
        Column::of_figures("UP"),
        Column::of_figures("RESTARTS"),
        Column::of_figures("MEMORY"),
        Column::of_figures("MAIL"),
        Column::of_figures("CALLS"),
        Column::of_figures("TOKENS"),
        Column::giving("LAST EXIT", 9),
    ];
    let rows: Vec<_> = agents.iter().map(|agent| row(agent, now)).collect();
    draw(&columns, &rows, width, colours)
}

fn row(agent: &AgentView, now: Timestamp) -> Vec<Cell> {
    let alive = is_alive(&agent.status);
    let of_the_living = |text: String| Cell::new(if alive { text } else { "-".to_owned() });
    let status = match &*agent.status {
        "running" if agent.busy => "running, busy".into(),
        status => text::line(status),
    };
    let memory = &agent.memory;
    let (used, limit) = (short_bytes(memory.used_bytes), short_bytes(memory.limit_bytes));
    vec![
        Cell::new(agent.agent_id.as_str()),
        Cell::new(text::line(&agent.role)),
        Cell::in_colour(status, colour_of(&agent.status)),
        of_the_living(short_duration(now.since(agent.started_at))),
        Cell::new(restarts(agent)),
        of_the_living(format!("{used}/{limit}")),
        Cell::new(agent.mailbox_depth.to_string()),
        of_models(agent.usage.total.calls),
        of_models(agent.usage.total.tokens.total()),
        Cell::new(last_exit(agent, now)),
    ]
}

/// Of all its incarnations.
fn of_models(count: u64) -> Cell {
    Cell::new(if count == 0 { "-".to_owned() } else { short_count(count) })
}

/// Ends in the window of those that may be answered by a restart.
pub(super) fn restarts(agent: &AgentView) -> String {
    let restart = &agent.restart;
    match restart.policy {
        RestartPolicy::Temporary => "-".to_owned(),
        _ => format!("{}/{}", restart.attempts_in_window, restart.max_restarts),
    }
}

pub(super) fn last_exit(agent: &AgentView, now: Timestamp) -> String {
    let Some(exit) = &agent.exit else { return "-".to_owned() };
    let ago = short_duration(now.since(exit.at));
    let back = match agent.restart.next_restart_at {
        Some(at) if agent.status == "backoff" => {
            format!(", restart in {}", words::duration(at.since(now)))
        }
        _ => String::new(),
    };
    format!("{} {ago} ago{back}: {}", text::line(&exit.reason), text::first_line(&exit.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(json: &str) -> AgentList {
        serde_json::from_str(json).unwrap()
    }

    fn agent(id: &str, status: &str, more: &str) -> String {
        format!(
            r#"{{"agentId":"{id}","name":"{id}","role":"polecat","component":"c","townId":null,"rigId":null,
            "model":null,"status":"{status}","busy":false,"incarnation":3,"startedAt":"2026-01-15T09:00:00.000Z",
            "lastActivityAt":"2026-01-15T09:00:00.000Z","activeTools":[],"messageCount":0,"mailboxDepth":2,
            "nudges":0,"cpuUs":0,"memory":{{"usedBytes":1153434,"guestBytes":0,"hostBytes":0,"host":{{"mailbox":0,
            "events":0,"log":0,"http":0,"snapshot":0,"resources":0}},"peakBytes":0,
            "softBytes":0,"limitBytes":67108864,"deniedGrowths":0,"refused":0}},"restart":{{"policy":"permanent",
            "attemptsInWindow":1,"maxRestarts":5,"windowMs":300000,"nextRestartAt":"2026-01-15T09:01:09.000Z"}},
            "exitReason":null{more}}}"#
        )
    }

    #[test]
    fn the_living_come_first_and_an_exit_says_what_follows() {
        let exit = r#","exit":{"reason":"panic","message":"boom\u001b[2J\nmore","at":"2026-01-15T09:00:57.000Z"}"#;
        let used = r#","usage":{"incarnation":{},"total":{"calls":31,"tokens":{"input":1200000,"output":9}}}"#;
        let list =
            [agent("a", "failed", exit), agent("z", "running", used), agent("b", "backoff", exit)];
        let list = agents(&format!("[{}]", list.join(",")));
        let now =
            Timestamp(agents(&format!("[{}]", agent("x", "running", "")))[0].started_at.0 + 60_000);
        let page = page(list, now, None, false);
        let expected = "\
AGENT  ROLE     STATUS   UP  RESTARTS    MEMORY  MAIL  CALLS  TOKENS  LAST EXIT
b      polecat  backoff   -       1/5         -     2      -       -  panic 3s ago, restart in 9 s: boom\\u{1b}[2J
z      polecat  running  1m       1/5  1.1M/64M     2     31    1.2M  -
a      polecat  failed    -       1/5         -     2      -       -  panic 3s ago: boom\\u{1b}[2J
";
        assert_eq!(page, expected);
    }

    #[test]
    fn no_agents_are_reported() {
        assert_eq!(page(Vec::new(), Timestamp(0), None, false), "no agents\n");
    }
}
