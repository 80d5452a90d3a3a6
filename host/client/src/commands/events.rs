//! `bulkhead events`: what an agent did, once or as it happens.

use std::fmt::Write as _;
use std::time::Duration;

use bulkhead_api::{EventView, EventsPage};
use bulkhead_types::{AgentId, Timestamp};
use clap::Args;
use tokio::time::{Instant, sleep};

use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, Session, agent_path};
use bulkhead_printable as text;

/// Between two questions of `--follow`. A ring holds hundreds of events, and a line of a log comes no
/// sooner to a person who reads it.
const EVERY: Duration = Duration::from_millis(500);

/// How long `--follow` waits for a host that went away: longer than one takes to restart.
const AWAY: Duration = Duration::from_secs(60);

/// Arguments of `events`.
#[derive(Debug, Args)]
#[command(after_help = CODES_OF_QUESTIONS)]
pub struct EventsArgs {
    /// Id of the agent.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: AgentId,
    /// Print new events as they occur, until Ctrl-C. Waits for an agent that does not exist yet, and up to a
    /// minute for a host that is down. With --json one object per line; lost events are an object with
    /// `droppedBefore`, the id of the first event after the gap, and restarted ids are one with `beganAnew`.
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
    let call = Call::get(events_path(id, args.after), format!("events of {id}"));
    let answer = session.call(call).await?;
    let page: EventsPage = session.read(&answer)?;
    if page.events.is_empty() && page.dropped_before.is_none() {
        // The route has an empty list for an agent that nobody knows.
        session.call(Call::get(agent_path(id, "status"), format!("status of {id}"))).await?;
    }
    if session.json {
        return session.print_json::<EventsPage>(&answer);
    }
    let mut follower = Follower::new(args.after);
    session.screen.print(&as_text(&follower.take(page)))
}

async fn follow(args: &EventsArgs, session: &Session) -> Result<(), Failure> {
    let id = &args.agent;
    let mut follower = Follower::new(args.after);
    let mut away_since = None;
    let mut asked_before = false;
    loop {
        let call = Call::get(events_path(id, follower.asks_after()), format!("events of {id}"));
        match session.call(call).await {
            Ok(answer) => {
                if away_since.take().is_some() {
                    eprintln!("bulkhead: {} answers again", session.target.url);
                }
                asked_before = true;
                let news = follower.take(session.read(&answer)?);
                session.screen.print(&if session.json {
                    as_json(&news)
                } else {
                    as_text(&news)
                })?;
            }
            Err(failure) if !asked_before || !is_away(&failure) => return Err(failure),
            Err(failure) => match away_since {
                None => {
                    away_since = Some(Instant::now());
                    let words = failure.words().unwrap_or_default();
                    eprintln!("bulkhead: {words}; waiting for it for up to {} s", AWAY.as_secs());
                }
                Some(since) if since.elapsed() >= AWAY => return Err(failure),
                Some(_) => {}
            },
        }
        sleep(EVERY).await;
    }
}

fn events_path(id: &AgentId, after: u64) -> String {
    format!("{}?after={after}", agent_path(id, "events"))
}

fn is_away(failure: &Failure) -> bool {
    match failure {
        Failure::NoAnswer(_) => true,
        Failure::Refused(refusal) => refusal.status == 503,
        _ => false,
    }
}

/// What a page brings that was not shown.
#[derive(Debug)]
enum News {
    Event(EventView),
    /// Events from the first id to before the second were dropped before they could be read.
    Dropped(u64, u64),
    /// The agent's events begin again: another run of the host, or an agent that was forgotten.
    BeganAgain,
}

/// Knows which events were shown.
///
/// Ids begin again with a run of the host, so an id alone does not say whether an event is new. Each
/// question therefore asks for the last event that was shown once more: when it does not come, or another
/// one comes under its id, the events are others.
#[derive(Debug)]
struct Follower {
    /// Up to here everything was shown.
    after: u64,
    /// The last that was shown.
    last: Option<(u64, Timestamp, String)>,
}

impl Follower {
    fn new(after: u64) -> Self {
        Self { after, last: None }
    }

    fn asks_after(&self) -> u64 {
        if self.last.is_some() { self.after - 1 } else { self.after }
    }

    fn take(&mut self, page: EventsPage) -> Vec<News> {
        let mut news = Vec::new();
        let EventsPage { mut events, dropped_before } = page;
        if let Some(last) = self.last.take() {
            match events.first() {
                Some(first) if is(first, &last) => {
                    events.remove(0);
                    self.last = Some(last);
                }
                // It was dropped; those that follow it are the same ring's.
                _ if dropped_before.is_some_and(|before| before > last.0) => self.last = Some(last),
                // This page is not all of it: the next question asks from the beginning.
                _ => {
                    self.after = 0;
                    return vec![News::BeganAgain];
                }
            }
        }
        if let Some(before) = dropped_before
            && before > self.after + 1
        {
            news.push(News::Dropped(self.after + 1, before));
            self.after = before - 1;
        }
        if let Some(event) = events.last() {
            self.after = event.id;
            self.last = Some((event.id, event.timestamp, event.event.to_string()));
        } else if dropped_before.is_some() {
            // None is left that could be asked for once more.
            self.last = None;
        }
        news.extend(events.into_iter().map(News::Event));
        news
    }
}

fn is(event: &EventView, (id, at, name): &(u64, Timestamp, String)) -> bool {
    event.id == *id && event.timestamp == *at && *event.event == **name
}

