//! `bulkhead top`: all agents on a screen, live.
//!
//! ```text
//!  terminal ─▶ keys ─▶ App ─▶ view ─▶ terminal     app.rs, log.rs, view.rs, rows.rs: pure
//!                      │ ▲
//!               orders ▼ │ polls, frames, answers   this file
//!                     host
//! ```

mod app;
mod draft;
mod log;
mod rows;
#[cfg(test)]
mod tests;
mod theme;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_api::{AgentList, AgentView, MessageAnswer, StartAnswer, StopAnswer};
use bulkhead_types::AgentId;
use clap::Args;
use crossterm::event::{
    DisableBracketedPaste, EnableBracketedPaste, Event, EventStream, KeyEventKind,
};
use crossterm::execute;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, FuturesUnordered, LocalBoxStream};
use futures_util::{FutureExt, StreamExt};
use ratatui::{DefaultTerminal, Frame};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use self::app::{App, Order, Poll, Start, is_near_limit, rank};
use self::theme::Theme;
use super::crashes::in_a_url;
use super::ps::{last_exit, restarts};
use super::status::{colour_of, is_alive};
use crate::args::HostArgs;
use crate::failure::Failure;
use crate::following::{Followed, Following};
use crate::screen::is_dumb;
use crate::session::{Call, LONG, Session, agent_path, now};
use crate::table::{Cell, Column, draw};
use bulkhead_printable as text;
use bulkhead_terminal::words::{duration, percent, short_bytes, short_count};
use bulkhead_terminal::{Colour, crash_page};

/// Between two polls.
const EVERY: Duration = Duration::from_secs(1);

/// Frames that are taken between two drawings: those that are there already.
const FRAMES: usize = 256;

/// How long the end waits for orders under way: one that was just given may not be sent yet.
const LEAVE: Duration = Duration::from_secs(2);

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = TOP_HELP)]
pub struct TopArgs {
    /// Print a table once, as it does without a terminal.
    #[arg(long)]
    pub once: bool,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const TOP_HELP: &str = "\
Agents that need attention come first: quarantined or failed, in backoff, above 90 % of their memory limit. Keys:
arrows select, Enter opens an agent with its events and turns as they happen, m sends it a message, s stops or starts
it, c shows its last crash, ? lists all keys, q quits. NO_COLOR switches colours off. Without a terminal it prints a
table once.

While the host is down the screen says so, and goes on when it answers again. Messages, starts and stops that the
host has not answered at the end are waited for up to 2 s, and then named: the host may continue them.

Exit codes:
  0    the end, by q or Ctrl-C
  1    without a terminal: the host is unreachable, timed out, or sent an invalid response
  2    invalid command line; no request was sent
  3    the host refused the first request: invalid token, too many connections
  130  without a terminal, or before the first answer: interrupted with Ctrl-C
  129, 143  ended by SIGHUP or SIGTERM; the terminal is as it was";

pub(crate) async fn run(args: &TopArgs, session: &Session) -> Result<(), Failure> {
    let screen = session.screen;
    let is_dumb = is_dumb() || std::env::var_os("TERM").is_none_or(|term| term.is_empty());
    let wait = session.waiting.begin("the list of agents", None);
    let first = poll(session, Duration::ZERO).await;
    drop(wait);
    if args.once || !screen.is_terminal || is_dumb {
        return screen.print(&snapshot(first?, screen.width(), screen.colours));
    }
    // A wrong token does not become right.
    match first {
        Ok(_) | Err(Failure::NoAnswer(_)) => {}
        Err(failure) => return Err(failure),
    }
    let terminal = OnScreen::enter()?;
    live(terminal, session).await
}

/// The terminal while the program has it.
struct OnScreen(DefaultTerminal);

impl OnScreen {
    /// Also a panic gives it back.
    fn enter() -> Result<Self, Failure> {
        let terminal = ratatui::try_init().map_err(no_terminal)?;
        let on_screen = Self(terminal);
        execute!(std::io::stdout(), EnableBracketedPaste).map_err(no_terminal)?;
        Ok(on_screen)
    }
}

impl Drop for OnScreen {
    fn drop(&mut self) {
        let _ = execute!(std::io::stdout(), DisableBracketedPaste);
        ratatui::restore();
    }
}

fn no_terminal(error: std::io::Error) -> Failure {
    Failure::NoAnswer(format!("cannot use the terminal: {error}"))
}

type Done = Result<Did, Failure>;

/// What came of an order.
enum Did {
    Said(String),
    Crash(String),
}

async fn live(mut terminal: OnScreen, session: &Session) -> Result<(), Failure> {
    let theme = Theme { colours: session.screen.colours };
    let mut app = App::new(&session.target.url);
    let mut keys = EventStream::new();
    let mut polls = polls(session);
    let mut frames: LocalBoxStream<'_, Vec<Followed>> = stream::pending().boxed_local();
    let mut orders = Orders::default();
    let mut hangup = signal(SignalKind::hangup()).map_err(no_terminal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_terminal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_terminal)?;
    session.waiting.takes_interrupts.set(true);
    loop {
        let draw = |frame: &mut Frame<'_>| {
            let area = frame.area();
            (app.columns, app.rows) = (usize::from(area.width), usize::from(area.height));
            view::draw(&app, theme, frame);
        };
        terminal.0.draw(draw).map_err(no_terminal)?;
        let order = tokio::select! {
            _ = terminate.recv() => return Err(Failure::signaled(15)),
            _ = hangup.recv() => return Err(Failure::signaled(1)),
            _ = interrupt.recv() => Some(Order::Quit),
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => app.key(key),
                Some(Ok(Event::Paste(pasted))) => {
                    app.paste(&pasted);
                    None
                }
                // The next drawing finds the new size.
                Some(Ok(_)) => None,
                Some(Err(error)) => return Err(no_terminal(error)),
                None => return Ok(()),
            },
            Some(poll) = polls.next() => {
                app.polled(poll.map_err(|failure| failure.words().unwrap_or_default()));
                None
            }
            Some(came) = frames.next() => {
                came.iter().for_each(|followed| took(&mut app, followed));
                None
            }
            Some(done) = orders.next() => {
                match done {
                    Ok(Did::Crash(page)) => app.crash(&page),
                    Ok(Did::Said(words)) => app.did(Ok(words)),
                    Err(failure) => app.did(Err(failure.words().unwrap_or_default())),
                }
                None
            }
        };
        match order {
            None => {}
            Some(Order::Quit) => break,
            Some(Order::Unfollow) => frames = stream::pending().boxed_local(),
            Some(Order::Follow(agent)) => frames = follow(agent, session),
            Some(order) => orders.push(order, session),
        }
    }
    drop((keys, terminal));
    session.waiting.takes_interrupts.set(false);
    orders.leave(session).await;
    Ok(())
}

