//! `bulkhead logs [AGENT]`: the last events of everything, or of one agent, and those to come.

use std::collections::VecDeque;

use bulkhead_types::AgentId;
use clap::Args;
use tokio::time::{Instant, sleep};

use super::events::{AWAY, Shown, print_all, say_away, say_back};
use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::following::{AGAIN, Following};
use crate::session::{Call, Session, agent_path};

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = format!("{LOGS_HELP}\n\n{CODES_OF_QUESTIONS}"))]
pub struct LogsArgs {
    /// Id of an agent [default: the container and all agents].
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: Option<AgentId>,
    /// Go on with new events as they occur, until Ctrl-C. Waits up to a minute for a host that goes down
    /// or still boots.
    #[arg(long, short)]
    pub follow: bool,
    /// The number of kept events to begin with.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 100)]
    pub lines: usize,
    /// Only events of this name, or of names that begin so: agent.*. May be repeated.
    #[arg(long, value_name = "NAME", value_parser = parse_event)]
    pub event: Vec<String>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const LOGS_HELP: &str = "\
A line for each event: time, agent (- for the container), name, data. The host keeps the last 4 MiB of events, also
over its restarts. The full log, with the lines that agents write themselves, is the stdout of `bulkhead run`; the API
does not have it. With --json one object per line; lost events are an object with `droppedBefore`.";

/// A name of the query: nothing in it separates names or needs an escape.
fn parse_event(text: &str) -> Result<String, String> {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
    let name = text.strip_suffix('*').unwrap_or(text);
    if !text.is_empty() && name.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("expected a name such as agent.exit, or its beginning and *: agent.*".to_owned())
}

pub(crate) async fn run(args: &LogsArgs, session: &Session) -> Result<(), Failure> {
    let (path, asked) = match &args.agent {
        Some(id) => (agent_path(id, "events/stream"), format!("events of {id}")),
        None => ("/events/stream".to_owned(), "events".to_owned()),
    };
    let names = match args.event.is_empty() {
        true => String::new(),
        false => format!("&event={}", args.event.join(",")),
    };
    let path = format!("{path}?deltas=false{names}");
    let mut after = 0;
    match kept_in_time(&path, &asked, args, session).await {
        Ok(last) => {
            for shown in last.iter().skip(last.len().saturating_sub(args.lines)) {
                let line = if session.json { shown.json() } else { shown.line_of_all() };
                session.screen.print(&line)?;
            }
            after = last.back().map_or(0, |shown| match shown {
                Shown::Event(event) => event.id,
                Shown::DroppedBefore(before) => before - 1,
            });
        }
        // It is waited for.
        Err(Failure::Refused(refusal)) if args.follow && refusal.status == 404 => {}
        Err(failure) => return Err(failure),
    }
    if !args.follow {
        return Ok(());
    }
    print_all(Following::new(session, path, asked, Some(after), AWAY), session, Shown::line_of_all)
        .await
}

/// The last of what the host keeps.
async fn kept(
    path: &str,
    asked: &str,
    lines: usize,
    session: &Session,
) -> Result<VecDeque<Shown>, Failure> {
    let _over = session.waiting.begin(format!("the {asked}"), None);
    let call = Call::get(format!("{path}&after=0&follow=false"), asked);
    let mut stream = session.open(call, None).await?;
    let mut last = VecDeque::new();
    while let Some(frame) = stream.next().await? {
        let shown = Shown::of(frame);
        // That older ones are gone goes without saying.
        if last.is_empty() && matches!(shown, Some(Shown::DroppedBefore(_))) {
            continue;
        }
        last.extend(shown);
        // One more, from which following goes on when none is shown.
        if last.len() > lines.max(1) {
            last.pop_front();
        }
    }
    Ok(last)
}

/// The same; who follows also waits until the host has booted.
async fn kept_in_time(
    path: &str,
    asked: &str,
    args: &LogsArgs,
    session: &Session,
) -> Result<VecDeque<Shown>, Failure> {
    let mut since: Option<Instant> = None;
    loop {
        let failure = match kept(path, asked, args.lines, session).await {
            Err(Failure::Refused(refusal)) if args.follow && refusal.is_early() => {
                Failure::Refused(refusal)
            }
            done => {
                if since.is_some() && done.is_ok() {
                    say_back(session);
                }
                return done;
            }
        };
        match since {
            None => {
                say_away(&failure);
                since = Some(Instant::now());
            }
            Some(since) if since.elapsed() >= AWAY => return Err(failure),
            Some(_) => {}
        }
        sleep(AGAIN).await;
    }
}
