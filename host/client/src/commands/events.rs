//! `bulkhead events`: what an agent did, once or as it happens.

use std::time::Duration;

use bulkhead_api::{EventFrame, EventView, EventsPage, GapFrame, StreamFrame};
use bulkhead_types::AgentId;
use clap::Args;

use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::following::{Followed, Following};
use crate::session::{Call, Session, agent_path};
use bulkhead_printable as text;

/// How long `--follow` waits for a host that went away: longer than one takes to restart.
pub(super) const AWAY: Duration = Duration::from_secs(60);

/// Arguments of `events`.
#[derive(Debug, Args)]
#[command(after_help = CODES_OF_QUESTIONS)]
pub struct EventsArgs {
    /// Id of the agent.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: AgentId,
    /// Print new events as they occur, until Ctrl-C. Waits for an agent that does not exist yet, and up to a
    /// minute for a host that goes down or still boots. With --json one object per line; lost events are an object
    /// with `droppedBefore`: events below this id may be missing.
    #[arg(long, short)]
    pub follow: bool,
    /// Only events with an id greater than this.
    #[arg(long, value_name = "ID", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub after: u64,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

pub(crate) async fn run(args: &EventsArgs, session: &Session) -> Result<(), Failure> {
    if args.follow { follow(args, session).await } else { once(args, session).await }
}

async fn once(args: &EventsArgs, session: &Session) -> Result<(), Failure> {
    let id = &args.agent;
    let path = format!("{}?after={}", agent_path(id, "events"), args.after);
    let call = Call::get(path, format!("events of {id}"));
    let answer = session.call(call).await?;
    let page: EventsPage = session.read(&answer)?;
    if page.events.is_empty() && page.dropped_before.is_none() {
        // The route has an empty list for an agent that nobody knows.
        session.call(Call::get(agent_path(id, "status"), format!("status of {id}"))).await?;
    }
    if session.json {
        return session.print_json::<EventsPage>(&answer);
    }
    let EventsPage { events, dropped_before } = page;
    let dropped = dropped_before.map(Shown::DroppedBefore);
    let events = events.into_iter().map(|EventView { id, event, data, timestamp }| {
        Shown::Event(EventFrame { id, agent_id: None, event, data, timestamp })
    });
    let lines: String = dropped.into_iter().chain(events).map(|shown| shown.line()).collect();
    session.screen.print(&lines)
}

async fn follow(args: &EventsArgs, session: &Session) -> Result<(), Failure> {
    let id = &args.agent;
    let path = format!("{}?deltas=false", agent_path(id, "events/stream"));
    let following =
        Following::new(session, path, format!("events of {id}"), Some(args.after), AWAY);
    print_all(following, session, Shown::line).await
}

/// Prints what comes, until something fails.
pub(super) async fn print_all(
    mut following: Following<'_>,
    session: &Session,
    line: impl Fn(&Shown) -> String,
) -> Result<(), Failure> {
    loop {
        let shown = match following.next().await? {
            Followed::Frame(frame) => Shown::of(frame),
            Followed::Away(failure) => {
                say_away(&failure);
                None
            }
            Followed::Back => {
                say_back(session);
                None
            }
        };
        if let Some(shown) = shown {
            session.screen.print(&if session.json { shown.json() } else { line(&shown) })?;
        }
    }
}

pub(super) fn say_away(failure: &Failure) {
    let words = failure.words().unwrap_or_default();
    eprintln!("bulkhead: {words}; waiting for it for up to {} s", AWAY.as_secs());
}

pub(super) fn say_back(session: &Session) {
    eprintln!("bulkhead: {} answers again", session.target.url);
}

/// A line of the output.
#[derive(Debug)]
pub(super) enum Shown {
    Event(EventFrame),
    /// Events with lower ids were dropped before they could be read, or may have been.
    DroppedBefore(u64),
}

impl Shown {
    /// What a frame shows, if it is about events.
    pub(super) fn of(frame: StreamFrame) -> Option<Self> {
        match frame {
            StreamFrame::Event(event) => Some(Self::Event(event)),
            StreamFrame::Gap(GapFrame::Events { upto, .. }) => Some(Self::DroppedBefore(upto + 1)),
            _ => None,
        }
    }

    /// Of one agent, for a person.
    fn line(&self) -> String {
        match self {
            Self::Event(EventFrame { id, event, data, timestamp, .. }) => {
                let (event, data) = (text::line(event), text::line(data.get()));
                format!("{timestamp} #{id} {event} {data}\n")
            }
            Self::DroppedBefore(before) => {
                format!("-- events before #{before} were dropped before they could be read\n")
            }
        }
    }

    /// Of all, for a person: it says whose.
    pub(super) fn line_of_all(&self) -> String {
        match self {
            Self::Event(EventFrame { agent_id, event, data, timestamp, .. }) => {
                let (event, data) = (text::line(event), text::line(data.get()));
                let whose = agent_id.as_ref().map_or("-", AgentId::as_str);
                format!("{timestamp} {whose} {event} {data}\n")
            }
            Self::DroppedBefore(_) => self.line(),
        }
    }

    /// For a program.
    pub(super) fn json(&self) -> String {
        let json = match self {
            Self::Event(event) => serde_json::to_string(event)
                .map_or_else(|_| String::new(), |json| text::json(&json).into_owned()),
            Self::DroppedBefore(before) => format!("{{\"droppedBefore\":{before}}}"),
        };
        // Data may be spread over lines; white space outside of texts means nothing.
        json.replace(['\n', '\t'], " ") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::Timestamp;

    use super::*;

    #[test]
    fn texts_of_a_guest_are_harmless_in_both_ways() {
        let data = serde_json::value::RawValue::from_string("[\n\"\x7f\u{9b}2J\"]".to_owned());
        let (event, timestamp) = ("agent.\x1b[2Jturn".into(), Timestamp(2));
        let (agent_id, data) = (Some(AgentId::parse("a").unwrap()), data.unwrap().into());
        let shown = Shown::Event(EventFrame { id: 2, agent_id, event, data, timestamp });
        assert_eq!(
            shown.line(),
            "1970-01-01T00:00:00.002Z #2 agent.\\u{1b}[2Jturn [\\n\"\\u{7f}\\u{9b}2J\"]\n"
        );
        assert_eq!(
            shown.line_of_all(),
            "1970-01-01T00:00:00.002Z a agent.\\u{1b}[2Jturn [\\n\"\\u{7f}\\u{9b}2J\"]\n"
        );
        assert_eq!(
            shown.json(),
            "{\"id\":2,\"agentId\":\"a\",\"event\":\"agent.\\u001b[2Jturn\",\"data\":[ \"\\u007f\\u009b2J\"],\
             \"timestamp\":\"1970-01-01T00:00:00.002Z\"}\n"
        );
    }

    #[test]
    fn what_was_dropped_is_a_line() {
        let shown = Shown::DroppedBefore(8);
        assert_eq!(shown.line(), "-- events before #8 were dropped before they could be read\n");
        assert_eq!(shown.json(), "{\"droppedBefore\":8}\n");
    }
}