/// What comes of the order of this number.
type Answer<'a> = LocalBoxFuture<'a, (u64, Done)>;

/// Orders under way.
#[derive(Default)]
struct Orders<'a> {
    answers: FuturesUnordered<Answer<'a>>,
    /// Those of them that change something: their numbers, and what they are.
    named: BTreeMap<u64, String>,
    last: u64,
}

impl<'a> Orders<'a> {
    fn push(&mut self, order: Order, session: &'a Session) {
        self.last += 1;
        let number = self.last;
        let name = match &order {
            Order::Send { agent, .. } => Some(format!("message to {agent}")),
            Order::Stop(agent) => Some(format!("stop of {agent}")),
            Order::Start(start) => Some(format!("start of {}", start.agent)),
            Order::Crash(_) | Order::Follow(_) | Order::Unfollow | Order::Quit => None,
        };
        self.named.extend(name.map(|name| (number, name)));
        let answer = async move { (number, carry_out(order, session).await) };
        self.answers.push(answer.boxed_local());
    }

    /// What came of one. `None`: none is under way.
    async fn next(&mut self) -> Option<Done> {
        let (number, done) = self.answers.next().await?;
        self.named.remove(&number);
        Some(done)
    }

    /// Waits a moment for those that change something, and says what came of them.
    async fn leave(&mut self, session: &Session) {
        let until = Instant::now() + LEAVE;
        let say = |words: &str| eprintln!("bulkhead: {}", text::lines(words));
        while !self.named.is_empty() {
            match timeout_at(until, self.next()).await {
                Ok(Some(Ok(Did::Said(words)))) => say(&words),
                Ok(Some(Err(failure))) => say(&failure.words().unwrap_or_default()),
                Ok(Some(Ok(Did::Crash(_)))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        for name in self.named.values() {
            let url = &session.target.url;
            say(&format!("{url} has not answered yet ({name}); it may continue"));
        }
    }
}

fn took(app: &mut App, followed: &Followed) {
    match followed {
        Followed::Frame(frame) => app.frame(frame),
        Followed::Away(_) => app.remark("the host went away"),
        Followed::Back => app.remark("the host answers again"),
    }
}

/// A poll each second. Never ends.
fn polls(session: &Session) -> LocalBoxStream<'_, Result<Poll, Failure>> {
    let began = Instant::now();
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let polls = stream::unfold(every, move |mut every| async move {
        every.tick().await;
        Some((poll(session, began.elapsed()).await, every))
    });
    polls.boxed_local()
}

async fn poll(session: &Session, at: Duration) -> Result<Poll, Failure> {
    let agents = session.ask(Call::get("/agents", "list of agents")).await?;
    let memory = session.ask(Call::get("/memory", "memory of the container")).await?;
    let usage = session.ask(Call::get("/usage", "use of language models")).await?;
    Ok(Poll {
        now: now(&agents),
        agents: session.read::<AgentList>(&agents)?,
        memory: session.read(&memory)?,
        usage: session.read(&usage)?,
        at,
    })
}

/// The events of an agent, those that are kept and those to come, and its turns.
fn follow(agent: AgentId, session: &Session) -> LocalBoxStream<'_, Vec<Followed>> {
    let path = format!("{}?deltas=true", agent_path(&agent, "events/stream"));
    let asked = format!("events of {agent}");
    let following = Following::new(session, path, asked, Some(0), Duration::MAX).patient();
    let frames = stream::unfold(following, |mut following| async move {
        loop {
            match following.next().await {
                Ok(followed) => return Some((followed, following)),
                // It is refused; polls say why.
                Err(_) => sleep(EVERY).await,
            }
        }
    });
    frames.ready_chunks(FRAMES).boxed_local()
}

async fn carry_out(order: Order, session: &Session) -> Done {
    match order {
        Order::Send { agent, text } => {
            let body = serde_json::json!({ "prompt": text }).to_string().into_bytes();
            let call =
                Call::post(agent_path(&agent, "message"), format!("message to {agent}"), body);
            let sent: MessageAnswer = session.read(&session.ask(call).await?)?;
            Ok(Did::Said(format!("sent to {agent} as message {}", sent.message_id)))
        }
        Order::Stop(agent) => {
            let call =
                Call::post(agent_path(&agent, "stop"), format!("stop of {agent}"), Vec::new());
            let stopped: StopAnswer = session.read(&session.ask(call.within(LONG)).await?)?;
            Ok(Did::Said(format!("{agent} stopped: {}", stopped.exit_reason)))
        }
        Order::Start(start) => {
            let agent = start.agent.clone();
            let call = Call::post("/agents/start", format!("start of {agent}"), request(start));
            let started: StartAnswer = session.read(&session.ask(call.within(LONG)).await?)?;
            let started = started.agent;
            Ok(Did::Said(format!(
                "{agent} started: {}, incarnation {}",
                started.status, started.incarnation
            )))
        }
        Order::Crash(crash_id) => {
            let path = format!("/crashes/{}", in_a_url(&crash_id)?);
            let answer = session.ask(Call::get(path, format!("crash {crash_id}"))).await?;
            Ok(Did::Crash(crash_page(&session.read(&answer)?, false)))
        }
        // Of this program itself.
        Order::Follow(_) | Order::Unfollow | Order::Quit => Ok(Did::Said(String::new())),
    }
}

fn request(start: Start) -> Vec<u8> {
    let Start { agent, name, role, town, rig, model, force } = start;
    let mut request = serde_json::json!({
        "agentId": agent, "name": name, "role": role, "force": force, "ifRunning": "keep",
    });
    for (field, value) in [("townId", town), ("rigId", rig), ("model", model)] {
        if let Some(value) = value {
            request[field] = value.into();
        }
    }
    request.to_string().into_bytes()
}

/// The table without a terminal.
fn snapshot(mut poll: Poll, width: Option<usize>, colours: bool) -> String {
    if poll.agents.is_empty() {
        return "no agents\n".to_owned();
    }
    poll.agents.sort_by(|one, other| {
        rank(one).cmp(&rank(other)).then_with(|| one.agent_id.cmp(&other.agent_id))
    });
    let columns = [
        Column::giving("AGENT", 12),
        Column::giving("ROLE", 6),
        Column::new("STATUS"),
        Column::of_figures("MEMORY"),
        Column::of_figures("OF LIMIT"),
        Column::of_figures("CPU TIME"),
        Column::of_figures("TOKENS"),
        Column::of_figures("RESTARTS"),
        Column::of_figures("MAIL"),
        Column::giving("LAST EXIT", 9),
    ];
    let row = |agent: &AgentView| {
        let alive = is_alive(&agent.status);
        let of_the_living = |text: String| if alive { text } else { "-".to_owned() };
        let status = match &*agent.status {
            "running" if agent.busy => "running, busy".into(),
            status => text::line(status),
        };
        let memory = &agent.memory;
        let share = of_the_living(percent(memory.used_bytes, memory.limit_bytes));
        let share = match is_near_limit(agent) {
            true => Cell::in_colour(share, Colour::Red),
            false => Cell::new(share),
        };
        let tokens = agent.usage.total.tokens.total();
        vec![
            Cell::new(agent.agent_id.as_str()),
            Cell::new(text::line(&agent.role)),
            Cell::in_colour(status, colour_of(&agent.status)),
            Cell::new(of_the_living(short_bytes(memory.used_bytes))),
            share,
            Cell::new(duration(Duration::from_micros(agent.cpu_us))),
            Cell::new(if tokens == 0 { "-".to_owned() } else { short_count(tokens) }),
            Cell::new(restarts(agent)),
            Cell::new(agent.mailbox_depth.to_string()),
            Cell::new(last_exit(agent, poll.now)),
        ]
    };
    let rows: Vec<_> = poll.agents.iter().map(row).collect();
    draw(&columns, &rows, width, colours)
}