fn as_text(news: &[News]) -> String {
    let mut text = String::new();
    for one in news {
        let _ = match one {
            News::Event(EventView { id, event, data, timestamp }) => {
                let (event, data) = (text::line(event), text::line(data.get()));
                writeln!(text, "{timestamp} #{id} {event} {data}")
            }
            News::Dropped(from, before) if before - from == 1 => {
                writeln!(text, "-- event #{from} was dropped before it could be read")
            }
            News::Dropped(from, before) => {
                let to = before - 1;
                writeln!(text, "-- events #{from} to #{to} were dropped before they could be read")
            }
            News::BeganAgain => writeln!(text, "-- its events restart"),
        };
    }
    text
}

fn as_json(news: &[News]) -> String {
    let mut text = String::new();
    for one in news {
        let line = match one {
            News::Event(event) => serde_json::to_string(event)
                .map_or_else(|_| String::new(), |json| text::json(&json).into_owned()),
            News::Dropped(_, before) => format!("{{\"droppedBefore\":{before}}}"),
            News::BeganAgain => "{\"beganAnew\":true}".to_owned(),
        };
        // Data may be spread over lines; white space outside of texts means nothing.
        text.push_str(&line.replace(['\n', '\t'], " "));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring as the host has it.
    struct Ring {
        kept: Vec<(u64, i64)>,
        last_id: u64,
    }

    impl Ring {
        const EMPTY: Self = Self { kept: Vec::new(), last_id: 0 };

        fn of(ids: std::ops::RangeInclusive<u64>, made_at: i64) -> Self {
            Self { last_id: *ids.end(), kept: ids.map(|id| (id, made_at + id as i64)).collect() }
        }

        fn page(&self, after: u64) -> EventsPage {
            let event = |(id, at): &(u64, i64)| {
                let data = serde_json::value::to_raw_value("\x1b[2J").unwrap();
                let timestamp = Timestamp(*at);
                EventView { id: *id, event: "agent.turn".into(), data: data.into(), timestamp }
            };
            let first = self.kept.first().map_or(self.last_id + 1, |(id, _)| *id);
            EventsPage {
                events: self.kept.iter().filter(|(id, _)| *id > after).map(event).collect(),
                dropped_before: (first > after + 1).then_some(first),
            }
        }
    }

    fn poll(follower: &mut Follower, ring: &Ring) -> Vec<String> {
        let news = follower.take(ring.page(follower.asks_after()));
        let shown = |one: &News| match one {
            News::Event(event) => event.id.to_string(),
            News::Dropped(from, before) => format!("{from}..{before}"),
            News::BeganAgain => "again".to_owned(),
        };
        news.iter().map(shown).collect()
    }

    #[test]
    fn every_event_is_shown_once() {
        let mut follower = Follower::new(0);
        assert_eq!(poll(&mut follower, &Ring::EMPTY), [""; 0]);
        assert_eq!(poll(&mut follower, &Ring::of(1..=2, 0)), ["1", "2"]);
        assert_eq!(poll(&mut follower, &Ring::of(1..=2, 0)), [""; 0]);
        assert_eq!(poll(&mut follower, &Ring::of(1..=4, 0)), ["3", "4"]);
        assert_eq!(poll(&mut follower, &Ring::of(4..=5, 0)), ["5"]);
        assert_eq!(poll(&mut Follower::new(3), &Ring::of(1..=5, 0)), ["4", "5"]);
    }

    #[test]
    fn what_was_dropped_is_shown_and_only_that() {
        let mut follower = Follower::new(0);
        assert_eq!(poll(&mut follower, &Ring::of(3..=4, 0)), ["1..3", "3", "4"]);
        assert_eq!(poll(&mut follower, &Ring::of(5..=5, 0)), ["5"], "only what was shown is gone");
        assert_eq!(poll(&mut follower, &Ring::of(9..=9, 0)), ["6..9", "9"]);
        let empty = Ring { kept: Vec::new(), last_id: 12 };
        assert_eq!(poll(&mut follower, &empty), ["10..13"]);
        assert_eq!(poll(&mut follower, &empty), [""; 0]);
        assert_eq!(poll(&mut follower, &Ring::of(13..=13, 0)), ["13"]);
    }

    #[test]
    fn another_run_is_noticed_whether_it_has_fewer_events_or_more() {
        for (new, shown) in
            [(1..=2, vec!["1", "2"]), (1..=9, vec!["1", "2", "3", "4", "5", "6", "7", "8", "9"])]
        {
            let mut follower = Follower::new(0);
            poll(&mut follower, &Ring::of(1..=4, 0));
            let ring = Ring::of(new, 1000);
            assert_eq!(poll(&mut follower, &ring), ["again"]);
            assert_eq!(poll(&mut follower, &ring), shown);
            assert_eq!(poll(&mut follower, &ring), [""; 0]);
        }
        let mut follower = Follower::new(0);
        poll(&mut follower, &Ring::of(1..=4, 0));
        assert_eq!(poll(&mut follower, &Ring::EMPTY), ["again"], "nobody knows it");
        assert_eq!(poll(&mut follower, &Ring::EMPTY), [""; 0]);
    }

    #[test]
    fn texts_of_a_guest_are_harmless_in_both_ways() {
        let mut follower = Follower::new(0);
        let news = follower.take(Ring::of(2..=2, 0).page(0));
        let expected = "-- event #1 was dropped before it could be read\n\
                        1970-01-01T00:00:00.002Z #2 agent.turn \"\\u001b[2J\"\n";
        assert_eq!(as_text(&news), expected);
        let expected = "{\"droppedBefore\":2}\n{\"id\":2,\"event\":\"agent.turn\",\
                        \"data\":\"\\u001b[2J\",\"timestamp\":\"1970-01-01T00:00:00.002Z\"}\n";
        assert_eq!(as_json(&news), expected);
    }
}
